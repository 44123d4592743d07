"""Schedules: numbers of a config that change over the run.

A number `x` follows a schedule if the config has a field `x_schedule: str = schedule()` beside it.
The schedules multiply it by a factor of the run's progress p, from 0 to 1:

    constant  1               linear  1 - p               cosine  (1 + cos(pi p)) / 2

`warmup`, `warmup_linear` and `warmup_cosine` first rise from 0 to 1 over the fraction `warmup` of
the run, then do the same over what is left of it. (optax's schedules need their lengths as Python
numbers; here they are leaves.)
"""

import dataclasses
from typing import Any

import jax.numpy as jnp

from jaxpg.core.config import label, replace, static
from jaxpg.core.types import Array, C

SCHEDULES = ("constant", "linear", "cosine", "warmup", "warmup_linear", "warmup_cosine")


def schedule(default: str = "constant", help: str | None = None) -> str:
    """Course over the run of the number that it is named after."""
    return static(default, choices=SCHEDULES, help=help or schedule.__doc__)


def factor(kind: str, progress: Array, warmup) -> Array:
    """Factor by which the schedule `kind` multiplies a number at `progress` [] in 0 .. 1."""
    rise, decay = 1.0, kind
    if kind.startswith("warmup"):
        decay = kind.removeprefix("warmup").removeprefix("_") or "constant"
        rise = jnp.where(progress < warmup, progress / jnp.maximum(warmup, 1e-9), 1.0)
        progress = jnp.maximum(progress - warmup, 0) / jnp.maximum(1 - warmup, 1e-9)
    if decay == "linear":
        return rise * (1 - progress)
    if decay == "cosine":
        return rise * (1 + jnp.cos(jnp.pi * progress)) / 2
    return rise * jnp.ones_like(progress)


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
