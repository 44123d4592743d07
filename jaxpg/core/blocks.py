"""Metrics of blocks of iterations: what is kept of a run that is too long for a row an iteration.

A block ends at every multiple of `every` iterations, and where the run ends. Its row has, of

- a count (`core.metrics.is_count`), such as `episode/count`: the sum over the block, exactly;
- a mean of episodes, such as `episode/return`: the mean over all episodes of the block;
- all else: the mean over the iterations of the block.

"No data", NaN, is left out; with nothing left the row has it too. Sums are taken in the order of
the iterations, in float64, so a row does not depend on the chunks that its iterations came in.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxpg.core.checks import require_integer
from jaxpg.core.metrics import is_count, weigh

MOST = 10_000  # rows of a seed, unless more are asked for

Rows = tuple[np.ndarray, dict[str, np.ndarray]]  # iterations [rows] at their ends, and metrics


def block_length(num_iters: int, asked: int | None = None) -> int:
    """Iterations of a block of a run: those asked for or, by default, as few as give no more than
    10,000 blocks. Raises ValueError for what is no integer >= 1."""
    if asked is not None:
        require_integer("log_every", asked, 1)
    return int(asked or max(1, -(-num_iters // MOST)))


def block_dtype(name: str, dtype: Any, every: int) -> np.dtype:
    """Dtype of a metric in blocks of `every` iterations, by that of a single one."""
    if every == 1 or jnp.issubdtype(dtype, jnp.floating):
        return np.dtype(dtype)
    return np.dtype(np.int64 if is_count(name) else np.float64)


def block_ends(begin: int, end: int, every: int) -> np.ndarray:
    """Iterations at the ends of the blocks of the iterations after `begin` up to `end`."""
    whole = np.arange(begin // every + 1, end // every + 1) * every
    return np.append(whole, [end] if end % every and end > begin else []).astype(int)


class Blocks:
    """Blocks of a run, made of its metrics as they come, chunk by chunk.

    every: iterations of a block. iteration: where the run goes on. begun: what `begun` gave there.
    dtypes: of single iterations' metrics, if `last` is called before `add`.
    """

    def __init__(
        self,
        every: int,
        iteration: int = 0,
        begun: Mapping[str, Any] | None = None,
        dtypes: Mapping[str, Any] | None = None,
    ):
        self.every, self.iteration, self.dtypes = every, iteration, dict(dtypes or {})
        # Of the block begun: the sum of a metric's terms, and that of their weights [2, ...].
        self._sums = {name: np.asarray(x, float) for name, x in (begun or {}).items()}

    def add(self, metrics: dict[str, np.ndarray]) -> Rows:
        """Adds the next iterations, [..., iterations]; returns the blocks that they complete, [...,
        rows]."""
        count = next(iter(metrics.values())).shape[-1]
        before, self.iteration = self.iteration, self.iteration + count
        self.dtypes = {name: x.dtype for name, x in metrics.items()}
        if self.every == 1:
            return np.arange(before, self.iteration) + 1, metrics
        terms = np.stack([weigh(metrics, name) for name in metrics])  # [metrics, 2, ..., count]
        head = min(-before % self.every, count)  # iterations of the block that is begun
        done = []
        if head:
            none = np.zeros(terms.shape[1:-1])
            begun = np.stack([self._sums.get(n, none).reshape(none.shape) for n in metrics])
            done = [add_up(np.concatenate([begun[..., None], terms[..., :head]], -1))[..., None]]
        whole = (count - head) // self.every
        body = terms[..., head : head + whole * self.every]
        done += [add_up(body.reshape(*body.shape[:-1], whole, self.every))]
        sums, rows = np.concatenate(done, -1), self.iteration // self.every - before // self.every
        begun = add_up(terms[..., head + whole * self.every :])
        if head and not rows:  # the block goes on
            begun = sums[..., 0]
        self._sums = dict(zip(metrics, begun, strict=True))
        return block_ends(before, self.iteration, self.every)[:rows], self._reduce(sums[..., :rows])

    def last(self) -> Rows:
        """Returns the block that is begun, as it stands, as a row; no row if none is."""
        if not self._sums:
            return np.zeros(0, int), {}
        sums = np.stack(list(self._sums.values()))[..., None]
        rows = int(self.iteration % self.every > 0)
        return np.array([self.iteration][:rows], int), self._reduce(sums[..., :rows])

    def begun(self) -> dict[str, Any]:
        """Returns the block that is begun, as plain JSON values; {} if none is."""
        there = self.iteration % self.every > 0
        return {name: x.tolist() for name, x in self._sums.items()} if there else {}

    def _reduce(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        """Reduces sums [metrics, 2, ..., rows] of terms and weights to rows."""
        rows = {}
        for name, (total, weight) in zip(self._sums, sums, strict=True):
            with np.errstate(invalid="ignore"):  # 0 / 0
                x = np.where(weight > 0, total, np.nan) if is_count(name) else total / weight
            rows[name] = x.astype(block_dtype(name, self.dtypes[name], self.every))
        return rows


class History:
    """History of a run's metrics on the host, made of blocks; without blocks it keeps nothing."""

    def __init__(self, blocks: Blocks | None):
        self._blocks = blocks
        self._parts: list[dict[str, np.ndarray]] = []

    def add(self, metrics: dict[str, np.ndarray]) -> None:
        """Adds the metrics of the next iterations, [..., iterations]."""
        if self._blocks and metrics:
            self._append(self._blocks.add(metrics)[1])

    def join(self) -> dict[str, np.ndarray]:
        """Joins all rows, [..., rows], the last of them of the block that is begun."""
        if self._blocks and self._blocks.every > 1 and self._parts:
            self._append(self._blocks.last()[1])
        return _join(self._parts) if self._parts else {}

    def _append(self, rows: dict[str, np.ndarray]) -> None:
        """Appends rows. An array costs more than the few numbers in it, so parts of like length are
        joined: of n chunks there are log2(n) parts at most."""
        self._parts.append(rows)
        while len(self._parts) > 1 and _length(self._parts[-2]) <= _length(self._parts[-1]):
            self._parts[-2:] = [_join(self._parts[-2:])]


def _length(rows: dict[str, np.ndarray]) -> int:
    return max((x.shape[-1] for x in rows.values()), default=0)


def _join(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts], -1) for name in parts[0]}


def add_up(x: np.ndarray) -> np.ndarray:
    """Sum over the last axis in its order, so that a sum may be gone on with; `np.sum` adds in an
    order of its own."""
    if not x.shape[-1]:
        return np.zeros(x.shape[:-1])
    return np.cumsum(x, -1)[..., -1]
