"""Signals: what an environment says beside its reward, and learning may use.

A core names entries of the `info` that its `step` returns: `signals = ("cost",)`. They come with
every Transition, of the step as it truly ended. A dict holds them, for the environment alone knows
their names; an empty one has no leaves, so that without signals nothing is stored or summed.

A scalar one is summed over an episode. So are several costs, a `cost` [K]: as `cost_0` ..
`cost_<K-1>`; and of a game, see `core.games`, the players' `rewards` [P]: as `return_0` ..
`return_<P-1>`.
"""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jaxpg.core.single import name_of, trace_step
from jaxpg.core.types import Array, Tree

RESERVED = ("return", "length", "count")  # of the metrics `episode/<name>`
REAL = (jnp.floating, jnp.integer, jnp.bool_)
_OWN = {"terminated", "truncated", "final_observation"}  # a Transition has them anyway


def info_of_step(core: Any, params: Tree) -> dict[str, Any]:
    """The shapes of the `info` that one environment's `step` returns."""
    return trace_step(core, params)[1][-1]


def shapes(core: Any, params: Tree) -> dict[str, jax.ShapeDtypeStruct]:
    """The shape of every signal of one environment, floats as a Transition has them.

    Raises ValueError for a name that is reserved or that the `info` of a step does not have, and
    for what is no real number.
    """
    names = getattr(core, "signals", ())
    said = f"{name_of(core)} signals={names!r}"
    if not (isinstance(names, (tuple, list)) and all(isinstance(name, str) for name in names)):
        raise ValueError(f"{said}: allowed is a tuple of names, of what the info of a step has")
    if not names:
        return {}
    info = info_of_step(core, params)
    arrays = {name for name, x in info.items() if isinstance(x, jax.ShapeDtypeStruct)} - _OWN
    for name in names:
        if name in RESERVED:
            raise ValueError(
                f"{said}: {name!r} is taken by the metric episode/{name}, "
                f"allowed are names other than {RESERVED}"
            )
        if name not in arrays:
            raise ValueError(
                f"{said}: the info of a step has no {name!r}, allowed are its arrays "
                f"{sorted(arrays)}"
            )
        dtype = info[name].dtype
        if not any(jnp.issubdtype(dtype, kind) for kind in REAL):
            raise ValueError(
                f"{said}: {name!r} is of {dtype}, allowed are floats, integers and booleans"
            )
    return {name: jax.ShapeDtypeStruct(info[name].shape, jnp.result_type(float)) for name in names}


def scalars(core: Any, params: Tree) -> list[str]:
    """Names of the signals that are one number, and of the entries of a `cost` [K]."""
    return _scalars_of(shapes(core, params))


def _scalars_of(shapes: dict[str, jax.ShapeDtypeStruct]) -> list[str]:
    found = []
    for name, x in shapes.items():
        found += [name] if x.shape == () else []
        if name == "cost" and len(x.shape) == 1:
            found += [f"cost_{i}" for i in range(x.shape[0])]
    return found


def summed(core: Any, params: Tree) -> list[str]:
    """Names of the sums over an episode."""
    found = shapes(core, params)  # a trace of the environment: once for both
    players = getattr(core, "players", 0) if "rewards" in found else 0
    return [*_scalars_of(found), *(f"return_{i}" for i in range(players))]


def terms(signals: dict[str, Array], names: Iterable[str]) -> dict[str, Array]:
    """Terms [N] that a step adds to these sums, from its signals [N, ...]."""

    def term(name: str) -> Array:
        if name in signals:
            return signals[name]
        of, _, i = name.rpartition("_")
        return signals["rewards" if of == "return" else of][..., int(i)]

    return {name: term(name) for name in names}


def require(core: Any, params: Tree, name: str, shape: tuple[int, ...], asks: str) -> None:
    """Raises ValueError unless a core has a signal of this name and shape. asks: the field of a
    config that needs it, for the error."""
    found = shapes(core, params)
    if name not in found or found[name].shape != shape:
        has = f"{name!r} of shape {found[name].shape}" if name in found else tuple(found)
        raise ValueError(
            f"{asks}: {name_of(core)} has the signals {has}: allowed here is one {name!r} of shape "
            f"{shape}"
        )
