"""Metrics in files: a row per iteration, or block of iterations, and seed, in CSV and JSON lines.

The rows are in the order of the iterations and have no wall clock, so they do not depend on the
chunk, and those of a resumed run are byte-identical to those of a run that was never stopped.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxpg.core import blocks as B
from jaxpg.core.metrics import weigh
from jaxpg.core.run import Callback, Event, Result
from jaxpg.experiment.files.rows import LINES, METRICS, Rows

FORMATS = ("csv", "jsonl")  # of which the second is written if it is asked for


def metrics_files(
    folder: str | Path | Rows,
    iteration: int = 0,
    only: Sequence[int] | None = None,
    blocks: B.Blocks | None = None,
    formats: Sequence[str] = FORMATS[:1],
) -> Callback:
    """Writes `metrics.csv`, and `metrics.jsonl` if "jsonl" is among the formats: the agent's
    metrics, a row per iteration, or block of them, and seed.

    NaN ("no data": no episode ended) is an empty cell and a null. folder: or the files of a run,
    open. iteration: where the run goes on; rows after it are cut off from files that are there.
    only: these seeds, of all. blocks: make the rows; None is a row an iteration. The block in which
    a run ends is written when it has ended.

    >>> env, cfg, key = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(), jax.random.key(0)
    >>> files = [jaxpg.callbacks.metrics_files(".")]
    >>> _ = jaxpg.run(jaxpg.q_learning, cfg, env, key, total_steps=1000, callbacks=files)
    >>> len(open("metrics.csv").readlines())
    11
    """
    files = folder if isinstance(folder, Rows) else Rows(folder, (METRICS, LINES), iteration)
    blocks, whole = blocks or B.Blocks(1, iteration), True

    def write(event: Event) -> None:
        nonlocal whole
        whole, steps = False, event.env_steps // event.iteration
        append_metrics(files, *blocks.add(split_metrics(event)[0]), steps, only, formats)
        whole = True

    def finish(result: Result) -> None:
        if whole:  # after a write that failed there is no telling what is in the files
            steps = result.agent.steps_per_iter(result.cfg)
            append_metrics(files, *blocks.last(), steps, only, formats)

    return Callback(on_metrics=write, on_end=finish)


def append_metrics(
    files: Rows,
    ends: np.ndarray,
    series: dict[str, np.ndarray],
    steps: int,
    only: Sequence[int] | None = None,
    formats: Sequence[str] = FORMATS[:1],
) -> None:
    """Appends rows of metrics [seeds, rows] that end at these iterations, of so many environment
    steps each; the rest as of `metrics_files`."""
    if not len(ends):
        return
    header, rows = metric_rows(ends, series, steps, only)
    append_table(files, METRICS, header, rows)
    if "jsonl" in formats:
        line = "{" + ", ".join(f"{json.dumps(name)}: %s" for name in header) + "}\n"
        no_number = {"": "null", "inf": "null", "-inf": "null"}  # JSON cannot say infinity
        files.append(LINES, (line % tuple(no_number.get(x, x) for x in row) for row in rows))
    files.save()


def split_metrics(event: Event) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Splits an event's metrics, sorted by name, into the agent's series [seeds, chunk] and what
    callbacks measured [seeds]."""
    metrics = dict(sorted(event.metrics.items()))
    rank = max(np.ndim(m) for m in metrics.values())
    series = {n: np.atleast_2d(m) for n, m in metrics.items() if np.ndim(m) == rank}
    return series, {n: np.atleast_1d(m) for n, m in metrics.items() if n not in series}


def mean_metric(series: dict[str, np.ndarray], name: str, axis: int | None = -1) -> np.ndarray:
    """Mean of a series along an axis without its NaNs, each episode counting once for a metric of
    episodes; NaN where there is no data."""
    terms, weight = weigh(series, name)
    with np.errstate(invalid="ignore"):  # 0 / 0
        return terms.sum(axis) / weight.sum(axis)


def metric_rows(
    ends: np.ndarray, series: dict[str, np.ndarray], steps: int, only: Sequence[int] | None = None
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Formats series [seeds, rows] that end at these iterations, of so many environment steps each,
    as header and rows; of all seeds, or `only` these.

    Floats are the shortest text that gives them again in their own precision; truths are 0 and 1.
    """
    seeds = len(next(iter(series.values())))
    shown = np.arange(seeds) if only is None else np.asarray(only)
    iteration = np.repeat(ends, len(shown))
    columns = {"seed": np.tile(shown, len(ends)), "iteration": iteration}
    columns |= {"env_steps": iteration * steps}
    columns |= {name: _plain(values[shown].T.ravel()) for name, values in series.items()}
    texts = [["" if x == "nan" else x for x in map(str, column)] for column in columns.values()]
    return list(columns), list(zip(*texts, strict=True))


def _plain(values: np.ndarray) -> np.ndarray:
    return values.astype(int) if values.dtype == bool else values


def append_table(
    files: Rows, name: str, header: Sequence[str], rows: Sequence[tuple[str, ...]]
) -> None:
    """Appends rows to a CSV file, after the header if the file is new."""
    files.append(name, (",".join(row) + "\n" for row in rows), ",".join(header) + "\n")
