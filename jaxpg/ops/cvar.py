"""Conditional value at risk: the worst episodes of a batch, and their mean return.

For a fraction epsilon of the episodes and its quantile Q of the returns R,

    CVaR = E[R | R <= Q],    grad CVaR = E[(R - Q) grad log p(episode) 1(R <= Q)] / epsilon,

Tamar et al. (2015), arXiv:1404.3862 proposition 1. Q stands where policy gradients have a
baseline, and unlike there it has to: which episodes are the worst depends on the actions, so that
another number would leave its distance to Q times the gradient of P(R <= Q).
"""

import chex
import jax.numpy as jnp

from jaxpg.core.types import Array


def worst_episodes(total: Array, last: Array, fraction) -> tuple[Array, Array]:
    """Mask [T, N] of the steps of the worst episodes, R <= Q, and the quantile Q [], the
    ceil(fraction n)-th lowest return of n; Rajeswaran et al. (2017), arXiv:1610.01283 algorithm 1.

    total: [T, N] return R of the episode that a step is part of. last: [T, N] bool, the last steps
    of the n episodes that are looked at. fraction: in (0, 1], may be traced. Episodes as good as Q
    are all among the worst, so with ties they are more than the fraction; Q is infinite if n = 0.
    """
    chex.assert_equal_shape([total, last])
    count = last.sum(dtype=jnp.int32)
    rising = jnp.sort(jnp.where(last, total, jnp.inf), axis=None)
    rank = jnp.ceil(fraction * count * (1 - 1e-6)).astype(jnp.int32)  # 0.1 * 30 is above 3
    quantile = rising[jnp.clip(rank, 1, jnp.maximum(count, 1)) - 1]
    return total <= quantile, quantile
