"""Sums of floats and counts that do not stall or wrap, however long a run is."""

import jax.numpy as jnp

from jaxpg.core.types import Array


def add(total: Array, lost: Array, x) -> tuple[Array, Array]:
    """Sum total + lost + x as the nearest float, and the rest of it; Knuth's two-sum.

    In float32 a plain sum of ones stands still at 2^24, and one of 0.1 is 9 % off after 1e7 terms.
    With the rest, 0 at first, it holds up to 2^48. An infinite sum stays infinite.
    """
    x = x + lost
    new = total + x
    part = new - total
    rest = (total - (new - part)) + (x - part)
    return new, jnp.where(jnp.isfinite(rest), rest, 0)


def one_more(count: Array) -> Array:
    """Count plus 1; the largest one that its integers hold stays as it is."""
    return jnp.minimum(count, jnp.iinfo(count.dtype).max - 1) + 1
