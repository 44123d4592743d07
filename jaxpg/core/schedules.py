"""Schedules: numbers of a config that change over the run.

A number `x` follows a schedule if the config has a field `x_schedule = schedule()` beside it. The
schedule multiplies it by a factor of the run's progress p, from 0 at the first iteration to 1 at
the end. It is a name, a name with options, or a function of one's own:

    learning_rate_schedule="linear"
    learning_rate_schedule="cosine(end=0.1)"
    learning_rate_schedule=functools.partial(jaxpg.schedules.exponential, rate=0.1)

`warmup_` before a name first rises from 0 to 1 over the fraction `warmup` of the run, and then does
the same over what is left of it; `warmup` alone stays there. (optax's schedules count in updates,
and want their lengths as Python numbers; here the length of the run and of the warm-up are leaves.)
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.checks import require_integer, require_number
from jaxpg.core.config import hint_at_choice, label, replace, static
from jaxpg.core.named_options import require_options, split_options, takes_argument
from jaxpg.core.names import Kind
from jaxpg.core.types import Array, C


def constant(progress: Array) -> Array:
    """Factor 1.

    >>> constant(jax.numpy.array([0.0, 0.5, 1.0])).tolist()
    [1.0, 1.0, 1.0]
    """
    return jnp.ones_like(progress)


def linear(progress: Array, end: float = 0.0) -> Array:
    """Straight line from 1 to `end`. progress: [...]

    >>> linear(jax.numpy.array([0.0, 0.5, 1.0]), end=0.5).tolist()
    [1.0, 0.75, 0.5]
    """
    _require_number("end", end)
    return _fall_to(end, 1 - progress)


def cosine(progress: Array, end: float = 0.0) -> Array:
    """Half a cosine from 1 to `end`, Loshchilov & Hutter (2017), arXiv:1608.03983 eq. 5. [...]

    >>> cosine(jax.numpy.array([0.0, 0.5, 1.0])).round(3).tolist()
    [1.0, 0.5, 0.0]
    """
    _require_number("end", end)
    return _fall_to(end, (1 + jnp.cos(jnp.pi * progress)) / 2)


def exponential(progress: Array, rate: float = 0.01, end: float = 0.0) -> Array:
    """Exponential decay: rate^p, the factor `rate` over the run, but never below `end`. [...]

    >>> exponential(jax.numpy.array([0.0, 0.5, 1.0]), rate=0.25).tolist()
    [1.0, 0.5, 0.25]
    """
    _require_number("rate", rate, zero=False)
    _require_number("end", end)
    return jnp.maximum(jnp.asarray(rate, progress.dtype) ** progress, end)


def polynomial(progress: Array, power: float = 2.0, end: float = 0.0) -> Array:
    """Polynomial decay (1 - p)^power, from 1 to `end`. progress: [...]

    >>> polynomial(jax.numpy.array([0.0, 0.5, 1.0]), power=2, end=0.5).tolist()
    [1.0, 0.625, 0.5]
    """
    _require_number("power", power, zero=False)
    _require_number("end", end)
    return _fall_to(end, (1 - progress) ** power)


def piecewise(
    progress: Array, at: tuple[float, ...] = (0.5,), factors: tuple[float, ...] = (0.1,)
) -> Array:
    """Steps: 1 until the first progress of `at`, from there on the first of `factors`, and so on.

    progress: [...]. Raises ValueError unless both are as long, and `at` rises within 0 .. 1.

    >>> piecewise(jax.numpy.array([0.0, 0.5, 0.9]), at=(0.5, 0.8), factors=(0.5, 0.25)).tolist()
    [1.0, 0.5, 0.25]
    """
    for name, values in {"at": at, "factors": factors}.items():
        if not isinstance(values, tuple):
            raise ValueError(f"{name}={values!r}: allowed is a tuple of numbers")
        for value in values:
            _require_number(name, value)
    if list(at) != sorted(at) or max(at, default=0) > 1:
        raise ValueError(f"at={at!r}: allowed are numbers from 0 to 1 that rise")
    if len(at) != len(factors):
        raise ValueError(f"factors={factors!r}: allowed is one number for each of at={at!r}")
    return jnp.asarray([1.0, *factors], progress.dtype)[_count_past(at, progress)]


def cosine_restarts(
    progress: Array, cycles: int = 4, end: float = 0.0, decay: float = 1.0, growth: float = 1.0
) -> Array:
    """Cosine with warm restarts, Loshchilov & Hutter (2017), arXiv:1608.03983. progress: [...]

    Each of the `cycles` falls from its peak to `end`; the next begins at `decay` times the peak and
    is `growth` times as long (T_mult of the paper).

    >>> cosine_restarts(jax.numpy.array([0.0, 0.5, 1.0]), cycles=2, decay=0.5).tolist()
    [1.0, 0.5, 0.0]
    """
    require_integer("cycles", cycles, 1, 100)
    for name, value in {"end": end, "decay": decay, "growth": growth}.items():
        _require_number(name, value, zero=name == "end")
    if growth > 10:
        raise ValueError(f"growth={growth!r}: allowed is a number > 0 and <= 10")
    length = float(growth) ** np.arange(cycles)
    length /= length.sum()
    begin = np.cumsum(length) - length
    cycle = _count_past(begin[1:], progress)
    begin, length, peak = (
        jnp.asarray(x, progress.dtype)[cycle]
        for x in (begin, length, float(decay) ** np.arange(cycles))
    )
    within = jnp.clip((progress - begin) / length, 0, 1)
    return end + (peak - end) * (1 + jnp.cos(jnp.pi * within)) / 2


def _fall_to(end: float, shape: Array) -> Array:
    """A shape from 1 to 0 as one from 1 to `end`."""
    return end + (1 - end) * shape if end else shape


def _count_past(points: Sequence[float] | np.ndarray, progress: Array) -> Array:
    """Number of points that the progress [...] has reached: [...] int32."""
    at = jnp.asarray(points, progress.dtype)
    return (progress[..., None] >= at).sum(-1, dtype=jnp.int32)


def _require_number(name: str, value: Any, zero: bool = True) -> None:
    """Raises ValueError for an option that is not a finite number > 0, or `zero`."""
    require_number(name, value)
    if value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name}={value!r}: allowed is a number {'>=' if zero else '>'} 0")


SHAPES: dict[str, Callable[..., Array]] = {
    f.__name__: f
    for f in (constant, linear, cosine, exponential, polynomial, piecewise, cosine_restarts)
}
SCHEDULES = (*SHAPES, "warmup", *(f"warmup_{name}" for name in SHAPES if name != "constant"))


def find_schedule(value: Any) -> tuple[Callable[[Array], Array], bool]:
    """Finds the function progress -> factor of a schedule, and whether it warms up first.

    Raises ValueError for a name or an option that there is not.
    """
    if not isinstance(value, str):
        return value, False
    name, options = split_options(value)
    if name not in SCHEDULES:
        near = hint_at_choice(name, SCHEDULES)
        raise ValueError(f"{near}allowed is one of {', '.join(SCHEDULES)}")
    warm = name.startswith("warmup")
    shape = SHAPES[name.removeprefix("warmup").removeprefix("_") or "constant"]
    require_options(shape, 1, options)
    return functools.partial(shape, **options), warm


def is_schedule(value: Any) -> bool:
    """True for what maps progress [] to a factor [], both float, under `jit`.

    Raises ValueError, with what is wrong, for options that do not fit.
    """
    if not isinstance(value, str) and not takes_argument(value, ("progress", "p")):
        return False
    shape, _ = find_schedule(value)
    progress = jax.ShapeDtypeStruct((), jnp.result_type(float))
    try:
        factor = jax.eval_shape(shape, progress)
    except Exception as error:
        told = str(error).partition("\n")[0]
        plain = isinstance(error, ValueError) and isinstance(value, str)
        told = told if plain else f"with a traced progress it gave {type(error).__name__}: {told}"
        raise ValueError(told) from error
    number = isinstance(factor, jax.ShapeDtypeStruct) and factor.shape == ()
    if number and jnp.issubdtype(factor.dtype, jnp.floating):
        return True
    raise ValueError(f"allowed is a function that maps a float [] to a float []; it gave {factor}")


SCHEDULE = Kind(
    "a function progress -> factor under jit, such as "
    "functools.partial(jaxpg.schedules.exponential, rate=0.1), or a name with options, as in "
    "exponential(rate=0.1)",
    is_schedule,
)


def schedule(default: str = "constant", help: str | None = None) -> Any:
    """Course over the run of the number that it is named after."""
    return static(default, choices=SCHEDULES, kind=SCHEDULE, help=help or schedule.__doc__)


def factor(kind: str | Callable, progress: Array, warmup) -> Array:
    """Factor by which the schedule `kind` multiplies a number at `progress` [] in 0 .. 1."""
    shape, warm = find_schedule(kind)
    rise = 1.0
    if warm:
        rise = jnp.where(progress < warmup, progress / jnp.maximum(warmup, 1e-9), 1.0)
        progress = jnp.maximum(progress - warmup, 0) / jnp.maximum(1 - warmup, 1e-9)
    return rise * shape(progress)


def unsigned(iteration: Array) -> Array:
    """Iterations done [] uint32, of a count [] int32 that after 2^31 - 1 goes on as negative."""
    return jnp.asarray(iteration).astype(jnp.uint32)


def progress(iteration: Array, steps_per_iter: int, total_steps) -> Array:
    """Fraction of the run that is done, 0 to 1. [] float"""
    return jnp.minimum(unsigned(iteration) * (steps_per_iter / total_steps), 1.0)


def scheduled(cfg: C, iteration: Array, steps_per_iter: int) -> C:
    """The config as it stands at `iteration` [] int32: every scheduled number times its factor.

    Raises ValueError if a schedule needs the length of the run and `total_steps` is None; `train`
    and `run` fill it in.
    """
    kinds = {
        f.name.removesuffix("_schedule"): getattr(cfg, f.name)
        for f in dataclasses.fields(cfg)
        if f.name.endswith("_schedule")
    }
    moving = {name: kind for name, kind in kinds.items() if kind != "constant"}
    if not moving:
        return cfg
    known: Any = cfg  # some fields that every agent with schedules has
    if known.total_steps is None:
        name, kind = next(iter(moving.items()))
        raise ValueError(
            f"{label(type(cfg))} total_steps=None: allowed is a number > 0, the run's length in "
            f"environment steps, with {name}_schedule={kind!r}"
        )
    done = progress(iteration, steps_per_iter, known.total_steps)
    new = {n: getattr(cfg, n) * factor(kind, done, known.warmup) for n, kind in moving.items()}
    return replace(cfg, **new)
