"""Removes what a run or a sweep wrote, and nothing else."""

import os
import re
import shutil
from pathlib import Path

from jaxpg.experiment.files import CHECKPOINTS, CURVE, FAILURE, RUN, SUMMARY, SWEEP, lock
from jaxpg.experiment.files.atomic import DRAFT, CheckpointError, read_json
from jaxpg.experiment.files.rows import FILES, RECORD
from jaxpg.experiment.run.checkpoint import MANIFEST, MARK

# Names in the folder of a run or a sweep; what holds its record goes last.
OWN = {SUMMARY, CURVE, FAILURE, f".{CURVE}", "tensorboard", "wandb", "mlflow"}
ROWS = {RECORD, *FILES}  # of a run, and of a process of several
TABLES = {"results.csv", "evaluations.csv", "scores.csv"}  # of a sweep


def remove_run(folder: Path) -> list[str]:
    """Removes the folder of a run or a sweep; returns names in it that are not jaxpg's, and stay.

    Raises ValueError, and removes nothing, for a link, for what is no such folder, and for one that
    a process writes. If it is killed meanwhile, what is left is still a run's folder.
    """
    if folder.is_symlink() or not folder.is_dir():
        what = "a link" if folder.is_symlink() else "no folder"
        raise ValueError(f"{folder}: is {what}, allowed is the folder of a run or a sweep")
    records = [folder / name for name in (RUN, SWEEP) if (folder / name).is_file()]
    if not records or records[0].is_symlink() or not _is_own(records[0]):
        raise ValueError(f"{folder}: allowed is the folder of a run or a sweep that jaxpg wrote")
    with lock.hold(folder):  # who writes it is named
        _remove_contents(folder)
        left = sorted(x.name for x in folder.iterdir() if x not in records and x.name != lock.LOCK)
        for record in records:
            record.unlink()
    if not left:
        folder.rmdir()
    return left


def _is_own(record: Path) -> bool:
    """True for a record of ours; for a damaged one, if something beside it is ours beyond doubt."""
    try:
        return bool(read_json(record, ("key", "made_with")))
    except CheckpointError:
        marks = (f"{CHECKPOINTS}/*/{MARK}", f"parts/*/{CHECKPOINTS}/*/{MARK}")
        return any(path.is_file() for mark in marks for path in record.parent.glob(mark))


def _remove_contents(folder: Path) -> None:
    """Removes all that is jaxpg's but the record."""
    tables = TABLES if (folder / SWEEP).exists() else set()
    for path in list(folder.iterdir()):
        if path.is_symlink():
            continue  # none is jaxpg's
        if path.name == CHECKPOINTS and path.is_dir():
            _remove_each(path, lambda x: (x / MARK).is_file() or (x / MANIFEST).is_file())
        elif path.name == "parts" and path.is_dir():
            for part in list(path.iterdir()):
                if part.is_dir() and not part.is_symlink():
                    _remove_contents(part)
                    (part / RUN).unlink(missing_ok=True)
                    _remove_if_empty(part)
            _remove_if_empty(path)
        elif path.is_dir() and re.fullmatch(r"process-\d+", path.name):
            for file in list(path.iterdir()):
                if file.name in ROWS or file.name.endswith(DRAFT):
                    file.unlink()
            _remove_if_empty(path)
        elif path.name in OWN | ROWS | tables or path.name.endswith(DRAFT):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _remove_each(folder: Path, is_own) -> None:
    """Removes the folders in a folder that are ours, and it, if nothing else is there."""
    for path in list(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and (is_own(path) or path.name.endswith(DRAFT)):
            shutil.rmtree(path)  # which follows no link
    _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    if not os.listdir(folder):
        folder.rmdir()
