"""Seals of a run folder: digests by which its files name their run and vouch for its rows.

Each file that is written while a run goes on names the run.json under which it was: the digest that
run.json has, or had before the run was made longer. And each vouches for the rows: rows.jsonl for
all of them, the manifest of a checkpoint for those up to it, summary.json for those of the whole
run. So a file of another run, and a byte that has changed, is an error that names the file. In a
folder of before there was rows.jsonl nothing vouches for the rows.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxpg.core.blocks import Blocks, block_dtype, block_ends
from jaxpg.experiment.files import CHECKPOINTS, RUN, SUMMARY
from jaxpg.experiment.files.atomic import (
    CheckpointError,
    read_json,
    read_last_line,
    read_with_digest,
)
from jaxpg.experiment.files.rows import (
    FILES,
    RECORD,
    End,
    RowsError,
    check_head,
    parse_cells,
    read_head,
)
from jaxpg.experiment.run import checkpoint

Ends = dict[str, End]  # of files of rows, by name


class Seal(NamedTuple):
    """Seal of a run: by it the files of its folder are known."""

    path: Path  # of run.json
    digests: list[str]  # the one that run.json has, then those that it had before
    strict: bool  # False for a run of before files named their run: those that name none pass

    def check(self, path: Path, found: str | None) -> None:
        """Raises CheckpointError unless `found`, which a file names as its run, is this one."""
        if found in self.digests or (found is None and not self.strict):
            return
        raise CheckpointError(
            f"{path}: found a file of run {str(found)[:12]}, expected one of run "
            f"{self.digests[0][:12]}, as {self.path} has it: one of the two is another run's"
        )


def read_seal(folder: Path) -> Seal:
    """Reads the seal of a run folder. Raises CheckpointError for a run.json that is missing or
    damaged."""
    record, digest = read_with_digest(folder / RUN)
    return Seal(folder / RUN, [digest, *record.get("earlier", [])], "rows" in record)


def read_summary(folder: Path) -> dict[str, Any]:
    """Reads how a run ended; {} while it goes on, or if it was killed. Raises CheckpointError for a
    file that is damaged or another run's."""
    path = folder / SUMMARY
    if not path.exists():
        return {}
    found = read_json(path, ("stopped", "seconds", "iteration"))
    if (folder / RUN).exists():
        read_seal(folder).check(path, found.get("run"))
    return found


def read_ends(folder: Path) -> tuple[Ends | None, bool]:
    """Reads what is on record of all rows of a folder, None for one without a record, and whether
    that is final. Raises CheckpointError for a record that is damaged or another run's."""
    summary, path = read_summary(folder), folder / RECORD  # in this order: a run may just end
    seal = read_seal(folder) if (folder / RUN).exists() else None
    rows = any((folder / name).exists() for name in FILES)
    if not path.exists() and not (rows and seal and seal.strict):
        return None, False
    found = read_last_line(path, ("run", "ends"))
    if seal:
        seal.check(path, found["run"])
    if summary.get("rows", found["ends"]) != found["ends"]:
        raise CheckpointError(
            f"{path}: found other rows than {folder / SUMMARY} has on record, expected the same"
        )
    return ends_of(found["ends"]), bool(summary)


def ends_of(content: dict[str, dict]) -> Ends:
    """Converts the ends of files from plain JSON values."""
    return {name: End(**end) for name, end in content.items()}


def read_rows(path: Path, ends: Ends | None = None) -> str:
    """Reads the rows of a file in the folder of a run, ended or under way: those on record; without
    a record, those that are whole. "" if there are none. ends: of the rows up to a checkpoint, if
    only these are asked for.

    Raises CheckpointError if a byte of them has changed or is no text, or the record is damaged or
    another run's.
    """
    final = False
    if ends is None:
        ends, final = read_ends(path.parent)
    if ends is None:
        data = path.read_bytes() if path.exists() else b""
        data = data[: data.rfind(b"\n") + 1]
    else:
        data = read_head(path, ends.get(path.name, End()), final)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise RowsError(f"{path}: {error}; expected a table that jaxpg wrote") from error


def check_rows(folder: Path) -> None:
    """Raises CheckpointError if a byte of the rows on record has changed, in any file."""
    ends, final = read_ends(folder)
    if ends is not None:
        for name in FILES:
            check_head(folder / name, ends.get(name, End()), final)


def checkpoint_ends(folder: Path, iteration: int) -> Ends | None:
    """Ends of the rows up to a checkpoint, by its manifest; None for one of before manifests had
    them.

    Raises CheckpointError for a manifest that is damaged or another run's, RowsError if the rows
    are not there.
    """
    steps = folder / CHECKPOINTS
    manifest = checkpoint.read_manifest(steps, iteration)
    read_seal(folder).check(steps / str(iteration) / checkpoint.MANIFEST, manifest.get("run"))
    if "rows" not in manifest:
        return None
    ends = ends_of(manifest["rows"])
    for name in FILES:
        check_head(folder / name, ends.get(name, End()))
    return ends


def read_blocks(
    folder: Path, iteration: int, every: int, dtypes: dict[str, Any] | None = None
) -> Blocks:
    """Reads the block that is begun at a checkpoint, [seeds], from its manifest."""
    if every == 1 or not iteration:
        return Blocks(every, iteration, dtypes=dtypes)
    manifest = checkpoint.read_manifest(folder / CHECKPOINTS, iteration)
    return Blocks(every, iteration, manifest["block"], dtypes)


def read_metrics(
    path: Path, blocks: Blocks, seeds: tuple[int, ...], ends: Ends | None = None
) -> dict[str, np.ndarray]:
    """Reads the metrics of a run, as far as its blocks have come, [rows] or [seeds, rows].

    ends: of the rows of whole blocks, if they are on record. Raises RowsError if they are not
    there.
    """
    names, _, rows = read_rows(path, ends).partition("\n")
    count, dtypes, every = math.prod(seeds), blocks.dtypes, blocks.every
    whole = block_ends(0, blocks.iteration // every * every, every)
    try:
        cells = parse_cells(rows, most=len(whole) * count) if len(whole) else np.zeros((0, 0))
    except ValueError as error:
        raise RowsError(f"{path}: {error}; expected a table that jaxpg wrote") from error
    columns = dict(zip(names.split(","), cells.T, strict=False))
    found, expected = columns.get("iteration", []), np.repeat(whole, count)
    if len(whole) and (dtypes.keys() - columns or not np.array_equal(found, expected)):
        raise RowsError(
            f"{path}: found {len(cells)} rows of {', '.join(columns)}; expected "
            f"{count} for each of {len(whole)} blocks of {every} iterations, with "
            f"{', '.join(dtypes)}"
        )
    (_, last), metrics = blocks.last(), {}
    for name, dtype in dtypes.items():
        read = columns.get(name, np.zeros(0)).reshape(len(whole), *seeds).T
        both = [read, last[name].reshape(*seeds, -1)] if last else [read]
        metrics[name] = np.concatenate(both, -1).astype(block_dtype(name, dtype, every))
    return metrics
