"""Names with options, as commands and files have them: "adamw(weight_decay=0.01)".

Options are Python constants, or tuples of them. They are read, never run, so that a file of someone
else's may hold them; what needs more, a function among its options, is given from Python.
"""

import ast
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from jaxpg.core.config import hint_at_choice


def split_options(text: str) -> tuple[str, dict[str, Any]]:
    """Splits "name(option=value, ...)" into the name and its options; a name alone has none.

    Raises ValueError for what is no such text, and for an option that is no constant.

    >>> split_options("adamw(weight_decay=0.01, nesterov=True)")
    ('adamw', {'weight_decay': 0.01, 'nesterov': True})
    """
    name = text.partition("(")[0]
    if name == text:
        return text, {}
    wrong = ValueError("allowed is a name with its options, as in name(option=0.1, other=True)")
    try:
        call = ast.parse(text, mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise wrong
        names = [word.arg or "**" for word in call.keywords]
        values = [ast.literal_eval(word.value) for word in call.keywords]
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise wrong from None
    if "**" in names or len(set(names)) < len(names) or not all(map(_is_constant, values)):
        raise wrong
    return call.func.id, dict(zip(names, values, strict=True))


def _is_constant(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_constant, value))
    finite = isinstance(value, (int, float)) and math.isfinite(value)
    return finite or value is None or isinstance(value, (bool, str))


def require_options(function: Callable, given: int, options: dict[str, Any]) -> None:
    """Raises ValueError for an option that a function does not take beside the `given` arguments
    before, with those that it does."""
    parameters = inspect.signature(function).parameters.values()
    known = [p.name for p in parameters][given:]
    for name in options:
        if name not in known and all(p.kind is not p.VAR_KEYWORD for p in parameters):
            words = f"allowed are its options {', '.join(known)}" if known else "it has no options"
            raise ValueError(f"unknown option {name!r}: {hint_at_choice(name, known)}{words}")


def free_parameter(function: Any) -> str | None:
    """Name of the one argument that a callable still needs, its first; None if it is not callable
    with one argument."""
    try:
        signature = inspect.signature(function)
        signature.bind(0.0)
    except (TypeError, ValueError):
        return None
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return next((p.name for p in signature.parameters.values() if p.kind in kinds), None)


def takes_argument(function: Any, names: Sequence[str]) -> bool:
    """True for a callable of one argument, with one of these names.

    The name tells it from other functions that a file could ask for, before it is called. Raises
    ValueError for an argument of another name, and for an option of a partial that its function
    does not take.
    """
    if isinstance(function, functools.partial):
        require_options(function.func, 1, function.keywords)
    found = free_parameter(function) if callable(function) else None
    if found is not None and found not in names:
        raise ValueError(
            f"its argument is called {found!r}, allowed is {' or '.join(names)}: by that name a "
            "function is known for what it is before it is called"
        )
    return found is not None
