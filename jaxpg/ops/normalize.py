"""Standardising a batch, and running statistics for observations and rewards.

The unit of a number never matters: what is small is compared with the numbers themselves, and
deviations are squared in units of the largest of them, so that no square leaves the floats.

Where statistics are `()` their normalisation is off: the functions hand back what they were given.
"""

from typing import NamedTuple, overload

import jax
import jax.numpy as jnp

from jaxpg.core import sums
from jaxpg.core.types import Array, Scan, Tree

ALIKE = 3e-6  # deviation, in units of the mean, that may be all rounding


def masked_mean(x: Array, mask: Array | None = None) -> Array:
    """Mean over the entries where `mask` is true (all by default); 0 if there are none."""
    if mask is None:
        return x.mean()
    return jnp.where(mask, x, 0).sum() / jnp.maximum(mask.sum(dtype=jnp.int32), 1)


class Moments(NamedTuple):
    """Mean and variance (population) of a batch, in units of `unit` and of its square."""

    mean: Array  # []
    var: Array  # []
    unit: Array  # [] 1, but where squares would leave the range of floats
    varies: Array  # [] bool: False where all entries are alike, but for rounding


def moments(x: Array, mask: Array | None = None) -> Moments:
    """Moments of the entries where `mask` is true (all by default)."""
    size = jax.lax.stop_gradient(jnp.abs(x if mask is None else jnp.where(mask, x, 0)).max())
    far = (size > 0) & (size < 1e-15) | (size > 1e15) & jnp.isfinite(size)
    unit = jnp.where(far, size, 1)
    x = x / unit
    mean = masked_mean(x, mask)
    var = masked_mean(jnp.square(x - mean), mask)
    return Moments(mean, var, unit, var > 1e-10 * (var + jnp.square(mean)))


def standardize(x: Array, mask: Array | None = None) -> Array:
    """Zero mean and unit variance over the entries where `mask` is true.

    A batch whose entries are all alike carries no signal and becomes zeros: its standard
    deviation is rounding error, and dividing by it would turn that error into a gradient.
    """
    mean, var, unit, varies = moments(x, mask)
    return jnp.where(varies, (x / unit - mean) / jnp.sqrt(jnp.where(varies, var, 1)), 0)


class RunningStats(NamedTuple):
    """Count, mean and standard deviation (population) of all that was met; and of each what its
    rounding has lost, so that none of them stalls."""

    count: Array  # [] float
    mean: Tree  # [*shape]
    std: Tree  # [*shape] 0 while all values are the same
    lost: tuple[Array, Tree, Tree]  # of the three


@overload
def init_stats(example: Tree) -> RunningStats: ...


@overload
def init_stats(example: Tree, on: bool) -> RunningStats | tuple[()]: ...


def init_stats(example: Tree, on: bool = True) -> RunningStats | tuple[()]:
    """Statistics without data yet, for values like `example` [*shape]; () if they are not `on`."""
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, float), example)
    nothing = jnp.zeros((), float), zeros, zeros
    return RunningStats(*nothing, nothing) if on else ()


@overload
def update_stats(
    stats: RunningStats,
    batch: Tree,
    until: Array | float | None = None,
    mask: Array | None = None,
) -> RunningStats: ...


@overload
def update_stats(
    stats: tuple[()],
    batch: Tree,
    until: Array | float | None = None,
    mask: Array | None = None,
) -> tuple[()]: ...


def update_stats(
    stats: RunningStats | tuple[()],
    batch: Tree,
    until: Array | float | None = None,
    mask: Array | None = None,
) -> RunningStats | tuple[()]:
    """Takes in a batch [..., *shape] at once, or those where a mask [...] is true; nothing more
    once the count is `until`.

    A scale that stands has no way to follow a policy that runs off: where it does, the region that
    matters becomes a point of the normalised space, and the policy cannot tell how to come back.
    """
    if not stats:
        return stats
    lead = jax.tree.leaves(batch)[0].ndim - jax.tree.leaves(stats.mean)[0].ndim
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[lead:]), batch)
    ones = jnp.ones(len(jax.tree.leaves(flat)[0]), float)
    merged = merge_stats(stats, ones if mask is None else mask.reshape(-1).astype(float), flat)
    if until is None:
        return merged
    return jax.tree.map(lambda new, old: jnp.where(stats.count < until, new, old), merged, stats)


def merge_stats(
    stats: RunningStats, count: Array, mean: Tree, std: Tree | None = None
) -> RunningStats:
    """Takes in groups of values [G], by their counts [G], means and deviations [G, *shape]; Chan,
    Golub & LeVeque (1979) eq. 2.1. std: None if all values of a group are the same, as of one.

    A group of none is not looked at. Deviations are from the mean so far (at first, from the first
    value), which leaves no rounding where all values are the same.
    """
    n = count.sum()
    total, lost_count = sums.add(stats.count, stats.lost[0], n)
    share, inner = n / jnp.maximum(total, 1), count / jnp.maximum(n, 1)

    def one(mean, std, lost_mean, lost_std, x, s):
        weight = inner.reshape(-1, *[1] * mean.ndim)
        centre = jnp.where(stats.count > 0, mean, x[0].astype(mean.dtype))
        x, s = (jnp.where(weight > 0, y.astype(mean.dtype), y0) for y, y0 in ((x, centre), (s, 0)))
        x = x - centre
        unit = jnp.maximum(std, jnp.maximum(jnp.abs(x), s).max(0))
        unit = jnp.where(unit > 0, unit, 1)
        x, s, old = x / unit, s / unit, std / unit
        shift = (weight * x).sum(0)
        var = (weight * (jnp.square(x - shift) + jnp.square(s))).sum(0)
        # Of the variance, and of the deviation: a^2 - b^2 over a + b.
        change = share * (var + (1 - share) * jnp.square(shift) - jnp.square(old))
        both = old + jnp.sqrt(jnp.maximum(jnp.square(old) + change, 0))
        grown = unit * change / jnp.where(both > 0, both, 1)
        return *sums.add(centre, lost_mean, unit * share * shift), *sums.add(std, lost_std, grown)

    s = jax.tree.map(lambda x: jnp.zeros(()), mean) if std is None else std
    found = jax.tree.map(one, stats.mean, stats.std, *stats.lost[1:], mean, s)
    mean, lost_mean, std, lost_std = jax.tree.transpose(
        jax.tree.structure(stats.mean), jax.tree.structure((0,) * 4), found
    )
    return RunningStats(total, mean, std, (lost_count, lost_mean, lost_std))


def std(stats: RunningStats) -> Tree:
    """Standard deviation [*shape] (population); 1 before there is data, and where the values
    differ by no more than their rounding."""
    return jax.tree.map(
        lambda mean, std: jnp.where(std > ALIKE * jnp.abs(mean), std, 1), stats.mean, stats.std
    )


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
    lost: Array  # [N] what rounding lost of it


def init_reward_scale(num_envs: int | tuple[int, ...], on: bool = True) -> RewardScale | tuple[()]:
    """Scale without data yet, for so many environments, or an array of them of this shape; () if it
    is not `on`."""
    zeros = jnp.zeros(num_envs, float)
    return RewardScale(init_stats(jnp.zeros(())), zeros, zeros) if on else ()


def update_reward_scale(
    scale: RewardScale | tuple[()], reward: Array, ended: Array, gamma, *, scan: Scan = jax.lax.scan
) -> RewardScale | tuple[()]:
    """Takes in a rollout: rewards [T, N] and whether an episode ended with them [T, N] bool."""
    if not scale:
        return scale

    def forward(so_far, x):
        reward, ended = x
        new = sums.add(gamma * so_far[0], gamma * so_far[1], reward)
        return jax.tree.map(lambda x: jnp.where(ended, 0, x), new), new[0]

    begin = scale.returns, scale.lost
    so_far, seen = scan(forward, begin, (reward, ended))
    return RewardScale(update_stats(scale.stats, seen), *so_far)


def divide_reward(scale: RewardScale | tuple[()], reward: Array, clip: float = 10.0) -> Array:
    """Rewards [...] over the running deviation of returns, clipped; the mean stays where it is."""
    return reward if not scale else jnp.clip(reward / std(scale.stats), -clip, clip)


def scale_reward(
    scale: RewardScale | tuple[()],
    reward: Array,
    ended: Array,
    gamma,
    clip: float = 10.0,
    *,
    scan: Scan = jax.lax.scan,
) -> tuple[RewardScale | tuple[()], Array]:
    """Rewards [T, N] over the running deviation of returns, clipped.

    Engstrom et al. (2020), arXiv:2005.12729, section 2. The statistics take in the whole rollout
    before it is scaled, so one rollout has one scale.
    """
    scale = update_reward_scale(scale, reward, ended, gamma, scan=scan)
    return scale, divide_reward(scale, reward, clip)
