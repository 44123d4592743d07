"""All trials, and the scorecard: of every kind, how many were tried, held, were refused, or not."""

import itertools
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.faults import hostile, kinds, processes
from tests.faults.kinds import BROKEN, SILENT, Ground, Outcome, Trial
from tests.faults.pool import Pool, Worker, compile_shim, environment
from tests.faults.scorecard import HEAD, count, rows, write
from tests.faults.subjects import POLICY, RUNS, SWEEP

# How much the whole suite tries: at most so many of each subject.
FULL = {"images": 22, "kills": 3, "failures": 10, "flips": 3, "files": 24, "swaps": 12}
ALL = [*RUNS, SWEEP]


def every_trial(ground: Ground) -> Iterator[Trial]:
    """All trials, of the kinds in the order of the page."""
    some = ["q_learning", "ppo"]
    yield from kinds.swaps(ground, [*some, SWEEP], FULL["swaps"])
    yield from kinds.older(ground, some)
    yield from hostile.names(ground, "q_learning")
    yield from hostile.forgeries(ground)
    yield from hostile.in_the_way(ground, "q_learning")
    yield from hostile.read_only(ground, "q_learning")
    yield from kinds.kills(ground, FULL["kills"])
    yield from processes.at_once(ground)
    yield from kinds.images(ground, FULL["images"])
    yield from kinds.failures(ground, FULL["failures"])
    yield from kinds.damages(
        ground, ["q_learning", "ppo", SWEEP, POLICY], FULL["flips"], FULL["files"]
    )
    yield from kinds.damages_before_resume(ground, ["q_learning"], 2, FULL["files"])


def few_trials(ground: Ground) -> Iterator[Trial]:
    """A few trials of the cheap kinds, of the run of one agent."""
    yield from kinds.images(ground, 4)
    yield from kinds.failures(ground, 2)
    yield from itertools.islice(kinds.damages(ground, ["q_learning"], 1, 4), 0, None, 3)
    yield from itertools.islice(kinds.swaps(ground, ["q_learning"], 3), 0, None, 2)
    yield from itertools.islice(hostile.names(ground, "q_learning"), 0, 4)
    yield from hostile.read_only(ground, "q_learning")


def try_all(
    ground: Ground, trials: Iterable[Trial], say=lambda text: None
) -> list[tuple[Trial, Outcome]]:
    """Tries them all, and removes the folders of those that were neither silent nor broken."""
    begun, count = time.monotonic(), itertools.count(1)

    def one(worker: Worker, item: tuple[int, Trial]) -> tuple[Trial, Outcome]:
        i, trial = item
        path = ground.folder / "trials" / f"trial-{i}"
        path.parent.mkdir(exist_ok=True)
        try:
            outcome = trial.run(worker, path)
        except Exception as error:  # of the trial itself
            outcome = Outcome(BROKEN, f"the trial failed: {error!r}")
        if outcome.what in (SILENT, BROKEN):
            say(f"{outcome.what}: {trial.kind}: {trial.name}: {outcome.note} [{path}]")
        else:
            for left in path.parent.glob(f"{path.name}*"):
                if left.stem == path.name or left.name.startswith(f"{path.name}-"):
                    remove(left)
        if (n := next(count)) % 100 == 0:
            say(f"{n} trials in {time.monotonic() - begun:.0f} s")
        return trial, outcome

    return ground.pool.map(one, list(enumerate(trials)))


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def cache_folder(folder: Path) -> Path:
    """Where programs are kept: with those of the tests, if they keep them."""
    kept = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    return Path(kept).with_name("xla-faults") if kept else folder / "xla"


def run_suite(folder: Path, quick: bool = False, say=print) -> list[tuple[Trial, Outcome]] | None:
    """Tries all, or, if it is to be quick, a few; None without the shim."""
    library = compile_shim(folder)
    if library is None:
        return None
    pool = Pool(
        environment(library, cache_folder(folder)),
        folder,
        1 if quick else min(2, os.cpu_count() or 1),
    )
    try:
        subjects = ["q_learning"] if quick else ALL
        ground = kinds.prepare(pool, folder, subjects)
        return try_all(ground, (few_trials if quick else every_trial)(ground), say)
    finally:
        pool.end()


def main(folder: Path) -> int:
    begun, quick = time.monotonic(), "--quick" in sys.argv
    tried = run_suite(folder, quick)
    if tried is None:
        print("no C compiler, or no Linux: nothing was tried")
        return 1
    card = count((trial.kind, outcome.what) for trial, outcome in tried)
    print(HEAD, *rows(card), f"{time.monotonic() - begun:.0f} s", sep="\n")
    if not quick:
        write(card)
    return int(any(outcome.what in (SILENT, BROKEN) for _, outcome in tried))
