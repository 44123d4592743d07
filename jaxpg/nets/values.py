"""Value networks: Q of discrete actions, Q of continuous ones (as many critics as asked for), V.

Each takes any torso: `make_torso()` maps [B, *obs] to features [B, F].
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn

from jaxpg.core.config import label
from jaxpg.core.env import Env
from jaxpg.core.observations import array_leaves, mask_illegal
from jaxpg.core.types import Array, Tree
from jaxpg.nets import memories
from jaxpg.nets.networks import MLP, Network, features, initializer, torso

# Batch norm would take from a critic what the actions of a batch have in common.
SWITCHES = "layer_norm", "dropout"


class DiscreteQ(nn.Module):
    """Q(s, .) of every discrete action: obs [..., *obs] -> [..., actions].

    dueling: Q = V + A - mean A from one torso, Wang et al. (2016), arXiv:1511.06581 eq. 9.
    """

    obs_shapes: tuple[tuple[int, ...], ...]
    actions: int
    make_torso: Callable[[], nn.Module] = functools.partial(MLP, (64, 64), "relu")
    kernel_init: str | Callable = "orthogonal"
    dueling: bool = False
    make_memory: Callable[[], nn.Module] = memories.Nothing

    @nn.compact
    def remember(
        self, obs: Tree, carry: Tree = (), start: Array | None = None
    ) -> tuple[Array, Tree]:
        """Q(s, .) and the next carry of the memory, as `memories` says."""
        x, carry = self.make_memory()(_features(self, obs), carry, start)
        init = initializer(self.kernel_init, 1.0)
        advantage = nn.Dense(self.actions, kernel_init=init, name="q")(x)
        if not self.dueling:
            return mask_illegal(advantage, obs), carry
        value = nn.Dense(1, kernel_init=init, name="value")(x)
        return mask_illegal(value + advantage - advantage.mean(-1, keepdims=True), obs), carry

    def __call__(self, obs: Tree) -> Array:
        return self.remember(obs)[0]


class Value(nn.Module):
    """V(s): obs [..., *obs] -> [...]."""

    obs_shapes: tuple[tuple[int, ...], ...]
    make_torso: Callable[[], nn.Module] = functools.partial(MLP, (64, 64), "relu")
    kernel_init: str | Callable = "orthogonal"

    @nn.compact
    def __call__(self, obs: Tree) -> Array:
        x = _features(self, obs)
        return nn.Dense(1, kernel_init=initializer(self.kernel_init, 1.0), name="value")(x)[..., 0]


class Critics(nn.Module):
    """`count` independent Q(s, a): obs [..., *obs], action [..., D] -> [count, ...].

    The torsos see the flattened observation and the action side by side. Twin critics are
    Fujimoto et al. (2018), arXiv:1802.09477; take `.min(0)` over them, or `jnp.minimum` where a
    gradient flows through it. Their parameters are stacked, [count, ...]: half the operations of
    two networks, which is what a small one costs.
    """

    obs_shapes: tuple[tuple[int, ...], ...]
    count: int = 2
    make_torso: Callable[[], nn.Module] = functools.partial(MLP, (64, 64), "relu")
    kernel_init: str | Callable = "orthogonal"

    @nn.compact
    def __call__(self, obs: Tree, action: Array) -> Array:
        lead = action.shape[:-1]
        x = jnp.concatenate([*(x.reshape(*lead, -1) for x in array_leaves(obs)), action], -1)
        critic = nn.vmap(
            _Critic, axis_size=self.count, in_axes=None,  # type: ignore  # flax says int
            variable_axes={"params": 0}, split_rngs={"params": True, "dropout": True},
        )  # fmt: skip
        q = critic(self.make_torso, self.kernel_init)(x.reshape(-1, x.shape[-1]))
        return q.reshape(self.count, *lead)


class _Critic(nn.Module):
    make_torso: Callable[[], nn.Module]
    kernel_init: str | Callable

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = self.make_torso()(x)
        return nn.Dense(1, kernel_init=initializer(self.kernel_init, 1.0), name="q")(x)[..., 0]


def _features(net: nn.Module, obs: Tree) -> Array:
    return features([net.make_torso() for _ in net.obs_shapes], net.obs_shapes, obs)


def discrete_q(cfg, env: Env, dueling: bool = False) -> Network:
    """Q network of discrete actions, as the config's torso fields say.

    Like all functions below it reads the fields of `networks.torso`, as a critic does. Dropout is
    for Q networks, not for V.

    Raises ValueError for an environment whose actions are not discrete.
    """
    if not env.discrete:
        raise ValueError(
            f"{label(type(cfg))} on {env.name}, whose actions are {env.action_kind}: allowed are "
            "discrete"
        )
    return DiscreteQ(
        env.obs_shapes, env.action_space.n, torso(cfg, SWITCHES, critic=True),
        cfg.kernel_init, dueling, memories.make(cfg),
    )  # fmt: skip


def critics(cfg, env: Env, count: int = 2) -> Network:
    return Critics(env.obs_shapes, count, torso(cfg, SWITCHES, critic=True), cfg.kernel_init)


def state_value(cfg, env: Env) -> Network:
    return Value(env.obs_shapes, torso(cfg, critic=True), cfg.kernel_init)
