"""Value networks: Q of discrete actions, Q of continuous ones (as many critics as asked for), V.

Each takes any torso: `torso(hidden, activation, kernel_init)` maps [B, *obs] to features [B, F].
"""

import jax.numpy as jnp
from flax import linen as nn

from jaxpg.core.config import label
from jaxpg.core.env import Env, leaves, legal
from jaxpg.core.types import Array, Tree
from jaxpg.nets.networks import MLP, features, initializer


class DiscreteQ(nn.Module):
    """Q(s, .) of every discrete action: obs [..., *obs] -> [..., actions].

    dueling: Q = V + A - mean A from one torso, Wang et al. (2016), arXiv:1511.06581 eq. 9.
    """

    obs_shapes: tuple[tuple[int, ...], ...]
    actions: int
    torso_class: type = MLP
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "relu"
    kernel_init: str = "orthogonal"
    dueling: bool = False

    @nn.compact
    def __call__(self, obs: Tree) -> Array:
        x = _features(self, obs)
        init = initializer(self.kernel_init, 1.0)
        advantage = nn.Dense(self.actions, kernel_init=init, name="q")(x)
        if not self.dueling:
            return legal(advantage, obs)
        value = nn.Dense(1, kernel_init=init, name="value")(x)
        return legal(value + advantage - advantage.mean(-1, keepdims=True), obs)


class Value(nn.Module):
    """V(s): obs [..., *obs] -> [...]."""

    obs_shapes: tuple[tuple[int, ...], ...]
    torso_class: type = MLP
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "relu"
    kernel_init: str = "orthogonal"

    @nn.compact
    def __call__(self, obs: Tree) -> Array:
        x = _features(self, obs)
        return nn.Dense(1, kernel_init=initializer(self.kernel_init, 1.0), name="value")(x)[..., 0]


class Critics(nn.Module):
    """`count` independent Q(s, a): obs [..., *obs], action [..., D] -> [count, ...].

    The torsos see the flattened observation and the action side by side. Twin critics are
    Fujimoto et al. (2018), arXiv:1802.09477; take `.min(0)` over them. Their parameters are
    stacked, [count, ...]: half the operations of two networks, which is what a small one costs.
    """

    obs_shapes: tuple[tuple[int, ...], ...]
    count: int = 2
    torso_class: type = MLP
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "relu"
    kernel_init: str = "orthogonal"

    @nn.compact
    def __call__(self, obs: Tree, action: Array) -> Array:
        lead = action.shape[:-1]
        x = jnp.concatenate([*(x.reshape(*lead, -1) for x in leaves(obs)), action], -1)
        critic = nn.vmap(
            _Critic, in_axes=None, axis_size=self.count,
            variable_axes={"params": 0}, split_rngs={"params": True},
        )  # fmt: skip
        q = critic(self.torso_class, self.hidden, self.activation, self.kernel_init)(
            x.reshape(-1, x.shape[-1])
        )
        return q.reshape(self.count, *lead)


class _Critic(nn.Module):
    torso_class: type
    hidden: tuple[int, ...]
    activation: str
    kernel_init: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = self.torso_class(self.hidden, self.activation, self.kernel_init)(x)
        return nn.Dense(1, kernel_init=initializer(self.kernel_init, 1.0), name="q")(x)[..., 0]


def _features(net: nn.Module, obs: Tree) -> Array:
    fields = net.hidden, net.activation, net.kernel_init
    return features([net.torso_class(*fields) for _ in net.obs_shapes], net.obs_shapes, obs)


def discrete_q(cfg, env: Env, dueling: bool = False) -> DiscreteQ:
    """Reads the fields `net, hidden, activation, kernel_init`, as all functions below.

    Raises ValueError for an environment whose actions are not discrete.
    """
    if not env.discrete:
        raise ValueError(
            f"{label(type(cfg))} on {env.name}, whose actions are {env.action_kind}: allowed are "
            "discrete"
        )
    return DiscreteQ(
        env.obs_shapes, env.action_space.n,
        cfg.net, cfg.hidden, cfg.activation, cfg.kernel_init, dueling,
    )  # fmt: skip


def critics(cfg, env: Env, count: int = 2) -> Critics:
    return Critics(env.obs_shapes, count, cfg.net, cfg.hidden, cfg.activation, cfg.kernel_init)


def state_value(cfg, env: Env) -> Value:
    return Value(env.obs_shapes, cfg.net, cfg.hidden, cfg.activation, cfg.kernel_init)
