"""Functions that a user gives to a wrapper, and the names that recipes have of them.

A recipe is JSON, so it holds "module:Name" of a function, or a partial of one as `core.callables`
writes it. A lambda, a function in a function and one of the script itself have no name that another
program finds: they make an environment without a recipe.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from jaxpg.core.callables import describe_callable, freeze, is_named, require_way_back
from jaxpg.core.callables import restore_callable as restore
from jaxpg.core.checks import show
from jaxpg.core.names import Kind, Trust, name_problem

FUNCTIONS = {"shielded": "project", "residual": "base"}  # the argument of each that is a function
KIND = Kind("a function", callable)
_known: dict[str, Callable] = {}  # what recipes of this program have named, by the JSON of it


def tell_function(kind: str, function: Callable) -> Any:
    """A function as JSON has it. Raises ValueError for one that no file could name again."""
    said = f"{kind} {FUNCTIONS[kind]}={show(function)}"
    try:
        if not is_named(function) or function.__module__ is None:
            raise ValueError("it has no name of its own: use a function of a module")
        require_way_back(function)
        told = describe_callable(function)
    except ValueError as error:
        raise ValueError(f"{said}: {error}") from error
    if "__main__:" in (text := json.dumps(told)):
        raise ValueError(f"{said}: it is of the script itself: use a function of another module")
    if _known.setdefault(text, function) != function:
        raise ValueError(f"{said}: another function had its name before, in this program")
    return told


def find_function(kind: str, told: Any, trust: Trust = False) -> Callable:
    """The function that JSON names. Raises as `core.callables.restore_callable`."""
    text = json.dumps(told)
    if text not in _known:
        try:
            _known[text] = restore(told, KIND, trust)
        except ValueError as error:
            raise name_problem(f"{kind} {FUNCTIONS[kind]}", text.strip('"'), error) from error
    return _known[text]


def with_names(kind: str, static: Mapping[str, Any]) -> dict[str, Any]:
    """Static arguments with the name of the function among them. Raises as `tell_function`."""
    return {k: tell_function(kind, x) if callable(x) else x for k, x in static.items()}


def with_function(kind: str, static: Mapping[str, Any], trust: Trust = False) -> dict[str, Any]:
    """Static arguments with the function itself, if one is among them."""
    if (name := FUNCTIONS.get(kind)) is None:
        return dict(static)
    found = static[name]
    return {**static, name: freeze(found) if callable(found) else find_function(kind, found, trust)}
