"""Names of objects, "module:Name", as files and command lines have them, and what they may import.

To import a module runs its code. A file that someone else may have written names only what is here
already: jaxpg's own, and what is imported. Anything else waits for the user's word. So does a
function, which would be run with what the file gives it, unless it is one that only counts.
"""

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

TRUST = "JAXPG_TRUST"  # the environment variable with the modules that the user trusts


class Kind(NamedTuple):
    """Kind of object that a name may stand for."""

    words: str  # as errors call it
    fits: Callable[[Any], bool]
    runs: bool = False  # whether what is named is run with what a file gives it


def _is_torso(x: Any) -> bool:
    from flax import linen as nn  # which agents that have networks have imported

    cls = x.func if isinstance(x, functools.partial) else x
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        return False
    try:
        first, rest = TORSO_TAKES, list(inspect.signature(x).parameters.values())
    except ValueError:  # a partial with what the class does not take
        return False
    given, rest = rest[: len(first)], rest[len(first) :]
    in_turn = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in given)
    return in_turn and [p.name for p in given] == first and all(p.default != p.empty for p in rest)


TORSO_TAKES = ["hidden", "activation", "kernel_init"]
TORSO = Kind(
    "a flax module class that takes (hidden, activation, kernel_init), or a functools.partial of "
    "one with what else it needs",
    _is_torso,
)


class UntrustedError(ValueError):
    """Error of a name whose module would have to be imported, which nobody has allowed."""


def resolve_name(text: str, kind: Kind, trust: bool = False) -> Any:
    """Finds the object that "module:Name" names. Only what is allowed is imported for it.

    Allowed is jaxpg's own, with `trust` every module, and without it those in the environment
    variable JAXPG_TRUST (with commas between, a package for all that is in it). Other objects are
    found where their module is imported already; of functions only those that do nothing but count.
    Raises ValueError for a name that cannot be found or stands for another kind of object,
    UntrustedError for one that is not allowed.

    >>> resolve_name("jaxpg.core.names:Kind", Kind("a class", lambda x: isinstance(x, type)))
    <class 'jaxpg.core.names.Kind'>
    """
    module, _, name = text.partition(":")
    if not all(map(str.isidentifier, [*module.split("."), *name.split(".")])):
        raise ValueError("allowed is module:Name")
    if trust is True or _is_listed(module):
        found = _import_object(module, name)
    else:
        if module not in sys.modules and not f"{module}.".startswith("jaxpg."):
            raise UntrustedError(
                f"to import {module!r} would run its code: allowed with trust=True (--trust), with "
                f"{TRUST}={module} in the environment, or once the program has imported it"
            )
        found = _look_up(_import(module), name)
        if kind.runs and not _only_counts(module, found):
            raise UntrustedError(
                f"{text!r} would be run with what the file gives it: allowed with trust=True "
                f"(--trust), or with {TRUST}={module} in the environment"
            )
    if not kind.fits(found):
        raise ValueError(f"allowed is {kind.words}")
    return found


# Packages whose functions only count; of jax.numpy those that JAX compiles, for others read files.
COUNTING = ("jax.nn", "jax.numpy", "flax.linen", "optax", "jaxpg.nets")


def _only_counts(module: str, found: Any) -> bool:
    """True for a function or class that does no harm, whatever it is given: a network, or one of
    the packages above."""
    from flax import linen as nn

    if isinstance(found, type) and issubclass(found, nn.Module):
        return True
    if module == "jax.numpy" and isinstance(found, FunctionType):
        return False
    owner = str(getattr(found, "__module__", ""))
    return any(f"{module}.".startswith(f"{part}.") for part in COUNTING) and any(
        f"{owner}.".startswith(f"{part}.") for part in (*COUNTING, "jax._src.nn")
    )


def _is_listed(module: str) -> bool:
    """True if the user's settings name a module, or a package that it is in."""
    listed = [part.strip() for part in os.environ.get(TRUST, "").split(",")]
    return any(f"{module}.".startswith(f"{part}.") for part in listed if part)


def _import(module: str) -> ModuleType:
    """Imports a module, if it is not there. Raises ValueError if that fails, in whatever way."""
    try:
        return importlib.import_module(module)
    except Exception as error:
        raise ValueError(f"cannot import it: {type(error).__name__}: {error}") from error


def _import_object(module: str, name: str) -> Any:
    """Imports an object, also one that its module makes when it is asked for."""
    found: Any = _import(module)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except Exception as error:
            raise ValueError(f"cannot import it: {module} has no {name}") from error
    return found


def _look_up(module: ModuleType, name: str) -> Any:
    """Looks up what a module holds, and in that only classes in classes: what a module would make
    when it is asked, or has imported itself, no file can ask for."""
    found: Any = module
    for part in name.split("."):
        holds = found is module or isinstance(found, type)
        known = getattr(found, "__dict__", {}) if holds else {}
        if part not in known:
            raise ValueError(f"cannot import it: {module.__name__} has no {name}")
        found = known[part]
    return found
