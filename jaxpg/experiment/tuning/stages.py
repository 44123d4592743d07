"""Sweeps of a tuning: one for each round, and one on held-out seeds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpg.core.config import plain
from jaxpg.core.env import Env
from jaxpg.core.train import with_horizon
from jaxpg.core.types import Agent, Key
from jaxpg.experiment.files import SWEEP, lock
from jaxpg.experiment.run import provenance
from jaxpg.experiment.sweeps import Sweep
from jaxpg.experiment.sweeps.points import MOST, Point, Range
from jaxpg.experiment.sweeps.sweep import new_record, plan_parts, train_parts, write_tables
from jaxpg.experiment.sweeps.tables import SweepFolder, load, open_folder, open_sweep
from jaxpg.experiment.tuning import design
from jaxpg.experiment.tuning.budget import Asked, Clock
from jaxpg.experiment.tuning.judge import all_alike, rank_points

EACH = 4  # points of a program that are tried at once, while there is time for more
SHARE = 4  # of the episodes of the comparison, that the search plays


class Tuning(NamedTuple):
    """Open folder of a tuning."""

    out: Path
    agent: Agent
    cfg: Any  # what the points change
    env: Env
    key: Key
    record: dict[str, Any]  # tune.json

    @property
    def asked(self) -> Asked:
        told = {name: self.record[name] for name in Asked._fields if name != "iterations"}
        iterations = tuple(self.record.get("iterations", (1,)))  # an older tuning has none
        return Asked(**told, iterations=iterations)

    @property
    def space(self) -> dict[str, list | Range]:
        every = self.record["space"].items()
        return {name: Range(**x) if isinstance(x, dict) else x for name, x in every}

    @property
    def base(self) -> Point:
        """The point that is the config itself."""
        return {name: plain(getattr(self.cfg, name)) for name in self.space}

    def folder(self, i: int) -> Path:
        """The folder of round i, or of the comparison behind the rounds."""
        return self.out / "rounds" / str(i)


class Watch(NamedTuple):
    """Watchers of a tuning while it goes on."""

    clock: Clock
    progress: bool
    log: Callable[[str], None]


def train_round(this: Tuning, i: int, found: Sweep | None, watch: Watch) -> Sweep:
    """Trains round i. found: the round before; of the first one None.

    Each round has seeds of its own. A training of fewer steps is the beginning of a whole one: its
    schedules run as if it went on.
    """
    asked, clock = this.asked, watch.clock

    def choose(opened: SweepFolder) -> list[Point]:
        if opened.record["points"] or found is None:
            return []
        before = found.about["points"]
        one = clock.takes(asked.seeds * asked.whole(asked.steps(i)))
        rest = lambda count: clock.takes(asked.behind(i, count), asked.rounds + 1 - i)  # noqa: E731
        # Of too little time the comparison is the first to have less.
        count = clock.room(one, rest(asked.finalists))
        count = max(count, min(asked.finalists, clock.room(one, rest(1))), 1)
        count = min(count, asked.points(1, len(before)))
        return [before[config] for config in rank_points(found)[:count]]

    settings = (asked.steps(i), asked.seeds, max(1, asked.episodes // SHARE))
    what = f"round {i + 1} of {asked.rounds}"
    done = _train(this, i, settings, choose if i else _waves(this, watch), watch, what)
    if i < asked.rounds - 1 and is_over(done) and all_alike(done):
        watch.log(
            f"{what}: no point stands out, so they are ordered by their returns in training; one "
            "round alone would train all of them to the end"
        )
    return done


def compare_finalists(this: Tuning, found: Sweep, watch: Watch) -> Sweep:
    """Trains the config that the tuning began with, and the best points of the last round, on
    held-out seeds."""
    asked, clock = this.asked, watch.clock

    def choose(opened: SweepFolder) -> list[Point]:
        if opened.record["points"]:
            return []
        base, before = this.base, found.about["points"]
        ranked = [before[c] for c in rank_points(found) if before[c] != base]
        count = min(asked.finalists, len(ranked))
        takes = lambda count: clock.takes(asked.last(count), 1, count + 1)  # noqa: E731
        while count > 1 and takes(count) > clock.left():
            count -= 1
        if (more := takes(count) - clock.left()) > 0:
            watch.log(f"it will take about {more / 60:.1f} minutes more than was asked for")
        return [base, *ranked[:count]]

    settings = (asked.total_steps, asked.held_out, asked.episodes)
    return _train(this, asked.rounds, settings, choose, watch, "held-out seeds")


def is_over(found: Sweep) -> bool:
    """True if a sweep is done."""
    return "digests" in found.about


def _waves(this: Tuning, watch: Watch) -> Callable[[SweepFolder], list[Point]]:
    """Chooses the points of the first round: as many as the budget allows, all at once for one in
    steps; for one in minutes a few of every program at a time, as long as there is time."""
    asked, programs, clock = this.asked, this.record["programs"], watch.clock
    words = np.ravel(jax.random.key_data(this.key)).tolist()

    def choose(opened: SweepFolder) -> list[Point]:
        known = opened.record["points"]
        chosen, each = programs, EACH
        if asked.budget_steps is not None:
            if known:
                return []
            count = min(asked.most(), MOST // asked.seeds)
            chosen, each = programs[:count], max(1, count // len(programs))
        elif known:
            wave = len(programs) * EACH
            ahead = asked.seeds * asked.whole(asked.steps(0)) * wave
            ahead += asked.cost(len(known) + wave, 1)
            if clock.takes(ahead, asked.rounds) > clock.left():
                return []
        points = design.propose_points(this.cfg, this.space, chosen, each, [*words, len(known)])
        new = [x for n, x in enumerate(points) if x not in points[:n]]
        return [x for x in new if x not in known]

    return choose


def _train(
    this: Tuning,
    i: int,
    settings: tuple[int, int, int],
    choose: Callable[[SweepFolder], list[Point]],
    watch: Watch,
    what: str,
) -> Sweep:
    """Trains one of the sweeps, or what is left of it. settings: steps, seeds, and episodes of the
    evaluation at the end. choose: gives its points, until it gives none."""
    folder, clock = this.folder(i), watch.clock
    steps, seeds, _ = settings
    with lock.hold(folder, new=not (folder / SWEEP).exists()):
        opened = _open(this, folder, i, settings)
        if opened.record["parts"]:  # of before it was stopped
            if "digests" not in opened.record:
                opened = train_parts(opened, (), watch.progress)
            clock.note(0.0, opened.record["seconds"], _work(opened))
        if "digests" in opened.record:
            return load(folder)
        while _all_over(opened) and (points := choose(opened)):
            begun, before = clock.spent(), _work(opened)
            count = f"{len(points)} point{'s'[: len(points) != 1]}" + " more" * bool(before)
            many = f"{seeds} seed{'s'[: seeds != 1]}"
            watch.log(f"{begun / 60:.1f} min, {what}: {count} x {many} x {steps:,} steps")
            opened = plan_parts(opened, points, lambda text: None)
            planned = clock.spent()
            opened = train_parts(opened, (), watch.progress)
            clock.note(planned - begun, clock.spent() - planned, _work(opened) - before)
        return write_tables(opened)


def _open(this: Tuning, folder: Path, i: int, settings: tuple[int, int, int]) -> SweepFolder:
    """Opens the folder of a sweep, or a new one."""
    if (folder / SWEEP).exists():
        return open_folder(folder, this.agent, this.env, True)
    steps, seeds, episodes = settings
    cfg = with_horizon(this.cfg, this.asked.total_steps)
    key = jax.random.fold_in(this.key, i)
    with provenance.lasting(None):  # tune.json has told
        about = {"kind": "sweep", **provenance.describe_run(this.agent, cfg, this.env, key)}
    record = new_record(
        about, list(this.space), steps, seeds=seeds, episodes=episodes, checkpoints=1
    )
    return open_sweep(folder, this.agent, cfg, this.env, key, record, trust=True)


def _all_over(opened: SweepFolder) -> bool:
    return all(part["over"] for part in opened.record["parts"])


def _work(opened: SweepFolder) -> int:
    """Environment steps of the parts of a sweep."""
    parts = opened.record["parts"]
    return sum(len(part["lanes"]) * part["iterations"] * part["env_steps"] for part in parts)
