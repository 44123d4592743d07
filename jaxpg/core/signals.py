"""Signals: what an environment says beside its reward, and learning may use.

A core names entries of the `info` that its `step` returns: `signals = ("cost",)`. They come with
every Transition, of the step as it truly ended. A dict holds them, for the environment alone knows
their names; an empty one has no leaves, so that without signals nothing is stored or summed.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxpg.core.gymnax_import import has_own_step
from jaxpg.core.types import Tree

RESERVED = ("return", "length", "count")  # of the metrics `episode/<name>`
REAL = (jnp.floating, jnp.integer, jnp.bool_)
_OWN = {"terminated", "truncated", "final_observation"}  # a Transition has them anyway


def trace_step(core: Any, params: Tree) -> tuple[Any, Any]:
    """The shapes of what one environment's `reset` and `step` give; nothing is computed.

    Of a `step` that is gymnax's, those of its parts, before it selects. params: arrays, or their
    shapes. Raises ValueError for a `step_env` of another number of values.
    """

    def both(key, params):
        k_reset, k_step = jax.random.split(key)
        space = core.action_space(params)
        dtype = float if jnp.issubdtype(space.dtype, jnp.floating) else jnp.int32
        first = core.reset(k_reset, params)
        action = jnp.zeros(space.shape, dtype)
        if has_own_step(core):
            return first, core.step(k_step, first[1], action, params)
        given = core.step_env(k_step, first[1], action, params)
        if not (isinstance(given, tuple) and len(given) == 5):
            allowed = "obs, state, reward, terminated, info"
            raise ValueError(f"{core.name}: step_env gives {count(given)}, allowed are {allowed}")
        *after, info = given
        truncated = core.is_truncated(given[1], params)
        return first, (*after, truncated, {**info, "final_observation": given[0]})

    return jax.eval_shape(both, jax.random.key(0), params)


def count(given: Any) -> str:
    """Number of values that a function gives, in words."""
    return f"{len(given)} values" if isinstance(given, tuple) else type(given).__name__


def info_of_step(core: Any, params: Tree) -> dict[str, Any]:
    """The shapes of the `info` that one environment's `step` returns."""
    return trace_step(core, params)[1][-1]


def shapes(core: Any, params: Tree) -> dict[str, jax.ShapeDtypeStruct]:
    """The shape of every signal of one environment, floats as a Transition has them.

    Raises ValueError for a name that is reserved or that the `info` of a step does not have, and
    for what is no real number.
    """
    names = getattr(core, "signals", ())
    if not (isinstance(names, (tuple, list)) and all(isinstance(name, str) for name in names)):
        raise ValueError(
            f"{core.name} signals={names!r}: allowed is a tuple of names, of what the info of a "
            "step has"
        )
    if not names:
        return {}
    info = info_of_step(core, params)
    arrays = {name for name, x in info.items() if isinstance(x, jax.ShapeDtypeStruct)} - _OWN
    for name in names:
        if name in RESERVED:
            raise ValueError(
                f"{core.name} signals={names!r}: {name!r} is taken by the metric episode/{name}, "
                f"allowed are names other than {RESERVED}"
            )
        if name not in arrays:
            raise ValueError(
                f"{core.name} signals={names!r}: the info of a step has no {name!r}, allowed are "
                f"its arrays {sorted(arrays)}"
            )
        dtype = info[name].dtype
        if not any(jnp.issubdtype(dtype, kind) for kind in REAL):
            raise ValueError(
                f"{core.name} signals={names!r}: {name!r} is of {dtype}, allowed are floats, "
                "integers and booleans"
            )
    return {name: jax.ShapeDtypeStruct(info[name].shape, jnp.result_type(float)) for name in names}
