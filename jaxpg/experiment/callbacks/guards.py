"""Guards that end a run: what is learnt is not finite, a target is reached, nothing improves."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.checks import require_bool, require_integer, require_number
from jaxpg.core.config import unknown
from jaxpg.core.parallel.processes import replicate
from jaxpg.core.run import Callback, Event
from jaxpg.core.types import learnt_leaves
from jaxpg.experiment.callbacks.evaluation import MEASURES
from jaxpg.experiment.callbacks.metrics import mean_metric, split_metrics

LOST = 10  # iterations; one of them may be bad luck


class NonFiniteError(FloatingPointError):
    """Error of what was learnt, where it holds a NaN or an infinity."""


def nan_guard() -> Callback:
    """Raises NonFiniteError after the first chunk that left a NaN or an infinity in what is learnt:
    parameters, optimisers, statistics. What the agent has met, environments and replay buffers, may
    hold them.

    The error names the first such leaf, its seeds, and the iterations of the chunk. So it does
    for a black-box search of which for LOST iterations no candidate had a finite return. Put it
    before the callback that writes checkpoints: then the last one on disk is a good one.

    >>> env, cfg, key = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(), jax.random.key(0)
    >>> watch = [jaxpg.callbacks.nan_guard()]
    >>> jaxpg.run(jaxpg.q_learning, cfg, env, key, total_steps=1000, callbacks=watch).stopped
    'done'
    """
    streak: Any = 0

    def look(event: Event) -> None:
        nonlocal streak
        streak, lost = _lost_searches(event, streak)
        if lost is not None and lost.any():
            raise NonFiniteError(
                f"the return of every candidate is not finite{_name_seeds(lost)}; it happened in "
                f"iterations {_iterations(event)}"
            )
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
        where = _name_seeds(~finite[bad[0]]) if seeded else ""
        raise NonFiniteError(
            f"{leaf}{others} not finite{where}; it happened in iterations {_iterations(event)}"
        )

    return Callback(on_chunk=look)


def _name_seeds(lost: np.ndarray) -> str:
    """Words for the seeds [seeds] bool that are lost, of more than one."""
    seeds = np.flatnonzero(lost) if lost.ndim else ()
    return f" in seed{'s'[: len(seeds) > 1]} " + ", ".join(map(str, seeds)) if len(seeds) else ""


def _iterations(event: Event) -> str:
    count = max(m.shape[-1] for m in event.metrics.values())
    return f"{event.iteration - count + 1}-{event.iteration}"


def _lost_searches(event: Event, streak: Any) -> tuple[Any, np.ndarray | None]:
    """Counts for each seed the iterations at a stretch in which a search knew of no finite return,
    and says which seeds had LOST of them, or all of a shorter run; None for other agents.

    A search that keeps a score has lost if that is none; the others if the best candidate is.
    """
    names = [n for n in ("population/score", "population/best") if n in event.metrics]
    if not names:
        return streak, None
    values = np.asarray(event.metrics[names[0]])
    lost, longest = values <= np.finfo(values.dtype).min, 0
    for now in np.moveaxis(lost, -1, 0):
        streak = np.where(now, streak + 1, 0)
        longest = np.maximum(longest, streak)
    return streak, np.asarray(longest >= min(LOST, event.num_iters))


@functools.partial(jax.jit, static_argnames="seeded")
def finite_leaves(state, seeded: bool):
    """True for each learnt leaf that is finite: [leaves], or [leaves, seeds]."""
    leaves = [x for _, x in learnt_leaves(state)]
    return jnp.stack([jnp.isfinite(x).all(tuple(range(int(seeded), x.ndim))) for x in leaves])


def stop_at(target: float, metric: str = "eval/greedy", all_seeds: bool = True) -> Callback:
    """Ends the run when a metric has reached a target in all seeds, or in any of them.

    metric: a measured one ("eval/..."), or one of the agent's, then its mean over a whole chunk
    (per episode for "episode/return"), but not over one within which the run was resumed. The run
    ends a chunk later, for metrics arrive while the next chunk is under way. Raises ValueError for
    a target that is no finite number and, after the first chunk, for an unknown metric.

    >>> env, cfg, key = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(), jax.random.key(0)
    >>> stop = [jaxpg.callbacks.stop_at(-1000, metric="episode/return")]
    >>> jaxpg.run(jaxpg.q_learning, cfg, env, key, total_steps=9000, callbacks=stop).stopped
    'callback'
    """
    require_number("target", target)

    def reached(values: np.ndarray) -> bool:
        return bool((values >= target).all() if all_seeds else (values >= target).any())

    return _ask_of_chunks(metric, reached)


def early_stop(
    patience: int = 5,
    metric: str = "eval/greedy",
    min_delta: float = 0.0,
    maximize: bool = True,
    all_seeds: bool = True,
) -> Callback:
    """Ends the run when a metric has not improved for `patience` evaluations, in all seeds, or in
    any of them.

    An improvement is more than `min_delta` above the best of the seed so far (below it, without
    `maximize`). metric: as of `stop_at`; of one of the agent's own each chunk counts as an
    evaluation. No data is neither an improvement nor an evaluation. The run ends a chunk later. A
    run that is resumed counts anew. Raises ValueError for a patience < 1, a min_delta that is
    negative or no number and, after the first chunk, for an unknown metric.

    >>> env, cfg, key = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(), jax.random.key(0)
    >>> stop = [jaxpg.callbacks.early_stop(2, metric="episode/return", min_delta=1000)]
    >>> jaxpg.run(jaxpg.q_learning, cfg, env, key, total_steps=9000, callbacks=stop).stopped
    'callback'
    """
    require_integer("patience", patience, 1)
    require_number("min_delta", min_delta)
    if min_delta < 0:
        raise ValueError(f"min_delta={min_delta!r}: allowed is a finite number >= 0")
    for name, value in {"maximize": maximize, "all_seeds": all_seeds}.items():
        require_bool(name, value)
    best: Any = -np.inf
    since: Any = 0  # evaluations since the best, of each seed

    def stalled(values: np.ndarray) -> bool:
        nonlocal best, since
        values = values if maximize else -values
        better = values > best + min_delta
        since = np.where(better, 0, since + ~np.isnan(values))
        best = np.where(better, values, best)
        return bool((since >= patience).all() if all_seeds else (since >= patience).any())

    return _ask_of_chunks(metric, stalled)


def _ask_of_chunks(metric: str, judge: Callable[[np.ndarray], bool]) -> Callback:
    """Callback that asks judge(values [seeds] of a metric) whether to end the run, after each whole
    chunk.

    Measured values are as they are, the agent's are means over the chunk: where the clock has cut
    it (see core/pieces.py) over all of its pieces, for what is decided may not depend on them. Of
    what was not measured, and of a chunk within which the run was resumed, nothing is asked. Raises
    ValueError for an unknown metric.
    """
    pieces: list[dict[str, np.ndarray]] = []  # series of the chunk that is under way
    end = 0  # iteration at the end of them

    def look(event: Event) -> bool:
        nonlocal end
        series, measured = split_metrics(event)
        if event.iteration - _length(series) != end:  # those of a run before
            pieces.clear()
        pieces.append(series)
        end = event.iteration
        if not event.whole:
            return False
        joined = {name: np.concatenate([x[name] for x in pieces], -1) for name in series}
        pieces.clear()
        values = measured.get(metric)
        if metric in joined:
            whole = event.begin in (None, end - _length(joined))
            values = mean_metric(joined, metric) if whole else None
        elif values is None and not metric.startswith("eval/"):
            raise unknown("metric", metric, [*series, *measured, *MEASURES])
        return values is not None and judge(values)

    return Callback(on_metrics=look)


def _length(series: dict[str, np.ndarray]) -> int:
    """Iterations of series [seeds, iterations]."""
    return next(iter(series.values())).shape[-1]
