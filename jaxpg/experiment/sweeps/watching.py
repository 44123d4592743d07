"""Loggers of a sweep, its progress on stderr, and a count of its compilations."""

import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxpg.core.parallel.lanes import ACTIVE, take_lane
from jaxpg.core.plan import CHUNK_PROGRAM
from jaxpg.core.run import Callback, Event, Result
from jaxpg.experiment.callbacks import Series, make_loggers
from jaxpg.experiment.callbacks.progress import progress_bar
from jaxpg.experiment.run import checkpoint
from jaxpg.experiment.sweeps.tables import SweepFolder
from jaxpg.experiment.text import format_count


def ask_for_loggers(loggers: Sequence[str], out: str | Path | None) -> dict[str, Any]:
    """Records the loggers of a sweep; {} without any. Raises ValueError for an
    unknown one or for a sweep without a folder, ImportError for one whose package is missing."""
    make_loggers(loggers, Path())
    if loggers and out is None:
        raise ValueError(f"loggers={loggers!r}: allowed only with a folder `out`")
    return {"loggers": list(loggers), "log_id": secrets.token_hex(8)} if loggers else {}


def loggers_of_part(this: SweepFolder, part: int) -> list[Callback]:
    """Makes the loggers of a part that the record of its sweep asks for."""
    record = this.record
    if not record.get("loggers"):
        return []
    _, agent, cfg, env, _ = this.part(part)
    series = []
    for lane, (point, seed) in enumerate(record["parts"][part]["lanes"]):
        own = checkpoint.describe(agent, *take_lane((cfg, env), lane))
        own |= {"point": record["points"][point], "seed": seed}
        series.append(Series(f"config-{point}-seed-{seed}", own))
    shared = ("total_steps", "tags", "made_with")
    about = {name: record[name] for name in shared if name in record}
    labels = {label: record.get(label) for label in ("name", "tags")}
    return make_loggers(record["loggers"], this.out, record["log_id"], about, series, **labels)


def display(parts: Sequence[dict[str, Any]], planned: float = 1.0) -> Callable[[int], Callback]:
    """Shows a bar over all parts of a sweep; the callback of part i is display(parts)(i).

    planned: the share of the sweep that these parts are, while others are still to be chosen.

    It shows how many configs are done and running, environment steps/s of all lanes together, the
    best mean of a config's newest greedy evaluations, and the time that is left. Steps of lanes
    that have ended are not counted in the rate, but are no work that is left either. The clock of a
    part runs from the end of its first chunk, so without its compilation. If stderr is no
    terminal, a line every 10 %.
    """
    steps = [part["env_steps"] for part in parts]
    work = [len(p["lanes"]) * p["iterations"] * s for p, s in zip(parts, steps, strict=True)]
    configs = [{point for point, _ in part["lanes"]} for part in parts]
    over = {i for i, part in enumerate(parts) if part["over"]}
    every, total_work = set().union(*configs), sum(work) / planned
    total = round(len(every) / planned)
    bar = progress_bar(begin=sum(work[i] for i in over) / total_work)
    lived, seconds, scores = 0, 0.0, {}

    def of_part(i: int) -> Callback:
        points, clock = np.array([point for point, _ in parts[i]["lanes"]]), None

        def count(event: Event, active: np.ndarray) -> None:
            """Counts the steps and seconds of a chunk, and takes down its evaluations."""
            nonlocal lived, seconds, clock
            now = time.perf_counter()
            if clock is not None:
                lived += int(active.sum()) * steps[i]
                seconds += now - clock
            clock = now
            if "eval/greedy" in event.metrics:
                values = event.metrics["eval/greedy"][: len(points)]
                known = ~np.isnan(values)  # a lane that has ended is not measured
                scores.update({p: values[known & (points == p)].mean() for p in points[known]})

        def show(event: Event) -> None:
            active = event.metrics[ACTIVE][: len(points)]
            count(event, active)
            still = (active[:, -1] > 0) & (event.iteration < event.num_iters)
            done = np.where(still, event.iteration, event.num_iters)
            share = (sum(work[j] for j in over) + int(done.sum()) * steps[i]) / total_work
            running = set(points[still])
            waiting = (configs[j] for j in range(len(parts)) if j not in over and j != i)
            ended = every - running.union(*waiting)
            notes = [f"{len(ended)}/{total} configs, {len(running)} running"]
            if seconds:
                notes += _rate_notes(lived / seconds, (1 - share) * total_work, scores)
            bar.show(share, notes)

        def end(result: Result) -> None:
            broken = result.stopped in ("interrupt", "error")
            over.update([] if broken else [i])
            if broken or len(over) == len(parts):
                bar.stop()

        return Callback(on_metrics=show, on_end=end)

    return of_part


def _rate_notes(rate: float, work: float, scores: dict[int, float]) -> list[str]:
    """Notes of environment steps/s, the best score, and the time that the rest of the work
    takes."""
    best = [f"best {max(scores.values()):.4g}"] if scores else []
    left = timedelta(seconds=round(work / rate if rate else 0))
    return [f"{format_count(rate)} steps/s", *best, f"ETA {left}"]


@contextlib.contextmanager
def count_compilations():
    """Context whose list grows by one with each compilation of a training program."""
    found = []

    def listen(event: str, duration_secs: float, **about: Any) -> None:
        ours = about.get("fun_name") == CHUNK_PROGRAM
        if ours and event.endswith("backend_compile_duration"):
            found.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
