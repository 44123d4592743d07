"""A ring buffer of transitions, sampled uniformly; Lin (1992), Mnih et al. (2015).

`add` and `sample` cost O(rows moved), whatever the capacity, and `add` writes in place where the
buffer is donated or carried through a loop.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core.episodes import in_first_episode
from jaxpg.core.types import Array, Key, Tree


class Buffer(NamedTuple):
    """Rows that were stored, and where the next one goes."""

    is_met = True  # and not learnt
    data: Tree  # [capacity, ...]
    position: Array  # [] int32 the row that is written next, below the capacity
    size: Array  # [] int32 how many rows are stored


def capacity(buffer: Buffer) -> int:
    return jax.tree.leaves(buffer.data)[0].shape[0]


def init(example: Tree, capacity: int) -> Buffer:
    """An empty buffer for rows like `example` [...]."""
    data = jax.tree.map(lambda x: jnp.zeros((capacity, *x.shape), x.dtype), example)
    return Buffer(data, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def add(buffer: Buffer, rows: Tree) -> Buffer:
    """Stores rows [N, ...] in their order over the oldest ones; of more than fit, the last."""
    count, total = jax.tree.leaves(rows)[0].shape[0], capacity(buffer)
    skip = max(count - total, 0)
    line = (buffer.position + jnp.arange(skip, count, dtype=jnp.int32)) % total

    # A scatter, whose time does not depend on the capacity: where the ring's end is not aligned
    # with the rows, slices that put back what they overwrite made XLA rewrite the whole buffer.
    def write(data, rows):
        return data.at[line].set(rows[skip:], mode="promise_in_bounds", unique_indices=True)

    return Buffer(
        jax.tree.map(write, buffer.data, rows),
        (buffer.position + count) % total,
        jnp.minimum(buffer.size + count, total),
    )


def indices(buffer: Buffer, key: Key, count: int) -> Array:
    """`count` rows drawn uniformly, with replacement, of those that are stored. [count] int32

    An empty buffer gives row 0, which holds zeros.
    """
    return jax.random.randint(key, (count,), 0, jnp.maximum(buffer.size, 1), jnp.int32)


def sequences(buffer: Buffer, key: Key, count: int, steps: int, stride: int) -> Array:
    """The first rows [count] int32 of sequences drawn uniformly, with replacement, of all that are
    stored whole: `steps` rows, each `stride` after the one before, the last of them no newer than
    the newest. A buffer with fewer gives its oldest row."""
    whole = jnp.maximum(buffer.size - (steps - 1) * stride, 1)
    age = jax.random.randint(key, (count,), 0, whole, jnp.int32)  # 0 is the oldest row
    return (buffer.position - buffer.size + age) % capacity(buffer)


def take(buffer: Buffer, index: Array) -> Tree:
    """The rows at `index` [B]: [B, ...]."""
    return jax.tree.map(lambda x: x[index], buffer.data)


def sample(buffer: Buffer, key: Key, count: int) -> Tree:
    """`count` rows [count, ...], uniformly and with replacement."""
    return take(buffer, indices(buffer, key, count))


def rows_ahead(buffer: Buffer, index: Array, n: int, stride: int) -> tuple[Array, Array, Array]:
    """The next n steps from each of the rows `index` [B], a step of an environment in `stride`
    rows: 0 .. n-1 [n, 1], the rows [n, B], and whether they are stored [n, B] bool."""
    total = capacity(buffer)
    ahead = jnp.arange(n, dtype=jnp.int32)[:, None]
    line = (index + ahead * stride) % total
    return ahead, line, ahead * stride <= (buffer.position - index - 1) % total


def n_step(
    buffer: Buffer,
    index: Array,
    n: int,
    stride: int,
    gamma,
    reward_of: Callable[[Array], Array] = lambda stored: stored,
) -> tuple[Array, Array, Tree]:
    """The next n steps from each of the rows `index` [B]: Sutton & Barto (2018) eq. 7.1.

    The data have a Transition's fields, a step of `stride` environments in `stride` rows, and the
    capacity is a multiple of `stride`. Returns the discounted sum of rewards [B], the factor of the
    value that follows [B], and the observation [B, *obs] that it is the value of. There are fewer
    than n steps where an episode ends (a termination makes the factor 0, a truncation does not) or
    the newest row is reached. `reward_of` turns what is stored into what is summed.
    """
    data: Any = buffer.data
    ahead, line, stored = rows_ahead(buffer, index, n, stride)
    ended = data.terminated[line] | data.truncated[line]
    counts = stored & in_first_episode(ended)

    reward = jnp.where(counts, gamma**ahead * reward_of(data.reward[line]), 0).sum(0)
    steps = counts.sum(0, dtype=jnp.int32)
    last = (index + (steps - 1) * stride) % capacity(buffer)
    discount = gamma**steps * ~data.terminated[last]
    return reward, discount, jax.tree.map(lambda x: x[last], data.next_obs)
