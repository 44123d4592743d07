"""Files that are written whole or not at all, and JSON that carries its own digest."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxpg.experiment.files.kinds import tell_kind
from jaxpg.experiment.text import printable

DRAFT = ".jaxpg-draft"  # a name that ends so is ours, and may be removed


class CheckpointError(ValueError):
    """Error of a checkpoint or run folder that cannot be trusted: where, what was found, what
    expected.

    >>> try:
    ...     jaxpg.load("runs/nothing")
    ... except jaxpg.CheckpointError as error:
    ...     print(error)
    runs/nothing: found no such folder, expected the folder of a run
    """

    def __init__(self, text: str):
        super().__init__(printable(text))  # names in it are others'


def write_atomically(path: str | Path, content: bytes, sync: bool = True) -> None:
    """Writes a file in one atomic move: a kill leaves the old file or the new one, never half.

    Processes that write one file at once do not mix: the last one's is there. sync: whether to wait
    for the disk, so that this holds when the power fails, too.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}{DRAFT}")
    draft.unlink(missing_ok=True)  # of a process that had this number, and was killed
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def json_digest(content: dict[str, Any]) -> str:
    """SHA-256 of plain JSON values, which a file that `write_json` made of them carries."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def to_json_values(content):
    """Converts to what JSON gives back: tuples are lists, NumPy numbers are numbers."""
    return json.loads(json.dumps(content, default=lambda x: np.asarray(x).tolist()))


def changed_file(path: str | Path, found: str, expected: str, mend: str) -> str:
    """Says that a file has another digest than is on record, and what can be done about it; the
    first digits of a digest tell it from any other."""
    return f"{path}: found {found[:12]}, expected {expected[:12]} (sha256): {mend}"


def write_json(path: str | Path, content: dict[str, Any]) -> str:
    """Writes JSON with its own digest, in one atomic move: a kill leaves all of it or nothing.
    Returns the digest."""
    content = to_json_values(content)
    digest = json_digest(content)
    write_atomically(path, _seal(content, digest).encode())
    return digest


def _seal(content: dict[str, Any], digest: str, indent: int | None = 1) -> str:
    return json.dumps({**content, "sha256": digest}, indent=indent) + "\n"


def seal_line(content: dict[str, Any]) -> bytes:
    """Plain JSON values as a line with its own digest, for a file that grows line by line."""
    return _seal(content, json_digest(content), None).encode()


def read_json(path: str | Path, needs: Iterable[str] = ()) -> dict[str, Any]:
    """Reads what `write_json` wrote. needs: names that have to be in it. Raises CheckpointError if
    it is not there, a byte has changed, or it is another file's content."""
    return read_with_digest(path, needs)[0]


def read_with_digest(path: str | Path, needs: Iterable[str] = ()) -> tuple[dict[str, Any], str]:
    """Reads what `write_json` wrote, and the digest that it carries; as `read_json`."""
    return _unseal(path, _read_file(path), needs, 1)


def read_last_line(path: str | Path, needs: Iterable[str] = ()) -> dict[str, Any]:
    """Reads the last line of a file of lines by `seal_line`, but for one that a kill cut short; as
    `read_json`."""
    lines, _, cut = _read_file(path).rpartition(b"\n")
    last = lines.rpartition(b"\n")[2]
    if _parse(cut[:-1] + b"\n", None):  # not cut short: the end of the line has changed
        last = cut
    return _unseal(path, last + b"\n", needs, None)[0]


def _read_file(path: str | Path) -> bytes:
    if not Path(path).is_file():
        other = tell_kind(Path(path).parent, Path(path).name)
        raise CheckpointError(f"{path}: found no such file, expected one that jaxpg wrote{other}")
    return Path(path).read_bytes()


def _unseal(
    path: str | Path, data: bytes, needs: Iterable[str], indent: int | None
) -> tuple[dict[str, Any], str]:
    """Returns what was sealed, and its digest. Raises CheckpointError for anything else."""
    found = _parse(data, indent)
    if found is None:
        raise CheckpointError(f"{path}: found a changed or cut file, expected what jaxpg wrote")
    if missing := [name for name in needs if name not in found[0]]:
        raise CheckpointError(f"{path}: found another file's content, without {missing[0]!r}")
    return found


def _parse(data: bytes, indent: int | None) -> tuple[dict[str, Any], str] | None:
    """Parses what was sealed: content and digest; None if a byte has changed, or it is not ours."""
    try:
        text = data.decode()
        content = json.loads(text)
        digest = content.pop("sha256")
        intact = text == _seal(content, digest, indent) and digest == json_digest(content)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return (content, digest) if intact else None
