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
    this = _Saver(Path(folder), describe(agent, cfg, env), every, keep, bind, minutes, keep_best)
    return Callback(this.on_chunk, this.on_metrics, this.on_end, due=this.due)


class _Saver:
    """Checkpoints of one run, see `checkpoints`."""

    def __init__(
        self, folder: Path, about: dict[str, Any], every: int, keep: int,
        bind: Callable[[], dict[str, Any]], minutes: float | None, keep_best: bool,
    ):  # fmt: skip
        self.folder, self.about, self.every, self.keep = folder, about, every, keep
        self.bind, self.keep_best, self.clock = bind, keep_best, _Clock(minutes)
        self.last = broadcast_from_main(lambda: newest(folder)) or 0  # iteration that was taken
        self.handed = 0  # iteration whose rows are written
        self.waiting: dict[int, tuple[Snapshot, float | None]] = {}  # until their rows are written
        self.top = broadcast_from_main(lambda: best(folder) if keep_best else None)
        self.kept = None if self.top is None else self.top[1]  # the best that is on the disk
        self.learnt: set[str] = set()  # names of leaves

    def due(self) -> bool:
        return is_main_process() and self.clock.due()

    def on_chunk(self, event: Event) -> None:
        if event.iteration <= self.last:
            raise CheckpointError(
                f"{self.folder}: found a checkpoint of iteration {self.last}, expected none that "
                f"this run, at iteration {event.iteration}, has still to reach"
            )
        if not self.learnt:
            leaves = learnt_leaves(event.state)
            self.learnt.update(jax.tree_util.keystr(path) for path, _ in leaves)
        score = self._better(event)
        late = self.clock.minutes is not None and any_process(self.due())[0]
        if score is not None or late or event.iteration // self.every > self.last // self.every:
            self.last = event.iteration
            self.clock.take()
            self.waiting[self.last] = take_snapshot(event.state), score

    def on_metrics(self, event: Event) -> None:
        self.handed = event.iteration
        if self.handed in self.waiting:
            self._write(*self.waiting.pop(self.handed))

    def on_end(self, result: Result) -> None:
        # Not the same iteration if a second Ctrl-C came between the last state and its rows.
        if result.stopped != "error" and self.handed == result.iteration != self.last:
            self._write(take_snapshot(result.state), None)

    def _better(self, event: Event) -> float | None:
        """Score of an evaluation that is better than all before."""
        if not self.keep_best or "eval/greedy" not in event.metrics:
            return None
        score = float(np.mean(np.asarray(event.metrics["eval/greedy"], float)))
        if np.isnan(score) or (self.top is not None and score <= self.top[0]):
            return None
        self.top = score, event.iteration
        return score

    def _write(self, snap: Snapshot, score: float | None) -> None:
        """Writes the state of the iteration whose rows are written."""
        if not is_main_process():
            return
        for name, x in snap.arrays.items():
            if name in self.learnt and not np.isfinite(x).all():
                where = f"{self.folder}: iteration {self.handed} is not saved"
                warn(f"{where}: {name} has a NaN or infinity", stacklevel=2)
                return
        self.kept = self.kept if score is None else self.handed
        more = {} if score is None else {SCORE: score}
        about = self.about | self.bind() | more
        checkpoint.save(self.folder, snap, self.handed, about, self.keep, self.kept)
        self.clock.written()
