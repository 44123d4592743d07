"""Epochs of shuffled minibatches, with an early stop between epochs."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import machine
from jaxpg.core.config import label, require_several
from jaxpg.core.packing import pack, unpack
from jaxpg.core.parallel.devices import shard_axis
from jaxpg.core.types import Array, Key, Metrics, Tree

SMALL = 2**16  # numbers of the batch, times epochs, up to which a GPU shuffles all of them at once


def require_minibatches(cfg: Any) -> None:
    """Raises ValueError unless minibatches of equal size make up the batch of a config, and have
    steps enough for what is standardised in them."""
    batch, what = cfg.num_envs * cfg.num_steps, "the batch, num_envs * num_steps ="
    what += f" {cfg.num_envs} * {cfg.num_steps} = {batch}"
    if cfg.memory != "none":
        batch, what = cfg.num_envs, f"num_envs={cfg.num_envs}, the sequences with memory"
    if batch % cfg.minibatches:
        raise ValueError(
            f"{label(type(cfg))} minibatches={cfg.minibatches}: allowed is a divisor of {what}"
        )
    steps = cfg.num_envs * cfg.num_steps // cfg.minibatches
    require_several(cfg, "normalize_advantage", steps, f"a minibatch of {steps} step")


def permutations(key: Key, count: int, size: int) -> Array:
    """`count` random orders of 0 .. size - 1: [count, size] int32.

    Sorts random bits, as `jax.random.permutation` does, but with the number in the low bits of the
    word that is sorted: one integer an entry sorts seven times as fast on a CPU as a key and its
    value. Equal bits leave two numbers in order, so it is done again until fewer than one
    permutation in `size` has such a pair.
    """
    low = (size - 1).bit_length()
    if low > 16:  # too few bits are left
        return jax.vmap(lambda k: jax.random.permutation(k, size))(jax.random.split(key, count))
    rounds = math.ceil(3 * low / (32 - low))
    mask = np.uint32(2**low - 1)
    order = jnp.broadcast_to(jnp.arange(size, dtype=jnp.uint32), (count, size))
    for bits in jax.random.bits(key, (rounds, count, size)):
        order = jax.lax.sort(bits & ~mask | order) & mask
    return order.astype(jnp.int32)


def epochs(
    update: Callable,
    carry: Tree,
    batch: Tree,
    key: Key,
    *,
    num_epochs: int,
    minibatches: int,
    axis: int = 0,
    stop: Callable | None = None,
) -> tuple[Tree, Metrics]:
    """Runs `update(carry, minibatch, key) -> carry, metrics` over a batch, reshuffled every epoch.

    batch: leaves [B, ...]; a minibatch has [B / minibatches, ...]. With `axis=1` leaves are
    sequences [T, B, ...], a minibatch [T, B / minibatches, ...]. stop(metrics) -> bool sees the
    means of an epoch and, once true, skips the epochs that remain (without `vmap` their time is
    saved). Returns the carry and the metrics' means over the minibatches that ran; with a `stop`
    also `update/epochs`, how many epochs that were.
    """
    size = jax.tree.leaves(batch)[0].shape[axis]

    def cut(x, order):
        """Cuts a batch: [.., B, ...] -> [minibatches, .., B / minibatches, ...]"""
        lead, rest = x.shape[:axis], x.shape[axis + 1 :]
        x = x.take(order, axis).reshape(*lead, -1, size // minibatches, *rest)
        return jnp.moveaxis(x, axis, 0)

    def one(carry, x):
        carry, metrics = update(unpack(carry), *x)
        return pack(carry), pack(metrics)

    def epoch(carry, drawn):
        order, keys = drawn
        shuffled = shard_axis(jax.tree.map(lambda x: cut(x, order), batch), axis + 1)
        carry, metrics = jax.lax.scan(one, carry, (shuffled, keys))
        return carry, jax.tree.map(lambda m: m.mean(0), metrics)

    k_perm, k_update = jax.random.split(key)
    orders = permutations(k_perm, num_epochs, size)
    drawn = orders, jax.random.split(k_update, (num_epochs, minibatches))
    if stop is None:
        numbers = sum(x.size for x in jax.tree.leaves(batch))
        if machine.on_gpu() and num_epochs * numbers <= SMALL:  # one long epoch
            drawn = jax.tree.map(lambda x: x.reshape(1, -1, *x.shape[2:]), drawn)
        carry, metrics = jax.lax.scan(epoch, pack(carry), drawn)
        return unpack(carry), unpack(jax.tree.map(lambda m: m.mean(0), metrics))

    def first(drawn):
        return epoch(pack(carry), jax.tree.map(lambda x: x[0], drawn))[1]

    shapes = jax.eval_shape(first, drawn)
    zeros = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), shapes)

    def guarded(loop, drawn):
        carry, stopped = loop
        carry, metrics = jax.lax.cond(stopped, lambda c, _: (c, zeros), epoch, carry, drawn)
        return (carry, stopped | stop(unpack(metrics))), (metrics, ~stopped)

    (carry, _), (metrics, ran) = jax.lax.scan(guarded, (pack(carry), jnp.zeros((), bool)), drawn)
    count = ran.sum(dtype=jnp.int32)
    means = unpack(jax.tree.map(lambda m: m.sum(0) / count, metrics))
    return unpack(carry), means | {"update/epochs": count}
