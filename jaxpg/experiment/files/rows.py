"""Files of rows that only grow, and the record that vouches for them.

Rows are appended first and put on record after it: the last line of rows.jsonl says how many bytes
of each file are whole rows, and their SHA-256. What lies beyond is what a kill or a failed write
left there: readers leave it out, and a run that goes on cuts it off.
"""

import hashlib
import io
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxpg.experiment.files.atomic import CheckpointError, changed_file, seal_line, write_atomically

RECORD = "rows.jsonl"
METRICS, LINES, EVALUATIONS = "metrics.csv", "metrics.jsonl", "evaluations.csv"
FILES = (METRICS, LINES, EVALUATIONS)  # of a run
PIECE = 2**20  # bytes that are read at a time
LONG = 2**16  # bytes of the record, when it is written anew
_ROW = re.compile(rb'(?:{"seed": )?(\d+), ?(?:"iteration": )?(\d+)')  # of either kind of file


class RowsError(CheckpointError):
    """Error of rows that are not those on record."""


class End(NamedTuple):
    """End of the rows of a file that are on record."""

    bytes: int = 0
    sha256: str = hashlib.sha256().hexdigest()


class Rows:
    """Files of rows in a folder.

    iteration: where the run goes on; rows after it are cut off. ends: where the files ended then,
    if that is on record; if not, their rows say it. run: the digest of run.json; with it the record
    is kept.
    """

    def __init__(
        self,
        folder: str | Path,
        names: Sequence[str] = FILES,
        iteration: int = 0,
        run: str | None = None,
        ends: Mapping[str, End] | None = None,
    ):
        self.folder, self.run, self._recorded = Path(folder), run, 0
        self._hashes, self._sizes = {}, {}
        for name in names:
            path = self.folder / name
            if ends is None:
                head = _rows_until(path, iteration)
            else:
                head = read_head(path, ends.get(name, End()))
            self._hashes[name], self._sizes[name] = hashlib.sha256(head), len(head)
        self.save(anew=True)  # before the cut: no file is ever shorter than what is on record
        for name, size in self._sizes.items():
            if not size:
                (self.folder / name).unlink(missing_ok=True)
            elif (self.folder / name).stat().st_size > size:
                os.truncate(self.folder / name, size)

    def append(self, name: str, lines: Iterable[str], header: str = "") -> None:
        """Appends rows to a file, after the header if it is empty; `save` puts them on record.

        Raises RowsError if the file is not as long as this left it.
        """
        path, size = self.folder / name, self._sizes[name]
        found = path.stat().st_size if path.exists() else 0
        if found != size:
            raise RowsError(
                f"{path}: found {found:,} bytes, expected the {size:,} that this run wrote: it was "
                "removed or changed while the run went on"
            )
        data = "".join([header * (size == 0), *lines]).encode()
        with path.open("ab") as file:
            file.write(data)
        self._hashes[name].update(data)
        self._sizes[name] += len(data)

    def save(self, anew: bool = False) -> None:
        """Puts the rows on record, in a line more, or anew in one atomic move. Neither waits for
        the disk, which would take longer than a chunk may: it is there after a kill, perhaps not
        when the power fails."""
        if self.run is None:
            return
        line, path = seal_line({"run": self.run, "ends": self.ends()}), self.folder / RECORD
        if anew or self._recorded + len(line) > LONG:
            write_atomically(path, line, sync=False)
            self._recorded = 0
        else:
            with path.open("ab") as file:
                file.write(line)
        self._recorded += len(line)

    def ends(self) -> dict[str, dict]:
        """Ends of the files by name, as plain JSON values."""
        sizes = {name: size for name, size in self._sizes.items() if size}
        return {n: End(size, self._hashes[n].hexdigest())._asdict() for n, size in sizes.items()}


def read_head(path: Path, end: End, whole: bool = False) -> bytes:
    """Reads the rows of a file that are on record. whole: nothing may come after them.

    Raises RowsError if they are not there, or a byte of them has changed.
    """
    data = path.read_bytes() if path.exists() else b""
    head = data[: end.bytes]
    _require_end(path, len(data), hashlib.sha256(head).hexdigest(), end, whole)
    return head


def check_head(path: Path, end: End, whole: bool = False) -> None:
    """Raises RowsError as `read_head` does; it takes no more memory for a file of any size."""
    found, left = hashlib.sha256(), end.bytes
    with path.open("rb") if path.exists() else io.BytesIO() as file:
        while piece := file.read(min(left, PIECE)):
            found.update(piece)
            left -= len(piece)
        size = file.seek(0, os.SEEK_END)
    _require_end(path, size, found.hexdigest(), end, whole)


def _require_end(path: Path, size: int, sha256: str, end: End, whole: bool) -> None:
    """Raises RowsError unless a file of this size and digest has the rows on record."""
    if size < end.bytes or (whole and size > end.bytes):
        more = "" if whole else " or more"
        raise RowsError(f"{path}: found {size:,} bytes, expected {end.bytes:,}{more}")
    if sha256 != end.sha256:
        mend = f"its first {end.bytes:,} bytes have changed; put the file back as it was"
        raise RowsError(changed_file(path, sha256, end.sha256, mend))


def parse_cells(
    lines: str, columns: Sequence[int] | None = None, most: int | None = None
) -> np.ndarray:
    """Parses the lines of a CSV table without its header as numbers [lines, columns]; an empty cell
    is NaN. columns: these, of all. most: lines. Raises ValueError for what is no number."""
    # A second time for the empty cells between two others; a converter would be called for each.
    filled = (lines + "\n").replace(",,", ",nan,").replace(",,", ",nan,").replace(",\n", ",nan\n")
    return np.loadtxt(io.StringIO(filled), delimiter=",", usecols=columns, max_rows=most, ndmin=2)


def _rows_until(path: Path, iteration: int) -> bytes:
    """Reads a file up to its last complete row of an iteration <= `iteration`, with its header."""
    if not path.exists():
        return b""
    keep = 0
    with path.open("rb") as file:
        for line in file:
            row = _ROW.match(line)
            if not line.endswith(b"\n") or (row and int(row[2]) > iteration):
                break
            keep += len(line)
        file.seek(0)
        return file.read(keep)


def select_rows(text: str, seeds: Collection[int], iteration: int) -> bytes:
    """Selects the header and the rows of these seeds up to an iteration, of either kind of file."""
    lines = text.encode().splitlines(keepends=True)
    rows = ((line, _ROW.match(line)) for line in lines)
    return b"".join(
        line
        for line, row in rows
        if row is None or (int(row[1]) in seeds and int(row[2]) <= iteration)
    )
