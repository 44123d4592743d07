"""Classes, functions and partials as values of configs: compared by value, written as names.

A class or a function is written "module:Name", and a partial of one with what it was given:
{"partial": "module:Name", "args": [...], "keywords": {...}}.
"""

import functools
import json
import re
import sys
from collections.abc import Iterator
from typing import Any, cast

from jaxpg.core.calls import judge_call
from jaxpg.core.names import Kind, Trust, resolve_name

_ANY = Kind("a class or a function", callable)


class Partial(functools.partial):
    """Partial call that equals another one of the same function and arguments, so that two configs
    with it share a compiled program. (Those of `functools` are equal to themselves alone.)"""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Partial) and _parts(self) == _parts(other)

    def __hash__(self) -> int:
        return hash(_parts(self))


def _parts(x: functools.partial) -> tuple:
    return x.func, x.args, frozenset(x.keywords.items())


def freeze(value: Any) -> Any:
    """Makes a partial, and those among its arguments, a Partial; a list in it becomes a tuple."""
    if isinstance(value, functools.partial):
        keywords = {name: freeze(x) for name, x in value.keywords.items()}
        return Partial(value.func, *map(freeze, value.args), **keywords)
    return tuple(map(freeze, value)) if isinstance(value, list) else value


def name_of(value: Any) -> str:
    """The name "module:Name" of a class or a function, without a package's private rooms where the
    public one has it too.

    >>> name_of(jax.nn.gelu)
    'jax.nn:gelu'
    """
    module, name = value.__module__, value.__qualname__
    shown = [part for part in module.split(".") if not part.startswith("_")]
    if len(shown) < module.count(".") + 1:
        for n in range(1, len(shown) + 1):
            public = ".".join(shown[:n])
            if getattr(sys.modules.get(public), name, None) is value:
                return f"{public}:{name}"
    return f"{module}:{name}"


def is_named(value: Any) -> bool:
    """True for what has a name to be written by: a class, a function, or a partial of one."""
    if isinstance(value, functools.partial):
        return is_named(value.func)
    return callable(value) and hasattr(value, "__module__") and hasattr(value, "__qualname__")


def describe_callable(value: Any) -> str | dict[str, Any]:
    """Describes a class, a function or a partial as plain JSON values. Raises ValueError for a
    partial with an object that JSON cannot hold."""
    if not isinstance(value, functools.partial):
        return name_of(value)
    keywords = {name: _plain(x) for name, x in value.keywords.items()}
    args = list(map(_plain, value.args))
    return {"partial": name_of(value.func), "args": args, "keywords": keywords}


def _plain(value: Any) -> Any:
    """An argument of a partial as JSON has it."""
    if is_named(value):
        told = describe_callable(value)
        return {"name": told} if isinstance(told, str) else told
    if isinstance(value, (tuple, list)):
        return list(map(_plain, value))
    if not isinstance(value, (str, int, float, bool, type(None))):
        allowed = "allowed are numbers, texts, classes and functions"
        raise ValueError(f"no file can hold {value!r} in a partial, {allowed}")
    return value


def restore_callable(told: str | dict[str, Any], kind: Kind, trust: Trust = False) -> Any:
    """The inverse of `describe_callable`; a partial may also be the text of its JSON, as on a
    command. Raises as `core.names.resolve_name`, which says what may be imported, and
    `core.calls.judge_call`, which says what may be called; ValueError for another kind, and for
    what has another name of its own than one that leads back to it."""
    if isinstance(told, str) and told.startswith("{"):
        told = cast(dict[str, Any], json.loads(told))
    if isinstance(told, str):
        # Whether a function is of a kind is known by a call of it.
        as_class = Kind(kind.words, lambda x: callable(x) and (not _is_class(x) or kind.fits(x)))
        found = resolve_name(told, as_class, trust)
        judge_call(told, found, (), trust)
        if not (_is_class(found) or kind.fits(found)):
            raise ValueError(f"allowed is {kind.words}")
        require_way_back(found)
        return found
    if not set(told) <= {"partial", "args", "keywords"} or not isinstance(told.get("partial"), str):
        form = '{"partial": "module:Name", "args": [...], "keywords": {...}}'
        raise ValueError(f"allowed is module:Name or {form} of {kind.words}")
    args, keywords = told.get("args", []), told.get("keywords", {})
    if not isinstance(args, list) or not isinstance(keywords, dict):
        raise ValueError('allowed are "args" as a list and "keywords" as an object')
    function = resolve_name(told["partial"], _ANY, trust)
    given = {name: _restore(x, trust) for name, x in keywords.items()}
    found = Partial(function, *(_restore(x, trust) for x in args), **given)
    judge_call(told["partial"], function, (*found.args, *given.values()), trust)
    if not kind.fits(found):
        raise ValueError(f"allowed is {kind.words}")
    require_way_back(found)
    return found


def require_way_back(found: Any) -> None:
    """Raises ValueError for what was found by a name and has another one of its own, by which no
    file would give it again."""
    if isinstance(found, functools.partial):
        for part in (found.func, *found.args, *found.keywords.values()):
            require_way_back(part)
    elif is_named(found):
        name, own = found.__qualname__, name_of(found)
        there: Any = sys.modules.get(found.__module__)
        for part in name.split("."):
            there = getattr(there, part, None)
        if "<lambda>" in name:
            why = "a lambda has no name of its own, use def"
        elif "<locals>" in name:
            why = f"it is made in a function, as {own!r}: use def or class in the module itself"
        elif there is not found:
            why = f"it calls itself {own!r}, which is another object or none: use def or class"
        else:
            return
        raise ValueError(f"no file could name it again, {why}")


def _is_class(value: Any) -> bool:
    return isinstance(value, type)


def _restore(told: Any, trust: Trust) -> Any:
    """An argument of a partial from JSON."""
    if isinstance(told, list):
        return tuple(_restore(x, trust) for x in told)
    if isinstance(told, dict):
        return restore_callable(told["name"] if set(told) == {"name"} else told, _ANY, trust)
    return told


def texts_in(told: Any) -> Iterator[str]:
    """The texts in plain JSON values, at any depth."""
    if isinstance(told, dict):
        told = list(told.values())
    if isinstance(told, (list, tuple)):
        for value in told:
            yield from texts_in(value)
    elif isinstance(told, str):
        yield told


def names_in(told: Any) -> list[str]:
    """The names "module:Name" in plain JSON values, at any depth."""
    return [text for text in texts_in(told) if re.fullmatch(r"[\w.]+:[\w.<>]+", text)]
