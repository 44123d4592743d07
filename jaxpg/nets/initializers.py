"""Initialisers of weights."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpg.core.choices import is_initializer
from jaxpg.core.types import Array, Key


def orthogonal(scale: float = 1.0):
    """Initialiser with orthonormal rows or columns, times `scale`; Saxe et al. (2014).

    Newton-Schulz iterations on a Gaussian matrix converge to its orthogonal polar factor, which
    is uniformly distributed as QR's is. QR itself deadlocks on a 2-core CPU when vmapped: the
    batched kernel waits on the thread pool that it runs in.
    """

    def init(key: Key, shape: tuple[int, int], dtype=jnp.float32) -> Array:
        return scale * _orthonormal(key, shape, dtype)

    return init


@functools.partial(jax.jit, static_argnames=("shape", "dtype"))
def _orthonormal(key: Key, shape: tuple[int, int], dtype) -> Array:
    """Orthonormal matrix, in a jit of its own: flax traces initialisers again in every `apply`."""
    rows, cols = shape
    x = jax.random.normal(key, (max(shape), min(shape)), dtype)
    if min(shape) == 1:
        x = x / jnp.linalg.norm(x)
    else:
        # The largest singular value is below sqrt(rows) + sqrt(columns) + t but for a chance of
        # exp(-t^2 / 2); the iteration converges from values below sqrt(3).
        x = x / (math.sqrt(rows) + math.sqrt(cols) + 3)
        x = jax.lax.fori_loop(0, 40, lambda _, w: 1.5 * w - 0.5 * w @ (w.T @ w), x)
    return x if rows >= cols else x.T


def initializer(kernel_init: str | Callable, scale: float) -> Callable:
    """The initialiser that the field `kernel_init` says.

    scale: the gain for "orthogonal", and relative to it for other names. An initialiser of the
    user's own knows its scale itself; a function that makes one is called.
    """
    if not isinstance(kernel_init, str):
        return _of_users_own(kernel_init)
    if kernel_init == "orthogonal":
        return orthogonal(scale)
    gain = {"lecun": 1.0, "he": 2.0}[kernel_init] * (scale / math.sqrt(2)) ** 2
    return nn.initializers.variance_scaling(gain, "fan_in", "truncated_normal")


@functools.lru_cache  # one and the same at every `apply`
def _of_users_own(kernel_init: Callable) -> Callable:
    own = kernel_init if is_initializer(kernel_init) else kernel_init()
    return lambda key, shape, dtype=jnp.float32: own(key, shape, dtype)
