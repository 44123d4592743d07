"""What is written, shown and watched while a run goes on: callbacks for `jaxpg.run`.

Each function here returns a `Callback`. In the files there is a row per seed, in the order of
the iterations and with no wall clock, so that they do not depend on the chunk, and those of a
resumed run are byte-identical to those of a run that was never stopped.
"""

import functools
import json
import re
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.config import unknown
from jaxpg.core.env import Env
from jaxpg.core.evaluate import evaluate
from jaxpg.core.lanes import Lanes
from jaxpg.core.machine import collector_paused
from jaxpg.core.processes import whole
from jaxpg.core.run import STOP, Callback, Event
from jaxpg.core.types import Agent, Key

_EVALUATION = 0x5EED  # folded into the run's key: evaluation shares no key with training
_ROW = re.compile(rb'(?:{"seed": )?\d+, ?(?:"iteration": )?(\d+)')  # of either kind of file


class NonFiniteError(FloatingPointError):
    """A leaf of the training state holds a NaN or an infinity."""


def metrics_files(
    folder: str | Path, iteration: int = 0, only: Sequence[int] | None = None
) -> Callback:
    """Writes `metrics.csv` and `metrics.jsonl`: the agent's metrics, a row per iteration and seed.

    NaN ("no data": no episode ended) is an empty cell and a null. iteration: where the run goes
    on; rows after it are cut off from files that are there. only: these seeds, of all.
    """
    table, lines = Path(folder, "metrics.csv"), Path(folder, "metrics.jsonl")
    _cut(table, iteration)
    _cut(lines, iteration)

    def write(event: Event) -> None:
        header, rows = _rows(event, _split(event)[0], only)
        _append_csv(table, header, rows)
        line = "{" + ", ".join(f"{json.dumps(name)}: %s" for name in header) + "}\n"
        no_number = {"": "null", "inf": "null", "-inf": "null"}  # JSON cannot say infinity
        with lines.open("a") as file:
            file.writelines(line % tuple(no_number.get(x, x) for x in row) for row in rows)

    return Callback(on_metrics=write)


def evaluation(
    agent: Agent,
    cfg,
    env: Env,
    key: Key,
    every: int,
    episodes: int = 128,
    folder: str | Path | None = None,
    iteration: int = 0,
    target: float | None = None,
) -> Callback:
    """Measures the return of whole episodes, with greedy and with sampled actions.

    That is done at the first end of a chunk at or after each multiple of `every` iterations, and
    after the last iteration. Adds `eval/greedy`, `eval/greedy_std` (over episodes), `eval/sampled`
    and `eval/sampled_std`, each [] or [seeds], and writes them to `evaluations.csv` in `folder`.

    key: the run's; evaluation folds a constant and the iteration into it. iteration: where the
    run goes on; rows after it are cut off from a file that is there. target: a lane whose greedy
    return reaches it ends there; lanes that have ended are not measured.
    """
    previous, compiled, path = iteration, None, folder and Path(folder, "evaluations.csv")
    if path:
        _cut(path, iteration)

    def measure(event: Event) -> dict[str, jax.Array] | None:
        nonlocal previous, compiled
        due = event.iteration // every > previous // every or event.iteration == event.num_iters
        previous = event.iteration
        args = cfg, env, event.state, key, np.int32(previous)
        if compiled is None:  # while the first chunks run: XLA leaves Python alone meanwhile
            pool = ThreadPoolExecutor(1)
            with collector_paused():
                compiled = pool.submit(_evaluate.lower(agent, *args, episodes).compile)
            pool.shutdown(wait=False)
        if not due:
            return None
        measured = compiled.result()(*args)
        return measured | ({} if target is None else {STOP: measured["eval/greedy"] >= target})

    def write(event: Event) -> None:
        if path and "eval/greedy" in event.metrics:
            measured = {n: m[:, None] for n, m in _split(event)[1].items() if n in _MEASURES}
            header, rows = _rows(event, measured)
            _append_csv(path, [name.removeprefix("eval/") for name in header], rows)

    return Callback(on_chunk=measure, on_metrics=write)


_MEASURES = ("eval/greedy", "eval/greedy_std", "eval/sampled", "eval/sampled_std")


@functools.partial(jax.jit, static_argnames=("agent", "episodes"))
def _evaluate(agent, cfg, env, state, key, iteration, episodes):
    """The measurements, each [] or [seeds]."""

    def own(key):
        return jax.random.split(jax.random.fold_in(jax.random.fold_in(key, _EVALUATION), iteration))

    keys = jax.vmap(own)(key) if key.ndim else own(key)
    greedy = evaluate(agent, cfg, env, state, keys[..., 0], episodes, greedy=True)
    sampled = evaluate(agent, cfg, env, state, keys[..., 1], episodes, greedy=False)
    values = greedy.mean(-1), greedy.std(-1), sampled.mean(-1), sampled.std(-1)
    if isinstance(state, Lanes):
        values = [jnp.where(state.going, x, jnp.nan) for x in values]
    return dict(zip(_MEASURES, values, strict=True))


def nan_guard() -> Callback:
    """Raises NonFiniteError after the first chunk that left a NaN or an infinity in the state.

    The error names the first such leaf, its seeds, and the iterations of the chunk. Put it before
    the callback that writes checkpoints: then the last one on disk is a good one.
    """

    def look(event: Event) -> None:
        seeded = max(m.ndim for m in event.metrics.values()) == 2
        finite = np.asarray(whole(_finite(event.state, seeded)))
        if finite.all():
            return
        paths = [p for p, x in jax.tree_util.tree_leaves_with_path(event.state) if _floating(x)]
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


def _floating(x) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)


@functools.partial(jax.jit, static_argnames="seeded")
def _finite(state, seeded: bool):
    """Whether all of a floating leaf is finite: [leaves], or [leaves, seeds]."""
    leaves = filter(_floating, jax.tree.leaves(state))
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
        series, measured = _split(event)
        if metric not in measured and metric not in series:
            if metric.startswith("eval/"):
                return False  # not measured after every chunk
            raise unknown("metric", metric, [*series, *measured, *_MEASURES])
        values = measured[metric] if metric in measured else _mean(series, metric)
        return bool((values >= target).all() if all_seeds else (values >= target).any())

    return Callback(on_metrics=reached)


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
        series, measured = _split(event)
        done, now = event.iteration / event.num_iters, time.perf_counter()
        first = first or (now, event.env_steps, done)
        evaluated = measured.get("eval/greedy", evaluated)
        notes = [f"return {_number(_mean(series, 'episode/return', axis=None))}"]
        if not np.isnan(evaluated).all():
            notes += [f"eval {_number(np.mean(evaluated))}"]
        if done > first[2]:
            steps = (event.env_steps - first[1]) * len(series["episode/return"])
            left = (1 - done) / (done - first[2]) * (now - first[0])
            notes = [f"{short(steps / (now - first[0]))} steps/s", *notes]
            notes += [f"ETA {timedelta(seconds=round(left))}"]
        note = "  ".join(notes)
        if console.is_terminal:
            bar.start()
            bar.update(task, completed=done, note=note)
        elif int(done * 10) > tenths:
            tenths = int(done * 10)
            console.print(f"{label}  {done:4.0%}  {note}".strip(), highlight=False)

    return Callback(on_metrics=show, on_end=lambda _: console.is_terminal and bar.stop())


def tensorboard(folder: str | Path) -> Callback:
    """Writes TensorBoard files, a sub-folder per seed, with a point per metric and chunk (means).

    Every iteration's numbers are in `metrics.csv`. Raises ImportError without tensorboardX.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        hint = "tensorboardX is not installed: pip install 'jaxpg[tensorboard]'"
        raise ImportError(hint) from error

    writers = []

    def write(event: Event) -> None:
        series, measured = _split(event)
        seeds, count = next(iter(series.values())).shape
        if not writers:  # what a killed run wrote after the point of resumption is hidden
            begin = event.env_steps - count * (event.env_steps // event.iteration)
            for seed in range(seeds):
                writers.append(SummaryWriter(str(Path(folder, f"seed-{seed}")), purge_step=begin))
        means = {name: _mean(series, name) for name in series} | measured
        for seed, writer in enumerate(writers):
            for name, values in means.items():
                if not np.isnan(values[seed]):
                    writer.add_scalar(name, values[seed], event.env_steps)

    return Callback(on_metrics=write, on_end=lambda _: [w.close() for w in writers])


def short(number: float) -> str:
    """A count for people: 950, 1.5k, 100k, 1.23M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def _number(x: float) -> str:
    return "-" if np.isnan(x) else f"{x:.4g}"


def _split(event: Event) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The agent's metrics [seeds, chunk], and what callbacks measured [seeds]; sorted by name."""
    metrics = dict(sorted(event.metrics.items()))
    rank = max(np.ndim(m) for m in metrics.values())
    series = {n: np.atleast_2d(m) for n, m in metrics.items() if np.ndim(m) == rank}
    return series, {n: np.atleast_1d(m) for n, m in metrics.items() if n not in series}


def _mean(series: dict[str, np.ndarray], name: str, axis: int | None = -1) -> np.ndarray:
    """The mean of what there is, per episode where a metric is one of episodes; NaN if nothing."""
    values = series[name].astype(float)
    weight = ~np.isnan(values)
    if name.startswith("episode/") and name != "episode/count":
        weight = series["episode/count"]
    total = np.where(weight > 0, values, 0) * weight
    with np.errstate(invalid="ignore"):  # 0 / 0
        return total.sum(axis) / weight.sum(axis)


def _rows(
    event: Event, series: dict[str, np.ndarray], only: Sequence[int] | None = None
) -> tuple[list[str], list[tuple[str, ...]]]:
    """Header and rows of series [seeds, k] whose last iteration is the event's; of all seeds, or
    `only` these.

    Floats are the shortest text that gives them again in their own precision.
    """
    seeds, k = next(iter(series.values())).shape
    shown = np.arange(seeds) if only is None else np.asarray(only)
    iteration = np.repeat(np.arange(event.iteration - k + 1, event.iteration + 1), len(shown))
    steps = iteration * (event.env_steps // event.iteration)
    columns = {"seed": np.tile(shown, k), "iteration": iteration, "env_steps": steps}
    columns |= {name: values[shown].T.ravel() for name, values in series.items()}
    texts = [["" if x == "nan" else x for x in map(str, column)] for column in columns.values()]
    return list(columns), list(zip(*texts, strict=True))


def _append_csv(path: Path, header: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
    with path.open("a") as file:
        if file.tell() == 0:
            file.write(",".join(header) + "\n")
        file.writelines(",".join(row) + "\n" for row in rows)


def _cut(path: Path, iteration: int) -> None:
    """Cuts a file off after its last whole row of an iteration <= `iteration`; keeps its header."""
    if not path.exists():
        return
    keep = 0
    with path.open("r+b") as file:
        for line in file:
            row = _ROW.match(line)
            if not line.endswith(b"\n") or (row and int(row[1]) > iteration):
                break
            keep += len(line)
        file.truncate(keep)
