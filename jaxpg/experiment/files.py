"""Files that are written whole or not at all."""

import os
from pathlib import Path


def write_atomically(path: str | Path, content: bytes) -> None:
    """Writes a file in one atomic move: a kill leaves the old file or the new one, never half."""
    path = Path(path)
    draft = path.with_name(path.name + ".tmp")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
