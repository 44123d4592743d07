"""Epochs of shuffled minibatches, with an early stop between epochs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxpg.core.devices import spread
from jaxpg.core.types import Key, Metrics, Tree


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
    """Runs `update(carry, minibatch) -> carry, metrics` over a batch, reshuffled every epoch.

    batch: leaves [B, ...]; a minibatch has [B / minibatches, ...]. With `axis=1` leaves are
    sequences [T, B, ...], a minibatch [T, B / minibatches, ...]. stop(metrics) -> bool sees the
    means of an epoch and, once true, skips the epochs that remain (without `vmap` their time is
    saved; under it both sides of the condition are computed). Returns the carry and the metrics'
    means over the minibatches that ran, with `update/epochs`, how many epochs that were, if there
    is a `stop`.
    """
    size = jax.tree.leaves(batch)[0].shape[axis]

    def cut(x, order):
        """[.., B, ...] -> [minibatches, .., B / minibatches, ...]"""
        lead, rest = x.shape[:axis], x.shape[axis + 1 :]
        x = x.take(order, axis).reshape(*lead, minibatches, size // minibatches, *rest)
        return jnp.moveaxis(x, axis, 0)

    def epoch(carry, key):
        order = jax.random.permutation(key, size)
        shuffled = spread(jax.tree.map(lambda x: cut(x, order), batch), axis + 1)
        carry, metrics = jax.lax.scan(update, carry, shuffled)
        return carry, jax.tree.map(lambda m: m.mean(0), metrics)

    keys = jax.random.split(key, num_epochs)
    if stop is None:
        carry, metrics = jax.lax.scan(epoch, carry, keys)
        return carry, jax.tree.map(lambda m: m.mean(0), metrics)

    zeros = jax.tree.map(
        lambda m: jnp.zeros(m.shape, m.dtype), jax.eval_shape(epoch, carry, keys[0])[1]
    )

    def guarded(loop, key):
        carry, stopped = loop
        carry, metrics = jax.lax.cond(
            stopped, lambda c, _: (c, zeros), lambda c, k: epoch(c, k), carry, key
        )
        return (carry, stopped | stop(metrics)), (metrics, ~stopped)

    (carry, _), (metrics, ran) = jax.lax.scan(guarded, (carry, jnp.zeros((), bool)), keys)
    count = ran.sum(dtype=jnp.int32)
    return carry, {k: m.sum(0) / count for k, m in metrics.items()} | {"update/epochs": count}
