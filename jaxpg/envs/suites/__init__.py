"""Environments of other suites, by "suite/name": `jaxpg.make("brax/ant")`.

A file a suite, imported when it is asked for; base.py has what they share. Each has `names()`, the
suite's own constructor of a name, and a `Core`: gymnax's `Environment` over that suite's `step`
without its resets, so that resets, `final_observation` and time limits are gymnax's. What is not in
JAX is in host/.
"""

import contextlib
import functools
import importlib
import importlib.util
import inspect
import io
from types import ModuleType
from typing import Any, NamedTuple

import jax

from jaxpg.core.config import unknown

# Each with the package that it needs, and the extra of jaxpg that brings that, of one name.
SUITES = (
    "brax", "craftax", "envpool", "gymnasium", "jaxmarl", "jumanji", "navix", "pgx", "playground",
    "xminigrid",
)  # fmt: skip
PACKAGES = {"playground": "mujoco_playground"}  # those that are imported by another name
ON_HOST = ("envpool", "gymnasium")


class Maker(NamedTuple):
    """Factory of one environment: it takes what the suite's own constructor takes."""

    suite: str
    name: str  # within the suite

    def __call__(self, **options: Any) -> Any:
        module = _load(self.suite)
        inner = module.find_constructor(self.name)(**options)
        return module.Core(f"{self.suite}/{self.name}", inner)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(_load(self.suite).find_constructor(self.name))


def knows(name: str) -> bool:
    """True for "suite/name" of a suite that is installed, whether it has that name or not."""
    suite, slash, _ = name.partition("/")
    return bool(slash) and suite in SUITES and is_installed(suite)


def is_installed(suite: str) -> bool:
    """True if the package of a suite is there; nothing is imported."""
    return importlib.util.find_spec(PACKAGES.get(suite, suite)) is not None


def names(suite: str) -> list[str]:
    """The environments of a suite, as `jaxpg.make` takes them.

    Raises ValueError for an unknown suite, and for one that is not installed.
    """
    if suite not in SUITES:
        raise unknown("suite", suite, SUITES)
    return [f"{suite}/{name}" for name in _load(suite).names()]


def find_maker(name: str) -> Maker:
    """Finds the factory of "suite/name".

    Raises ValueError for an unknown suite or name, with the nearest ones, and for a suite that is
    not installed, with the command that installs it.
    """
    suite, _, inner = name.partition("/")
    known = names(suite)
    if name not in known:
        raise unknown(f"{suite} environment", name, known)
    return Maker(suite, inner)


@functools.cache
def _load(suite: str) -> ModuleType:
    """The adapter of a suite, with the suite itself. Raises ValueError if it is not installed, or
    cannot be imported."""
    if not is_installed(suite):
        raise ValueError(f"the suite {suite} is not installed: pip install 'jaxpg[{suite}]'")
    try:
        # Modules have arrays, also if a trace imports them; and some print.
        with jax.ensure_compile_time_eval(), contextlib.redirect_stdout(io.StringIO()):
            return importlib.import_module(f"{__name__}{'.host' * (suite in ON_HOST)}.from_{suite}")
    except Exception as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"the suite {suite} cannot be imported: {said}") from error
