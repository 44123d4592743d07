"""Heads over integers. Their logits may be masked: `core.observations.mask_illegal` puts
them far below others.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxpg.core import machine
from jaxpg.core.observations import ILLEGAL
from jaxpg.core.types import Array, Key
from jaxpg.nets.heads.base import ActionHead, import_distrax

SHORT = 8  # choices up to which a GPU gets sums and maxima over them written out


def categorical(n: int, temperature) -> ActionHead:
    """One of n choices; logits are divided by `temperature`.

    What `distrax.Categorical` says, in fewer operations: it normalises its logits, and for the
    entropy once more. On a GPU a reduction begins a kernel; over a few choices it is written out
    there, and all that the head does is one kernel with what the environment does.
    """
    short = machine.on_gpu() and n <= SHORT

    def total(x: Array) -> Array:
        return functools.reduce(jnp.add, _columns(x)) if short else x.sum(-1)

    def log_probs(out: Array) -> Array:
        x = out / temperature
        if not short:
            return nn.log_softmax(x)
        x = x - jax.lax.stop_gradient(functools.reduce(jnp.maximum, _columns(x)))[..., None]
        return x - jnp.log(total(jnp.exp(x)))[..., None]

    def at(log_p: Array, draw: Array) -> Array:  # a gather costs more than a few products
        return total(jnp.where(jnp.asarray(draw)[..., None] == np.arange(n), log_p, 0))

    def sample(out: Array, key: Key) -> tuple[Array, Array]:
        log_p = log_probs(out)
        if short:  # what `jax.random.categorical` draws
            draw = _argmax(jax.random.gumbel(key, log_p.shape, log_p.dtype) + log_p)
        else:
            draw = jax.random.categorical(key, log_p).astype(jnp.int32)
        return draw, at(log_p, draw)

    def kl(out: Array, other: Array, key: Key) -> Array:
        log_p = log_probs(out)
        return total(jnp.exp(log_p) * (log_p - log_probs(other)))

    def entropy(out: Array, key: Key) -> Array:
        log_p = log_probs(out)
        return -total(jnp.exp(log_p) * log_p)

    return ActionHead(
        outputs=n,
        free_outputs=0,
        sample=sample,
        log_prob=lambda out, draw: at(log_probs(out), draw),
        entropy=entropy,
        mode=lambda out: jnp.argmax(out, -1).astype(jnp.int32),
        kl=kl,
    )


def _columns(x: Array) -> list[Array]:
    return [x[..., i] for i in range(x.shape[-1])]


def _argmax(x: Array) -> Array:
    """The first of the largest of x [..., n], or of those that are NaN, as `jnp.argmax` has it."""
    best, at = x[..., 0], jnp.zeros(x.shape[:-1], jnp.int32)
    for i, other in enumerate(_columns(x)[1:], 1):
        better = (other > best) | (jnp.isnan(other) & ~jnp.isnan(best))
        best, at = jnp.where(better, other, best), jnp.where(better, i, at)
    return at


def multi_categorical(nvec: Sequence[int], temperature) -> ActionHead:
    """M independent choices, of nvec[i] each: logits [..., sum(nvec)], draws [..., M]."""
    distrax = import_distrax()

    begin = np.cumsum([0, *nvec[:-1]])
    choice = np.arange(max(nvec))
    real = choice < np.array(nvec)[:, None]  # [M, most]: the others pad
    place = np.where(real, begin[:, None] + choice, 0)

    def dist(out: Array):
        logits = jnp.where(real, out[..., place] / temperature, ILLEGAL)
        return distrax.Independent(distrax.Categorical(logits=logits, dtype=jnp.int32), 1)

    return _of(dist, sum(nvec))


def _of(dist: Callable, outputs: int) -> ActionHead:
    """A head whose functions are all a distribution's: dist(out)."""
    return ActionHead(
        outputs=outputs,
        free_outputs=0,
        sample=lambda out, key: dist(out).sample_and_log_prob(seed=key),
        log_prob=lambda out, draw: dist(out).log_prob(draw),
        entropy=lambda out, key: dist(out).entropy(),
        mode=lambda out: dist(out).mode(),
        kl=lambda out, other, key: dist(out).kl_divergence(dist(other)),
    )


def bernoulli(size: int, temperature) -> ActionHead:
    """Independent bits [..., size], of which `out` are the log-odds times the temperature.

    In terms of softplus all is exact and finite where a probability has been rounded to 0 or 1.
    """

    def log_prob(out: Array, draw: Array) -> Array:
        return -nn.softplus(jnp.where(draw == 1, -out, out) / temperature).sum(-1)

    def sample(out: Array, key: Key) -> tuple[Array, Array]:
        draw = jax.random.bernoulli(key, nn.sigmoid(out / temperature)).astype(jnp.int32)
        return draw, log_prob(out, draw)

    def entropy(out: Array, key: Key) -> Array:
        x = out / temperature
        return (nn.softplus(x) - x * nn.sigmoid(x)).sum(-1)

    def kl(out: Array, other: Array, key: Key) -> Array:
        x, y = out / temperature, other / temperature
        return (nn.sigmoid(x) * (x - y) + nn.softplus(y) - nn.softplus(x)).sum(-1)

    return ActionHead(
        outputs=size,
        free_outputs=0,
        sample=sample,
        log_prob=log_prob,
        entropy=entropy,
        mode=lambda out: (out > 0).astype(jnp.int32),
        kl=kl,
    )
