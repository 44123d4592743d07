"""Pace of a run that is going on: how far it is, how fast it goes, and when it will be done."""

import math
import re
import time
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from jaxpg.experiment.files import CHECKPOINTS, RUN
from jaxpg.experiment.files.atomic import read_json
from jaxpg.experiment.files.rows import EVALUATIONS, METRICS, RECORD
from jaxpg.experiment.listing import ends
from jaxpg.experiment.listing.entries import count_seeds

SINCE = re.compile(r"since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")


class Pace(NamedTuple):
    """Pace of a run that is under way, by what lies in its folder."""

    iteration: int
    num_iters: int
    env_steps: int  # of each seed
    total_steps: int
    rate: float  # environment steps a second, of all seeds; NaN if it cannot be told yet
    left: float  # seconds
    age: float  # seconds since the last row was written; NaN if there is none
    evaluated: int | None  # environment steps of the newest evaluation
    returns: dict[str, list[float]]  # greedy and sampled, [seeds]; {} if there is none


def measure_pace(folder: Path, holder: str) -> Pace:
    """Measures the pace of a run. holder: who writes it, as its lock has it.

    The rate is that between the oldest checkpoint, or the first second, of this holder and the
    newest row: rows and checkpoints have no clock, their files have.
    """
    about = read_json(folder / RUN, ("total_steps", "key"))
    seeds, total = count_seeds(about), int(about["total_steps"])
    iteration, steps = ends.progress(folder)
    each = steps / iteration if iteration else math.nan  # environment steps of an iteration
    written = [(folder / name).stat().st_mtime for name in _tables(folder)]
    age = time.time() - max(written) if written else math.nan
    marks = _marks(folder, holder)
    rate = math.nan
    if written and marks:
        begin, first = min(marks)
        passed = max(written) - begin
        rate = seeds * each * (iteration - first) / passed if passed > 0 else math.nan
    rate = rate if rate > 0 else math.nan
    evaluated = ends.last_evaluation(folder, seeds)
    return Pace(
        iteration, math.ceil(total / each) if iteration else 0, steps, total, rate,
        max(0.0, seeds * (total - steps) / rate), age,
        *(evaluated or (None, {})),
    )  # fmt: skip


def _tables(folder: Path) -> list[str]:
    return [x for x in (METRICS, EVALUATIONS, RECORD) if (folder / x).exists()]


def _marks(folder: Path, holder: str) -> list[tuple[float, int]]:
    """Times at which this holder had come to an iteration: that of its beginning, of a run that it
    began itself, and those of its checkpoints."""
    said = SINCE.search(holder)
    since = datetime.strptime(said[1], "%Y-%m-%d %H:%M:%S").timestamp() if said else 0.0
    steps = (folder / CHECKPOINTS).glob("*/manifest.json")
    known = [(x.stat().st_mtime, int(x.parent.name)) for x in steps if x.parent.name.isdigit()]
    own = [mark for mark in known if mark[0] >= since]
    if not own and len(known) == len(own):  # it has begun the run
        own = [((folder / RUN).stat().st_mtime, 0)]
    return own
