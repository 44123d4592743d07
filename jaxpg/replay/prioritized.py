"""Proportional prioritised sampling, Schaul et al. (2016), arXiv:1511.05952 sec. 3.3-3.4.

`Priorities` stand beside a `uniform.Buffer` of the same capacity. Row i is drawn with probability

    P(i) = p_i^alpha / sum_k p_k^alpha,    p_i = |TD error| + eps,

and its loss is weighted by w_i = (size P(i))^-beta, over the largest of the batch.

The tree of sums has 16 children a node: with a million rows, five levels instead of the binary
tree's twenty. Drawing and updating B rows costs O(B log capacity).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core.types import Array, Key

FANOUT = 16
EPS = 1e-6  # of p_i: no row is lost for ever


class Priorities(NamedTuple):
    sums: tuple[Array, ...]  # [groups, 16] p_i^alpha of 16 rows a group; then the sums of groups
    largest: Array  # [] float: the largest p_i so far, which new rows get


def init(capacity: int) -> Priorities:
    """Priorities of an empty buffer: no row can be drawn yet."""
    sums, nodes = [], capacity
    while not sums or nodes > 1:
        nodes = -(-nodes // FANOUT)
        sums.append(jnp.zeros((nodes, FANOUT), float))
    return Priorities(tuple(sums), jnp.ones((), float))


def _write_leaves(priorities: Priorities, index: Array, value: Array) -> Priorities:
    """Sets leaves [B] and sums anew every group above them, so that errors do not add up."""
    sums = []
    for level in priorities.sums:
        group = index // FANOUT
        level = level.at[group, index % FANOUT].set(value, mode="promise_in_bounds")
        index, value = group, level[group].sum(-1)
        sums.append(level)
    return priorities._replace(sums=tuple(sums))


def add(priorities: Priorities, index: Array, alpha) -> Priorities:
    """Adds rows at `index` [B], each with the largest priority so far, so that it is soon seen."""
    return _write_leaves(priorities, index, jnp.full(index.shape, priorities.largest**alpha))


def update(
    priorities: Priorities, index: Array, td_error: Array, alpha, mask: Array | bool = True
) -> Priorities:
    """Sets the priorities of the rows at `index` [B] by their TD errors [B]; where `mask`
    ([] or [B] bool) is false a row keeps its priority."""
    p = jnp.abs(td_error) + EPS
    old = priorities.sums[0][index // FANOUT, index % FANOUT]
    largest = jnp.maximum(priorities.largest, jnp.where(mask, p, 0).max())
    return _write_leaves(priorities, index, jnp.where(mask, p**alpha, old))._replace(
        largest=largest
    )


def sample(priorities: Priorities, key: Key, count: int) -> tuple[Array, Array]:
    """`count` rows, one from each of `count` equal shares of the sum of priorities.

    Returns the rows [count] int32 and their probabilities P(i) [count].
    """
    total = priorities.sums[-1].sum()
    line = jnp.arange(count, dtype=jnp.int32)
    left = (line + jax.random.uniform(key, (count,), float)) / count * total
    index = jnp.zeros(count, jnp.int32)
    upto = jnp.triu(jnp.ones((FANOUT, FANOUT), float))
    for level in reversed(priorities.sums):
        nodes = level[index]  # [count, 16]
        # A running sum; as a product it is one operation, where `cumsum` is several.
        reached = jnp.matmul(nodes, upto, precision="highest")
        # Rounding may leave more than the sum: then it is the last child that adds anything.
        child = jnp.minimum(
            (reached <= left[:, None]).sum(-1, dtype=jnp.int32),
            (reached < reached[:, -1:]).sum(-1, dtype=jnp.int32),
        )
        value, upper = (jnp.take_along_axis(x, child[:, None], -1)[:, 0] for x in (nodes, reached))
        left = left - (upper - value)
        index = index * FANOUT + child
    return index, value / total


def weights(probability: Array, size: Array, beta) -> Array:
    """Importance weights [B] of rows drawn with these probabilities from `size` rows: at beta = 1
    they make up for the priorities. Over their largest, so that they only shorten steps."""
    w = (size * probability) ** -beta
    return w / w.max()
