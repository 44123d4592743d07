"""Learning about a policy pi from data that another policy mu collected.

Two families. The estimators of the first weigh whole episodes, to judge pi without running it.
`vtrace` and `retrace` cut the weights, to learn a critic of pi from short pieces of data.

Everywhere `log_ratio` is log pi(a|s) - log mu(a|s) of the actions taken: -inf where pi never
does what mu did. Arrays are time-major [T, ...].
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from jaxpg.core.types import Array, Scan
from jaxpg.ops.normalize import masked_mean
from jaxpg.ops.returns import bootstrap, discounted_sum


def _episodes(log_ratio: Array, reward: Array, gamma, mask: Array | None):
    """Log-weight of each episode up to and with step t [T, N], gamma^t r_t [T, N], and which of
    the columns hold an episode [N]."""
    mask = jnp.ones(log_ratio.shape, bool) if mask is None else mask
    chex.assert_rank(log_ratio, 2)
    chex.assert_equal_shape([log_ratio, reward, mask])
    log_weight = jnp.cumsum(jnp.where(mask, log_ratio, 0), 0)
    discount = gamma ** jnp.arange(len(reward), dtype=reward.dtype)[:, None]
    return log_weight, jnp.where(mask, discount * reward, 0), mask.any(0)


def _weigh(log_weight: Array, x: Array) -> Array:
    """exp(log_weight) x, which is 0 where x is, even if the weight overflows."""
    below = 0.99 * jnp.log(jnp.finfo(log_weight.dtype).max)
    return jnp.exp(jnp.where(x == 0, jnp.minimum(log_weight, below), log_weight)) * x


def _relative(log_weight: Array) -> Array:
    """Weights over the largest on the last axis: none overflows, and not all of them vanish."""
    peak = jax.lax.stop_gradient(log_weight.max(-1, keepdims=True))
    return jnp.exp(log_weight - jnp.where(jnp.isneginf(peak), 0, peak))


def _weighted_mean(log_weight: Array, x: Array) -> Array:
    """Mean of x by weight over the last axis; 0 if no weight is left."""
    weight = _relative(log_weight)
    total = weight.sum(-1)
    return (weight * x).sum(-1) / jnp.where(total > 0, total, 1)


def ordinary(log_ratio: Array, reward: Array, gamma, mask: Array | None = None) -> Array:
    """Discounted return under pi by ordinary importance sampling, Sutton & Barto (2018) eq. 5.5. []

    log_ratio, reward: [T, N], N episodes, each from its first step in row 0.
    mask: [T, N] bool, the steps that belong to the episode (all by default); a column without
    any is no episode.

    The return of an episode is weighted by the product of all its ratios. Unbiased and
    consistent where mu tries all that pi does. The variance grows exponentially with the
    length of the episodes and may be infinite. Overflows to inf where a weight does.
    """
    log_weight, reward, present = _episodes(log_ratio, reward, gamma, mask)
    return masked_mean(_weigh(log_weight[-1], reward.sum(0)), present)


def weighted(log_ratio: Array, reward: Array, gamma, mask: Array | None = None) -> Array:
    """Discounted return under pi by weighted importance sampling, Sutton & Barto (2018) eq. 5.6. []

    Arguments as in `ordinary`, but the weights are divided by their sum, not by N; 0 if pi
    could have made no episode. Biased, towards the return under mu, by O(1/N); consistent. It
    stays within the returns that were seen, so its variance is bounded and mostly far smaller.
    """
    log_weight, reward, present = _episodes(log_ratio, reward, gamma, mask)
    return _weighted_mean(jnp.where(present, log_weight[-1], -jnp.inf), reward.sum(0))


def per_decision(log_ratio: Array, reward: Array, gamma, mask: Array | None = None) -> Array:
    """Discounted return under pi by per-decision importance sampling, Precup, Sutton & Singh
    (2000) section 3; Sutton & Barto (2018) section 5.9. []

    Arguments as in `ordinary`, but a reward is weighted by the ratios up to its own action:
    the later ones have mean 1 and only add noise. Unbiased and consistent as `ordinary` is;
    the variance is mostly smaller, and still grows exponentially with the length.
    """
    log_weight, reward, present = _episodes(log_ratio, reward, gamma, mask)
    return masked_mean(_weigh(log_weight, reward).sum(0), present)


def weighted_per_decision(
    log_ratio: Array, reward: Array, gamma, mask: Array | None = None
) -> Array:
    """Discounted return under pi by weighted per-decision importance sampling. []

    Arguments as in `ordinary`. The rewards of each step are averaged with weights that sum to
    1, as Thomas (2015), "Safe reinforcement learning", does to make it consistent: the one
    sum over all steps of Precup, Sutton & Singh (2000) is not (Sutton & Barto 2018, section
    5.9). An episode that is over keeps its weight and earns 0. Biased by O(1/N); the smallest
    variance of the four as a rule.
    """
    log_weight, reward, present = _episodes(log_ratio, reward, gamma, mask)
    return _weighted_mean(jnp.where(present, log_weight, -jnp.inf), reward).sum()


def effective_sample_size(log_weight: Array) -> Array:
    """Number of equally weighted samples that N weighted ones are worth, Kong (1992). []

    log_weight: [N], up to any constant. (sum w)^2 / sum w^2: N if all are equal, 1 if one of
    them has all the weight, 0 if none has any.
    """
    chex.assert_rank(log_weight, 1)
    weight = _relative(log_weight)
    squares = jnp.square(weight).sum()
    return jnp.square(weight.sum()) / jnp.where(squares > 0, squares, 1)


class VTrace(NamedTuple):
    target: Array  # [T, ...] v_t, what the critic should say of x_t
    advantage: Array  # [T, ...] the weight of the score: rho_t (r_t + gamma G_{t+1} - V(x_t))


def _clipped_ratio(log_ratio: Array, bar) -> Array:
    """min(bar, ratio), and finite even with an infinite bar: inf * 0 would be NaN."""
    largest = jnp.finfo(log_ratio.dtype).max
    return jnp.minimum(jnp.exp(log_ratio), jnp.minimum(bar, largest))


def vtrace(
    log_ratio: Array,
    reward: Array,
    value: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    gamma,
    rho_bar=1.0,
    c_bar=1.0,
    lam=1.0,
    *,
    scan: Scan = jax.lax.scan,
) -> VTrace:
    """V-trace targets and advantages, Espeholt et al. (2018), arXiv:1802.01561 eq. 1 with the
    lambda of remark 2, and section 4.2. [T, ...] each

    All arrays are [T, ...]. `next_value[t]` is V of the true successor, so it equals
    `value[t + 1]` inside an episode; ends of episodes and of the data as in `ops.returns`.

    lam means the same for both: 1 looks to the end of the data, 0 one step ahead. The successor
    is worth G_{t+1} = (1 - lam) V(x_{t+1}) + lam v_{t+1} to the advantage, as in rlax; on-policy
    that is `target - value` at every lam. The paper writes v_{t+1}, of lam = 1.

    rho_bar decides what is learnt: the value of a policy between mu (near 0) and pi (inf).
    c_bar decides only how fast. The paper assumes rho_bar >= c_bar. No gradient flows out.
    """
    chex.assert_equal_shape([log_ratio, reward, value, next_value, terminated, truncated])
    rho, c = _clipped_ratio(log_ratio, rho_bar), lam * _clipped_ratio(log_ratio, c_bar)
    ended = terminated | truncated
    next_value = bootstrap(next_value, terminated)
    delta = rho * (reward + gamma * next_value - value)
    target = value + discounted_sum(delta, gamma * c, ended, scan=scan)

    last = jnp.zeros_like(ended).at[-1].set(True)
    mixed = (1 - lam) * next_value + lam * jnp.roll(target, -1, axis=0)
    advantage = rho * (reward + gamma * jnp.where(ended | last, next_value, mixed) - value)
    return jax.lax.stop_gradient(VTrace(target, advantage))


def retrace(
    log_ratio: Array,
    reward: Array,
    q: Array,
    next_value: Array,
    terminated: Array,
    truncated: Array,
    gamma,
    lam=1.0,
) -> Array:
    """Retrace(lambda) targets of Q(x_t, a_t), Munos et al. (2016), arXiv:1606.02647 eq. 3 with
    c_s = lambda min(1, ratio_s). [T, ...]

    All arrays are [T, ...]. q: Q(x_t, a_t); next_value: the mean of Q(x_{t+1}, .) under pi in
    the true successor; ends of episodes and of the data as in `ops.returns`.

    Unlike in V-trace the traces begin at t + 1: a_t is given, so its ratio does not count, and
    the fixed point is Q of pi itself whatever mu is. No gradient flows out.
    """
    chex.assert_equal_shape([log_ratio, reward, q, next_value, terminated, truncated])
    c = lam * _clipped_ratio(log_ratio, 1.0)
    ended = terminated | truncated
    delta = reward + gamma * bootstrap(next_value, terminated) - q
    # What the roll brings round to the last row meets the zero that the sum starts from.
    decay = gamma * jnp.where(ended, 0, jnp.roll(c, -1, axis=0))
    return jax.lax.stop_gradient(q + discounted_sum(delta, decay, ended))
