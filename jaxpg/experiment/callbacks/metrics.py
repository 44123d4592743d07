"""Metrics in files: a row per iteration and seed, in CSV and JSON lines.

The rows are in the order of the iterations and have no wall clock, so they do not depend on the
chunk, and those of a resumed run are byte-identical to those of a run that was never stopped.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxpg.core.run import Callback, Event
from jaxpg.experiment.files.rows import LINES, METRICS, Rows


def metrics_files(
    folder: str | Path | Rows, iteration: int = 0, only: Sequence[int] | None = None
) -> Callback:
    """Writes `metrics.csv` and `metrics.jsonl`: the agent's metrics, a row per iteration and seed.

    NaN ("no data": no episode ended) is an empty cell and a null. folder: or the files of a run,
    open. iteration: where the run goes on; rows after it are cut off from files that are there.
    only: these seeds, of all.
    """
    files = folder if isinstance(folder, Rows) else Rows(folder, (METRICS, LINES), iteration)

    def write(event: Event) -> None:
        header, rows = metric_rows(event, split_metrics(event)[0], only)
        append_table(files, METRICS, header, rows)
        line = "{" + ", ".join(f"{json.dumps(name)}: %s" for name in header) + "}\n"
        no_number = {"": "null", "inf": "null", "-inf": "null"}  # JSON cannot say infinity
        files.append(LINES, (line % tuple(no_number.get(x, x) for x in row) for row in rows))
        files.save()

    return Callback(on_metrics=write)


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
    values = series[name].astype(float)
    weight = ~np.isnan(values)
    if name.startswith("episode/") and name != "episode/count":
        weight = series.get("episode/count", weight)
    total = np.where(weight > 0, values, 0) * weight
    with np.errstate(invalid="ignore"):  # 0 / 0
        return total.sum(axis) / weight.sum(axis)


def metric_rows(
    event: Event, series: dict[str, np.ndarray], only: Sequence[int] | None = None
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Formats series [seeds, k], whose last iteration is the event's, as header and rows; of all
    seeds, or `only` these.

    Floats are the shortest text that gives them again in their own precision; truths are 0 and 1.
    """
    seeds, k = next(iter(series.values())).shape
    shown = np.arange(seeds) if only is None else np.asarray(only)
    iteration = np.repeat(np.arange(event.iteration - k + 1, event.iteration + 1), len(shown))
    steps = iteration * (event.env_steps // event.iteration)
    columns = {"seed": np.tile(shown, k), "iteration": iteration, "env_steps": steps}
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
