"""Parts of policy heads: the functions that each gives, and points to take expectations over."""

import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from scipy.special import ndtri

from jaxpg.core.types import Array, Key

LOG_STD_RANGE = (-20.0, 2.0)


def import_distrax() -> Any:
    """Imports distrax, which takes a while: most runs need none of it.

    Raises ValueError under `python -OO`: what it is made of adds to docstrings, which are gone.
    """
    try:
        import distrax
    except TypeError as error:
        if sys.flags.optimize < 2:
            raise
        raise ValueError(
            "this policy is made with distrax, which python -OO cannot import: allowed is python -O"
        ) from error
    return distrax


class ActionHead(NamedTuple):
    """A distribution over actions, as functions of the network's outputs `out` [..., size]."""

    outputs: int  # of the network, from the observation
    free_outputs: int  # learnt, but the same for every observation
    sample: Callable  # (out, key) -> draw [..., D], log_prob [...]
    log_prob: Callable  # (out, draw) -> [...]
    # A key is for the heads without closed forms, which estimate from a fresh sample.
    entropy: Callable  # (out, key) -> [...]
    mode: Callable  # (out) -> draw
    kl: Callable  # (out, other_out, key) -> [...] KL(out || other_out)
    squash: Callable = lambda draw: draw  # (draw) -> action as policies speak of it, [-1, 1]^D
    action: Callable = lambda draw: draw  # (draw) -> action in the units of the environment's space
    # (f, out, key) -> the mean of f(draw, log_prob) over one reparameterised draw [..., D], or one
    # of every component, so that its gradient in `out` is unbiased. None: there is no such draw.
    expect: Any = None
    # Its free outputs are log-deviations of noise that is held over steps, after which outputs may
    # have that noise: see nets/noise.py.
    held: bool = False


def tanh_log_det(draw: Array) -> Array:
    """log |d tanh(x) / dx|, summed over dimensions; finite for every finite draw."""
    return 2 * (jnp.log(2.0) - draw - nn.softplus(-2 * draw)).sum(-1)


def lattice_points(count: int, size: int) -> np.ndarray:
    """Normal variables [count, size] by a Kronecker sequence with the generalised golden ratio
    (Roberts 2018): as if drawn from N(0, I), but spread evenly, and always the same."""
    ratio = 2.0
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (size + 1))
    return ndtri((0.5 + np.outer(np.arange(count), ratio ** -np.arange(1.0, size + 1))) % 1)


def normal_points(key: Key, count: int, shape: tuple[int, ...], size: int, dtype) -> Array:
    """Points [count, *shape, size], each N(0, I), whose mean of f is an unbiased E[f].

    Randomised quasi-Monte Carlo: points that lie evenly in the unit cube, and in every dimension
    alone (a Latin hypercube, in the order of `spread`), are shifted modulo 1 by a fresh uniform
    vector for every entry of `shape`, Cranley & Patterson (1976). So each is exactly uniform.
    """
    even = lattice_points(count, size).argsort(0).argsort(0) / count
    even = even.astype(dtype).reshape(count, *[1] * len(shape), size)
    uniform = (even + jax.random.uniform(key, (*shape, size), dtype)) % 1
    almost = 1 - jnp.finfo(dtype).eps
    return 2**0.5 * jax.lax.erf_inv(almost * (2 * uniform - 1))


def divergence(log_prob: Callable, out: Array, other: Array, draw: Array, mean: Callable) -> Array:
    """KL(out || other) [...], estimated from two independent halves of draws from `out`.

    log_prob(out, draw) [N, 2, ...]; mean(x) [2, ...] is the expectation of x over draws.

    The mean of -log_ratio is unbiased, but its noise does not vanish as `other` nears `out`. Two
    functions of mean 0 take care of that: the score along other - out in the value, ratio - 1 in
    the derivatives. Their coefficient is near 1 for neighbours and 0 far away, where they would
    add noise; each half has it from the other, so that the value stays unbiased, and so do the
    derivatives, but for ratios beyond e^10, which are cut. At other = out value and slope are 0,
    and the Hessian is a Gauss-Newton matrix, as Fisher's is: it does not see kinks of a slope.
    """
    log_p, score = jax.jvp(lambda x: log_prob(x, draw), (out,), (other - out,))
    log_ratio = log_prob(other, draw) - log_p
    near = jnp.exp(-mean(jnp.square(jnp.clip(log_ratio, -10, 10))))[::-1]
    near, score = jax.lax.stop_gradient((near, score))
    smooth = near * jnp.expm1(jnp.minimum(log_ratio, 10.0)) - log_ratio
    value = jax.lax.stop_gradient(near * score - log_ratio - smooth)
    return mean(value + smooth).mean(0)
