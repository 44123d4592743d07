"""Trials of hostile folders: names, records with others' code, links, files in the way, no space to
write."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults.folders import FOREIGN, FORGERIES, NAMES
from tests.faults.kinds import (
    BROKEN,
    CLEAR,
    HELD,
    REFUSED,
    SILENT,
    Ground,
    Outcome,
    Trial,
    copy,
    is_clear,
    judge,
    resumed,
    whole,
)
from tests.faults.pool import Answer, Worker
from tests.faults.subjects import SWEEP


def names(ground: Ground, subject: str) -> Iterator[Trial]:
    """Folders whose names mean something to a shell, a pattern, a formula or a terminal; their own,
    and that of the folder that they are in."""
    for i, name in enumerate(NAMES):
        inside = i % 2

        def run(worker: Worker, path: Path, name=name, inside=inside) -> Outcome:
            out = path / name / "run" if inside else path / name
            found = worker.ask("train", subject, str(out))
            if found.error:
                left = [p for p in path.rglob("*") if p.is_file()]
                clear = is_clear(found, out) or repr(name)[1:-1] in found.error[1]
                note = f"{found.error}, left {left}"
                return Outcome(REFUSED if clear and not left else BROKEN, note)
            return whole(worker, out, ground.expected(subject))

        yield Trial("a folder's name", repr(name), run)


def forgeries(ground: Ground) -> Iterator[Trial]:
    """Records with a digest that is right, which name a class of another module."""
    for file, where, name in FORGERIES:

        def run(worker: Worker, path: Path, file=file, where=where, name=name) -> Outcome:
            subject = SWEEP if file == "sweep.json" else "ppo"
            copy(ground.path(subject), path)
            ran = put_foreign_code(worker.folder)
            asked = worker.ask("forge", str(path), file, where, name)
            assert asked.error is None, asked
            found = worker.ask("read everything", str(path))
            worker.end()  # what it may have imported is not to be there for the next
            if any(mark.exists() for mark in ran):
                return Outcome(SILENT, f"ran {name}")
            # What reads tables alone has no need of the class.
            unclear = [x for x in found.seen if x[1:] and x[1] not in CLEAR]
            if unclear:
                return Outcome(BROKEN, str(unclear))
            refused = [x for x in found.seen if x[1:]]
            return Outcome(REFUSED if refused else HELD, str(refused[:1]))

        yield Trial("code of a stranger", f"{file} {where} {name}", run)


def put_foreign_code(folder: Path) -> list[Path]:
    """Puts modules into the folder that a process works in; returns what they write if they run."""
    package = folder / "package"
    package.mkdir(exist_ok=True)
    marks = []
    for home in (folder, package):
        (home / "foreign.py").write_text(FOREIGN)
        marks.append(home / "foreign.ran")
        marks[-1].unlink(missing_ok=True)
    return marks


# What lies in a folder of a run: given the run, and a folder outside with a precious file.
def digits_beside(run: Path, outside: Path) -> None:
    for name in ("2019", "2021.photos"):
        shutil.copytree(outside, run / "checkpoints" / name)


def link_among_checkpoints(run: Path, outside: Path) -> None:
    (run / "checkpoints" / "2020").symlink_to(outside)


def checkpoints_are_a_link(run: Path, outside: Path) -> None:
    (run / "checkpoints").rename(outside / "2018")
    shutil.copytree(outside, outside / "7")
    (run / "checkpoints").symlink_to(outside)


def tables_are_links(run: Path, outside: Path) -> None:
    for name in ("metrics.csv", "metrics.jsonl", "evaluations.csv"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(outside / "precious.txt")


def summary_is_a_link(run: Path, outside: Path) -> None:
    (run / "summary.json").unlink()
    (run / "summary.json").symlink_to(outside / "precious.txt")


def draft_is_a_link(run: Path, outside: Path) -> None:
    (run / "summary.json.tmp").symlink_to(outside / "precious.txt")


def checkpoints_are_a_file(run: Path, outside: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").write_text("in the way")


def table_is_a_folder(run: Path, outside: Path) -> None:
    (run / "metrics.csv").unlink()
    (run / "metrics.csv").mkdir()


def evaluations_are_a_folder(run: Path, outside: Path) -> None:
    (run / "evaluations.csv").unlink()
    (run / "evaluations.csv").mkdir()


def record_is_a_folder(run: Path, outside: Path) -> None:
    (run / "run.json").unlink()
    (run / "run.json").mkdir()


def summary_is_a_folder(run: Path, outside: Path) -> None:
    (run / "summary.json").unlink()
    (run / "summary.json").mkdir()


WAYS: list[Callable[[Path, Path], None]] = [
    digits_beside, link_among_checkpoints, checkpoints_are_a_link, tables_are_links,
    summary_is_a_link, draft_is_a_link, checkpoints_are_a_file, table_is_a_folder,
    evaluations_are_a_folder, record_is_a_folder, summary_is_a_folder,
]  # fmt: skip


def in_the_way(ground: Ground, subject: str) -> Iterator[Trial]:
    """Links, folders and files of others where a run that is resumed writes its own."""
    for way in WAYS:

        def run(worker: Worker, path: Path, way=way) -> Outcome:
            outside = path.with_name(path.name + "-outside")
            outside.mkdir()
            (outside / "precious.txt").write_text("precious\n")
            copy(ground.path(subject, "half"), path)
            way(path, outside)
            found = worker.ask("resume", str(path))
            places = [*path.rglob("precious.txt"), *outside.rglob("precious.txt")]
            kept = [place.read_text() for place in places]
            if not kept or set(kept) != {"precious\n"} or len(kept) < count_precious(way):
                return Outcome(SILENT, f"what is precious is {kept}")
            if found.error or found.ended:
                return judge(found, path)
            return whole(worker, path, ground.expected(subject))

        yield Trial("something in the way", way.__name__.replace("_", " "), run)


def count_precious(way: Callable) -> int:
    """How many precious files there are when nothing was deleted."""
    return {digits_beside: 3, checkpoints_are_a_link: 2}.get(way, 1)


def read_only(ground: Ground, subject: str) -> Iterator[Trial]:
    """Folders that cannot be written: training is refused, reading goes on, resuming is refused and
    does no harm."""

    def fault(path: Path) -> dict:
        return {"folder": str(path), "how": "rest", "at": 1, "error": errno.EROFS}

    def train(worker: Worker, path: Path) -> Outcome:
        path.mkdir()
        return refused(worker.ask("train", subject, str(path), fault=fault(path)), path)

    def look(worker: Worker, path: Path) -> Outcome:
        copy(ground.path(subject), path)
        found = worker.ask("look", str(path), fault=fault(path))
        return judge(found, path, ground.expected(subject))

    def resume(worker: Worker, path: Path) -> Outcome:
        copy(ground.path(subject, "half"), path)
        outcome = refused(worker.ask("resume", str(path), fault=fault(path)), path)
        after = resumed(worker, path, ground.expected(subject))
        return after if outcome.what == REFUSED and after.what != HELD else outcome

    def refused(found: Answer, path: Path) -> Outcome:
        if found.error is None:
            return Outcome(SILENT, found.ended)
        clear = is_clear(found, path) or os.strerror(errno.EROFS) in found.error[1]
        return Outcome(REFUSED if clear else BROKEN, str(found.error))

    for name, run in {"train": train, "look": look, "resume": resume}.items():
        yield Trial("a folder that cannot be written", f"{subject} {name}", run)
