"""Configs: frozen dataclasses that are pytrees.

A number (`learning_rate: float = number(3e-4, ge=0)`) is a leaf: it may be traced, so it can be
vmapped, annealed or differentiated. A `static(...)` field fixes shapes or control flow: it is
part of the jit cache key, and changing it recompiles. Beside the default stands what is
allowed and what a field means; `core.fields` has the fields that several agents share.
"""

import dataclasses
import functools
import typing
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import jax.core
import numpy as np

from jaxpg.core.callables import describe_callable, freeze, is_named, restore_callable
from jaxpg.core.checks import hint_at, nearest, show
from jaxpg.core.limits import describe_allowed, describe_size, is_allowed
from jaxpg.core.names import Kind, Trust
from jaxpg.core.types import C

T = TypeVar("T")
FEW = 8  # options that an error lists
WHERE = dict.fromkeys(("agent", "environment"), "`jaxpg list` has all, your own is module:Object")


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

    kind: of a class, a function, or a partial of one, which the value may be beside one of the
    choices. Of a class without a kind its name may be that of a subclass.

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
    _settle_fields(cls)
    cls.__doc__ = f"{cls.__doc__}{_list_fields(cls)}"
    return jax.tree_util.register_dataclass(cls)


def _settle_fields(cls: Any) -> None:
    """Makes a config refuse unknown fields by name, and hold partials that compare by value."""
    known, init = {f.name for f in dataclasses.fields(cls)}, cls.__init__
    names = class_fields(cls)

    @functools.wraps(init)
    def settled(self, **fields):
        for name in fields:
            if name not in known:
                raise unknown(f"{label(cls)} field", name, known)
        init(self, **{n: freeze(x) if n in names else x for n, x in fields.items()})

    cls.__init__ = settled


def _list_fields(cls: Any) -> str:
    lines = []
    for field in dataclasses.fields(cls):
        default = getattr(field.default, "__name__", repr(field.default))
        lines.append(f"\n\n{field.name} = {default}")
        lines += [f"\n    {field.metadata['help']}"] if field.metadata.get("help") else []
        lines.append(f"\n    Allowed: {describe_allowed(field.type, field.metadata)}.")
    return "".join(lines)


def label(cls: type) -> str:
    """Name of a config in error messages: `ppo.Config`."""
    return f"{cls.__module__.rsplit('.', 1)[-1]}.{cls.__qualname__}"


def unknown(what: str, name: Any, options) -> ValueError:
    """The error for a name that is not among `options`, with the nearest one; of more than a few
    options it lists the nearest three."""
    options = sorted(options)
    hint = hint_at(name, options)
    if not options:
        return ValueError(f"unknown {what} {name!r}: there are none")
    if len(options) <= FEW:
        return ValueError(f"unknown {what} {name!r}: {hint}Allowed: {', '.join(options)}")
    listed = ", ".join(nearest(str(name), options, cutoff=0.0))
    see = f"; {WHERE[what]}" if what in WHERE else ""
    return ValueError(
        f"unknown {what} {name!r}: {hint}Of the {len(options)} that are allowed the nearest are "
        f"{listed}{see}"
    )


def hint_at_choice(name: Any, choices: Sequence[Any] | None) -> str:
    """Question as of `hint_at`, about a choice among short names: by up to two that are nearer.

    >>> hint_at_choice("adamv", ("adam", "adamw", "sgd", None))
    "did you mean 'adam' or 'adamw'? "
    """
    texts = [x for x in choices or () if isinstance(x, str)]
    near = nearest(name, texts, cutoff=0.6)[:2] if isinstance(name, str) else []
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""


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
    """A config with other values for some fields. Raises ValueError for an unknown field."""
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
        leaves = value if isinstance(value, tuple) else (value,)
        if any(isinstance(x, jax.core.Tracer) for x in leaves) and not static:
            continue
        allowed = f"allowed is {describe_allowed(hint, limits)}{describe_size(value, static)}"
        allowed = hint_at_choice(value, limits.get("choices")) + allowed
        try:
            wrong = None if is_allowed(value, hint, limits) else allowed
        except ValueError as error:  # a kind says more
            wrong = str(error)
        if wrong:
            raise ValueError(f"{label(type(cfg))} {field.name}={show(value)}: {wrong}")


def to_dict(cfg) -> dict[str, Any]:
    """A config as plain JSON values; see core/callables.py for classes, functions and partials.

    Raises ValueError for a partial with an object that JSON cannot hold."""
    return {f.name: _plain_field(cfg, f.name) for f in dataclasses.fields(cfg)}


def _plain_field(cfg, name: str):
    value = getattr(cfg, name)
    try:
        return plain(value)
    except ValueError as error:
        raise ValueError(f"{label(type(cfg))} {name}={show(value)}: {error}") from error


def plain(value):
    """A field's value as JSON has it."""
    if is_named(value):
        return describe_callable(value)
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return np.asarray(value).tolist()
    return list(map(plain, value)) if isinstance(value, tuple) else value


def from_dict(cls: type[C], values: dict[str, Any], trust: Trust = False) -> C:
    """The inverse of `to_dict`; missing fields keep their defaults. Raises as `updated` does."""
    return updated(cls(), values, trust)


def updated(cfg: C, values: dict[str, Any], trust: Trust = False) -> C:
    """The config with other values for some fields, given as in `to_dict`.

    trust: of classes and functions by name, see core/names.py: True for those of any module. Raises
    ValueError for an unknown field, a class that cannot be found or is not trusted, or a value that
    is not allowed.
    """
    cls = type(cfg)
    statics, classes, several = static_fields(cls), class_fields(cls), tuple_fields(cls)
    # Where all numbers are lists, these are of lanes, and a tuple of numbers is a list of lists.
    lanes = any(isinstance(x, list) for n, x in values.items() if n not in statics | several)

    def rich(name, x):
        if name in classes and (isinstance(x, dict) or (isinstance(x, str) and ":" in x)):
            return _resolve_callable(cfg, name, x, trust)
        if not isinstance(x, list):
            return x
        if name in several and (not lanes or any(isinstance(one, list) for one in x)):
            return tuple(rich("", one) for one in x)
        return tuple(x) if name in statics else np.asarray(x, np.float32)

    cfg = replace(cfg, **{name: rich(name, x) for name, x in values.items()})
    validate(cfg)
    return cfg


def _resolve_callable(cfg: Any, name: str, told: str | dict, trust: Trust) -> Any:
    """Finds the object that a field names, or a partial of it; its value in `cfg` needs no
    looking for."""
    now, metadata = getattr(cfg, name), type(cfg).__dataclass_fields__[name].metadata
    if told == plain(now):
        return now
    kind = metadata.get("kind") or Kind(
        f"a subclass of {plain(now)}", lambda x: isinstance(x, type) and issubclass(x, now)
    )
    try:
        return restore_callable(told, kind, trust)
    except ValueError as error:
        raise type(error)(f"{label(type(cfg))} {name}={told!r}: {error}") from error


def static_fields(cls: type) -> set[str]:
    """The fields of a config that fix shapes or control flow."""
    return {f.name for f in dataclasses.fields(cls) if f.metadata.get("static")}


def tuple_fields(cls: type) -> set[str]:
    """The fields of a config that may be a number or a tuple of numbers, one leaf each."""
    hints = typing.get_type_hints(cls)
    several = {name: typing.get_args(hint) for name, hint in hints.items()}
    return {name for name, kinds in several.items() if tuple[float, ...] in kinds}


def class_fields(cls: type) -> set[str]:
    """The fields of a config that may hold a class, a function or a partial of one."""
    hints = typing.get_type_hints(cls)
    fields = dataclasses.fields(cls)
    return {f.name for f in fields if hints[f.name] is type or f.metadata.get("kind")}
