"""A model of the other players, in front of an actor-critic: what they are about to do."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpg.core.observations import Informed, Masked, array_leaves, split_observation
from jaxpg.core.types import Array, Tree
from jaxpg.nets.actor_critic import ActorCritic
from jaxpg.nets.initializers import initializer
from jaxpg.nets.networks import features


class Modelling(nn.Module):
    """An actor-critic whose observation has, beside what a player sees, what it expects of others.

    The model maps the same observation, and with a memory all those of the episode, to logits of
    the choices of every other player. The policy sees their probabilities, through which it cannot
    teach the model: that is learnt by maximum likelihood alone, see `log_likelihood`.
    """

    inner: ActorCritic  # for observations with the prediction as a last leaf
    choices: tuple[int, ...]  # of each other player
    make_torso: Callable[[], nn.Module]
    make_memory: Callable[[], nn.Module]

    @nn.compact
    def __call__(
        self, obs: Tree, carry: Tree = (), start: Array | None = None
    ) -> tuple[Array, Array, Tree]:
        """As of `ActorCritic`; the logits [..., sum(choices)] follow the policy's outputs."""
        of_model, of_inner = carry or ((), ())
        own, critic = split_observation(obs)
        shapes = self.inner.obs_shapes[:-1]
        x = features([self.make_torso() for _ in shapes], shapes, own)
        x, of_model = self.make_memory()(x, of_model, start)
        logits = nn.Dense(sum(self.choices), kernel_init=initializer("orthogonal", 0.01))(x)
        expected = [jax.nn.softmax(part) for part in split_choices(self.choices, logits)]
        leaves = [*array_leaves(own), jax.lax.stop_gradient(jnp.concatenate(expected, -1))]
        seen: Any = Masked(leaves, own.mask) if isinstance(own, Masked) else leaves
        seen = Informed(seen, critic) if isinstance(obs, Informed) else seen
        out, value, of_inner = self.inner(seen, of_inner, start)
        carry = (of_model, of_inner) if jax.tree.leaves((of_model, of_inner)) else ()
        return jnp.concatenate([out, logits], -1), value, carry


def split_choices(choices: tuple[int, ...], x: Array) -> list[Array]:
    """Entries [..., n] of each other player, of those of all [..., sum(choices)]."""
    ends = [sum(choices[: i + 1]) for i in range(len(choices) - 1)]
    return jnp.split(x, ends, -1)


def log_likelihood(choices: tuple[int, ...], logits: Array, actions: Array) -> Array:
    """Mean over the other players of log q(what each did): [...].

    logits: [..., sum(choices)]; actions: [..., others] int32.

    >>> import jax.numpy as jnp
    >>> log_likelihood((2, 4), jnp.zeros(6), jnp.array([1, 3])).round(4).tolist()  # of 1/2 and 1/4
    -1.0397
    """
    parts = split_choices(choices, logits)
    said = [
        jnp.take_along_axis(jax.nn.log_softmax(part), actions[..., i, None], -1)[..., 0]
        for i, part in enumerate(parts)
    ]
    return jnp.stack(said).mean(0)
