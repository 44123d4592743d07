"""A mixture of diagonal Gaussians over whole vectors: a head with several modes.

    m(x) = sum_k w_k N(x; mu_k, sigma_k^2),    log m by logsumexp

Its choice of a component has no derivative, but an expectation is a sum over components:
E[f(x)] = sum_k w_k E[f(mu_k + sigma_k z)], whose gradient holds that of the weights exactly. So
`expect` draws once from every component. Entropy and KL divergence are such sums too, estimated at
a few points of every component.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from jaxpg.core.types import Array, Key
from jaxpg.nets.heads.base import (
    LOG_STD_RANGE,
    ActionHead,
    divergence,
    lattice_points,
    normal_points,
    tanh_log_det,
)


def component_offsets(size: int, components: int) -> np.ndarray:
    """Offsets of the components' means, in [-1, 1]: [K, D], or [K, 1] for all dimensions.

    Components that begin alike would learn alike.
    """
    if components == 1:
        return np.zeros((1, 1))
    offsets = np.linspace(-1, 1, components)[:, None]
    if size > 1:  # along directions that differ
        offsets = offsets * np.where(lattice_points(components, size) < 0, -1, 1)
    return offsets


def components_of(out: Array, size: int, offsets: np.ndarray) -> tuple[Array, Array, Array]:
    """Log-weights [..., K], means and deviations [..., K, D] of a mixture's outputs."""
    components = len(offsets)
    logits, mean, log_std = jnp.split(out, [components, components * (1 + size)], -1)
    log_weight = jax.nn.log_softmax(logits)
    mean, log_std = (x.reshape(*out.shape[:-1], components, size) for x in (mean, log_std))
    std = jnp.exp(jnp.clip(log_std, *LOG_STD_RANGE))
    return log_weight, mean + offsets.astype(out.dtype), std


def mixture(size: int, components: int, squash: bool) -> ActionHead:
    """Outputs: `components` logits, then a mean and a log-std of every component and dimension.
    Where they are zero the means are the `component_offsets`.
    """
    offsets = component_offsets(size, components)
    parts = functools.partial(components_of, size=size, offsets=offsets)

    def log_prob(out: Array, draw: Array) -> Array:
        log_weight, mean, std = parts(out)
        each = norm.logpdf(draw[..., None, :], mean, std).sum(-1)
        log_m = jax.nn.logsumexp(log_weight + each, -1)
        return log_m - tanh_log_det(draw) if squash else log_m

    def of_all(out: Array, z: Array) -> tuple[Array, Array]:
        """Draws [K, ..., D] by noise z [..., K, D], and the components' weights [K, ...]."""
        log_weight, mean, std = parts(out)
        return jnp.moveaxis(mean + std * z, -2, 0), jnp.moveaxis(jnp.exp(log_weight), -1, 0)

    def sample(out: Array, key: Key) -> tuple[Array, Array]:
        k_component, k_noise = jax.random.split(key)
        log_weight, mean, std = parts(out)
        k = jax.random.categorical(k_component, log_weight)[..., None, None]
        mean, std = (jnp.take_along_axis(x, k, -2)[..., 0, :] for x in (mean, std))
        draw = mean + std * jax.random.normal(k_noise, mean.shape, out.dtype)
        return draw, log_prob(out, draw)

    def expect(f, out: Array, key: Key):
        z = jax.random.normal(key, (*out.shape[:-1], components, size), out.dtype)
        draws, weight = of_all(out, z)
        values = jax.vmap(f)(draws, log_prob(out, draws))
        return jax.tree.map(lambda x: (weight * x).sum(0), values)

    def entropy(out: Array, key: Key) -> Array:
        z = normal_points(key, 4, (*out.shape[:-1], components), size, out.dtype)
        draws, weight = of_all(out, z)  # [K, N, ..., D], [K, ...]
        return -(weight * log_prob(out, draws).mean(1)).sum(0)

    def kl(out: Array, other: Array, key: Key) -> Array:
        z = normal_points(key, 8, (2, *out.shape[:-1], components), size, out.dtype)
        draws, weight = of_all(out, z)  # [K, N, 2, ..., D], [K, ...]
        return divergence(
            log_prob, out, other, draws, lambda x: (weight[:, None] * x.mean(1)).sum(0)
        )

    def mode(out: Array) -> Array:
        log_weight, mean, _ = parts(out)
        heaviest = jax.nn.one_hot(jnp.argmax(log_weight, -1), components, dtype=mean.dtype)
        return (heaviest[..., None] * mean).sum(-2)

    return ActionHead(
        outputs=components * (1 + 2 * size),
        free_outputs=0,
        sample=sample,
        log_prob=log_prob,
        entropy=entropy,
        mode=mode,
        kl=kl,
        squash=jnp.tanh if squash else lambda draw: draw,
        expect=expect,
    )
