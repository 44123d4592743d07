"""Chunks of a run, in pieces if they take long, so that the host is never out of reach for long.

A chunk ends at the next multiple of its length, wherever the run began. A piece is the same
program with a smaller count, so neither a result nor the metrics of a chunk depend on the pieces.
Which there are the clock decides: only a chunk that is cut short shows it, see `Event.whole`.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.machine import collector_paused
from jaxpg.core.parallel.devices import mesh_context
from jaxpg.core.parallel.lanes import has_lanes
from jaxpg.core.parallel.processes import replicate
from jaxpg.core.plan import Plan, begin_run, run_chunk
from jaxpg.core.types import Tree

LONG = 5.0  # seconds of a piece, at most, if it has more than one iteration

Pieces = list[tuple[dict[str, Any], int]]  # metrics [length] or [seeds, length], and the count


class Chunk(NamedTuple):
    """Chunk of iterations that has been run."""

    state: Tree
    metrics: dict[str, Any]  # [iterations] or [seeds, iterations]; {} if there are none
    iteration: int  # at its end
    whole: bool  # False if it was cut short


class Look(NamedTuple):
    """Signals, requests and time between two pieces of a chunk, over all processes."""

    asked: bool  # to stop
    due: bool  # a callback wants the state
    seconds: float  # that the piece took


def chunk_begin(iteration: int, length: int) -> int:
    """Iteration at which the chunk begins, or may begin, in which an iteration ends."""
    return iteration - iteration % length


def next_chunk(
    plan: Plan,
    state: Tree | None,
    iteration: int,
    look: Callable[[float], Look],
    first: bool,
    slow: bool,
) -> Chunk:
    """Runs the chunk that begins at an iteration, or what is left of it; from the initial state if
    there is none.

    look(seconds of a piece): is called between pieces. If it is asked to stop, or a callback is
    due, a chunk of which much is left ends there. first: compile before the first iteration; asked
    to stop by then, the chunk has none. slow: measure an iteration before the others, since the
    chunk before took long. Lanes (see core/parallel/lanes.py) end by the chunk, so theirs are never
    in pieces.
    """
    agent, cfg, env, key, num_iters, length, mesh = plan
    end = min(chunk_begin(iteration, length) + length, num_iters)
    lanes, pieces = has_lanes(cfg), []
    count = 0 if first else 1 if slow and not lanes else end - iteration
    with mesh_context(mesh), collector_paused():
        if state is None:
            state = begin_run(agent, cfg, env, key, mesh)
        while True:
            begun = time.perf_counter()
            state, metrics = run_chunk(agent, cfg, env, state, np.int32(count), length, mesh)
            iteration += count
            left = end - iteration
            if count:
                pieces.append((replicate(metrics), count))
            if not left:
                break
            jax.block_until_ready(metrics)
            asked, due, seconds = look(time.perf_counter() - begun)
            if not count:  # it was compiled
                if asked:
                    break
                count = left if lanes else 1
                continue
            each = max(seconds / count, 1e-9)
            if (asked or due) and left * each > LONG:
                break
            count = max(1, min(left, int(LONG / each)))
    return Chunk(state, _join_pieces(pieces, length), iteration, iteration == end)


def _join_pieces(pieces: Pieces, length: int) -> dict[str, Any]:
    """Joins the metrics of pieces along the iterations. Of more than two on the host: every new
    shape would be a program more, of a run that may go on for days."""
    join: Any = jnp.concatenate
    if len(pieces) > 2:
        pieces, join = jax.device_get(pieces), np.concatenate
    cut = [m if n == length else {k: x[..., :n] for k, x in m.items()} for m, n in pieces]
    return {k: join([m[k] for m in cut], -1) for k in cut[0]} if len(cut) > 1 else dict(*cut)
