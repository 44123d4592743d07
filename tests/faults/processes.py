"""Trials of several processes that begin on one folder, or without one, at the same time."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults.kinds import BROKEN, HELD, REFUSED, SILENT, Ground, Outcome, Trial
from tests.faults.pool import Worker

TRAIN = ["train", "q_learning", "Cliff-jaxpg", "--total-steps", "150000"]
SWEEP = ["sweep", "q_learning", "Cliff-jaxpg", "--grid", "learning_rate=0.1,0.2"]
SWEEP += ["--total-steps", "50000", "--seeds", "2"]
COMPARE = ["compare", "q_learning", "sarsa", "--env", "Cliff-jaxpg"]
COMPARE += ["--total-steps", "20000", "--seeds", "2"]


def run_together(worker: Worker, where: Path, commands: list[list[str]]) -> list[tuple[int, str]]:
    """Exit codes and last lines of commands that begin at the same time."""
    begun = [
        subprocess.Popen(
            [sys.executable, "-m", "jaxpg.cli", *words], env=worker.environ, cwd=where, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for words in commands
    ]  # fmt: skip
    told = [process.communicate(timeout=300)[0] for process in begun]
    return [
        (process.returncode, (text.strip().splitlines() or [""])[-1])
        for process, text in zip(begun, told, strict=True)
    ]


def judge(worker: Worker, ended: list[tuple[int, str]], folders: list[Path], wins: int) -> Outcome:
    """One has to come through at least, all others say in a line why not, and what is left is what
    one alone would have made."""
    losers = [text for code, text in ended if code]
    if any(code not in (0, 2) for code, _ in ended) or any(not text for text in losers):
        return Outcome(BROKEN, str(ended))
    if len(ended) - len(losers) < wins:
        return Outcome(BROKEN, str(ended))
    alone = worker.ask("look", str(folders[0]))
    for folder in folders[1:]:
        found = worker.ask("look", str(folder))
        if found.error or found.ended:
            return Outcome(SILENT, f"{folder.name}: {found.error}, after {ended}")
        for name in ("state", "tables", "evaluations", "metrics", "files"):
            if found.seen.get(name) != alone.seen.get(name):
                return Outcome(SILENT, f"{folder.name}: other {name}, after {ended}")
    return Outcome(REFUSED if losers else HELD, str(losers[:1]))


def runs_of(folder: Path) -> list[Path]:
    found = [p.parent for name in ("run.json", "sweep.json") for p in folder.glob(f"**/{name}")]
    return sorted(p for p in found if "parts" not in p.parts)


def at_once(ground: Ground) -> Iterator[Trial]:
    """Two or three commands at the same time."""

    def alone(worker: Worker, path: Path, words: list[str]) -> Path:
        path.mkdir(parents=True)
        out = path / "alone"
        ((code, text),) = run_together(worker, path, [[*words, "--out", str(out)]])
        assert code == 0, text
        return out

    def no_name(words: list[str], times: int) -> Callable[[Worker, Path], Outcome]:
        def run(worker: Worker, path: Path) -> Outcome:
            reference = alone(worker, path, words)
            ended = run_together(worker, path, [words] * times)
            found = [p for p in runs_of(path) if p != reference]
            outcome = judge(worker, ended, [reference, *found], times)
            if outcome.what == HELD and len(found) != times:
                return Outcome(SILENT, f"{len(found)} folders of {times}")
            return outcome

        return run

    def one_name(words: list[str], times: int) -> Callable[[Worker, Path], Outcome]:
        def run(worker: Worker, path: Path) -> Outcome:
            reference, out = alone(worker, path, words), path / "one"
            ended = run_together(worker, path, [[*words, "--out", str(out)]] * times)
            return judge(worker, ended, [reference, out], 1)

        return run

    def resumed(words: list[str], times: int) -> Callable[[Worker, Path], Outcome]:
        def run(worker: Worker, path: Path) -> Outcome:
            reference, out = alone(worker, path, words), path / "stopped"
            stop_midway(worker, path, [*words, "--out", str(out)], out)
            ended = run_together(worker, path, [["resume", str(out)]] * times)
            return judge(worker, ended, [reference, out], 1)

        return run

    kind = "processes at once"
    yield Trial(kind, "train x 3 without a name", no_name(TRAIN, 3))
    yield Trial(kind, "train x 2 of one name", one_name(TRAIN, 2))
    yield Trial(kind, "resume x 2", resumed(TRAIN, 2))
    yield Trial(kind, "sweep x 2 without a name", no_name(SWEEP, 2))
    yield Trial(kind, "sweep x 2 of one name", one_name(SWEEP, 2))
    yield Trial(kind, "resume x 2 of a sweep", resumed(SWEEP, 2))
    yield Trial(kind, "compare x 2 without a name", no_name(COMPARE, 2))


def stop_midway(worker: Worker, where: Path, words: list[str], out: Path) -> None:
    """Kills a command as soon as it has written a row."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jaxpg.cli", *words], env=worker.environ, cwd=where,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not any(out.rglob("metrics.csv")):
        time.sleep(0.01)
    process.kill()
    process.wait()
