"""Losses of policies and critics, as means over a batch of any shape, to be minimised."""

import chex
import jax.numpy as jnp
from jax.lax import stop_gradient

from jaxpg.core.types import Array
from jaxpg.ops.normalize import masked_mean, moments


def policy_gradient(log_prob: Array, advantage: Array, mask: Array | None = None) -> Array:
    """Surrogate whose gradient is minus the policy gradient estimate, Williams (1992).

    log_prob, advantage, mask: [...]; no gradient flows into the advantage.
    """
    chex.assert_equal_shape([log_prob, advantage])
    if mask is not None:  # 0 times NaN would be the gradient of what does not count
        advantage = jnp.where(mask, advantage, 0)
    return -masked_mean(log_prob * stop_gradient(advantage), mask)


def ppo_clip(log_ratio: Array, advantage: Array, clip_eps, mask: Array | None = None) -> Array:
    """The clipped surrogate, Schulman et al. (2017), arXiv:1707.06347 eq. 7.

    log_ratio: [...] log pi(a|s) - log pi_old(a|s). mask: [...] the steps that count.
    """
    chex.assert_equal_shape([log_ratio, advantage])
    # Beyond e^20 the gradient of exp would overflow, and 0 * inf is NaN behind the minimum.
    ratio, advantage = jnp.exp(jnp.clip(log_ratio, -20, 20)), stop_gradient(advantage)
    clipped = jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps)
    return -masked_mean(jnp.minimum(ratio * advantage, clipped * advantage), mask)


def ppo_penalty(log_ratio: Array, advantage: Array, kl: Array, beta) -> Array:
    """The surrogate with a penalty on the KL divergence, arXiv:1707.06347 eq. 8.

    kl: [...] KL(pi_old || pi) in each state; beta: the penalty's weight.
    """
    chex.assert_equal_shape([log_ratio, advantage, kl])
    return -(jnp.exp(log_ratio) * stop_gradient(advantage) - beta * kl).mean()


def adapt_penalty(beta: Array, kl: Array, target_kl) -> Array:
    """The new weight: halved below target / 1.5, doubled above 1.5 target, arXiv:1707.06347 sec. 4.

    Kept within [1e-4, 1e4], so that a long quiet spell does not disable it for good.
    """
    beta = jnp.where(
        kl < target_kl / 1.5, beta / 2, jnp.where(kl > target_kl * 1.5, beta * 2, beta)
    )
    return jnp.clip(beta, 1e-4, 1e4)


def dual_ascent(multiplier: Array, violation: Array, learning_rate) -> Array:
    """The Lagrange multiplier of a constraint `violation <= 0` after a step up the dual, which is
    concave with gradient `violation`; Boyd & Vandenberghe (2004) sec. 5.1. Never below 0."""
    return jnp.maximum(multiplier + learning_rate * violation, 0)


def value(value: Array, target: Array, mask: Array | None = None) -> Array:
    """Half the mean squared error of a critic; no gradient flows into the target."""
    chex.assert_equal_shape([value, target])
    error = value - stop_gradient(target)
    if mask is not None:
        error = jnp.where(mask, error, 0)
    return 0.5 * masked_mean(jnp.square(error), mask)


def clipped_value(
    value: Array, old_value: Array, target: Array, clip_eps, mask: Array | None = None
) -> Array:
    """A critic kept within `clip_eps` of what it said at collection; the worse of the two errors.

    Not in the PPO paper: it comes with the authors' code (Engstrom et al. 2020,
    arXiv:2005.12729, section 2).
    """
    chex.assert_equal_shape([value, old_value, target])
    near = old_value + jnp.clip(value - old_value, -clip_eps, clip_eps)
    target = stop_gradient(target)
    worse = jnp.maximum(jnp.square(value - target), jnp.square(near - target))
    return 0.5 * masked_mean(worse, mask)


def approx_kl(log_ratio: Array, mask: Array | None = None) -> Array:
    """Unbiased and never negative estimate of KL(pi_old || pi), Schulman (2020), k3."""
    return masked_mean(jnp.expm1(log_ratio) - log_ratio, mask)


def explained_variance(value: Array, target: Array, mask: Array | None = None) -> Array:
    """1 - Var[target - value] / Var[target]: 1 is a perfect critic, 0 one that says a constant.

    0 where the target does not vary by more than its rounding.
    """

    total, left = moments(target, mask), moments(target - value, mask)
    share = left.var / jnp.where(total.varies, total.var, 1) * jnp.square(left.unit / total.unit)
    return jnp.where(total.varies, 1 - share, 0)
