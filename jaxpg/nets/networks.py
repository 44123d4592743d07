"""Networks: torsos that turn an observation into features, and the actor-critic on top of them."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpg.core.env import Env, leaves, legal
from jaxpg.core.types import Array, Key, Tree
from jaxpg.nets import policies

ACTIVATIONS = ("tanh", "relu", "elu", "gelu", "silu", "leaky_relu")
INITS = ("orthogonal", "lecun", "he")


def orthogonal(scale: float = 1.0):
    """Initialiser with orthonormal rows or columns, times `scale`; Saxe et al. (2014).

    Newton-Schulz iterations on a Gaussian matrix converge to its orthogonal polar factor, which
    is uniformly distributed as QR's is. QR itself deadlocks on a 2-core CPU when vmapped: the
    batched kernel waits on the thread pool that it runs in.
    """

    def init(key: Key, shape: tuple[int, int], dtype=jnp.float32) -> Array:
        rows, cols = shape
        x = jax.random.normal(key, (max(shape), min(shape)), dtype)
        x = x / jnp.linalg.norm(x)  # singular values below 1, where the iteration converges
        x = jax.lax.fori_loop(0, 40, lambda _, w: 1.5 * w - 0.5 * w @ (w.T @ w), x)
        return scale * (x if rows >= cols else x.T)

    return init


def initializer(name: str, scale: float):
    """A kernel initialiser; `scale` is the gain for "orthogonal" and relative to it for others."""
    if name == "orthogonal":
        return orthogonal(scale)
    gain = {"lecun": 1.0, "he": 2.0}[name] * (scale / math.sqrt(2)) ** 2
    return nn.initializers.variance_scaling(gain, "fan_in", "truncated_normal")


class MLP(nn.Module):
    """Fully connected layers, each with the activation: [B, *obs] -> [B, hidden[-1]]."""

    hidden: tuple[int, ...]
    activation: str = "tanh"
    kernel_init: str = "orthogonal"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = x.reshape(x.shape[0], -1)
        for size in self.hidden:
            x = nn.Dense(size, kernel_init=initializer(self.kernel_init, math.sqrt(2)))(x)
            x = getattr(nn, self.activation)(x)
        return x


def features(
    torsos: nn.Module | Sequence[nn.Module], shapes: tuple[tuple[int, ...], ...], obs: Tree
) -> Array:
    """Every leaf of an observation [..., *shape] through its own torso, side by side: [..., F].

    torsos: one for each leaf; or the one, of an observation that is an array.
    """
    parts, torsos = [], [torsos] if isinstance(torsos, nn.Module) else torsos
    for torso, shape, x in zip(torsos, shapes, leaves(obs), strict=True):
        lead = x.shape[: x.ndim - len(shape)]
        y = torso(x.reshape(-1, *shape))
        parts.append(y.reshape(*lead, y.shape[-1]))
    return jnp.concatenate(parts, -1) if len(parts) > 1 else parts[0]


class ActorCritic(nn.Module):
    """A policy's outputs and a value, on one shared torso or on one each.

    Any flax module can be the torso: `torso(hidden, activation, kernel_init)` maps [B, *obs] to
    features [B, F]; an observation that is a pytree has one for every leaf. Parameters are named
    `torso`, `actor*` and `critic*`, so that optimisers can tell them apart.
    """

    obs_shapes: tuple[tuple[int, ...], ...]
    outputs: int  # what the policy head asks of the network
    free_outputs: int  # further ones, learnt but independent of the observation
    torso_class: type = MLP
    hidden: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    kernel_init: str = "orthogonal"
    shared: bool = False

    def setup(self):
        def torsos():
            fields = self.hidden, self.activation, self.kernel_init
            each = [self.torso_class(*fields) for _ in self.obs_shapes]
            return each if len(each) > 1 else each[0]

        if self.shared:
            self.torso = torsos()
        else:
            self.actor_torso, self.critic_torso = torsos(), torsos()
        self.actor = nn.Dense(self.outputs, kernel_init=initializer(self.kernel_init, 0.01))
        self.critic = nn.Dense(1, kernel_init=initializer(self.kernel_init, 1.0))
        if self.free_outputs:
            self.actor_free = self.param("actor_free", nn.initializers.zeros, (self.free_outputs,))

    def policy(self, obs: Tree) -> Array:
        """The policy head's inputs: obs [..., *obs] -> [..., outputs + free_outputs]."""
        torso = self.torso if self.shared else self.actor_torso
        out = legal(self.actor(features(torso, self.obs_shapes, obs)), obs)
        if self.free_outputs:
            free = jnp.broadcast_to(self.actor_free, (*out.shape[:-1], self.free_outputs))
            out = jnp.concatenate([out, free], -1)
        return out

    def value(self, obs: Tree) -> Array:
        """The value: obs [..., *obs] -> [...]."""
        torso = self.torso if self.shared else self.critic_torso
        return self.critic(features(torso, self.obs_shapes, obs))[..., 0]

    def __call__(self, obs: Tree) -> tuple[Array, Array]:
        return self.policy(obs), self.value(obs)


def actor_critic(cfg, env: Env) -> tuple[ActorCritic, policies.Policy]:
    """The network and the policy head that a config asks for.

    Reads the fields `head, temperature, net, hidden, activation, kernel_init, shared`. Raises
    ValueError for a head that does not fit the environment's actions.
    """
    pi = policies.make(cfg.head, env, cfg.temperature)
    net = ActorCritic(
        env.obs_shapes, pi.outputs, pi.free_outputs,
        cfg.net, cfg.hidden, cfg.activation, cfg.kernel_init, cfg.shared,
    )  # fmt: skip
    return net, pi
