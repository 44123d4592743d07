"""A model of the other players, in front of an actor-critic: what they are about to do."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpg.core.observations import Informed, Masked, array_leaves, split_observation
from jaxpg.core.types import Array, Tree
from jaxpg.nets import memories
from jaxpg.nets.actor_critic import ActorCritic
from jaxpg.nets.heads import ActionHead
from jaxpg.nets.initializers import initializer
from jaxpg.nets.networks import features, torso


class Modelling(nn.Module):
    """An actor-critic whose observation has, beside what a player sees, what it expects of others.

    The model maps the same observation, and with a memory all those of the episode, to logits of
    the choices of every other player. The policy sees their probabilities, through which it cannot
    teach the model: that is learnt by maximum likelihood alone, see `log_likelihood`. Parameters of
    the actor-critic are named `inner`, all others are the model's.
    """

    inner: ActorCritic  # for observations with the prediction, see `with_prediction`
    obs_shapes: tuple[tuple[int, ...], ...]  # without it
    choices: tuple[int, ...]  # of each other player
    make_torso: Callable[[], nn.Module]
    make_memory: Callable[[], nn.Module]

    @nn.compact
    def __call__(
        self, obs: Tree, carry: Tree = (), start: Array | None = None
    ) -> tuple[Array, Array, Tree]:
        """The policy's outputs with the model's logits [..., sum(choices)] behind them, the value
        [...], and the carry; arguments as of `ActorCritic`."""
        of_model, of_inner = carry or ((), ())
        own, critic = split_observation(obs)
        leaves = array_leaves(own)
        x = features([self.make_torso() for _ in leaves], self.obs_shapes, leaves)
        x, of_model = self.make_memory()(x, of_model, start)
        init = initializer(self.inner.kernel_init, 0.01)
        logits = nn.Dense(sum(self.choices), kernel_init=init)(x)
        expected = jax.lax.stop_gradient(expect(self.choices, logits))
        if len(self.inner.obs_shapes) > len(leaves):
            seen: Any = [*leaves, expected]
        else:
            seen = [jnp.concatenate([leaves[0], expected], -1)]
        seen = Masked(seen, own.mask) if isinstance(own, Masked) else seen
        seen = Informed(seen, critic) if isinstance(obs, Informed) else seen
        out, value, of_inner = self.inner(seen, of_inner, start)
        carry = (of_model, of_inner) if jax.tree.leaves((of_model, of_inner)) else ()
        return jnp.concatenate([out, logits], -1), value, carry


def with_prediction(shapes: tuple[tuple[int, ...], ...], size: int) -> tuple[tuple[int, ...], ...]:
    """Shapes of an observation's leaves with a prediction [size]: at the end of a vector, where it
    meets what is seen in the first layer, beside what is none.

    >>> with_prediction(((4,),), 3), with_prediction(((8, 8, 2),), 3)
    (((7,),), ((8, 8, 2), (3,)))
    """
    if len(shapes) == 1 and len(shapes[0]) == 1:
        return ((shapes[0][0] + size,),)
    return (*shapes, (size,))


def model_others(cfg: Any, inner: Any, choices: tuple[int, ...]) -> Modelling:
    """Puts a model of the others' choices, as the field `opponent_model` says, before a network."""
    shapes = inner.obs_shapes
    remember = {"mlp": memories.Nothing, "gru": functools.partial(memories.GRU, cfg.memory_size)}
    inner = inner.clone(obs_shapes=with_prediction(shapes, sum(choices)))
    return Modelling(inner, shapes, choices, torso(cfg), remember[cfg.opponent_model])


def split_out(pi: ActionHead, out: Array) -> tuple[Array, Array]:
    """The policy's outputs, and the logits of a model of the others behind them."""
    policy, logits = jnp.split(out, [pi.outputs + pi.free_outputs], -1)
    return policy, logits


def split_choices(choices: tuple[int, ...], x: Array) -> list[Array]:
    """Entries [..., n] of each other player, of those of all [..., sum(choices)]."""
    ends = [sum(choices[: i + 1]) for i in range(len(choices) - 1)]
    return jnp.split(x, ends, -1)


def expect(choices: tuple[int, ...], logits: Array) -> Array:
    """Probabilities of the choices of each other player, from logits: [..., sum(choices)].

    >>> expect((2, 4), jnp.zeros(6)).tolist()
    [0.5, 0.5, 0.25, 0.25, 0.25, 0.25]
    """
    return jnp.concatenate([jax.nn.softmax(x) for x in split_choices(choices, logits)], -1)


def log_likelihood(choices: tuple[int, ...], logits: Array, actions: Array) -> Array:
    """Log q(what each of the others did): [..., others]; 0 of who did nothing, an entry of -1.

    logits: [..., sum(choices)]; actions: [..., others] int32.

    >>> log_likelihood((2, 4), jnp.zeros(6), jnp.array([1, 3])).round(4).tolist()  # of 1/2, of 1/4
    [-0.6931, -1.3863]
    """
    said = [
        jnp.take_along_axis(jax.nn.log_softmax(part), actions[..., i, None], -1)[..., 0]
        for i, part in enumerate(split_choices(choices, logits))
    ]
    return jnp.where(actions >= 0, jnp.stack(said, -1), 0)
