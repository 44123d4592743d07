"""Heads over a Box with one mode: Gaussian, also with held noise, beta, and the point mass."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.scipy.special import betaln, digamma, erf
from jax.scipy.stats import norm

from jaxpg.core.types import Array, Key
from jaxpg.nets.heads.base import LOG_STD_RANGE, ActionHead, import_distrax, tanh_log_det

WIDE = 1.1  # deviation above which tanh's kink is too narrow for nodes that spread with it


def wide_log_det(mean: Array, std: Array) -> Array:
    """Mean of log |d tanh(x) / dx| under N(mean, std^2), of each entry, for deviations above WIDE.

    The logarithm is 2 log 2 - 2 |x| - 2 log(1 + e^(-2 |x|)). The mean of |x| has a closed form, and
    the rest falls off like e^(-2 |x|), which is the weight of Gauss-Laguerre quadrature.
    """
    y, weight = np.polynomial.laguerre.laggauss(12)
    weight = jnp.asarray(weight * np.exp(y) * np.log1p(np.exp(-y)) / 2, mean.dtype)
    x = (y / 2).reshape(-1, *[1] * mean.ndim).astype(mean.dtype)
    size = std * (2 / np.pi) ** 0.5 * jnp.exp(-jnp.square(mean / std) / 2)
    size = size + mean * erf(mean / std / 2**0.5)
    rest = jnp.tensordot(weight, norm.pdf(x, mean, std) + norm.pdf(-x, mean, std), 1)
    return 2 * (jnp.log(2.0) - size - rest)


def gaussian(size: int, squash: bool, state_std: bool) -> ActionHead:
    """A diagonal Gaussian; its draw is squashed by tanh, with the density of the squashed action.

    state_std: the log-std is the network's, else learnt and the same for every observation.
    """

    distrax = import_distrax()

    def dist(out: Array) -> Any:  # distrax's own types know little
        mean, log_std = jnp.split(out, 2, -1)
        return distrax.Independent(
            distrax.Normal(mean, jnp.exp(jnp.clip(log_std, *LOG_STD_RANGE))), 1
        )

    def log_det(draw: Array) -> Array | float:
        return tanh_log_det(draw) if squash else 0.0

    def sample(out: Array, key: Key) -> tuple[Array, Array]:
        draw, log_prob = dist(out).sample_and_log_prob(seed=key)
        return draw, log_prob - log_det(draw)

    def entropy(out: Array, key: Key) -> Array:
        base = dist(out)
        if not squash:
            return base.entropy()
        # No closed form: E[log_det] by Gauss-Hermite quadrature, dimension by dimension; a wide one
        # is left to nodes of its own, and log_det(0) is 0.
        z, weight = np.polynomial.hermite_e.hermegauss(24)
        loc, scale = base.distribution.loc, base.distribution.scale
        wide = scale > WIDE
        own = jnp.where(wide, wide_log_det(loc, scale), 0).sum(-1)
        loc, scale = jnp.where(wide, 0, loc), jnp.where(wide, 0, scale)
        draws = loc + scale * z.reshape(-1, *[1] * out.ndim).astype(out.dtype)
        mean = jnp.tensordot(jnp.asarray(weight / weight.sum(), out.dtype), log_det(draws), 1)
        return base.entropy() + (mean + own)

    return ActionHead(
        outputs=2 * size if state_std else size,
        free_outputs=0 if state_std else size,
        sample=sample,
        log_prob=lambda out, draw: dist(out).log_prob(draw) - log_det(draw),
        entropy=entropy,
        mode=lambda out: dist(out).mode(),
        # A bijection leaves it alone.
        kl=lambda out, other, key: dist(out).kl_divergence(dist(other)),
        squash=jnp.tanh if squash else lambda draw: draw,
        expect=lambda f, out, key: f(*sample(out, key)),
    )


def gsde(size: int, squash: bool) -> ActionHead:
    """A diagonal Gaussian whose noise is held over steps; Raffin et al. (2021).

    Outputs: the mean, the log-deviation in this state, and where the noise is held, see
    nets/noise.py, that noise in units of the deviation. Without it a sample has noise of its own.
    """
    base = gaussian(size, squash, state_std=True)

    def alone(out: Array) -> Array:
        return out[..., : 2 * size]

    def sample(out: Array, key: Key) -> tuple[Array, Array]:
        if out.shape[-1] == 2 * size:
            return base.sample(out, key)
        mean, log_std, noise = jnp.split(out, 3, -1)
        draw = mean + jnp.exp(jnp.clip(log_std, *LOG_STD_RANGE)) * noise
        return draw, base.log_prob(alone(out), draw)

    return base._replace(
        outputs=size,
        free_outputs=size,
        sample=sample,
        log_prob=lambda out, draw: base.log_prob(alone(out), draw),
        entropy=lambda out, key: base.entropy(alone(out), key),
        mode=lambda out: base.mode(alone(out)),
        kl=lambda out, other, key: base.kl(alone(out), alone(other), key),
        expect=lambda f, out, key: f(*sample(out, key)),
        held=True,
    )


def beta(size: int) -> ActionHead:
    """Beta distributions on [-1, 1], with both parameters above 1; Chou et al. (2017).

    The draw is the logit of the variable in (0, 1), so action = tanh(draw / 2), and its density
    is linear in log-sigmoids of the draw: finite, with its gradient, at the ends of the interval.
    The sample is a difference of log-gamma variables, with implicit gradients (Figurnov et al.
    2018).
    """

    def parameters(out: Array) -> tuple[Array, Array]:
        a, b = jnp.split(1 + nn.softplus(out), 2, -1)
        return a, b

    def log_prob(out: Array, draw: Array) -> Array:
        a, b = parameters(out)
        x = (a - 1) * nn.log_sigmoid(draw) + (b - 1) * nn.log_sigmoid(-draw)
        return (x - betaln(a, b) - jnp.log(2.0)).sum(-1)

    def sample(out: Array, key: Key) -> tuple[Array, Array]:
        log_gamma = jax.random.loggamma(key, jnp.stack(parameters(out)), dtype=out.dtype)
        draw = log_gamma[0] - log_gamma[1]
        return draw, log_prob(out, draw)

    def entropy(out: Array, key: Key) -> Array:
        a, b = parameters(out)
        mean = (a - 1) * digamma(a) + (b - 1) * digamma(b) - (a + b - 2) * digamma(a + b)
        return (betaln(a, b) - mean + jnp.log(2.0)).sum(-1)

    def kl(out: Array, other: Array, key: Key) -> Array:
        (a, b), (c, d) = parameters(out), parameters(other)
        mean = (a - c) * digamma(a) + (b - d) * digamma(b) + (c - a + d - b) * digamma(a + b)
        return (betaln(c, d) - betaln(a, b) + mean).sum(-1)

    def mode(out: Array) -> Array:
        log_a, log_b = jnp.split(jnp.log(nn.softplus(out) + jnp.finfo(out.dtype).tiny), 2, -1)
        return log_a - log_b

    return ActionHead(
        outputs=2 * size,
        free_outputs=0,
        sample=sample,
        log_prob=log_prob,
        entropy=entropy,
        mode=mode,
        kl=kl,
        squash=lambda draw: jnp.tanh(draw / 2),
        expect=lambda f, out, key: f(*sample(out, key)),
    )


def deterministic(base: ActionHead | None, size: int) -> ActionHead:
    """A point mass: on tanh of the outputs, or on the mode of `base`. It has no density, so
    `log_prob`, `entropy` and `kl` raise ValueError; the log-probability of a sample is 0."""

    def mode(out: Array) -> Array:
        return out if base is None else base.mode(out)

    def refuse(*_):
        raise ValueError("head='deterministic' has no density: allowed is any other head")

    return ActionHead(
        outputs=size if base is None else base.outputs,
        free_outputs=0,
        sample=lambda out, key: (mode(out), jnp.zeros(out.shape[:-1], out.dtype)),
        log_prob=refuse,
        entropy=refuse,
        mode=mode,
        kl=refuse,
        squash=jnp.tanh if base is None else lambda draw: draw,
    )
