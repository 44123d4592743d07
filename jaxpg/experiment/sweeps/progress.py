"""Progress of a sweep, on stderr."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from jaxpg.core.parallel.lanes import ACTIVE
from jaxpg.core.run import Callback, Event, Result
from jaxpg.experiment.callbacks.progress import progress_bar
from jaxpg.experiment.text import format_count


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
