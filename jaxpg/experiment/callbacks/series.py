"""Series that loggers show: one for each seed, its points, its name and its settings."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxpg.core.checks import require_integer
from jaxpg.core.parallel.lanes import ACTIVE
from jaxpg.core.run import Callback, Event, Result
from jaxpg.experiment.callbacks.metrics import mean_metric, split_metrics

POINTS = 1000  # of a series, at most

Row = dict[str, float]  # the numbers of one point of a series, by metric; without those of no data


class Series(NamedTuple):
    """Series of a logger: one seed, or one lane of a sweep."""

    name: str  # "seed-0"
    config: Mapping[str, Any] = {}  # what is its own, beside what all have


class Backend(NamedTuple):
    """Functions by which a logger writes; the arrays of a run are no concern of theirs.

    open(series, env_steps) comes first, with the environment steps at which the points begin.
    write(env_steps, rows) gets a point of each series. close(result, rows) comes last, with the
    newest numbers of each series.
    """

    open: Callable[[Sequence[Series], int], Any]
    write: Callable[[int, Sequence[Row]], Any]
    close: Callable[[Result, Sequence[Row]], Any]


def log_series(
    backend: Backend, series: Sequence[Series] | None = None, points: int = POINTS
) -> Callback:
    """Logs the metrics of a run as series of points, one for each seed.

    A point is the mean of a metric over a chunk of iterations or, where a run has more chunks than
    `points`, over as many as are needed; each episode counts once, and what has no data is left
    out. An evaluation is a point of its own. series: names and settings of the seeds; None names
    them seed-0, seed-1, ... Lanes that have ended have no more points. Raises ValueError for points
    that are no integer >= 1.

    >>> env, cfg, key = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(), jax.random.key(0)
    >>> steps = []
    >>> write = lambda env_steps, rows: steps.append(env_steps)
    >>> backend = jaxpg.callbacks.Backend(lambda *_: None, write, lambda *_: None)
    >>> log = [jaxpg.callbacks.log_series(backend, points=5)]
    >>> _ = jaxpg.run(jaxpg.q_learning, cfg, env, key, total_steps=1000, callbacks=log)
    >>> steps
    [200, 400, 600, 800, 1000]
    """
    require_integer("points", points, 1)
    waiting: list[dict[str, np.ndarray]] = []
    known: list[Series] = list(series or ())
    newest: list[Row] = []
    env_steps = previous = 0

    def mean() -> dict[str, np.ndarray]:
        """Means [seeds] over the chunks that wait."""
        blocks = {k: np.concatenate([m[k] for m in waiting], -1) for k in [*waiting, {}][0]}
        waiting.clear()
        active = (blocks.pop(ACTIVE) > 0).any(-1) if ACTIVE in blocks else True
        return {name: np.where(active, mean_metric(blocks, name), np.nan) for name in blocks}

    def write(values: Mapping[str, np.ndarray]) -> None:
        """Writes values [seeds], or [1] for all, as a point of each series."""
        rows = [
            {name: float(x) for name, x in row.items() if not np.isnan(x)}
            for row in ({n: x[i % len(x)] for n, x in values.items()} for i in range(len(known)))
        ]
        if any(rows):
            newest[:] = [old | new for old, new in zip(newest, rows, strict=True)]
            backend.write(env_steps, rows)

    def log(event: Event) -> None:
        nonlocal env_steps, previous
        metrics, measured = split_metrics(event)
        seeds, count = next(iter(metrics.values())).shape
        env_steps = event.env_steps
        if not newest:
            previous = event.iteration - count
            known[:] = known or [Series(f"seed-{i}", {"seed": i}) for i in range(seeds)]
            newest[:] = [{} for _ in known]
            backend.open(known, previous * (event.env_steps // event.iteration))
        waiting.append(_without_ended(metrics))
        every = -(-event.num_iters // points)
        due = event.iteration // every > previous // every or event.iteration == event.num_iters
        due &= event.whole  # where a chunk is cut short the clock decides
        previous = event.iteration if event.whole else previous
        write((mean() if due else {}) | measured)

    def end(result: Result) -> None:
        if newest:
            write(mean())
            backend.close(result, newest)

    return Callback(on_metrics=log, on_end=end)


def _without_ended(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Metrics [lanes, chunk] in which a lane that has ended has no data."""
    if ACTIVE not in metrics:
        return metrics
    none = {"episode/count": 0, ACTIVE: 0}
    active = metrics[ACTIVE] > 0
    return {name: np.where(active, m, none.get(name, np.nan)) for name, m in metrics.items()}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested settings to numbers, truths and texts, named `config.learning_rate`."""
    flat = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, (bool, int, float, str)):
            flat[f"{prefix}{name}"] = value
        elif value is not None:
            flat[f"{prefix}{name}"] = json.dumps(value, default=str)
    return flat


def describe_end(result: Result) -> dict[str, Any]:
    """Describes how a run ended, for its summary."""
    done = {"iteration": result.iteration, "env_steps": result.env_steps}
    return {"stopped": result.stopped, "seconds": round(result.seconds, 3), **done}
