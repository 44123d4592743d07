"""Names of objects, "module:Name", as files and command lines have them, and what they may import.

To import a module runs its code. A file that someone else may have written names only what is here
already: jaxpg's own, what is imported, what an installed package announces, and the user's own as
it was (core/sources.py). Anything else waits for the user's word.
"""

import contextlib
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

from jaxpg.core import sources
from jaxpg.core.checks import hint_at
from jaxpg.core.sources import Recorded, UntrustedError

# Of names: True for those of any module, or what a record says of the sources of its modules.
Trust: TypeAlias = bool | Recorded

TRUST = "JAXPG_TRUST"  # the environment variable with the modules that the user trusts


class Kind(NamedTuple):
    """Kind of object that a name may stand for."""

    words: str  # as errors call it
    fits: Callable[[Any], bool]


def _is_torso(x: Any) -> bool:
    from flax import linen as nn  # which agents that have networks have imported

    cls = x.func if isinstance(x, functools.partial) else x
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        return False
    try:
        parameters = list(inspect.signature(x).parameters.values())
    except ValueError:  # a partial with what the class does not take
        return False
    given, more = parameters[:3], parameters[3:]
    in_turn = all(p.kind is p.POSITIONAL_OR_KEYWORD for p in given)
    names = [p.name for p in given]
    takes = names == ["hidden", "activation", "kernel_init"] and in_turn
    return takes and all(p.default is not p.empty for p in more)


TORSO = Kind(
    "a flax module class that takes (hidden, activation, kernel_init), or a functools.partial of "
    "one with what else it needs",
    _is_torso,
)


def resolve_name(text: str, kind: Kind, trust: Trust = False) -> Any:
    """Finds the object that "module:Name" names. Only what is allowed is imported for it.

    Allowed is jaxpg's own, what an installed package announces (entry points, see core/sources.py),
    and the modules in the environment variable JAXPG_TRUST (with commas between, a package for all
    that is in it); with trust=True every module, and with what a record says of its modules, those
    whose sources are as it says, and in no run's folder. Other objects are found where their module
    is imported already. Raises ValueError for a name that cannot be found or stands for another
    kind of object, UntrustedError for one that is not allowed.

    >>> resolve_name("jaxpg.core.names:Kind", Kind("a class", lambda x: isinstance(x, type)))
    <class 'jaxpg.core.names.Kind'>
    """
    module, name = split_name(text)
    if trust is True or is_listed(module):
        found = _import_object(module, name)
    else:
        found = _look_up(_import_known(module, trust or {}), name)
    if not kind.fits(found):
        raise ValueError(f"allowed is {kind.words}")
    return found


def split_name(text: str) -> tuple[str, str]:
    """The module and the name in it of "module:Name". Raises ValueError for another form, such as a
    path of the module's file."""
    module, _, name = text.partition(":")
    meant = module.removeprefix("./").removesuffix(".py").replace("/", ".")
    known = all(map(str.isidentifier, [*meant.split("."), *name.split(".")]))
    if not known or meant != module:
        hint = f"did you mean '{meant}:{name}'? " if known else ""
        raise ValueError(f"{hint}allowed is module:Name")
    return module, name


def name_problem(what: str, name: str, error: ValueError) -> ValueError:
    """The error of a name with what it is a name of, of the same kind. (Some errors of others are
    ValueErrors that no text alone can make.)"""
    kind = UntrustedError if isinstance(error, UntrustedError) else ValueError
    return kind(f"{what} {name!r}: {error}")


def _import_known(module: str, recorded: Recorded) -> ModuleType:
    """Imports a module that a file names, if it may. Raises UntrustedError if it may not."""
    here = module in sys.modules or f"{module}.".startswith("jaxpg.")
    if here or sources.is_announced(module):
        return _import(module)
    why = f"to import {module!r} would run its code"
    try:
        if module in recorded:
            found = sources.find_sources(module)
            for name, source in found.items():
                sources.judge(name, source, recorded)
            return _import(module, lambda name: sources.import_sources(name, found))
    except sources.MissingError as error:
        raise ValueError(f"{error}; it was {recorded[module].get('file')}") from error
    except UntrustedError as error:
        why += f", and {error}"
    raise UntrustedError(
        f"{why}: allowed with trust=True (--trust), with {TRUST}={module} in the environment, or "
        "once the program has imported it"
    )


def is_listed(module: str) -> bool:
    """True if the user's settings name a module, or a package that it is in."""
    listed = [part.strip() for part in os.environ.get(TRUST, "").split(",")]
    return any(f"{module}.".startswith(f"{part}.") for part in listed if part)


def _import(module: str, load: Callable[[str], ModuleType] = importlib.import_module) -> ModuleType:
    """Imports a module, if it is not there. Raises ValueError if that fails, in whatever way."""
    try:
        with contextlib.chdir("."):  # one that changes the working directory would move runs/
            return load(module)
    except (Exception, SystemExit) as error:  # a script that is not meant to be imported
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, ModuleNotFoundError) and error.name == module:
            why += _hint(module, [path.stem for path in Path().glob("*.py")])
        raise ValueError(f"cannot import it: {why}") from error


def _hint(name: str, options: Iterable[str]) -> str:
    """The end of an error: which of the options may be meant."""
    hint = hint_at(name, [x for x in options if not x.startswith("_")])
    return f"; {hint.rstrip()}" if hint else ""


def _missing(module: str, name: str, place: Any, part: str) -> ValueError:
    """The error of a name that a module has not, and where it was looked for if a file here has the
    module's name and is another one."""
    text = f"cannot import it: {module} has no {name}"
    here, there = Path(f"{module}.py"), getattr(sys.modules.get(module), "__file__", None)
    if here.is_file() and there and here.resolve() != Path(there).resolve():
        text += f": it is {there}, and not the {here} here, which needs another name"
    return ValueError(text + _hint(part, getattr(place, "__dict__", {})))


def _import_object(module: str, name: str) -> Any:
    """Imports an object, also one that its module makes when it is asked for."""
    found: Any = _import(module)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except Exception as error:
            raise _missing(module, name, found, part) from error
    return found


def _look_up(module: ModuleType, name: str) -> Any:
    """Looks up what a module holds, and in that only classes in classes: what a module would make
    when it is asked, or has imported itself, no file can ask for."""
    found: Any = module
    for part in name.split("."):
        holds = found is module or isinstance(found, type)
        known = getattr(found, "__dict__", {}) if holds else {}
        if part not in known:
            raise _missing(module.__name__, name, found, part)
        found = known[part]
    return found
