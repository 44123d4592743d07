"""Locks of folders, so that one process at a time writes a run or a sweep.

A lock is a file in the folder, which its holder keeps open and locked, with the holder's name in
it. The system lifts the lock when the process ends, in whatever way: a file that is left behind
locks nothing.
"""

import contextlib
import itertools
import os
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from jaxpg.core.checks import require_folder
from jaxpg.core.parallel.processes import broadcast_from_main
from jaxpg.experiment.files.arrays import plain_path
from jaxpg.experiment.files.atomic import DRAFT
from jaxpg.experiment.files.kinds import KINDS, kind_of

LOCK = ".jaxpg-lock"
_FAR = 2**30  # Windows locks bytes, and those can then not be read: none of the holder's name
_open: set[int] = set()  # files of the locks that this process holds


@contextlib.contextmanager
def hold(folder: Path, new: bool = False) -> Iterator[None]:
    """Holds a folder while no other process may write it. Of several processes that work together
    process 0 holds it for all.

    new: makes the folder, and takes it away again if nothing is written. Raises ValueError, and
    leaves all as it is, if another process holds the folder, or if a new one has something in it.
    """
    with contextlib.ExitStack() as held:
        broadcast_from_main(lambda: _acquire(folder, new, held))
        yield


@contextlib.contextmanager
def hold_new_folder(out: str | Path | None) -> Iterator[Path]:
    """Holds a new folder, or a temporary one for None. Raises ValueError for one that holds
    something, or that another process holds."""
    if out is not None:
        require_folder("out", out)
    with contextlib.ExitStack() as held:
        folder = Path(out or held.enter_context(tempfile.TemporaryDirectory()))
        held.enter_context(hold(folder, new=True))
        held.enter_context(plain_path(folder))  # or it could not have checkpoints
        yield folder


@contextlib.contextmanager
def claim(folder: Path) -> Iterator[Path]:
    """Claims the folder, or the first of folder-2, folder-3, ... that is not there, by making it.
    Takes it away again if nothing is written. Processes that work together get the same."""
    with contextlib.ExitStack() as held:
        yield broadcast_from_main(lambda: _make_first(folder, held))


@contextlib.contextmanager
def make(folder: Path) -> Iterator[Path]:
    """Makes a folder, if it is not there, and takes it away again if nothing is written. Raises
    ValueError for one that cannot be made, or that holds something."""
    require_folder("out", folder)
    with contextlib.ExitStack() as held:
        broadcast_from_main(lambda: _make_given(folder, held))
        yield folder


def _make_given(folder: Path, held: contextlib.ExitStack) -> None:
    if not (folder / LOCK).exists():  # else its holder is who shall be named
        _require_empty(folder)
    held.callback(_remove_empty, [p for p in (folder, *folder.parents) if not p.exists()])
    _make(folder)


def _make_first(folder: Path, held: contextlib.ExitStack) -> Path:
    held.callback(_remove_empty, [p for p in folder.parents if not p.exists()])
    others = (folder.with_name(f"{folder.name}-{n}") for n in itertools.count(2))
    made = next(path for path in itertools.chain([folder], others) if _make(path, new=True))
    held.callback(_remove_empty, [made])
    return made


def _make(folder: Path, new: bool = False) -> bool:
    """Makes a folder. Returns False if there is something of that name, for a new one; raises
    ValueError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=not new)
    except FileExistsError:
        return False
    except OSError as error:
        raise ValueError(
            f"out={str(folder)!r}: cannot be made ({error.strerror}), allowed is a folder where "
            "this process may write"
        ) from error
    return True


def _remove_empty(folders: list[Path]) -> None:
    with contextlib.suppress(OSError):  # it is not empty, or not there
        for folder in folders:
            folder.rmdir()


def read_holder(folder: Path) -> str | None:
    """Reads who writes a folder: "process 12 on host since ..."; None if nobody does. It asks the
    system, for a process that was killed leaves its name behind, and holds nothing itself."""
    try:
        file = os.open(folder / LOCK, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except OSError:
        return None
    try:
        said = os.read(file, 200).decode(errors="replace")
        return (said or "another process") if _is_locked(file) else None
    finally:
        os.close(file)


def _is_locked(file: int) -> bool:
    """True if another holds the lock of an open file; where none can be had, that is not known."""
    if sys.platform == "win32":
        import msvcrt

        try:
            os.lseek(file, _FAR, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
            os.lseek(file, _FAR, os.SEEK_SET)
            msvcrt.locking(file, msvcrt.LK_UNLCK, 1)
        except OSError:
            return True
        return False
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not meet
    except (BlockingIOError, PermissionError):
        return True
    except OSError:
        return False
    return False


def _acquire(folder: Path, new: bool, held: contextlib.ExitStack) -> None:
    """Locks a folder; `held` gets what has to be done in the end."""
    path = folder / LOCK
    if new:
        if not path.exists():  # else its holder is who shall be named
            _require_empty(folder)
        made = [p for p in (folder, *folder.parents) if not p.exists()]
        held.callback(_remove_empty, made)
    file = _open_locked(path, new)
    held.callback(_release, file, path)
    os.ftruncate(file, 0)
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    os.write(file, f"process {os.getpid()} on {socket.gethostname()} since {now}".encode())
    if new:
        _require_empty(folder)
    for draft in folder.glob(f".*.json*.*{DRAFT}"):  # of records, by a process that was killed
        with contextlib.suppress(OSError):
            draft.unlink()


def _open_locked(path: Path, new: bool) -> int:
    """Opens and locks the file of a lock, until it is the one of that name: a holder removes its
    own in the end."""
    while True:
        if new:
            _make(path.parent)
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except FileNotFoundError:  # the folder has just been taken away again
            if new:
                continue
            raise
        _open.add(file)
        if not _try_lock(file):
            os.lseek(file, 0, os.SEEK_SET)
            holder = os.read(file, 200).decode(errors="replace")
            _close(file)
            raise ValueError(
                f"out={str(path.parent)!r}: is held by "
                f"{holder if holder and holder.isprintable() else 'another process'}, "
                "allowed is a folder that no other process writes"
            )
        if _is_at(file, path):
            return file
        _close(file)


def _try_lock(file: int) -> bool:
    """Locks an open file; False if another has locked it, in this process too."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(file, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        warnings.warn(
            f"{LOCK}: this file system has no locks ({error.strerror}): see to it that one "
            "process at a time writes the folder",
            stacklevel=2,
        )
    return True


def _is_at(file: int, path: Path) -> bool:
    """True if an open file is the one of that name."""
    try:
        return os.path.samestat(os.fstat(file), os.lstat(path))
    except FileNotFoundError:
        return False


def _release(file: int, path: Path) -> None:
    if file in _open:  # else this is a fork of the holder
        with contextlib.suppress(OSError):  # Windows keeps what is open
            if _is_at(file, path):
                path.unlink()
        _close(file)


def _close(file: int) -> None:
    _open.discard(file)
    os.close(file)


def _close_in_fork() -> None:
    """Closes what a fork got of its parent, whose locks would else last as long as the fork."""
    for file in list(_open):
        _close(file)


if hasattr(os, "register_at_fork"):  # a program that is started gets none of them anyway
    os.register_at_fork(after_in_child=_close_in_fork)


def _require_empty(folder: Path) -> None:
    """Raises ValueError for what is not a new or empty folder; what a kill leaves before the first
    file does not count."""
    ours = lambda path: path.name == LOCK or path.name.endswith(DRAFT)  # noqa: E731
    if not folder.exists() or (folder.is_dir() and all(map(ours, folder.iterdir()))):
        return
    name = kind_of(folder)
    what = f"{KINDS[name]} (`resume` goes on with it)" if name else "files"
    raise ValueError(f"out={str(folder)!r}: holds {what}, allowed is a new or empty folder")
