"""Files that are written whole or not at all."""

import os
from pathlib import Path

DRAFT = ".jaxpg-draft"  # a name that ends so is ours, and may be removed


def write_atomically(path: str | Path, content: bytes) -> None:
    """Writes a file in one atomic move: a kill leaves the old file or the new one, never half.

    Processes that write one file at once do not mix: the last one's is there.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}{DRAFT}")
    draft.unlink(missing_ok=True)  # of a process that had this number, and was killed
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
