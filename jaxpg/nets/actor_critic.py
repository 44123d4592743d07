"""The actor-critic: a policy's outputs and a value, on one shared torso or on one each."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpg.core import machine, packing
from jaxpg.core.checks import show
from jaxpg.core.config import label, require
from jaxpg.core.env import Env, zero_carry
from jaxpg.core.observations import mask_illegal, split_observation
from jaxpg.core.types import Array, Tree
from jaxpg.nets import heads, memories, noise
from jaxpg.nets.initializers import initializer
from jaxpg.nets.networks import MLP, Network, critic_fields, features, torso


class ActorCritic(nn.Module):
    """A policy's outputs and a value, on one shared torso or on one each.

    Any flax module can be the torso: `torso()` maps [B, *obs] to features [B, F]; an observation
    that is a pytree has one for every leaf. The critic's own may be another one. A memory stands
    between torso and heads, and with two torsos there are two. Parameters are named `torso`,
    `actor*` and `critic*`, so that optimisers can tell them apart. Without `critic_gradient` the
    value's gradient stops where its head meets the shared torso, or its memory. With noise that is
    held over steps, see `noise`, the carry is that of the memory and what is held.
    """

    obs_shapes: tuple[tuple[int, ...], ...]
    outputs: int  # what the policy head asks of the network
    free_outputs: int  # further ones, learnt but independent of the observation
    make_torso: Callable[[], nn.Module] = functools.partial(MLP, (64, 64))
    kernel_init: str | Callable = "orthogonal"
    shared: bool = False
    make_memory: Callable[[], nn.Module] = memories.Nothing
    critic_gradient: bool = True
    make_critic_torso: Callable[[], nn.Module] | None = None  # None: as the actor's
    make_noise: Callable[[], nn.Module] | None = None  # in the place of the free outputs
    critic_shapes: tuple[tuple[int, ...], ...] | None = None  # of Informed observations

    def setup(self):
        def torsos(make, shapes=self.obs_shapes):
            each = [make() for _ in shapes]
            return each if len(each) > 1 else each[0]

        if self.shared:
            self.torso, self.torso_memory = torsos(self.make_torso), self.make_memory()
        else:
            self.actor_torso = torsos(self.make_torso)
            make, shapes = self.make_critic_torso or self.make_torso, self._critic_shapes
            self.critic_torso = torsos(make, shapes)
            self.actor_memory, self.critic_memory = self.make_memory(), self.make_memory()
        self.actor = nn.Dense(self.outputs, kernel_init=initializer(self.kernel_init, 0.01))
        self.critic = nn.Dense(1, kernel_init=initializer(self.kernel_init, 1.0))
        if self.make_noise:
            self.actor_noise = self.make_noise()
        elif self.free_outputs:
            self.actor_free = self.param("actor_free", nn.initializers.zeros, (self.free_outputs,))

    def __call__(
        self, obs: Tree, carry: Tree = (), start: Array | None = None
    ) -> tuple[Array, Array, Tree]:
        """The policy head's inputs [..., outputs + free_outputs], the value [...], and the carry.

        obs: single steps [..., *obs] with what is remembered at each; or, with `start`, sequences
        [T, B, *obs], see `memories`; may be Informed. A carry of () begins an episode.
        """
        carry, held = (carry or ((), ())) if self.make_noise else (carry, ())
        obs, of_state = split_observation(obs)
        if self.shared:
            x = features(self.torso, self.obs_shapes, obs)
            x, carry = self.torso_memory(x, carry, start)
            y = x
        else:
            of_actor, of_critic = carry or ((), ())
            x, y = self._features(obs, of_state, both=start is not None)
            x, of_actor = self.actor_memory(x, of_actor, start)
            y, of_critic = self.critic_memory(y, of_critic, start)
            carry = (of_actor, of_critic) if jax.tree.leaves((of_actor, of_critic)) else ()
        out, held = self._outputs(x, obs, held)
        return out, self._value(y), (carry, held) if self.make_noise else carry

    @property
    def _critic_shapes(self) -> tuple[tuple[int, ...], ...]:
        return self.obs_shapes if self.critic_shapes is None else self.critic_shapes

    def _features(self, obs: Tree, of_state: Tree, both: bool) -> tuple[Array, Array]:
        """Features of the actor and of the critic, with a torso of its own each. On a GPU two MLPs
        of the same layers are one with stacked parameters where `both` are read: half the kernels.
        """
        actor: Any = self.actor_torso
        critic: Any = self.critic_torso
        alike = self.critic_shapes is None and _alike(actor, critic)
        if both and machine.on_gpu() and alike:
            net = actor.clone(parent=None, name=None)
            params = jax.tree.map(lambda *x: jnp.stack(x), actor.variables, critic.variables)
            x, y = jax.vmap(lambda p: features(net.bind(p), self.obs_shapes, obs))(params)
            return x, y
        y = features(critic, self._critic_shapes, of_state)
        return features(actor, self.obs_shapes, obs), y

    def explore(self, obs: Tree, carry: Tree = ()) -> tuple[Array, Tree]:
        """The policy head's inputs and the carry, of a network without memory."""
        _, held = (carry or ((), ())) if self.make_noise else (carry, ())
        x = features(self.torso if self.shared else self.actor_torso, self.obs_shapes, obs)
        out, held = self._outputs(x, obs, held)
        return out, ((), held) if self.make_noise else carry

    def policy(self, obs: Tree) -> Array:
        """The policy head's inputs alone, of a network without memory."""
        return self.explore(obs)[0]

    def value(self, obs: Tree) -> Array:
        """The value alone, of a network without memory: obs [..., *obs] -> [...]."""
        torso = self.torso if self.shared else self.critic_torso
        return self._value(features(torso, self.obs_shapes, obs))

    def _value(self, x: Array) -> Array:
        stops = self.shared and not self.critic_gradient
        return self.critic(jax.lax.stop_gradient(x) if stops else x)[..., 0]

    def _outputs(self, x: Array, obs: Tree, held: Tree) -> tuple[Array, Tree]:
        out = mask_illegal(self.actor(x), obs)
        if self.make_noise:
            spread, held = self.actor_noise(x, held)
            out = jnp.concatenate([out, spread], -1)
        elif self.free_outputs:
            free = jnp.broadcast_to(self.actor_free, (*out.shape[:-1], self.free_outputs))
            out = jnp.concatenate([out, free], -1)
        return out, held


def _alike(actor: Any, critic: Any) -> bool:
    """True for two MLPs of the same layers that are small, and have nothing but parameters."""
    if type(actor) is not MLP or type(critic) is not MLP or actor.batch_norm or actor.dropout:
        return False
    size = sum(x.size for x in jax.tree.leaves(actor.variables))
    same = actor.clone(parent=None, name=None) == critic.clone(parent=None, name=None)
    return same and size <= packing.LARGE


def empty_carry(net: Network, params: Tree, obs: Tree) -> Tree:
    """Carry of the network before an episode: zeros, for observations [N, *obs].

    params: of the policy alone, or of policy and critic, which a memory needs.
    """
    if isinstance(net, ActorCritic) and net.make_memory is memories.Nothing:
        if net.make_noise is None:
            return ()
        return zero_carry(jax.eval_shape(lambda: net.apply(params, obs, method="explore")[1]))
    return zero_carry(jax.eval_shape(net.apply, params, obs)[2])


def actor_critic(
    cfg, env: Env, critic_shapes: tuple[tuple[int, ...], ...] | None = None
) -> tuple[Network, heads.ActionHead]:
    """The network and the policy head that a config asks for.

    critic_shapes: of what the critic sees, where observations are Informed; its torso is then of
    its own.

    Reads the fields `head, temperature, shared`, with a shared torso `critic_gradient`, and those
    of `torso` (`net, hidden, activation, kernel_init, layer_norm, batch_norm`, and the critic's)
    and `memories.make` (`memory`), with a head gsde those of `noise.make`. A config without one of
    them says so by a class constant, such as `shared: ClassVar[bool] = False`. Raises ValueError
    for a field that is missing, for a head that does not fit the environment's actions, and for a
    critic of its own with a shared torso.
    """
    require(cfg, "nets.actor_critic", "head", "temperature", shared=False)
    pi = heads.make(cfg.head, env, cfg.temperature)
    if cfg.shared:
        for name in critic_fields(cfg):
            raise ValueError(
                f"{label(type(cfg))} {name}={show(getattr(cfg, name))}: allowed is None with "
                "shared=True, where actor and critic have one torso"
            )
    net = ActorCritic(
        env.obs_shapes, pi.outputs, pi.free_outputs,
        torso(cfg), cfg.kernel_init, cfg.shared, memories.make(cfg),
        cfg.critic_gradient if cfg.shared else True, torso(cfg, critic=True), noise.make(cfg, pi),
        critic_shapes,
    )  # fmt: skip
    return net, pi
