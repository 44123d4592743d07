"""All trials, and the scorecard: of every kind, how many were tried, held, were refused, or not."""

import collections
import itertools
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.faults import hostile, kinds, processes
from tests.faults.kinds import BROKEN, SILENT, Ground, Outcome, Trial
from tests.faults.pool import Pool, Worker, compile_shim, environment
from tests.faults.scorecard import HEAD, count, read, rows, write
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


def run_suite(
    folder: Path, quick: bool = False, kinds_asked: Sequence[str] = (), say=print, every: int = 1
) -> list[tuple[Trial, Outcome]] | None:
    """Tries all, those of some kinds, or, if it is to be quick, a few; None without the shim.

    every: of each kind the first, and so on in steps of so many.
    """
    library = compile_shim(folder)
    if library is None:
        return None
    size = 1 if quick else min(2, os.cpu_count() or 1)
    pool = Pool(environment(library, cache_folder(folder)), folder, size)
    try:
        ground = kinds.prepare(pool, folder, ["q_learning"] if quick else ALL)
        trials = list((few_trials if quick else every_trial)(ground))
        trials = [t for t in trials if not kinds_asked or t.kind in kinds_asked]
        counts = collections.defaultdict(itertools.count)
        return try_all(ground, [t for t in trials if next(counts[t.kind]) % every == 0], say)
    finally:
        pool.end()


def main(folder: Path, words: Sequence[str]) -> int:
    begun, quick = time.monotonic(), "--quick" in words
    asked = [word for word in words if word != "--quick"]
    tried = run_suite(folder, quick, asked)
    if tried is None:
        print("no C compiler, or no Linux: nothing was tried")
        return 1
    card = count((trial.kind, outcome.what) for trial, outcome in tried)
    print(HEAD, *rows(card), f"{time.monotonic() - begun:.0f} s", sep="\n")
    if not quick:
        write((read() | card) if asked else card)
    return int(any(outcome.what in (SILENT, BROKEN) for _, outcome in tried))
