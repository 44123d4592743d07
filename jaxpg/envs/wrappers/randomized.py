"""Rule of parameters that are drawn anew for each episode."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from jaxpg.core.checks import show_numbers
from jaxpg.core.config import unknown
from jaxpg.core.single import name_of
from jaxpg.core.types import Array, Key, Tree
from jaxpg.envs import corrections
from jaxpg.envs.recipes import fields_of, is_leaf, is_traced, put, take
from jaxpg.envs.wrappers.layer import Move, Rule, State, innermost
from jaxpg.envs.wrappers.params import LIMIT, Params, broadcasts

MOST = 2**31 - 1  # that an int32 counts


def randomized(core: Any, **how: str) -> Rule:
    """Rule that draws parameters. Its memory: those of the running episode, by name.

    how: of each parameter "range" or "choice".
    """
    usual = core.default_params
    _require_numbers(core, usual, how)
    own, limits = {}, {}
    for name, kind in how.items():
        value = _default(usual, name)
        new = (
            {f"{name}_low": value, f"{name}_high": value}
            if kind == "range"
            else {f"{name}_choices": np.asarray(value)[None]}
        )
        own |= new
        bounds = (1, MOST) if name == LIMIT else getattr(core, "limits", {}).get(name)
        limits |= dict.fromkeys(new, bounds) if bounds else {}
    derived = _derived(core, how)

    def draw(key: Key, params: Params) -> Tree:
        keys = jax.random.split(key, len(how))
        several = zip(keys, how.items(), strict=True)
        return {name: _draw(k, params.own, name, kind, usual) for k, (name, kind) in several}

    def inner(params: Params, drawn: Tree) -> Tree:
        new = put(params.inner, drawn)
        return put(new, {name: f(new) for name, f in derived.items()})

    def step(move: Move, key: Key, state: State, action: Array, params: Params):
        return move(key, state.inner, action, inner(params, state.memory)), state.memory

    def widest(params: Params, space_of: Callable[[Any], Any]) -> Any:
        return _unite(
            name_of(core), [space_of(inner(params, ends)) for ends in _corners(params, how)]
        )

    return Rule(
        step=step,
        draw=draw,
        inner=inner,
        observation_space=lambda space, params: widest(params, core.observation_space),
        action_space=lambda core, params: widest(params, core.action_space),
        own=own,
        limits=limits,
        judge=lambda params: _judge(params, how, usual),
        hidden=tuple(how),
    )


def _require_numbers(core: Any, usual: Any, how: Mapping[str, str]) -> None:
    """Raises ValueError for what is no parameter that can be drawn, with those that can."""
    known = fields_of(usual)
    numbers = [
        name
        for name, field in known.items()
        if is_leaf(field) and _kind(take(usual, name)) in ("b", "i", "u", "f")
    ]
    for name, kind in how.items():
        if name not in numbers:
            raise unknown(f"parameter of {name_of(core)} to draw", name, numbers)
        if kind == "range" and _kind(take(usual, name)) == "b":
            raise ValueError(
                f"randomized {name}: it is True or False, allowed is a list of values and no range"
            )


def _kind(value: Any) -> str:
    """Kind of a number or an array, as NumPy names it; "" of anything else."""
    if isinstance(value, (bool, int, float, np.ndarray, np.generic, jax.Array)):
        return np.asarray(value).dtype.kind
    return ""


def _default(usual: Any, name: str) -> Any:
    """The usual value of a parameter; a float where an integer stands for one."""
    value = take(usual, name)
    hint = getattr(fields_of(usual)[name], "type", None)
    return float(value) if type(value) is int and "float" in str(hint) else value


def _draw(key: Key, own: Mapping[str, Any], name: str, kind: str, usual: Any) -> Array:
    """Draws one parameter."""
    default = _default(usual, name)
    like = jnp.asarray(default)
    if kind == "choice":
        values = jnp.asarray(own[f"{name}_choices"]).astype(like.dtype)
        return values[jax.random.randint(key, (), 0, len(values))]
    low, high = (jnp.asarray(own[f"{name}_{end}"]).astype(like.dtype) for end in ("low", "high"))
    if jnp.issubdtype(like.dtype, jnp.integer):
        return jax.random.randint(key, like.shape, low, high + 1, like.dtype)
    return jax.random.uniform(key, like.shape, like.dtype, low, high)


def _derived(core: Any, how: Mapping[str, str]) -> dict[str, Callable]:
    """Parameters that follow from those that are drawn, and are not drawn themselves."""
    found = {}
    for name, f in corrections.DERIVED.get(name_of(innermost(core)), {}).items():
        asked = _Asked(core.default_params)
        f(asked)
        if name not in how and asked.names & set(how):
            found[name] = f
    return found


class _Asked:
    """Parameters that remember which of them were asked for."""

    def __init__(self, params: Any):
        self.params, self.names = params, set()

    def __getattr__(self, name: str) -> Any:
        self.names.add(name)
        return getattr(self.params, name)


def _judge(params: Params, how: Mapping[str, str], usual: Any) -> str | None:
    """Words on the first range that is none."""
    for name, kind in how.items():
        shape = np.shape(take(usual, name))
        parts = ("choices",) if kind == "choice" else ("low", "high")
        values = [params.own[f"{name}_{part}"] for part in parts]
        if is_traced(values):
            continue
        if kind == "choice":
            fits = np.ndim(values[0]) and np.shape(values[0])[1:] == shape and len(values[0])
            allowed = f"a list of values of shape {shape}"
        else:
            fits = all(broadcasts(np.shape(x), shape) for x in values)
            fits = fits and np.all(np.asarray(values[0]) <= np.asarray(values[1]))
            allowed = f"a range (low, high), low <= high, of numbers or arrays {shape}"
        if not fits:
            told = zip(parts, map(show_numbers, values), strict=True)
            said = ", ".join(f"{name}_{part}={x}" for part, x in told)
            return f"{said}: allowed is {allowed}"
    return None


def _corners(params: Params, how: Mapping[str, str]) -> list[dict[str, Array]]:
    """Ends of the ranges: all low, all high, and each one against all others."""

    def end(name: str, high: bool) -> Any:
        if how[name] == "range":
            shape = jnp.shape(take(params.inner, name))
            return jnp.broadcast_to(params.own[f"{name}_{'high' if high else 'low'}"], shape)
        values = jnp.asarray(params.own[f"{name}_choices"])
        return values.max(0) if high else values.min(0)

    alone = [] if len(how) == 1 else list(how)
    sides = [dict.fromkeys(how, high) for high in (False, True)]
    sides += [{k: (k == one) == high for k in how} for one in alone for high in (False, True)]
    return [{name: end(name, high) for name, high in one.items()} for one in sides]


def _unite(name: str, several: list[Any]) -> Any:
    """The space that has all of several in it, of which bounds alone differ."""
    first = several[0]
    inner = getattr(first, "spaces", None)
    if isinstance(inner, dict):
        return spaces.Dict({k: _unite(name, [x.spaces[k] for x in several]) for k in inner})
    if inner is not None:
        parts = zip(*(x.spaces for x in several), strict=True)
        return spaces.Tuple(tuple(_unite(name, list(x)) for x in parts))
    if len({str((x.shape, getattr(x, "n", None), getattr(x, "nvec", None))) for x in several}) > 1:
        raise ValueError(
            f"randomized: its spaces are {several[0]} and {several[1]} at the ends, allowed are "
            f"parameters of {name} that leave their shapes as they are"
        )
    if not hasattr(first, "low"):
        return first
    low, high = several[0].low, several[0].high
    for one in several[1:]:
        low, high = jnp.minimum(low, one.low), jnp.maximum(high, one.high)
    return spaces.Box(low, high, first.shape, first.dtype)
