"""Exploration for deterministic policies, whose actions lie in [-1, 1].

Gaussian noise is white; Ornstein-Uhlenbeck noise is correlated over time; parameter noise perturbs
the policy itself, so that within an episode equal observations get equal actions.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core.types import Array, Key, Tree


def gaussian(key: Key, action: Array, std, limit=jnp.inf) -> Array:
    """The action [..., D] with white noise of deviation `std`, in [-1, 1].

    limit: the noise itself is kept within it; Fujimoto et al. (2018), arXiv:1802.09477 sec. 5.3.
    """
    noise = std * jax.random.normal(key, action.shape, action.dtype)
    return jnp.clip(action + jnp.clip(noise, -limit, limit), -1, 1)


def ornstein_uhlenbeck(key: Key, noise: Array, theta, sigma) -> Array:
    """The next noise [..., D] of the process dx = -theta x dt + sigma dW, in steps of dt = 1.

    Uhlenbeck & Ornstein (1930), as in Lillicrap et al. (2016), arXiv:1509.02971 sec. 7. Its
    correlation over k steps is (1 - theta)^k, its variance sigma^2 / (1 - (1 - theta)^2).
    """
    return (1 - theta) * noise + sigma * jax.random.normal(key, noise.shape, noise.dtype)


def add_noise(key: Key, action: Array, held: Array | tuple[()], std, theta) -> tuple[Array, Tree]:
    """The action [..., D] with noise, in [-1, 1], and the noise to remember.

    held: the Ornstein-Uhlenbeck noise of the step before, or () for Gaussian noise.
    """
    if isinstance(held, tuple):
        return gaussian(key, action, std), held
    held = ornstein_uhlenbeck(key, held, theta, std)
    return jnp.clip(action + held, -1, 1), held


class Perturbation(NamedTuple):
    """The direction in which each of N environments' parameters are moved for an episode."""

    drawn: Array  # [N] bool; False where an episode begins
    direction: Tree  # [N, ...] standard normal, like the parameters


def init_perturbation(params: Tree, num_envs: int) -> Perturbation:
    """Perturbation of which nothing is drawn yet."""
    zeros = jax.tree.map(lambda p: jnp.zeros((num_envs, *p.shape), p.dtype), params)
    return Perturbation(jnp.zeros(num_envs, bool), zeros)


def begin_episodes(key: Key, noise: Perturbation) -> Perturbation:
    """Draws a direction where there is none."""

    def draw(noise):
        fresh = standard_normal(key, noise.direction)
        keep = lambda old, new: jnp.where(noise.drawn.reshape(-1, *[1] * (new.ndim - 1)), old, new)  # noqa: E731
        return Perturbation(jnp.ones_like(noise.drawn), jax.tree.map(keep, noise.direction, fresh))

    return jax.lax.cond(noise.drawn.all(), lambda noise: noise, draw, noise)


def standard_normal(key: Key, like: Tree) -> Tree:
    """Independent standard normal numbers in the shape of a tree."""
    leaves, structure = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    draws = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    return structure.unflatten(draws)


def perturb(params: Tree, direction: Tree, scale) -> Tree:
    """Parameters moved by `scale` in a direction."""
    return jax.tree.map(lambda p, d: p + scale * d, params, direction)


def action_distance(action: Array, perturbed: Array) -> Array:
    """Root of the mean squared difference over states and dimensions [..., D]: []

    Plappert et al. (2018), arXiv:1706.01905 appendix C. Where the perturbed policy is right for
    white noise of deviation sigma, this is sigma.
    """
    return jnp.sqrt(jnp.square(action - perturbed).mean())


def adapt_scale(scale: Array, distance: Array, target, factor=1.01) -> Array:
    """A larger scale while the policies are nearer than `target`, else a smaller one.

    Plappert et al. (2018), arXiv:1706.01905 eq. 8. Kept within [1e-6, 1e2], so that a long spell
    without effect does not disable it for good.
    """
    scale = jnp.where(distance <= target, scale * factor, scale / factor)
    return jnp.clip(scale, 1e-6, 1e2)
