"""A normalising flow: a normal variable through invertible maps that depend on the observation.

    z ~ N(0, I);   y_i = mean_i + std_i spline_i(z_i);   draw = couplings(y);   action = tanh(draw)

Each dimension has a monotone rational-quadratic spline (Durkan et al. 2019, arXiv:1906.04032) on
[-3, 3], the identity beyond: flat where density piles up, steep between, so that one dimension
alone can have several modes. From two dimensions on, two affine couplings (Dinh et al. 2017,
arXiv:1605.08803) tie them: one half of the vector is scaled and shifted by functions of the other.
Those functions are sums of fixed tanh features of that half, weighted by the network's outputs.
Both directions are exact, and where outputs are zero the whole is the identity.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from jaxpg.core.types import Array, Key
from jaxpg.nets.heads.base import (
    LOG_STD_RANGE,
    ActionHead,
    divergence,
    import_distrax,
    lattice_points,
    normal_points,
    tanh_log_det,
)

REACH = 3.0  # of the splines, in deviations
FEATURES = 8  # of a coupling
MAX_LOG_SCALE = 2.0  # of a coupling


def splines(x: Array) -> tuple[Array, Array, Any]:
    """Mean, log-std and the spline of every dimension [..., D], of its outputs [..., D, 3 K + 1]
    for K bins."""
    distrax = import_distrax()

    bins = (x.shape[-1] - 1) // 3
    slopes = jnp.pad(x[..., 2 + 2 * bins :], [(0, 0)] * (x.ndim - 1) + [(1, 1)])
    spline = distrax.RationalQuadraticSpline(
        jnp.concatenate([x[..., 2 : 2 + 2 * bins], slopes], -1),
        -REACH, REACH, boundary_slopes="identity", min_bin_size=0.02, min_knot_slope=0.01,
    )  # fmt: skip
    return x[..., 0], jnp.clip(x[..., 1], *LOG_STD_RANGE), spline


def couplings(size: int, first: int) -> tuple[Callable, Callable]:
    """Couplings of a vector [..., size], none for one number: the way forward and the way back.

    Each is (out, x) -> x, log-determinant [...]; output `first` is the first of the couplings'.
    """
    half = size // 2
    ends = slice(0, half), slice(half, size)
    pairs = [ends, ends[::-1]] if size > 1 else []  # what is read, what is moved

    def coupling(out: Array, x: Array, i: int) -> tuple[Array, Array]:
        """Log-scale and shift of the half that coupling i moves."""
        read, moved = x[..., pairs[i][0]], size - x[..., pairs[i][0]].shape[-1]
        begin = first + i * 2 * FEATURES * (size - half)
        weight = out[..., begin : begin + 2 * FEATURES * moved]
        weight = weight.reshape(*out.shape[:-1], FEATURES, 2 * moved)
        fixed = lattice_points(FEATURES, read.shape[-1] + 1).astype(out.dtype)
        feature = jnp.tanh(read @ fixed[:, :-1].T + fixed[:, -1])
        log_scale, shift = jnp.split((feature[..., None, :] @ weight)[..., 0, :], 2, -1)
        return MAX_LOG_SCALE * jnp.tanh(log_scale / MAX_LOG_SCALE), shift

    def forward(out: Array, x: Array) -> tuple[Array, Array]:
        log_det = jnp.zeros(x.shape[:-1], x.dtype)
        for i, (_, moved) in enumerate(pairs):
            log_scale, shift = coupling(out, x, i)
            x = x.at[..., moved].set(x[..., moved] * jnp.exp(log_scale) + shift)
            log_det = log_det + log_scale.sum(-1)
        return x, log_det

    def back(out: Array, x: Array) -> tuple[Array, Array]:
        log_det = jnp.zeros(x.shape[:-1], x.dtype)
        for i, (_, moved) in reversed(list(enumerate(pairs))):
            log_scale, shift = coupling(out, x, i)
            x = x.at[..., moved].set((x[..., moved] - shift) * jnp.exp(-log_scale))
            log_det = log_det - log_scale.sum(-1)
        return x, log_det

    return forward, back


def flow(size: int, bins: int) -> ActionHead:
    """A flow whose splines have `bins` bins. Outputs: mean, log-std, widths, heights and inner
    slopes of every dimension, then the couplings' weights, two for each feature and dimension."""
    size_of_splines = size * (3 * bins + 1)
    couple, uncouple = couplings(size, size_of_splines)

    def element(out: Array) -> tuple[Array, Array, Any]:
        return splines(out[..., :size_of_splines].reshape(*out.shape[:-1], size, 3 * bins + 1))

    def forward(out: Array, z: Array) -> tuple[Array, Array]:
        """The draw [..., D] of a normal variable, and its log-density before tanh [...]."""
        mean, log_std, spline = element(out)
        y, log_det = spline.forward_and_log_det(z)
        x, log_det_couplings = couple(out, mean + jnp.exp(log_std) * y)
        return x, (norm.logpdf(z) - log_det - log_std).sum(-1) - log_det_couplings

    def log_base(out: Array, x: Array) -> Array:
        """The log-density of the draw before tanh."""
        x, log_prob = uncouple(out, x)
        mean, log_std, spline = element(out)
        z, log_det = spline.inverse_and_log_det((x - mean) * jnp.exp(-log_std))
        return log_prob + (norm.logpdf(z) + log_det - log_std).sum(-1)

    def sample(out: Array, key: Key) -> tuple[Array, Array]:
        draw, log_prob = forward(out, jax.random.normal(key, (*out.shape[:-1], size), out.dtype))
        return draw, log_prob - tanh_log_det(draw)

    def entropy(out: Array, key: Key) -> Array:
        draw, log_prob = forward(out, normal_points(key, 8, out.shape[:-1], size, out.dtype))
        return (tanh_log_det(draw) - log_prob).mean(0)

    def kl(out: Array, other: Array, key: Key) -> Array:
        draw, _ = forward(out, normal_points(key, 8, (2, *out.shape[:-1]), size, out.dtype))
        return divergence(log_base, out, other, draw, lambda x: x.mean(0))

    def mode(out: Array) -> Array:
        mean, log_std, spline = element(out)
        z = jnp.linspace(-6, 6, 61, dtype=out.dtype).reshape(-1, *[1] * out.ndim)
        y, log_det = spline.forward_and_log_det(z)
        best = jnp.argmax(norm.logpdf(z) - log_det, 0, keepdims=True)
        return couple(out, mean + jnp.exp(log_std) * jnp.take_along_axis(y, best, 0)[0])[0]

    return ActionHead(
        outputs=size_of_splines + (2 * FEATURES * size if size > 1 else 0),
        free_outputs=0,
        sample=sample,
        log_prob=lambda out, draw: log_base(out, draw) - tanh_log_det(draw),
        entropy=entropy,
        mode=mode,
        kl=kl,
        squash=jnp.tanh,
        expect=lambda f, out, key: f(*sample(out, key)),
    )
