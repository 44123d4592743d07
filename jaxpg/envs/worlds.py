"""Worlds: an environment under single parameters that are fixed, also where it draws them anew for
each episode, and the parameters that follow from them."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxpg.core.config import unknown
from jaxpg.core.env import Env
from jaxpg.core.single import is_batched, name_of
from jaxpg.envs import corrections, recipes, registry
from jaxpg.envs.wrappers.layer import innermost
from jaxpg.envs.wrappers.params import CHANCES, Params


def drawn_ranges(env: Env) -> dict[str, tuple[float, float]]:
    """The least and the greatest value of each parameter that an environment draws for an episode,
    as of `randomized`; {} if it draws none. Of an array both are arrays."""
    found = {}
    for name, own in _drawn(env).items():
        if f"{name}_low" in own:
            found[name] = own[f"{name}_low"], own[f"{name}_high"]
        else:
            values = np.asarray(own[f"{name}_choices"])
            found[name] = values.min(0), values.max(0)
    return found


def _drawn(env: Env) -> dict[str, dict[str, Any]]:
    """Of each parameter that is drawn the parameters of the wrapper that draws it."""
    found, params = {}, env.params
    while isinstance(params, Params):
        found |= dict.fromkeys(params.hidden, params.own)
        params = params.inner
    return found


def nominal(env: Env, name: str) -> Any:
    """The value of a parameter; of one that is drawn that of the environment in the wrapper.

    >>> env = jaxpg.randomized(jaxpg.make("CartPole-v1"), length=(0.25, 1.5))
    >>> jaxpg.envs.worlds.nominal(env, "length")
    0.5
    """
    return recipes.take(env.params, name)


def fix_params(env: Env, values: Mapping[str, Any]) -> Env:
    """Fixes parameters at numbers [], which may be traced; all others that are drawn at their
    nominal values. What follows from a parameter follows it."""
    drawn = _drawn(env)
    new: dict[str, Any] = {}
    for name in {**drawn, **values}:
        value = values.get(name, nominal(env, name))
        if name not in drawn:
            new[name] = value
        elif f"{name}_choices" in drawn[name]:
            new[f"{name}_choices"] = jnp.asarray(value)[None]
            new |= {k: jnp.ones(1) for k in drawn[name] if k == CHANCES}
        else:
            new[f"{name}_low"] = new[f"{name}_high"] = value
    params = recipes.put(env.params, new)
    derived = _derived(env)
    follows = {k: f(params) for k, f in derived.items() if k not in {*values, *drawn}}
    return Env(recipes.put(params, follows), env.core, env.made_of)


def _derived(env: Env) -> Mapping[str, Callable]:
    return corrections.DERIVED.get(name_of(innermost(env.core)), {})


def require_parameter(env: Env, name: str) -> None:
    """Raises ValueError unless a parameter of an environment is one number that can be fixed."""
    if is_batched(env.core):
        raise ValueError(f"{env.name} {name}: allowed are no parameters, for it is on the host")
    drawn = _drawn(env)
    rows = {f"{k}_{end}" for k in drawn for end in ("low", "high", "choices")}
    fields = recipes.fields_of(env.params)
    known = [k for k in (*fields, *drawn) if k not in rows]
    if name not in known:
        if name in registry.arguments(env):
            raise ValueError(
                f"{env.name} {name}: it is an argument of the constructor, a part of the program; "
                f"allowed are parameters: {', '.join(sorted(known))}"
            )
        free = [k for k in known if k in drawn or k not in _derived(env)]
        raise unknown(f"{env.name} parameter", name, free)
    value = np.asarray(nominal(env, name))
    leaf = name in drawn or recipes.is_leaf(fields[name])
    if not leaf or value.dtype.kind not in ("i", "u", "f") or value.shape:
        said = f"{value!r}" if value.dtype.kind in "biufU" and leaf else "no leaf"
        raise ValueError(f"{env.name} {name}: it is {said}, allowed is a parameter of one number")
    derived = _derived(env)
    if name in derived and name not in drawn:
        rest = [k for k in known if k not in derived]
        raise ValueError(
            f"{env.name} {name}: it follows from others, allowed are {', '.join(sorted(rest))}"
        )
