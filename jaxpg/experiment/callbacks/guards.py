"""Guards that end a run: what is learnt is not finite, a target is reached."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.config import unknown
from jaxpg.core.parallel.processes import replicate
from jaxpg.core.run import Callback, Event
from jaxpg.core.types import learnt_leaves
from jaxpg.experiment.callbacks.evaluation import MEASURES
from jaxpg.experiment.callbacks.metrics import mean_metric, split_metrics


class NonFiniteError(FloatingPointError):
    """Error of what was learnt, where it holds a NaN or an infinity."""


def nan_guard() -> Callback:
    """Raises NonFiniteError after the first chunk that left a NaN or an infinity in what is learnt:
    parameters, optimisers, statistics. What the agent has met, environments and replay buffers, may
    hold them.

    The error names the first such leaf, its seeds, and the iterations of the chunk. Put it before
    the callback that writes checkpoints: then the last one on disk is a good one.
    """

    def look(event: Event) -> None:
        seeded = max(m.ndim for m in event.metrics.values()) == 2
        paths = [path for path, _ in learnt_leaves(event.state)]
        if not paths:
            return
        finite = np.asarray(replicate(finite_leaves(event.state, seeded)))
        if finite.all():
            return
        bad = np.flatnonzero(~finite.reshape(len(paths), -1).all(-1))
        leaf = jax.tree_util.keystr(paths[bad[0]]).lstrip(".")
        others = f" and {len(bad) - 1} other leaves are" if len(bad) > 1 else " is"
        where = ""
        if seeded:
            seeds = np.flatnonzero(~finite[bad[0]])
            where = f" in seed{'s'[: len(seeds) > 1]} " + ", ".join(map(str, seeds))
        count = max(m.shape[-1] for m in event.metrics.values())
        raise NonFiniteError(
            f"{leaf}{others} not finite{where}; "
            f"it happened in iterations {event.iteration - count + 1}-{event.iteration}"
        )

    return Callback(on_chunk=look)


@functools.partial(jax.jit, static_argnames="seeded")
def finite_leaves(state, seeded: bool):
    """True for each learnt leaf that is finite: [leaves], or [leaves, seeds]."""
    leaves = [x for _, x in learnt_leaves(state)]
    return jnp.stack([jnp.isfinite(x).all(tuple(range(int(seeded), x.ndim))) for x in leaves])


def stop_at(target: float, metric: str = "eval/greedy", all_seeds: bool = True) -> Callback:
    """Ends the run when a metric has reached a target in all seeds, or in any of them.

    metric: a measured one ("eval/..."), or one of the agent's, then its mean over a chunk (per
    episode for "episode/return"). The run ends a chunk later, for metrics arrive while the next
    chunk is under way. Raises ValueError for a target that is no finite number and, after the
    first chunk, for an unknown metric.
    """
    if not np.isfinite(target):
        raise ValueError(f"target={target!r}: allowed is a finite number")

    def reached(event: Event) -> bool:
        series, measured = split_metrics(event)
        if metric not in measured and metric not in series:
            if metric.startswith("eval/"):
                return False  # not measured after every chunk
            raise unknown("metric", metric, [*series, *measured, *MEASURES])
        values = measured[metric] if metric in measured else mean_metric(series, metric)
        return bool((values >= target).all() if all_seeds else (values >= target).any())

    return Callback(on_metrics=reached)
