"""What policy heads are made of: the functions that each gives, and how they take expectations."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from scipy.special import ndtri

from jaxpg.core.types import Array

LOG_STD_RANGE = (-20.0, 2.0)


class Policy(NamedTuple):
    """A distribution over actions, as functions of the network's outputs `out` [..., size]."""

    outputs: int  # of the network, from the observation
    free_outputs: int  # learnt, but the same for every observation
    sample: Callable  # (out, key) -> draw [..., D], log_prob [...]
    log_prob: Callable  # (out, draw) -> [...]
    entropy: Callable  # (out) -> [...]
    mode: Callable  # (out) -> draw
    kl: Callable  # (out, other_out) -> [...] KL(out || other_out)
    squash: Callable = lambda draw: draw  # (draw) -> action as policies speak of it, [-1, 1]^D
    action: Callable = lambda draw: draw  # (draw) -> action in the units of the environment's space
    # (f, out, key) -> the mean of f(draw, log_prob) over one reparameterised draw [..., D], or one
    # of every component, so that its gradient in `out` is unbiased. None: there is no such draw.
    expect: Callable | None = None


def tanh_log_det(draw: Array) -> Array:
    """log |d tanh(x) / dx|, summed over dimensions; finite for every finite draw."""
    return 2 * (jnp.log(2.0) - draw - nn.softplus(-2 * draw)).sum(-1)


def spread(count: int, size: int) -> np.ndarray:
    """Normal variables [count, size] by a Kronecker sequence with the generalised golden ratio
    (Roberts 2018): as if drawn from N(0, I), but spread evenly, and always the same."""
    ratio = 2.0
    for _ in range(60):
        ratio = (1 + ratio) ** (1 / (size + 1))
    return ndtri((0.5 + np.outer(np.arange(count), ratio ** -np.arange(1.0, size + 1))) % 1)


@functools.cache
def normal_points(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Points [N, size] and weights [N]: sums over them are expectations under N(0, I).

    In one dimension the trapezoid rule on 61 points. In more, 512 of Sobol's sequence, whitened:
    exact for quadratic functions, else good to about a percent of their deviation.
    """
    if size == 1:
        z = np.linspace(-6, 6, 61)[:, None]
        weight = np.exp(-0.5 * z[:, 0] ** 2)
        return z, weight / weight.sum()
    from scipy.stats import qmc

    count = 2 ** max(9, math.ceil(math.log2(4 * size)))
    corner = qmc.Sobol(size, scramble=False).random(count)
    z = ndtri(corner + 0.5 / count)
    z = z - z.mean(0)
    z = np.linalg.solve(np.linalg.cholesky(z.T @ z / count), z.T).T
    return z, np.full(count, 1 / count)
