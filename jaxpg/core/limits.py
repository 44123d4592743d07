"""Limits of a config's fields: whether a value is within them, and what is allowed in words."""

import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxpg.core.callables import is_named


def is_allowed(value: Any, hint: Any, limits: Mapping[str, Any]) -> bool:
    """True if a field of this type and with these limits may have the value.

    Beside a field's choices a kind may take them with options: "adamw(weight_decay=0.01)". Raises
    ValueError where the kind says more of what is wrong.
    """
    if limits.get("static") and not _hashable(value):
        return False
    return _is_of_kind(value, limits) or (_fits(value, hint) and _within(value, limits))


def _hashable(value) -> bool:
    try:
        hash(value)
    except TypeError:  # so are tracers
        return False
    return True


def describe_size(value, static) -> str:
    """Words on the limit that an integer is beyond, of arrays or of its type; "" if it is not."""
    bits = 48 if static else jnp.iinfo(jnp.result_type(int)).bits - 1
    values = value if isinstance(value, tuple) else (value,)
    too_large = any(isinstance(x, int) and abs(x) >= 2**bits for x in values)
    return f" and, of integers, < 2**{bits}" if too_large else ""


def _fits(value, hint) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, h) for h in args)
    if origin is Callable:
        return callable(value)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(v, args[0]) for v in value)
    if hint is float:  # a leaf: any real number or array of them
        dtype = getattr(value, "dtype", None)
        if dtype is None:
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        return jnp.issubdtype(dtype, np.integer) or jnp.issubdtype(dtype, np.floating)
    if hint is int:
        return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if hint is type:
        return isinstance(value, type)
    return isinstance(value, hint)


def _is_of_kind(value, limits) -> bool:
    """True for a class, a function or a partial of the kind that a field takes."""
    return is_named(value) and limits.get("kind") is not None and limits["kind"].fits(value)


def _within(value, limits) -> bool:
    if limits.get("choices") is not None:
        kind = limits.get("kind") if isinstance(value, str) and "(" in value else None
        return value in limits["choices"] or (kind is not None and kind.fits(value))
    if limits.get("kind") is not None:
        return value is None
    if value is None or isinstance(value, (str, bool, type)):
        return True
    if describe_size(value, limits.get("static")):
        return False
    x = np.asarray(value, float)
    with np.errstate(over="ignore"):  # 1e39 is infinite in the precision that it is used in
        finite = np.isfinite(x.astype(jnp.result_type(float))).all()
    return bool(
        finite
        and (limits.get("ge") is None or (x >= limits["ge"]).all())
        and (limits.get("gt") is None or (x > limits["gt"]).all())
        and (limits.get("le") is None or (x <= limits["le"]).all())
    )


def describe_allowed(hint, limits) -> str:
    ways = [", ".join(map(repr, limits["choices"]))] if limits.get("choices") is not None else []
    if limits.get("kind") is not None:
        ways.append(limits["kind"].words)
        ways += ["None"] if len(ways) == 1 and type(None) in typing.get_args(hint) else []
    if ways:
        return "one of " * (limits.get("choices") is not None) + ", or ".join(ways)
    names = {float: "a finite number", int: "an integer", bool: "True or False"}
    names |= {str: "a string", type: "a class", type(None): "None"}
    names |= {tuple[int, ...]: "a tuple of integers", tuple[float, ...]: "a tuple of numbers"}
    several = typing.get_args(hint) if hint not in names else ()
    kinds = [h for h in several or (hint,) if h is not type(None)]
    signs = {"ge": ">=", "gt": ">", "le": "<="}
    bounds = [f"{s} {limits[k]}" for k, s in signs.items() if limits.get(k) is not None]
    kind = " or ".join(names.get(h, str(h)) for h in kinds)
    text = " ".join([kind, " and ".join(bounds)]).strip()
    return text if len(kinds) == len(several or (hint,)) else f"{text}, or None"
