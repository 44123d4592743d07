"""Kinds of folders, by the record that each has."""

from pathlib import Path

from jaxpg.experiment.files import RUN, SWEEP, TUNE

KINDS = {RUN: "a run", SWEEP: "a sweep", TUNE: "a tuning"}
PARTS = {SWEEP: ("runs", "parts"), TUNE: ("sweeps", "rounds")}  # what they consist of, and where


def kind_of(folder: str | Path) -> str | None:
    """The record that a folder has; None for one without."""
    return next((name for name in KINDS if Path(folder, name).is_file()), None)


def tell_kind(folder: str | Path, wanted: str) -> str:
    """Words for an error where a folder is of another kind than the wanted record: what it is, and
    where its parts are; "" where it is of none, or of that."""
    if (name := kind_of(folder)) is None or name == wanted or name not in PARTS:
        return ""
    what, where = PARTS[name]
    return f"; it is the folder of {KINDS[name]}, whose {what} are in {Path(folder, where)}"
