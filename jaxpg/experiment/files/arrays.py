"""Arrays of a checkpoint, as Orbax writes and reads them.

Orbax looks for its files by patterns, in which it does not escape the folder: one that is called
`lr=[0.1]` it writes, and can never read again. So it gets to see plain paths only.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

SPECIAL = "[]*?\\"  # letters of patterns; a backslash TensorStore takes for a slash


@contextlib.contextmanager
def plain_path(folder: Path) -> Iterator[Path]:
    """Gives an absolute path to a folder by which Orbax finds it: its own, or one of a link, for as
    long, if it has special letters. Raises ValueError if it has, and no link can be made."""
    folder = folder.resolve()
    if _is_plain(folder):
        yield folder
        return
    with contextlib.ExitStack() as held:
        places = [place for place in (tempfile.gettempdir(), "/tmp") if _is_plain(Path(place))]
        try:
            place = tempfile.TemporaryDirectory(prefix="jaxpg-", dir=next(iter(places), None))
            link = Path(held.enter_context(place)).resolve() / "folder"
            link.symlink_to(folder, target_is_directory=True)
            why = "" if _is_plain(link) else f"it would be {link}"
        except OSError as error:
            link, why = folder, str(error)
        if why:
            raise ValueError(
                f"out={str(folder)!r}: allowed is a path that can be printed, without any of "
                f"{SPECIAL}, since there is no place for a link to it: {why}"
            )
        yield link


def _is_plain(path: Path) -> bool:
    text = path.as_posix()
    return text.isprintable() and not set(SPECIAL).intersection(text)


def _checkpointer():
    """Makes what Orbax saves and restores with, in this process without waiting for others."""
    import orbax.checkpoint as ocp  # takes a second

    me = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process-{me}"
    )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def write(step: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays with elements into a step's folder, by name."""
    import orbax.checkpoint as ocp

    with plain_path(step) as plain, _checkpointer() as checkpointer:
        checkpointer.save(plain / "default", args=ocp.args.StandardSave(arrays))


def read(step: Path) -> dict[str, Any]:
    """Reads the arrays of a step's folder, by name."""
    import orbax.checkpoint as ocp

    with plain_path(step) as plain, _checkpointer() as checkpointer:
        return checkpointer.restore(plain / "default", args=ocp.args.StandardRestore())
