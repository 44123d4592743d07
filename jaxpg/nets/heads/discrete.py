"""Heads over integers. Their logits may be masked: `core.observations.mask_illegal` puts
them far below others.
"""

import functools
from collections.abc import Callable, Iterable, Sequence

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
    entropy once more. On a GPU few choices are written out, see `_few`.
    """
    if machine.on_gpu() and n <= SHORT:
        return _few(n, temperature)

    def log_probs(out: Array) -> Array:
        return nn.log_softmax(out / temperature)

    def at(log_p: Array, draw: Array) -> Array:  # a gather costs more than a few products
        return jnp.where(jnp.asarray(draw)[..., None] == np.arange(n), log_p, 0).sum(-1)

    def sample(out: Array, key: Key) -> tuple[Array, Array]:
        log_p = log_probs(out)
        draw = jax.random.categorical(key, log_p).astype(jnp.int32)
        return draw, at(log_p, draw)

    def kl(out: Array, other: Array, key: Key) -> Array:
        log_p = log_probs(out)
        return (jnp.exp(log_p) * (log_p - log_probs(other))).sum(-1)

    def entropy(out: Array, key: Key) -> Array:
        log_p = log_probs(out)
        return -(jnp.exp(log_p) * log_p).sum(-1)

    return ActionHead(
        outputs=n,
        free_outputs=0,
        sample=sample,
        log_prob=lambda out, draw: at(log_probs(out), draw),
        entropy=entropy,
        mode=lambda out: jnp.argmax(out, -1).astype(jnp.int32),
        kl=kl,
    )


def _few(n: int, temperature) -> ActionHead:
    """One of n choices, as columns [...] and not as an array [..., n].

    On a GPU a reduction begins a kernel, be it over two numbers, and so does an array of another
    shape: in columns, all that the head does is one kernel with what the environment does.
    """

    def log_probs(out: Array) -> list[Array]:
        x = [x / temperature for x in _columns(out)]
        most = jax.lax.stop_gradient(functools.reduce(jnp.maximum, x))
        x = [x - most for x in x]
        total = jnp.log(_total(map(jnp.exp, x)))
        return [x - total for x in x]

    def at(log_p: list[Array], draw: Array) -> Array:
        return _total(jnp.where(draw == i, x, 0) for i, x in enumerate(log_p))

    def sample(out: Array, key: Key) -> tuple[Array, Array]:  # as `jax.random.categorical` draws
        log_p, noise = log_probs(out), _columns(jax.random.gumbel(key, out.shape, out.dtype))
        draw = _argmax([x + y for x, y in zip(noise, log_p, strict=True)])
        return draw, at(log_p, draw)

    def kl(out: Array, other: Array, key: Key) -> Array:
        both = zip(log_probs(out), log_probs(other), strict=True)
        return _total(jnp.exp(x) * (x - y) for x, y in both)

    return ActionHead(
        outputs=n,
        free_outputs=0,
        sample=sample,
        log_prob=lambda out, draw: at(log_probs(out), draw),
        entropy=lambda out, key: -_total(jnp.exp(x) * x for x in log_probs(out)),
        mode=lambda out: _argmax(_columns(out)),
        kl=kl,
    )


def _columns(x: Array) -> list[Array]:
    return [x[..., i] for i in range(x.shape[-1])]


def _total(columns: Iterable[Array]) -> Array:
    return functools.reduce(jnp.add, columns)


def _argmax(columns: list[Array]) -> Array:
    """The first of the largest of columns [...], or of those that are NaN, as `jnp.argmax` has it
    of [..., n]."""
    best, at = columns[0], jnp.zeros(columns[0].shape, jnp.int32)
    for i, other in enumerate(columns[1:], 1):
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
