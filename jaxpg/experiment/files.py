"""Files that are written whole or not at all, and JSON that carries its own digest."""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


class CheckpointError(ValueError):
    """Error of a checkpoint or run folder that cannot be trusted: where, what was found, what
    expected.

    >>> try:
    ...     jaxpg.load("runs/nothing")
    ... except jaxpg.CheckpointError as error:
    ...     print(error)
    runs/nothing: found no such folder, expected the folder of a run
    """


def write_atomically(path: str | Path, content: bytes, sync: bool = True) -> None:
    """Writes a file in one atomic move: a kill leaves the old file or the new one, never half.

    sync: whether to wait for the disk, so that this holds when the power fails, too.
    """
    path = Path(path)
    draft = path.with_name(path.name + ".tmp")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        if sync:
            os.fsync(file.fileno())
    draft.replace(path)


def json_digest(content: dict[str, Any]) -> str:
    """SHA-256 of plain JSON values, which a file that `write_json` made of them carries."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def to_json_values(content):
    """Converts to what JSON gives back: tuples are lists, NumPy numbers are numbers."""
    return json.loads(json.dumps(content, default=lambda x: np.asarray(x).tolist()))


def write_json(path: str | Path, content: dict[str, Any], sync: bool = True) -> str:
    """Writes JSON with its own digest, in one atomic move: a kill leaves all of it or nothing.
    Returns the digest. sync: as of `write_atomically`."""
    content = to_json_values(content)
    digest = json_digest(content)
    write_atomically(path, _seal(content, digest).encode(), sync)
    return digest


def _seal(content: dict[str, Any], digest: str) -> str:
    return json.dumps({**content, "sha256": digest}, indent=1) + "\n"


def read_json(path: str | Path, needs: Iterable[str] = ()) -> dict[str, Any]:
    """Reads what `write_json` wrote. needs: names that have to be in it. Raises CheckpointError if
    it is not there, a byte has changed, or it is another file's content."""
    return read_with_digest(path, needs)[0]


def read_with_digest(path: str | Path, needs: Iterable[str] = ()) -> tuple[dict[str, Any], str]:
    """Reads what `write_json` wrote, and the digest that it carries; as `read_json`."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: found no such file, expected one that jaxpg wrote")
    try:
        text = path.read_bytes().decode()
        content = json.loads(text)
        digest = content.pop("sha256")
        intact = text == _seal(content, digest) and digest == json_digest(content)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):  # not ours
        intact = False
    if not intact:
        raise CheckpointError(f"{path}: found a changed or cut file, expected what jaxpg wrote")
    if missing := [name for name in needs if name not in content]:
        raise CheckpointError(f"{path}: found another file's content, without {missing[0]!r}")
    return content, digest
