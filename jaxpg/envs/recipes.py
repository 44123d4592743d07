"""Arguments of environments as JSON has them, and whether they are of the kind that is meant."""

import dataclasses
import inspect
import typing
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxpg.core.checks import show_numbers
from jaxpg.envs.wrappers.params import Params

PLAIN = "a finite number, text, True, False, None, or a tuple, list or array of them"
_ARRAY = {"of", "shape", "dtype", "values"}  # of an array as JSON has it


def fields_of(params: Any) -> dict[str, dataclasses.Field | None]:
    """The parameters of an environment by name: of a dataclass, a NamedTuple or a dict; of anything
    else none has a name. Of a wrapped one those of both, but for what the wrapper sets."""
    if isinstance(params, Params):
        inner = {k: x for k, x in fields_of(params.inner).items() if k not in params.hidden}
        return {**inner, **dict.fromkeys(params.own)}
    if dataclasses.is_dataclass(params):
        return {field.name: field for field in dataclasses.fields(params)}
    return dict.fromkeys(params if isinstance(params, dict) else getattr(params, "_fields", ()))


def take(params: Any, name: str) -> Any:
    """The parameter of a name."""
    if isinstance(params, Params):
        return params.own[name] if name in params.own else take(params.inner, name)
    return params[name] if isinstance(params, dict) else getattr(params, name)


def put(params: Any, values: dict[str, Any]) -> Any:
    """The parameters with other values for some."""
    if not values:
        return params
    if isinstance(params, Params):
        return params.replace(**values)
    if isinstance(params, dict):
        return {**params, **values}
    if hasattr(params, "_fields"):
        return params._replace(**values)
    return dataclasses.replace(params, **values)


def is_leaf(field: dataclasses.Field | None) -> bool:
    """True for a parameter that may be traced; flax's `pytree_node=False` says that it may not."""
    return field is None or field.metadata.get("pytree_node", True)


def require_limits(name: str, core: Any, params: Any) -> None:
    """Raises ValueError for a parameter beyond the core's `limits`. name: of the environment, for
    the error."""
    for key, (least, most) in getattr(core, "limits", {}).items():
        value = take(params, key)
        if not is_traced(value) and np.any(
            (np.asarray(value) < least) | (np.asarray(value) > most)
        ):
            allowed = f"allowed is a number >= {least} and <= {most}"
            raise ValueError(f"{name} {key}={show_numbers(value)}: {allowed}")
    while hasattr(core, "rule") and isinstance(params, Params):  # of wrappers
        if wrong := core.rule.judge(params):
            raise ValueError(f"{name}: {wrong}")
        core, params = core.core, params.inner


def is_traced(value: Any) -> bool:
    """True for a tracer, and for what holds one."""
    return any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(value))


def tell(value: Any) -> Any:
    """The value as JSON has it; tuples and lists are the same to it. Raises ValueError for one that
    JSON cannot say."""
    if isinstance(value, dict) and value.keys() == _ARRAY:
        return value  # it is one already
    if isinstance(value, (tuple, list)):
        return [tell(x) for x in value]
    if isinstance(value, (np.ndarray, np.generic, jax.Array)) and not is_traced(value):
        kind = getattr(value.dtype, "kind", None)  # keys have none
        if kind == "U" or (np.ndim(value) == 0 and kind in ("b", "i", "u", "f")):
            return tell(np.asarray(value).tolist())
        if kind in ("b", "i", "u", "f") and np.isfinite(value).all():
            of = "jax" if isinstance(value, jax.Array) else "numpy"
            x = np.asarray(value)
            values = x.ravel().tolist()
            return {"of": of, "shape": list(x.shape), "dtype": str(x.dtype), "values": values}
    elif value is None or isinstance(value, (bool, int, str)):
        return value
    elif isinstance(value, float) and np.isfinite(value):
        return float(value)
    raise ValueError(f"{value!r}: allowed is {PLAIN}")


def read(told: Any) -> Any:
    """The inverse of `tell`; what was a list is a tuple."""
    if isinstance(told, list):
        return tuple(read(x) for x in told)
    if isinstance(told, dict):
        x = np.array(told["values"], told["dtype"]).reshape(told["shape"])
        return jnp.asarray(x) if told["of"] == "jax" else x
    return told


def can_tell(value: Any) -> bool:
    """True for a value that JSON can say."""
    try:
        tell(value)
    except ValueError:
        return False
    return True


def not_allowed(value: Any, default: Any, hint: Any) -> str | None:
    """Words on what is allowed, for a value of another kind than its default; None if it fits.

    hint: the annotation. A value without a default, or whose default is None, is anything that JSON
    can say. True and False are no numbers.
    """
    if value is None and type(None) in typing.get_args(hint):
        return None
    like = _in_a_row(default)
    if default is None or default is inspect.Parameter.empty or like is None or not like.size:
        return None if can_tell(value) else PLAIN
    x, sort = _in_a_row(value), like.dtype.kind
    if sort == "U":
        fits = isinstance(value, str) if isinstance(default, str) else can_tell(value)
        return None if fits else "a string" + "s" * (not isinstance(default, str))
    kind = None if x is None else x.dtype.kind
    if sort == "b":
        return None if kind == "b" else "True or False"
    whole = sort in ("i", "u") and "float" not in str(hint)
    if x is None or kind not in ("i", "u", "f") or not np.isfinite(x).all():
        return "an integer" if whole else "a finite number"
    if whole and (x % 1).any():
        return "an integer"
    try:
        np.asarray(value)
    except ValueError:
        return None if isinstance(default, (tuple, list)) else "rows of one length"
    return None


def _in_a_row(value: Any) -> np.ndarray | None:
    """All that an array, or a tuple or list at any depth, holds, in NumPy; None if that is other
    than numbers, or bools, or text."""
    if isinstance(value, (tuple, list)):
        rows = [x for x in map(_in_a_row, value) if x is not None]
        sorts = {x.dtype.kind if x.dtype.kind in ("b", "U") else "number" for x in rows if x.size}
        if len(rows) < len(value) or len(sorts) > 1:
            return None
        return np.concatenate(rows) if rows else np.zeros(0)
    try:
        x = np.asarray(read(value) if isinstance(value, dict) else value)
    except (KeyError, TypeError, ValueError):  # a random key; another dict
        return None
    return x.ravel() if x.dtype.kind in ("b", "i", "u", "f", "U") else None


def settle(value: Any, default: Any) -> Any:
    """A parameter in the structure of its default: a tuple stays one, other sequences are
    arrays."""
    if isinstance(default, (tuple, list)) and (isinstance(value, (tuple, list)) or np.ndim(value)):
        likes = [default[min(i, len(default) - 1)] if default else 0.0 for i in range(len(value))]
        items = [settle(x, like) for x, like in zip(value, likes, strict=True)]
        kind: Any = type(default)
        return getattr(kind, "_make", kind)(items)  # of a NamedTuple
    if isinstance(value, dict):
        return read(value)
    if isinstance(value, (tuple, list)):
        value = jnp.asarray(value) if is_traced(value) else np.asarray(value)
    like = getattr(default, "dtype", None)
    if like is None or np.ndim(value) == 0 or is_traced(value):
        return value
    cast = np.asarray(value).astype(like)  # JSON has no dtypes
    return cast if like.kind == "f" or np.array_equal(cast, value) else value


def plain(value: Any) -> Any:
    """A parameter as JSON has it; arrays are lists, and `settle` makes arrays of them again."""
    if isinstance(value, (tuple, list)):
        return [plain(x) for x in value]
    return np.asarray(value).tolist() if hasattr(value, "dtype") else value
