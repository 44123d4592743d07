"""A progress bar on stderr."""

import time
from datetime import timedelta

import numpy as np

from jaxpg.core.run import Callback, Event
from jaxpg.experiment.callbacks.metrics import mean_metric, split_metrics
from jaxpg.experiment.text import format_count


def progress(label: str = "") -> Callback:
    """A bar on stderr: environment steps/s of all seeds together, from the end of the first chunk
    on (so without its compilation), the mean return of the episodes that ended in the newest
    chunk, the newest greedy evaluation, and the time that is left. If stderr is no terminal,
    a line every 10 %.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = BarColumn(bar_width=None), TextColumn("{task.percentage:>3.0f}%  {task.fields[note]}")
    bar = Progress(*[TextColumn(label)][: bool(label)], *columns, console=console, expand=True)
    task = bar.add_task("", total=1.0, note="")
    first, tenths, evaluated = None, 0, np.nan

    def show(event: Event) -> None:
        nonlocal first, tenths, evaluated
        series, measured = split_metrics(event)
        done, now = event.iteration / event.num_iters, time.perf_counter()
        first = first or (now, event.env_steps, done)
        evaluated = measured.get("eval/greedy", evaluated)
        notes = [f"return {_number(mean_metric(series, 'episode/return', axis=None))}"]
        if not np.isnan(evaluated).all():
            notes += [f"eval {_number(np.mean(evaluated))}"]
        if done > first[2]:
            steps = (event.env_steps - first[1]) * len(series["episode/return"])
            left = (1 - done) / (done - first[2]) * (now - first[0])
            notes = [f"{format_count(steps / (now - first[0]))} steps/s", *notes]
            notes += [f"ETA {timedelta(seconds=round(left))}"]
        note = "  ".join(notes)
        if console.is_terminal:
            bar.start()
            bar.update(task, completed=done, note=note)
        elif int(done * 10) > tenths:
            tenths = int(done * 10)
            console.print(f"{label}  {done:4.0%}  {note}".strip(), highlight=False)

    return Callback(on_metrics=show, on_end=lambda _: console.is_terminal and bar.stop())


def _number(x: float) -> str:
    return "-" if np.isnan(x) else f"{x:.4g}"
