"""Returns and advantages, with one rule: termination cuts the bootstrap, truncation does not,
and both cut the trace.

All arrays are time-major [T, ...]. `next_value[t]` is the value of the true successor of step t,
so a truncated step bootstraps from its own last observation and never from the reset one. The
last row is the end of the data: it bootstraps, unless it terminated.

What is cut is not looked at: where an episode terminated a critic may say NaN or infinity of its
last observation, as of a simulator that blew up, and neither values nor gradients feel it.

scan: what runs a recursion over time; a caller may hand in one that knows its machine.
"""

import chex
import jax
import jax.numpy as jnp

from jaxpg.core.types import Array, Scan


def bootstrap(next_value: Array, terminated: Array) -> Array:
    """Value of the true successor; 0 after a termination, whatever a critic says there. [...]"""
    return jnp.where(terminated, 0, next_value)  # a product would keep NaN and infinity


def reward_to_go(
    reward: Array,
    terminated: Array,
    truncated: Array,
    gamma,
    next_value: Array | None = None,
    *,
    scan: Scan = jax.lax.scan,
) -> Array:
    """Discounted sum of the rewards from t to the end of t's episode. [T, ...]

    Without `next_value` an episode that was truncated, or runs past the data, counts what it
    earned so far; with it the rest is bootstrapped.
    """
    if next_value is None:
        next_value = jnp.zeros_like(reward)
    return lambda_return(reward, next_value, terminated, truncated, gamma, 1.0, scan=scan)


def episode_return(reward: Array, ended: Array, gamma, *, scan: Scan = jax.lax.scan) -> Array:
    """Discounted return of the whole episode that step t is part of, from its first step. [T, ...]

    ended: [T, ...] bool, the last step of an episode. The data start at an episode's first step.
    """
    chex.assert_equal_shape([reward, ended])
    weighted = gamma ** episode_time(ended, scan=scan) * reward

    def forward(total, x):
        reward, ended = x
        total = total + reward
        return jnp.where(ended, 0, total), total

    zeros = jnp.zeros_like(weighted[0])
    _, so_far = scan(forward, zeros, (weighted, ended))

    def backward(total, x):
        so_far, ended, last = x
        total = jnp.where(ended | last, so_far, total)
        return total, total

    last = jnp.arange(reward.shape[0]) == reward.shape[0] - 1
    return scan(backward, zeros, (so_far, ended, last), reverse=True)[1]


def episode_time(ended: Array, *, scan: Scan = jax.lax.scan) -> Array:
    """Number of steps of its own episode before step t; data start a new episode. [T, ...] int32"""

    def forward(time, ended):
        return jnp.where(ended, 0, time + 1), time

    return scan(forward, jnp.zeros(ended.shape[1:], jnp.int32), ended)[1]


def complete(ended: Array) -> Array:
    """True where the episode of step t ends within the data. [T, ...] bool"""
    return jnp.flip(jnp.cumsum(jnp.flip(ended, 0), 0), 0) > 0


def lambda_return(
    reward: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    gamma,
    lam,
    *,
    scan: Scan = jax.lax.scan,
) -> Array:
    """TD(lambda) targets, Sutton & Barto (2018) eq. 12.20 in its recursive form. [T, ...]"""
    chex.assert_equal_shape([reward, next_value, terminated, truncated])

    next_value = bootstrap(next_value, terminated)

    def back(target, x):
        reward, next_value, ended = x
        target = jnp.where(ended, next_value, target)
        ahead = jnp.where(ended, next_value, (1 - lam) * next_value + lam * target)
        target = reward + gamma * ahead
        return target, target

    x = (reward, next_value, terminated | truncated)
    return scan(back, next_value[-1], x, reverse=True)[1]


def n_step_return(
    reward: Array, next_value: Array, terminated: Array, truncated: Array, gamma, n: int
) -> Array:
    """n-step targets, Sutton & Barto (2018) eq. 7.1; fewer steps at the end of an episode or of
    the data, where they bootstrap from what is there. [T, ...]"""
    chex.assert_equal_shape([reward, next_value, terminated, truncated])
    next_value = bootstrap(next_value, terminated)
    cut = terminated | truncated
    cut = cut.at[-1].set(True)

    def longer(_, target):
        return reward + gamma * jnp.where(cut, next_value, jnp.roll(target, -1, axis=0))

    return jax.lax.fori_loop(1, n, longer, reward + gamma * next_value)


def gae(
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    gamma,
    lam,
    *,
    scan: Scan = jax.lax.scan,
) -> Array:
    """Generalised advantage estimation, Schulman et al. (2016), arXiv:1506.02438 eq. 16. [T, ...]

    Equals `lambda_return - value`: add the value to get the critic's target.
    """
    chex.assert_equal_shape([reward, value, next_value, terminated, truncated])
    delta = reward + gamma * bootstrap(next_value, terminated) - value
    return discounted_sum(delta, gamma * lam, terminated | truncated, scan=scan)


def discounted_sum(x: Array, decay, ended: Array, *, scan: Scan = jax.lax.scan) -> Array:
    """Sum of decay_t .. decay_{t+k-1} x_{t+k} over k, to the end of the episode or data. [T, ...]

    decay: a number, or [T, ...].
    """
    decay = jnp.broadcast_to(jnp.asarray(decay, x.dtype), x.shape)

    def back(total, step):
        x, decay, ended = step
        total = x + decay * jnp.where(ended, 0, total)
        return total, total

    return scan(back, jnp.zeros_like(x[0]), (x, decay, ended), reverse=True)[1]


def starts(ended: Array) -> Array:
    """True where an episode begins, within sequences [T, B] whose `ended` says where one ends.

    Nothing begins at the first step: the carry that it comes with is that of its own episode.
    """
    return jnp.concatenate([jnp.zeros_like(ended[:1]), ended[:-1]])
