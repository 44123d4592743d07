"""How far a sweep has come, on stderr."""

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import numpy as np

from jaxpg.core.parallel.lanes import ACTIVE
from jaxpg.core.run import Callback, Event
from jaxpg.experiment.text import format_count


def display(parts: Sequence[dict], planned: float = 1.0) -> Callable[[int], Callback]:
    """A bar over all parts of a sweep; the callback of part i is display(parts)(i).

    planned: the share of the sweep that these parts are, while others are still to be chosen.

    It shows how many configs are done and running, environment steps/s of all lanes together, the
    best mean of a config's newest greedy evaluations, and the time that is left. Steps of lanes
    that have ended are not counted in the rate, but are no work that is left either. The clock of a
    part runs from the end of its first chunk, so without its compilation. If stderr is no
    terminal, a line every 10 %.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = BarColumn(bar_width=None), TextColumn("{task.percentage:>3.0f}%  {task.fields[note]}")
    bar = Progress(*columns, console=console, expand=True)
    task = bar.add_task("", total=1.0, note="")
    steps = [part["env_steps"] for part in parts]
    work = [len(p["lanes"]) * p["iterations"] * s for p, s in zip(parts, steps, strict=True)]
    configs = [{point for point, _ in part["lanes"]} for part in parts]
    over = {i for i, part in enumerate(parts) if part["over"]}
    every, whole = set().union(*configs), sum(work) / planned
    total = round(len(every) / planned)
    tenths = int(10 * sum(work[i] for i in over) / whole)
    lived, spent, scores = 0, 0.0, {}

    def of_part(i: int) -> Callback:
        points = np.array([point for point, _ in parts[i]["lanes"]])
        clock = None

        def show(event: Event) -> None:
            nonlocal lived, spent, tenths, clock
            now, going = time.perf_counter(), event.metrics[ACTIVE][: len(points)]
            still = (going[:, -1] > 0) & (event.iteration < event.num_iters)
            if clock is not None:
                lived += int(going.sum()) * steps[i]
                spent += now - clock
            clock = now
            done = np.where(still, event.iteration, event.num_iters)
            share = (sum(work[j] for j in over) + int(done.sum()) * steps[i]) / whole
            running = set(points[still])
            waiting = (configs[j] for j in range(len(parts)) if j not in over and j != i)
            ended = every - running.union(*waiting)
            if "eval/greedy" in event.metrics:
                values = event.metrics["eval/greedy"][: len(points)]
                known = ~np.isnan(values)  # a lane that has ended is not measured
                scores.update({p: values[known & (points == p)].mean() for p in points[known]})
            notes = [f"{len(ended)}/{total} configs, {len(running)} running"]
            if spent:
                left = (1 - share) * whole / (lived / spent) if lived else 0
                notes += [f"{format_count(lived / spent)} steps/s"]
                notes += [f"best {max(scores.values()):.4g}"] if scores else []
                notes += [f"ETA {timedelta(seconds=round(left))}"]
            if console.is_terminal:
                bar.start()
                bar.update(task, completed=share, note="  ".join(notes))
            elif int(share * 10 + 1e-9) > tenths:
                tenths = int(share * 10 + 1e-9)
                console.print(f"{share:4.0%}  {'  '.join(notes)}", highlight=False)

        def end(result) -> None:
            broken = result.stopped in ("interrupt", "error")
            over.update([] if broken else [i])
            if console.is_terminal and (broken or len(over) == len(parts)):
                bar.stop()

        return Callback(on_metrics=show, on_end=end)

    return of_part
