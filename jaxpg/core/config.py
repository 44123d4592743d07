"""Configs: frozen dataclasses that are pytrees.

A number (`learning_rate: float = number(3e-4, ge=0)`) is a leaf: it may be traced, so it can be
vmapped, annealed or differentiated. A `static(...)` field fixes shapes or control flow: it is
part of the jit cache key, and changing it recompiles. Beside the default stands what is
allowed and what a field means; `core.fields` has the fields that several agents share.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxpg.core.checks import show
from jaxpg.core.names import Kind, resolve_name
from jaxpg.core.types import C

T = TypeVar("T")


def static(
    default: T,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    choices: Sequence[Any] | None = None,
    kind: Kind | None = None,
    help: str | None = None,
) -> T:
    """A field that fixes shapes or control flow; hashable. help: its meaning and unit.

    kind: of a class; None is any, and by its name a subclass of what it replaces.

    >>> @jaxpg.config
    ... class Config:
    ...     size: int = jaxpg.static(2, ge=1, help="Units of the layer.")
    >>> jax.jit(lambda cfg: jax.numpy.zeros(cfg.size))(Config(size=3)).shape
    (3,)
    """
    limits = {"ge": ge, "gt": gt, "le": le, "choices": choices, "kind": kind}
    metadata = {"static": True, "help": help or "", **limits}
    return dataclasses.field(default=default, metadata=metadata)


def number(
    default: T,
    *,
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    help: str | None = None,
) -> T:
    """A field that may be traced: a Python number, an array, or None for "off".

    help: its meaning and unit.

    >>> @jaxpg.config
    ... class Config:
    ...     gamma: float = jaxpg.number(0.99, ge=0, le=1, help="Discount factor of a step.")
    >>> jax.vmap(lambda cfg: 1 / (1 - cfg.gamma))(Config(gamma=jax.numpy.array([0.9, 0.99]))).shape
    (2,)
    """
    metadata = {"help": help or "", "ge": ge, "gt": gt, "le": le}
    return dataclasses.field(default=default, metadata=metadata)


# Without `field_specifiers`: of those, checkers would read a default from the keyword alone.
@typing.dataclass_transform(frozen_default=True, kw_only_default=True)
def config(cls: type[T]) -> type[T]:
    """Makes a class of annotated fields a frozen, keyword-only dataclass and a pytree.

    Its docstring, which `help` shows, lists the fields: default, meaning and what is allowed.

    >>> @jaxpg.config
    ... class Config:
    ...     num_envs: int = jaxpg.static(4, ge=1)
    ...     learning_rate: float = jaxpg.number(0.1, ge=0)
    >>> jax.tree.leaves(Config(num_envs=8))
    [0.1]
    """
    cls.__doc__ = cls.__doc__ or "Hyperparameters of an agent."
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    cls.__doc__ = f"{cls.__doc__}{_list_fields(cls)}"
    return jax.tree_util.register_dataclass(cls)


def _list_fields(cls: Any) -> str:
    lines = []
    for field in dataclasses.fields(cls):
        default = getattr(field.default, "__name__", repr(field.default))
        lines.append(f"\n\n{field.name} = {default}")
        lines += [f"\n    {field.metadata['help']}"] if field.metadata.get("help") else []
        lines.append(f"\n    Allowed: {_allowed(field.type, field.metadata)}.")
    return "".join(lines)


def label(cls: type) -> str:
    """Name of a config in error messages: `ppo.Config`."""
    return f"{cls.__module__.rsplit('.', 1)[-1]}.{cls.__qualname__}"


def unknown(what: str, name: Any, options) -> ValueError:
    """The error for a name that is not among `options`, with the nearest one."""
    options = sorted(options)
    near = difflib.get_close_matches(str(name), options, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ValueError(f"unknown {what} {name!r}: {hint}Allowed: {', '.join(options)}")


def require(cfg, reader: str, *names: str, **absent) -> None:
    """Raises ValueError for the first name that is neither a field nor a constant of a config.

    reader: the function that reads them. absent: names, with the value of the class constant by
    which an agent goes without the field.
    """
    for name in (*names, *absent):
        if hasattr(cfg, name):
            continue
        allowed = "a field of this name"
        if name in absent:
            kind, value = type(absent[name]).__name__, absent[name]
            allowed += f", or, to go without, `{name}: ClassVar[{kind}] = {value!r}`"
        me = label(type(cfg))
        raise ValueError(f"{me} has no {name!r}, which {reader} reads: allowed is {allowed}")


def require_several(
    cfg: Any, field: str, entries: int, batch: str, on: Any = True, off: Any = False
) -> None:
    """Raises ValueError where a field that is `on` takes away the mean of a batch of one entry."""
    if entries < 2 and getattr(cfg, field) == on:
        raise ValueError(
            f"{label(type(cfg))} {field}={on!r}: allowed is {off!r}, or a larger batch; of {batch} "
            "nothing is left without its mean, and nothing would be learnt"
        )


def replace(cfg: C, **fields: Any) -> C:
    """`dataclasses.replace` that raises ValueError for an unknown field and names the nearest."""
    known = [f.name for f in dataclasses.fields(cfg)]
    for name in fields:
        if name not in known:
            raise unknown(f"{label(type(cfg))} field", name, known)
    return dataclasses.replace(cfg, **fields)


def validate(cfg) -> None:
    """Raises ValueError for the first field whose value is not allowed.

    Traced leaves are passed over: inside `jit` only static fields can be judged, so call this
    on the host too. Arrays (a vmapped field) are judged element by element.
    """
    hints = typing.get_type_hints(type(cfg))
    for field in dataclasses.fields(cfg):
        value, hint, limits = getattr(cfg, field.name), hints[field.name], field.metadata
        static = limits.get("static")
        if isinstance(value, jax.core.Tracer) and not static:
            continue
        usable = _hashable(value) if static else True
        if not (usable and _fits(value, hint) and _within(value, limits)):
            raise ValueError(
                f"{label(type(cfg))} {field.name}={show(value)}: allowed is "
                f"{_allowed(hint, limits)}{_too_large(value, static)}"
            )


def _hashable(value) -> bool:
    try:
        hash(value)
    except TypeError:  # so are tracers
        return False
    return True


def _too_large(value, static) -> str:
    """Words on the limit that an integer is beyond, of arrays or of its type; "" if it is not."""
    bits = 48 if static else jnp.iinfo(jnp.result_type(int)).bits - 1
    values = value if isinstance(value, tuple) else (value,)
    too_large = any(isinstance(x, int) and abs(x) >= 2**bits for x in values)
    return f" and, of integers, < 2**{bits}" if too_large else ""


def _fits(value, hint) -> bool:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, h) for h in args)
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


def _within(value, limits) -> bool:
    if limits.get("choices") is not None:
        return value in limits["choices"]
    if limits.get("kind") is not None:
        return limits["kind"].fits(value)
    if value is None or isinstance(value, (str, bool, type)):
        return True
    if _too_large(value, limits.get("static")):
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


def _allowed(hint, limits) -> str:
    if limits.get("choices") is not None:
        return "one of " + ", ".join(map(repr, limits["choices"]))
    if limits.get("kind") is not None:
        return limits["kind"].words
    names = {float: "a finite number", int: "an integer", bool: "True or False"}
    names |= {str: "a string", type: "a class", type(None): "None"}
    if typing.get_origin(hint) is tuple:
        kind = "a tuple of integers" if typing.get_args(hint)[0] is int else "a tuple of numbers"
    else:
        kind = " or ".join(names.get(h, str(h)) for h in typing.get_args(hint) or (hint,))
    signs = {"ge": ">=", "gt": ">", "le": "<="}
    bounds = [f"{s} {limits[k]}" for k, s in signs.items() if limits.get(k) is not None]
    return " ".join([kind, " and ".join(bounds)]).strip()


def to_dict(cfg) -> dict[str, Any]:
    """A config as plain JSON values; a class becomes "module:Name"."""
    return {f.name: plain(getattr(cfg, f.name)) for f in dataclasses.fields(cfg)}


def plain(value):
    """A field's value as JSON has it."""
    if isinstance(value, type):
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return np.asarray(value).tolist()
    return list(value) if isinstance(value, tuple) else value


def from_dict(cls: type[C], values: dict[str, Any], trust: bool = False) -> C:
    """The inverse of `to_dict`; missing fields keep their defaults. Raises as `updated` does."""
    return updated(cls(), values, trust)


def updated(cfg: C, values: dict[str, Any], trust: bool = False) -> C:
    """The config with other values for some fields, given as in `to_dict`.

    trust: whether a class may be of any module, which is imported; else see core/names.py. Raises
    ValueError for an unknown field, a class that cannot be found or is not trusted, or a value that
    is not allowed.
    """
    cls = type(cfg)
    statics, classes = static_fields(cls), class_fields(cls)

    def rich(name, x):
        if name in classes and isinstance(x, str):
            return _resolve_class(cfg, name, x, trust)
        if isinstance(x, list):
            return tuple(x) if name in statics else np.asarray(x, np.float32)
        return x

    cfg = replace(cfg, **{name: rich(name, x) for name, x in values.items()})
    validate(cfg)
    return cfg


def _resolve_class(cfg, name: str, text: str, trust: bool) -> type:
    """The class that a field names by "module:Name"; its value in `cfg` needs no looking for."""
    now, metadata = getattr(cfg, name), type(cfg).__dataclass_fields__[name].metadata
    if text == plain(now):
        return now
    alike = Kind(
        f"a subclass of {plain(now)}", lambda x: isinstance(x, type) and issubclass(x, now)
    )
    try:
        return resolve_name(text, metadata.get("kind") or alike, trust)
    except ValueError as error:
        raise type(error)(f"{label(type(cfg))} {name}={text!r}: {error}") from error


def static_fields(cls: type) -> set[str]:
    """The fields of a config that fix shapes or control flow."""
    return {f.name for f in dataclasses.fields(cls) if f.metadata.get("static")}


def class_fields(cls: type) -> set[str]:
    """The fields of a config that hold a class, which files have as "module:Name"."""
    hints = typing.get_type_hints(cls)
    return {f.name for f in dataclasses.fields(cls) if hints[f.name] is type}
