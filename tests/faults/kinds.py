"""The kinds of faults: every kind is a list of trials, each on a folder of its own."""

import errno
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.pool import Answer, Pool, Worker
from tests.faults.scorecard import OUTCOMES
from tests.faults.subjects import HALF, POLICY, RUNS

HELD, REFUSED, SILENT, BROKEN = OUTCOMES
# What an error is of that says what is wrong: ours, or the system's.
CLEAR = ("ours", "ValueError", "OSError")
ERRORS = {"ENOSPC": ("rest", errno.ENOSPC), "EIO": ("one", errno.EIO)}


class Outcome(NamedTuple):
    """Outcome of a trial: what was promised held, was refused with a clear error, was broken
    without a word (silent), or with an error that helps nobody (broken)."""

    what: str
    note: str = ""


class Trial(NamedTuple):
    """A fault to be tried: what is done to a folder that does not exist yet."""

    kind: str
    name: str
    run: Callable[[Worker, Path], Outcome]


class Ground(NamedTuple):
    """What the trials begin from: undisturbed runs and sweeps, and what is seen of them."""

    folder: Path
    pool: Pool
    seen: dict[str, Any]  # by path
    operations: dict[str, list[str]]  # of the training of a subject: "write /metrics.csv"
    images: dict[str, list[Path]]  # the folder before each, if it differs from those before

    def path(self, subject: str, which: str = "0") -> Path:
        ending = ".policy" if subject == POLICY else ""
        return self.folder / which / (subject.replace(" ", "-") + ending)

    def expected(self, subject: str, which: str = "0") -> Any:
        return self.seen[str(self.path(subject, which))]


def prepare(pool: Pool, folder: Path, subjects: list[str], images: bool = True) -> Ground:
    """Trains the subjects, with two seeds, to the end and to the middle."""
    ground = Ground(folder, pool, {}, {}, {})

    def make(worker: Worker, item: tuple[str, str]) -> None:
        subject, which = item
        out = ground.path(subject, which)
        out.parent.mkdir(parents=True, exist_ok=True)
        log, copies = folder / f"{out.name}.log", folder / f"{out.name}.images"
        copies.mkdir(exist_ok=True)
        fault = {"folder": str(out), "how": "images" if images else "count"}
        fault |= {"copies": str(copies), "log": str(log)}
        options = {"0": (0,), "1": (1,), "half": (0, HALF), "rate": (0, None, 0.2)}[which]
        watched = fault if which == "0" else None
        succeed(worker.ask("train", subject, str(out), *options, fault=watched))
        if which == "0":
            ground.operations[subject] = log.read_text().splitlines()
            ground.images[subject] = distinct(copies)
        if which in ("0", "1"):
            ground.seen[str(out)] = see(worker, out)

    makes = [(subject, which) for subject in subjects for which in ("0", "1")]
    makes += [(subject, "half") for subject in subjects if subject in RUNS]
    makes += [("q_learning", "rate")] if len(subjects) > 1 else []
    pool.map(make, makes)

    def export(worker: Worker, which: str) -> None:
        out = ground.path(POLICY, which)
        succeed(worker.ask("export", str(ground.path("ppo", which)), str(out)))
        ground.seen[str(out)] = see(worker, out)

    if "ppo" in subjects:
        pool.map(export, ["0", "1"])
    return ground


def succeed(found: Answer) -> Any:
    """What is seen by a request that has to succeed."""
    if found.error or found.ended:
        raise RuntimeError(f"{found.ended} {found.trace}")
    return found.seen


def see(worker: Worker, path: Path) -> Any:
    return succeed(worker.ask("look", str(path)))


def distinct(copies: Path) -> list[Path]:
    """Copies of a folder that differ from those before them; the others are removed."""
    kept, known = [], set()
    for image in sorted(copies.iterdir(), key=lambda path: int(path.name)):
        content = tuple(
            (str(path.relative_to(image)), path.read_bytes() if path.is_file() else None)
            for path in sorted(image.rglob("*"))
        )
        if hash(content) in known:
            shutil.rmtree(image)
        else:
            known.add(hash(content))
            kept.append(image)
    return kept


def spread(items: list, most: int) -> list:
    """At most so many of a list, spread evenly over it, the first and the last among them."""
    if len(items) <= most:
        return items
    return [items[round(i * (len(items) - 1) / max(1, most - 1))] for i in range(most)]


def is_clear(answer: Answer, path: Path) -> bool:
    """Whether an error says what is wrong, and where."""
    kind, text = answer.error or ("", "")
    names = {path.name, *(p.name for p in path.rglob("*"))} if path.is_dir() else {path.name}
    return kind in CLEAR and any(name in text for name in names)


def judge(answer: Answer, path: Path, *allowed: Any) -> Outcome:
    """Judges what was seen of a folder, against all that may be seen."""
    if answer.ended:
        return Outcome(BROKEN, answer.ended)
    if answer.error:
        note = ": ".join(answer.error)
        return Outcome(REFUSED if is_clear(answer, path) else BROKEN, note)
    differing = [first_difference(answer.seen, known) for known in allowed]
    if None in differing:
        return Outcome(HELD)
    if any(path.name in text for text in answer.warned):
        return Outcome(REFUSED, f"said: {answer.warned[0]}")
    iteration, num_iters, stopped = answer.seen.get("iteration", (0, 0, "done"))
    if iteration < num_iters and stopped == "error":  # an earlier state, which says that it is one
        return Outcome(REFUSED, "said: stopped in the middle")
    return Outcome(SILENT, str(differing[0]))


def first_difference(found: Any, expected: Any, where: str = "") -> str | None:
    """Where two observations differ first; seconds that are not known differ from none."""
    if isinstance(found, dict) and isinstance(expected, dict):
        names = found.keys() | expected.keys()
        if found.get("seconds") is None:
            names -= {"seconds"}
        both = ((n, found.get(n), expected.get(n)) for n in sorted(names))
        return next((d for n, f, e in both if (d := first_difference(f, e, f"{where}.{n}"))), None)
    return None if found == expected else f"{where}: found {found!r}, expected {expected!r}"


def without(seen: Any, *names: str) -> Any:
    """An observation without what may differ."""
    return {name: x for name, x in seen.items() if name not in names} if seen else seen


def resumed(worker: Worker, path: Path, expected: Any) -> Outcome:
    """Judges a folder that was left behind: resumed, it has to be the undisturbed one."""
    named = any((path / name).exists() for name in ("run.json", "sweep.json"))
    found = worker.ask("resume", str(path))
    if found.error is None and not found.ended:
        return whole(worker, path, expected)
    outcome = judge(found, path)
    if outcome.what == REFUSED and named:  # there was a run to go on with
        return Outcome(BROKEN, outcome.note)
    return outcome


def whole(worker: Worker, path: Path, expected: Any) -> Outcome:
    """Judges a folder that was finished: it has to be the undisturbed one, but for its seconds."""
    found = worker.ask("look", str(path))
    found = found._replace(seen=without(found.seen, "seconds"))
    outcome = judge(found, path, without(expected, "seconds"))
    return Outcome(BROKEN, outcome.note) if outcome.what == REFUSED else outcome


# Kills.


def images(ground: Ground, most: int) -> Iterator[Trial]:
    """What a kill leaves behind, before each operation: taken of one run that was not killed."""
    for subject, found in ground.images.items():
        for image in spread(found, most):

            def run(worker: Worker, path: Path, image=image, subject=subject) -> Outcome:
                shutil.copytree(image, path, symlinks=True)
                return resumed(worker, path, ground.expected(subject))

            yield Trial("left at a file operation", f"{subject} {image.name}", run)


def kills(ground: Ground, most: int) -> Iterator[Trial]:
    """Processes that are killed at an operation, or in the middle of a write."""
    for subject, operations in ground.operations.items():
        for i, at in enumerate(spread(range(1, len(operations) + 1), most)):

            def run(worker: Worker, path: Path, subject=subject, at=at, i=i) -> Outcome:
                fault = {"folder": str(path), "how": "half" if i % 2 else "kill", "at": at}
                found = worker.ask("train", subject, str(path), fault=fault)
                if not found.ended and found.operations < at:
                    # A checkpoint's threads do not always need as many: it was over before.
                    shutil.rmtree(path)
                    fault["at"] = found.operations * 9 // 10
                    found = worker.ask("train", subject, str(path), fault=fault)
                if found.ended != "killed":
                    return Outcome(BROKEN, f"was not killed: {found}")
                return resumed(worker, path, ground.expected(subject))

            yield Trial("killed at a file operation", f"{subject} {at}", run)


# Errors of the disk.


def failures(ground: Ground, most: int) -> Iterator[Trial]:
    """A full disk from an operation on, and one operation that fails, of every kind there is."""
    for subject, operations in ground.operations.items():
        for at in spread(sorted(one_of_each(operations)), most):
            for name, (how, error) in ERRORS.items():

                def run(worker: Worker, path: Path, subject=subject, at=at, how=how, error=error):
                    fault = {"folder": str(path), "how": how, "at": at, "error": error}
                    found = worker.ask("train", subject, str(path), fault=fault)
                    if found.ended:
                        return Outcome(BROKEN, found.ended)
                    if found.error is None:  # what failed was not needed
                        return whole(worker, path, ground.expected(subject))
                    if not (path / "run.json").exists() and not (path / "sweep.json").exists():
                        return Outcome(REFUSED, str(found.error))
                    return resumed(worker, path, ground.expected(subject))

                yield Trial(name, f"{subject} {at} {operations[at - 1]}", run)


def one_of_each(operations: list[str]) -> list[int]:
    """The numbers of operations of which each does something else: the first and last of a kind."""
    found: dict[str, list[int]] = {}
    for i, line in enumerate(operations, 1):
        found.setdefault(re.sub(r"[0-9a-f]{8,}|\d+", "#", line), []).append(i)
    return [i for numbers in found.values() for i in {numbers[0], numbers[-1]}]


# Files that have changed.


def damages(ground: Ground, subjects: list[str], flips: int, most: int) -> Iterator[Trial]:
    """Files of runs, sweeps and policies with a flipped bit, cut, emptied or removed."""
    for subject in subjects:
        source = ground.path(subject)
        for file in spread(files(source), most):
            for how in [*range(flips), "half", "a byte less", "empty", "gone"]:

                def run(worker: Worker, path: Path, subject=subject, file=file, how=how) -> Outcome:
                    path = copy(ground.path(subject), path)
                    damage(path / file if file != "." else path, how)
                    known = without(ground.expected(subject), "files")
                    found = worker.ask("look", str(path))
                    return judge(found._replace(seen=without(found.seen, "files")), path, known)

                kind = "a flipped bit" if isinstance(how, int) else "a cut or missing file"
                yield Trial(kind, f"{subject} {file} {how}", run)


def damages_before_resume(
    ground: Ground, subjects: list[str], flips: int, most: int
) -> Iterator[Trial]:
    """Runs that were stopped in the middle, with a file that has changed, and are resumed."""
    for subject in subjects:
        for file in spread(files(ground.path(subject, "half")), most):
            for how in [*range(flips), "half", "gone"]:

                def run(worker: Worker, path: Path, subject=subject, file=file, how=how) -> Outcome:
                    copy(ground.path(subject, "half"), path)
                    damage(path / file, how)
                    found = worker.ask("resume", str(path))
                    warned = found.warned
                    if found.error is None and not found.ended:
                        found = worker.ask("look", str(path))
                        found = found._replace(warned=found.warned + warned)
                    found = found._replace(seen=without(found.seen, "seconds", "files"))
                    return judge(found, path, without(ground.expected(subject), "seconds", "files"))

                yield Trial("changed, then resumed", f"{subject} {file} {how}", run)


def files(path: Path) -> list[str]:
    """The files of a folder, "." for one that is a file."""
    found = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    return found or ["."]


def copy(source: Path, path: Path) -> Path:
    """A copy, beside it if it is no folder."""
    if source.is_dir():
        return Path(shutil.copytree(source, path, symlinks=True))
    return Path(shutil.copy2(source, path.with_suffix(source.suffix)))


def damage(path: Path, how: int | str) -> None:
    """Flips the i-th of the bits that are drawn for a file of this name, or cuts it."""
    data = bytearray(path.read_bytes())
    if how == "gone":
        return path.unlink()
    if isinstance(how, int) and data:
        rng = random.Random(f"{path.name} {how}")
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    cut = {"half": len(data) // 2, "a byte less": len(data) - 1, "empty": 0}
    path.write_bytes(data[: max(0, cut.get(str(how), len(data)))])
    return None


# Files of another.


def swaps(ground: Ground, subjects: list[str], most: int) -> Iterator[Trial]:
    """Files and folders of a run that are those of another: of another seed, or another rate."""
    for subject in subjects:
        here = ground.path(subject)
        others = ["1", *(["rate"] if ground.path(subject, "rate").exists() else [])]
        for which in others:
            there = ground.path(subject, which)
            shared = [[name] for name in files(here) if (there / name).is_file()]
            folders = [p.name for p in here.iterdir() if p.is_dir()]
            shared = spread(shared, most) + [[name] for name in folders]
            tables = [p.name for p in here.iterdir() if p.suffix in (".csv", ".jsonl")]
            record = "sweep.json" if (here / "sweep.json").exists() else "run.json"
            shared += [[*folders, *tables], tables]
            shared += [[p.name for p in here.iterdir() if p.name != record]]
            for names in shared:

                def run(worker: Worker, path: Path, subject=subject, which=which, names=names):
                    copy(ground.path(subject), path)
                    for name in names:
                        replace(path / name, ground.path(subject, which) / name)
                    found = worker.ask("look", str(path))
                    known = without(ground.expected(subject), "files")
                    return judge(found._replace(seen=without(found.seen, "files")), path, known)

                yield Trial("files of another run", f"{subject} {which} {' '.join(names)}", run)


def replace(path: Path, source: Path) -> None:
    """Puts a copy of a file or a folder in the place of another."""
    if path.is_dir():
        shutil.rmtree(path)
        shutil.copytree(source, path)
    elif source.exists():
        shutil.copy2(source, path)
    else:
        path.unlink(missing_ok=True)


def older(ground: Ground, subjects: list[str]) -> Iterator[Trial]:
    """An older checkpoint in the place of the newest, and the newest without its manifest."""
    for subject in subjects:

        def renamed(worker: Worker, path: Path, subject=subject) -> Outcome:
            copy(ground.path(subject), path)
            replace(path / "checkpoints" / "6", path / "checkpoints" / "4")
            found = worker.ask("look", str(path))
            return judge(found, path, ground.expected(subject))

        def removed(worker: Worker, path: Path, subject=subject) -> Outcome:
            copy(ground.path(subject), path)
            (path / "checkpoints" / "6" / "manifest.json").unlink()
            found = worker.ask("look", str(path))
            return judge(found, path, ground.expected(subject))

        yield Trial("an older checkpoint", f"{subject} in the newest's place", renamed)
        yield Trial("an older checkpoint", f"{subject}, the newest without manifest", removed)
