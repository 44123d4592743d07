"""Embeddings of observations and models of what actions do to them, for bonuses of exploration."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxpg.core.env import Env, action_size
from jaxpg.core.types import Array
from jaxpg.nets.initializers import initializer
from jaxpg.nets.networks import MLP, features


class Embedding(nn.Module):
    """Features of an observation: a list of leaves [..., *shape] -> [..., size]."""

    obs_shapes: tuple[tuple[int, ...], ...]
    size: int
    make_torso: Callable[[], nn.Module] = functools.partial(MLP, (64, 64), "relu")

    @nn.compact
    def __call__(self, obs: list[Array]) -> Array:
        torsos: Any = [self.make_torso() for _ in self.obs_shapes]
        x = features(torsos, self.obs_shapes, obs)
        return nn.Dense(self.size, kernel_init=initializer("orthogonal", 1.0))(x)


class Joint(nn.Module):
    """A network of two vectors side by side: [..., A], [..., B] -> [..., size]. As a forward model
    of features and an action, as an inverse model of features before and after."""

    size: int
    hidden: tuple[int, ...] = (64,)

    @nn.compact
    def __call__(self, x: Array, y: Array) -> Array:
        both = jnp.concatenate([x, y], -1)
        h = MLP(self.hidden, "relu")(both.reshape(-1, both.shape[-1]))
        out = nn.Dense(self.size, kernel_init=initializer("orthogonal", 1.0))(h)
        return out.reshape(*both.shape[:-1], self.size)


def action_width(env: Env) -> int:
    """Entries of `encode_action`, and outputs of an inverse model. Raises ValueError for actions
    that are neither discrete nor continuous."""
    if env.action_kind == "discrete":
        return env.action_space.n
    if env.action_kind == "continuous":
        return action_size(env)
    raise ValueError(
        f"a bonus with a model of actions on {env.name}, whose actions are {env.action_kind}: "
        "allowed are discrete and continuous"
    )


def encode_action(env: Env, action: Array, lead: int) -> Array:
    """Actions as a network sees them: one-hot of integers, flat vectors of numbers; [..., width].

    lead: number of axes before those of an action.
    """
    if env.action_kind == "discrete":
        return jax.nn.one_hot(action, env.action_space.n, dtype=float)
    return action.reshape(*action.shape[:lead], action_width(env)).astype(float)


def action_error(env: Env, out: Array, action: Array) -> Array:
    """Loss of an inverse model's outputs [..., width] for the action that was taken: cross-entropy
    of integers, half the squared distance of numbers. [...]"""
    if env.action_kind == "discrete":
        return optax.softmax_cross_entropy_with_integer_labels(out, action.astype(jnp.int32))
    return 0.5 * jnp.square(out - encode_action(env, action, out.ndim - 1)).sum(-1)
