"""Sources of modules: where they lie, whose they are, and what runs when they are imported.

A file is found as Python would find it, without an import of it or of a package that it is in. What
a record says of the source of a module is its file and its digest (SHA-256); the same bytes that
were judged by it are those that run.
"""

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Mapping
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeAlias

RECORDS = ("run.json", "sweep.json")  # a folder with one may be from someone else, with all in it
AGENTS, ENVS = "jaxpg.agents", "jaxpg.envs"  # groups of entry points

Recorded: TypeAlias = Mapping[str, Mapping[str, str]]  # module -> its "file" and "sha256"


class UntrustedError(ValueError):
    """Error of a name whose module would have to be imported, which nobody has allowed."""


class MissingError(ValueError):
    """Error of a module that is not there."""


class Source(NamedTuple):
    """Source of a module, as it was read."""

    file: Path
    code: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.code).hexdigest()


def find_sources(module: str) -> dict[str, Source]:
    """Finds the sources that an import of a module would run: its own, and before it those of the
    packages that it is in.

    Raises MissingError for one that is not there, UntrustedError for one without a Python source: a
    folder without `__init__.py`, compiled code, a part of Python itself.
    """
    importlib.invalidate_caches()  # a file may be new
    found, path, parts = {}, None, module.split(".")
    for i in range(len(parts)):
        name = ".".join(parts[: i + 1])
        spec = None if i and path is None else _find_spec(name, path)
        if spec is None:
            raise MissingError(f"there is no module {name!r} on Python's path (PYTHONPATH)")
        path = spec.submodule_search_locations
        if loaded := sys.modules.get(name):
            path = getattr(loaded, "__path__", path)
        file = Path(spec.origin or "")
        if not (spec.has_location and file.suffix == ".py" and file.is_file()):
            raise UntrustedError(f"{name!r} has no file of Python source")
        found[name] = Source(file, file.read_bytes())
    return found


def _find_spec(name: str, path: list[str] | None) -> ModuleSpec | None:
    """Finds a module as an import does, in the folders of its package, without importing that."""
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)  # as of Python 3.4 they should have one
        if spec := find and find(name, path):
            return spec
    return None


def describe_sources(*modules: str) -> dict[str, dict[str, str]]:
    """Describes the sources of modules that are imported, and of the packages that they are in, for
    a record; of jaxpg's own, of Python's, and of those without a source there is nothing to say."""
    found = {}
    for module in modules:
        for i in range(module.count(".") + 1):
            name = module.rsplit(".", module.count(".") - i)[0]
            file = getattr(sys.modules.get(name), "__file__", None) or ""
            if name.split(".")[0] in ("jaxpg", "__main__") or not file.endswith(".py"):
                continue
            if Path(file).is_file() and not is_of_python(Path(file)):
                source = Source(Path(file), Path(file).read_bytes())
                found[name] = {"file": os.path.abspath(file), "sha256": source.digest}
    return found


def is_of_python(file: Path) -> bool:
    """True for a file of Python's own library."""
    rooms = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")}
    here = file.resolve()
    return any(here.is_relative_to(room) for room in rooms) and not is_installed(file)


def is_installed(file: Path) -> bool:
    """True for a file of an installed package."""
    return bool({"site-packages", "dist-packages"} & {*file.resolve().parts})


def run_folder_of(file: Path) -> Path | None:
    """The folder of a run, sweep or comparison that a file is in, at any depth, as it is named or
    as it really lies; None if there is none."""
    for way in (Path(os.path.abspath(file)), file.resolve()):
        for folder in way.parents:
            if any(os.path.lexists(folder / name) for name in RECORDS):
                return folder
    return None


def judge(name: str, source: Source, recorded: Recorded) -> None:
    """Raises UntrustedError for a source that may not be run on the word of a record."""
    if is_of_python(source.file) or "__main__" in name.split("."):
        raise UntrustedError(f"{name!r} is a part of Python, or a program")
    if folder := run_folder_of(source.file):
        raise UntrustedError(f"its source {source.file} is in the folder of a run, {folder}")
    if name not in recorded:
        raise UntrustedError(f"nothing is on record of the source of {name!r}")
    if source.digest != recorded[name].get("sha256"):
        raise UntrustedError(f"its source {source.file} has changed since")


class _AsRead(SourceFileLoader):
    """Loader of a source that was read before: what runs is what was judged."""

    def __init__(self, name: str, source: Source) -> None:
        super().__init__(name, str(source.file))
        self.code = source.code

    def get_code(self, fullname: str):
        return self.source_to_code(self.code, self.path)


class _Finder:
    """Finder of sources that were read before."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self.sources = sources

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        source = self.sources.get(name)
        if source is None:
            return None
        loader = _AsRead(name, source)
        return importlib.util.spec_from_file_location(name, source.file, loader=loader)


def import_sources(module: str, sources: Mapping[str, Source]) -> ModuleType:
    """Imports a module, and the packages that it is in, from sources that were read before."""
    finder = _Finder(sources)
    sys.meta_path.insert(0, finder)
    try:
        return importlib.import_module(module)
    finally:
        sys.meta_path.remove(finder)


@functools.cache
def announced(group: str) -> dict[str, str]:
    """Lists entry points of a group that installed packages announce: name -> "module:Object".

    A package counts as installed by its metadata on Python's path, but not by those in the working
    directory or in the folder of a run.
    """
    found = {}
    for entry in importlib.metadata.entry_points(group=group):
        folder = Path(str(entry.dist.locate_file(""))) if entry.dist else Path.cwd()
        if folder.resolve() != Path.cwd() and not run_folder_of(folder / "any"):
            found.setdefault(entry.name, entry.value.partition("[")[0].strip())
    return found


def is_announced(module: str) -> bool:
    """True for a module from which an installed package announces an agent or environment."""
    values = [*announced(AGENTS).values(), *announced(ENVS).values()]
    return any(value.partition(":")[0] == module for value in values)
