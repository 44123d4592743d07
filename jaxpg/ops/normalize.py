"""Standardising a batch, and running statistics for observations and rewards.

Where statistics are `()` their normalisation is off: the functions hand back what they were given.
"""

from typing import NamedTuple, overload

import jax
import jax.numpy as jnp

from jaxpg.core.types import Array, Tree


def masked_mean(x: Array, mask: Array | None = None) -> Array:
    """Mean over the entries where `mask` is true (all by default); 0 if there are none."""
    if mask is None:
        return x.mean()
    return jnp.where(mask, x, 0).sum() / jnp.maximum(mask.sum(dtype=jnp.int32), 1)


def standardize(x: Array, mask: Array | None = None) -> Array:
    """Zero mean and unit variance over the entries where `mask` is true.

    A batch whose entries are all alike carries no signal and becomes zeros: its standard
    deviation is rounding error, and dividing by it would turn that error into a gradient.
    """
    mean = masked_mean(x, mask)
    x = x - mean
    var = masked_mean(jnp.square(x), mask)
    alike = var <= 1e-10 * (var + jnp.square(mean))
    return jnp.where(alike, 0, x / jnp.sqrt(jnp.where(alike, 1, var)))


class RunningStats(NamedTuple):
    """Count, mean and sum of squared deviations; Welford (1962)."""

    count: Array  # [] float
    mean: Tree  # [*shape]
    m2: Tree  # [*shape]


def init_stats(example: Tree) -> RunningStats:
    """Statistics without data yet, for values like `example` [*shape]."""
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, float), example)
    return RunningStats(jnp.zeros((), float), zeros, zeros)


@overload
def update_stats(stats: RunningStats, batch: Tree) -> RunningStats: ...


@overload
def update_stats(stats: tuple[()], batch: Tree) -> tuple[()]: ...


def update_stats(stats: RunningStats | tuple[()], batch: Tree) -> RunningStats | tuple[()]:
    """Takes in a batch [..., *shape] at once; Chan, Golub & LeVeque (1979) eq. 2.1."""
    if not stats:
        return stats
    leaf, mean = jax.tree.leaves(batch)[0], jax.tree.leaves(stats.mean)[0]
    lead = leaf.ndim - mean.ndim
    axes, n = tuple(range(lead)), float(leaf.size // max(mean.size, 1))
    count = stats.count + n

    def merge(mean, m2, x):
        batch_mean = x.mean(axes)
        delta = batch_mean - mean
        m2 = m2 + jnp.square(x - batch_mean).sum(axes) + delta**2 * stats.count * n / count
        return mean + delta * n / count, m2

    merged = jax.tree.map(merge, stats.mean, stats.m2, batch)
    new_mean, new_m2 = jax.tree.transpose(
        jax.tree.structure(stats.mean), jax.tree.structure((0, 0)), merged
    )
    return RunningStats(count, new_mean, new_m2)


def std(stats: RunningStats) -> Tree:
    """Standard deviation [*shape] (population); 1 before there is data, and where the values
    differ by no more than their rounding."""

    def one(mean, m2):
        var = m2 / jnp.maximum(stats.count, 1)
        varies = var > jnp.maximum(1e-8, 1e-11 * jnp.square(mean))
        return jnp.where(varies, jnp.sqrt(jnp.where(varies, var, 1)), 1)

    return jax.tree.map(one, stats.mean, stats.m2)


def whiten(stats: RunningStats | tuple[()], x: Tree, clip: float = 10.0) -> Tree:
    """Observations [..., *shape] in units of the running mean and deviation, clipped.

    What is bool, a mask of actions, stays as it is.
    """
    if not stats:
        return x

    def one(x, mean, s):
        return x if x.dtype == bool else jnp.clip((x - mean) / s, -clip, clip)

    return jax.tree.map(one, x, stats.mean, std(stats))


class RewardScale(NamedTuple):
    """Running deviation of the discounted return, which rewards are divided by."""

    stats: RunningStats
    returns: Array  # [N] discounted return so far of each environment's episode


def init_reward_scale(num_envs: int | tuple[int, ...]) -> RewardScale:
    """Scale without data yet, for so many environments, or an array of them of this shape."""
    return RewardScale(init_stats(jnp.zeros(())), jnp.zeros(num_envs, float))


def update_reward_scale(
    scale: RewardScale | tuple[()], reward: Array, ended: Array, gamma
) -> RewardScale | tuple[()]:
    """Takes in a rollout: rewards [T, N] and whether an episode ended with them [T, N] bool."""
    if not scale:
        return scale

    def forward(returns, x):
        reward, ended = x
        returns = gamma * returns + reward
        return returns * ~ended, returns

    returns, seen = jax.lax.scan(forward, scale.returns, (reward, ended))
    return RewardScale(update_stats(scale.stats, seen), returns)


def divide_reward(scale: RewardScale | tuple[()], reward: Array, clip: float = 10.0) -> Array:
    """Rewards [...] over the running deviation of returns, clipped; the mean stays where it is."""
    return reward if not scale else jnp.clip(reward / std(scale.stats), -clip, clip)


def scale_reward(
    scale: RewardScale | tuple[()], reward: Array, ended: Array, gamma, clip: float = 10.0
) -> tuple[RewardScale | tuple[()], Array]:
    """Rewards [T, N] over the running deviation of returns, clipped.

    Engstrom et al. (2020), arXiv:2005.12729, section 2. The statistics take in the whole rollout
    before it is scaled, so one rollout has one scale.
    """
    scale = update_reward_scale(scale, reward, ended, gamma)
    return scale, divide_reward(scale, reward, clip)
