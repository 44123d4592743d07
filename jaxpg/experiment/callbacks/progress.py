"""Progress bar on stderr."""

import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np

from jaxpg.core.run import Callback, Event
from jaxpg.experiment.callbacks.metrics import mean_metric, split_metrics
from jaxpg.experiment.text import format_count, printable


class Bar(NamedTuple):
    """Progress bar on stderr; if that is no terminal, a line every 10 %."""

    show: Callable[[float, Sequence[str]], None]  # the share that is done, and notes beside it
    stop: Callable[[], None]


def progress_bar(label: str = "", begin: float = 0.0) -> Bar:
    """Makes a bar. begin: the share that was done before."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, markup=False, emoji=False)
    label = printable(label)
    columns = BarColumn(bar_width=None), TextColumn("{task.percentage:>3.0f}%  {task.fields[note]}")
    own = [TextColumn("{task.description}", markup=False)][: bool(label)]
    bar = Progress(*own, *columns, console=console, expand=True)
    task, tenths = bar.add_task(label, total=1.0, note=""), int(10 * begin)

    def show(share: float, notes: Sequence[str]) -> None:
        nonlocal tenths
        note = "  ".join(notes)
        with contextlib.suppress(OSError):  # a terminal that was closed; what is trained is not
            if console.is_terminal:
                bar.start()
                bar.update(task, completed=share, note=note)
            elif int(share * 10 + 1e-9) > tenths:
                tenths = int(share * 10 + 1e-9)
                console.print(f"{label}  {share:4.0%}  {note}".strip(), highlight=False)

    def stop() -> None:
        with contextlib.suppress(OSError):
            if console.is_terminal:
                bar.stop()

    return Bar(show, stop)


def progress(label: str = "") -> Callback:
    """Shows a bar on stderr: environment steps/s of all seeds together, from the end of the first
    chunk on (so without its compilation), the mean return of the episodes that ended in the newest
    chunk in which any did, the newest greedy evaluation, and the time that is left. If stderr is no
    terminal, a line every 10 %.

    >>> env, cfg, key = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(), jax.random.key(0)
    >>> bar = [jaxpg.callbacks.progress("cliff")]
    >>> jaxpg.run(jaxpg.q_learning, cfg, env, key, total_steps=1000, callbacks=bar).stopped
    'done'
    """
    bar = progress_bar(label)
    first, evaluated, returned = None, np.nan, np.nan

    def show(event: Event) -> None:
        nonlocal first, evaluated, returned
        series, measured = split_metrics(event)
        done, now = event.iteration / event.num_iters, time.perf_counter()
        first = first or (now, event.env_steps, done)
        evaluated = measured.get("eval/greedy", evaluated)
        newest = mean_metric(series, "episode/return", axis=None)
        returned = returned if np.isnan(newest) else newest
        notes = [f"return {_number(returned)}"]
        if not np.isnan(evaluated).all():
            notes += [f"eval {_number(np.mean(evaluated))}"]
        if done > first[2]:
            steps = (event.env_steps - first[1]) * len(series["episode/return"])
            left = (1 - done) / (done - first[2]) * (now - first[0])
            notes = [f"{format_count(steps / (now - first[0]))} steps/s", *notes]
            notes += [f"ETA {timedelta(seconds=round(left))}"]
        bar.show(done, notes)

    return Callback(on_metrics=show, on_end=lambda _: bar.stop())


def _number(x: Any) -> str:
    return "-" if np.isnan(x) else f"{x:.4g}"
