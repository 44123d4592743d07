"""Callback that saves checkpoints: evenly over a run, by the clock, and the best evaluation."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxpg.core import env as E
from jaxpg.core.parallel.processes import any_process, broadcast_from_main, is_main_process
from jaxpg.core.run import Callback, Event, Result
from jaxpg.core.types import Agent, learnt_leaves
from jaxpg.experiment.files.atomic import CheckpointError
from jaxpg.experiment.run import checkpoint
from jaxpg.experiment.run.checkpoint import SCORE, Snapshot, best, describe, newest, take_snapshot
from jaxpg.experiment.text import warn

EARLY = 1.0  # minutes until the first checkpoint by time


class _Clock:
    """Clock of the checkpoints by time. minutes: between two of them; None is none by time."""

    def __init__(self, minutes: float | None):
        self.minutes, self.took, self.taken = minutes, 0.0, time.monotonic()
        self.wait = 60 * min(minutes or 0, EARLY)

    def due(self) -> bool:
        return self.minutes is not None and time.monotonic() >= self.taken + self.wait

    def take(self) -> None:
        """Notes that a checkpoint is taken."""
        self.taken = time.monotonic()
        self._plan()

    def written(self) -> None:
        """Notes that the checkpoint which was taken is on the disk."""
        self.took = time.monotonic() - self.taken
        self._plan()

    def _plan(self) -> None:
        """Plans the next one: on the disk when the time is over, if it takes as long as the one
        before. But one that is slow to write may not take more than half of a run."""
        self.wait = max(60 * (self.minutes or 0) - self.took, 2 * self.took)


def checkpoints(
    folder: str | Path, agent: Agent, cfg, env: E.Env, every: int, keep: int = 3,
    bind: Callable[[], dict[str, Any]] = dict, minutes: float | None = None,
    keep_best: bool = False,
) -> Callback:  # fmt: skip
    """Saves a checkpoint at the first chunk end at or after each multiple of `every` iterations,
    whenever `minutes` have gone by since the last one (and once early), and when the run ends or is
    stopped, but not when it fails.

    A state that learnt a NaN or infinity is not saved, with a warning, so that the last good one
    stays. keep_best: also saves each evaluation that is better than all before, by the mean of
    `eval/greedy` over the seeds, and keeps it beside the newest until there is a better one.
    The copy is made while the state is in hand, and written one chunk later, with the metrics:
    give this after the callbacks that write files, and a checkpoint has all of its rows in them.
    bind: gives what else the manifest shall hold, such as the digests of these rows. Of several
    processes process 0 writes, and its clock decides. Raises CheckpointError, after the first
    chunk, if the folder has checkpoints of another run.
    """
    about, folder, clock = describe(agent, cfg, env), Path(folder), _Clock(minutes)
    last, handed = broadcast_from_main(lambda: newest(folder)) or 0, 0
    waiting: dict[int, tuple[Snapshot, float | None]] = {}  # until their rows are written
    top = broadcast_from_main(lambda: best(folder) if keep_best else None)
    kept = None if top is None else top[1]  # the best that is on the disk
    learnt = set()  # names of leaves

    def write(snap: Snapshot, score: float | None, iteration: int) -> None:
        nonlocal kept
        if not is_main_process():
            return
        for name, x in snap.arrays.items():
            if name in learnt and not np.isfinite(x).all():
                where = f"{folder}: iteration {iteration} is not saved"
                warn(f"{where}: {name} has a NaN or infinity", stacklevel=2)
                return
        kept = kept if score is None else iteration
        more = {} if score is None else {SCORE: score}
        checkpoint.save(folder, snap, iteration, about | bind() | more, keep, kept)
        clock.written()

    def due() -> bool:
        return is_main_process() and clock.due()

    def better(event: Event) -> float | None:
        """Score of an evaluation that is better than all before."""
        nonlocal top
        if not keep_best or "eval/greedy" not in event.metrics:
            return None
        score = float(np.mean(np.asarray(event.metrics["eval/greedy"], float)))
        if np.isnan(score) or (top is not None and score <= top[0]):
            return None
        top = score, event.iteration
        return score

    def on_chunk(event: Event) -> None:
        nonlocal last
        if event.iteration <= last:
            raise CheckpointError(
                f"{folder}: found a checkpoint of iteration {last}, expected none that this run, "
                f"at iteration {event.iteration}, has still to reach"
            )
        learnt.update(jax.tree_util.keystr(path) for path, _ in learnt_leaves(event.state))
        score = better(event)
        late = minutes is not None and any_process(due())[0]
        if score is not None or late or event.iteration // every > last // every:
            last = event.iteration
            clock.take()
            waiting[last] = take_snapshot(event.state), score

    def on_metrics(event: Event) -> None:
        nonlocal handed
        handed = event.iteration
        if handed in waiting:
            snap, score = waiting.pop(handed)
            write(snap, score, handed)

    def on_end(result: Result) -> None:
        # Not the same iteration if a second Ctrl-C came between the last state and its rows.
        if result.stopped != "error" and handed == result.iteration != last:
            write(take_snapshot(result.state), None, handed)

    return Callback(on_chunk, on_metrics, on_end, due=due)
