"""Callback that saves checkpoints: evenly over a run, by the clock, and the best evaluation."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpg.core import env as E
from jaxpg.core.parallel.processes import any_process, broadcast_from_main, is_main_process
from jaxpg.core.run import Callback, Event, Result
from jaxpg.core.types import Agent, Tree, learnt_leaves
from jaxpg.experiment.files.atomic import CheckpointError
from jaxpg.experiment.run import checkpoint
from jaxpg.experiment.run.checkpoint import SCORE, Snapshot, best, describe, newest, take_snapshot
from jaxpg.experiment.text import warn

EARLY = 1.0  # minutes until the first checkpoint by time


class _Clock:
    """Clock of the checkpoints by time. minutes: between two of them; None is none by time."""

    def __init__(self, minutes: float | None):
        self.minutes, self.taken = minutes, time.monotonic()
        self.late = 0.0  # seconds from the moment that one was asked for until it was on the disk
        self.took = 0.0  # seconds of these for which the run stood still: not to wait for rows
        self.wait = 60 * min(minutes or 0, EARLY)

    def due(self) -> bool:
        return self.minutes is not None and time.monotonic() >= self.taken + self.wait

    def take(self) -> None:
        """Notes that a checkpoint is taken."""
        self.taken = time.monotonic()
        self._plan()

    def written(self, asked: float, took: float) -> None:
        """Notes that the checkpoint which was asked for then is on the disk. took: seconds for
        which the run stood still, to copy and to write it."""
        self.late, self.took = time.monotonic() - asked, took
        self._plan()

    def _plan(self) -> None:
        """Plans the next one: on the disk when the time is over, if it takes as long as the one
        before. But one that is slow to write may not take more than half of a run."""
        self.wait = max(60 * (self.minutes or 0) - self.late, 2 * self.took)


class _Taken(NamedTuple):
    """State that is copied, and waits until its rows are written."""

    snap: Snapshot
    score: float | None  # of an evaluation that is better than all before
    asked: float  # when, by the clock
    seconds: float  # that the copy took


def _take(state: Tree, score: float | None = None) -> _Taken:
    asked = time.monotonic()
    jax.block_until_ready(state)  # the rest of its chunk is training
    begun = time.monotonic()
    snap = take_snapshot(state)
    return _Taken(snap, score, asked, time.monotonic() - begun)


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
        self.waiting: dict[int, _Taken] = {}  # by iteration
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
            self.waiting[self.last] = _take(event.state, score)

    def on_metrics(self, event: Event) -> None:
        self.handed = event.iteration
        if self.handed in self.waiting:
            self._write(self.waiting.pop(self.handed))

    def on_end(self, result: Result) -> None:
        # Not the same iteration if a second Ctrl-C came between the last state and its rows.
        if result.stopped != "error" and self.handed == result.iteration != self.last:
            self._write(_take(result.state))

    def _better(self, event: Event) -> float | None:
        """Score of an evaluation that is better than all before."""
        if not self.keep_best or "eval/greedy" not in event.metrics:
            return None
        score = float(np.mean(np.asarray(event.metrics["eval/greedy"], float)))
        if np.isnan(score) or (self.top is not None and score <= self.top[0]):
            return None
        self.top = score, event.iteration
        return score

    def _write(self, made: _Taken) -> None:
        """Writes the state of the iteration whose rows are written."""
        if not is_main_process():
            return
        begun = time.monotonic()
        for name, x in made.snap.arrays.items():
            if name in self.learnt and not np.isfinite(x).all():
                where = f"{self.folder}: iteration {self.handed} is not saved"
                warn(f"{where}: {name} has a NaN or infinity", stacklevel=2)
                return
        self.kept = self.kept if made.score is None else self.handed
        more = {} if made.score is None else {SCORE: made.score}
        about = self.about | self.bind() | more
        checkpoint.save(self.folder, made.snap, self.handed, about, self.keep, self.kept)
        self.clock.written(made.asked, made.seconds + time.monotonic() - begun)
