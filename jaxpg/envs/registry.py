"""Environments by name: gymnax's, jaxpg's own, and those that users register with gymnax."""

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxpg.core.config import unknown
from jaxpg.core.env import Env

# gymnax keeps these beside the parameters they follow from, and does not recompute them.
_DERIVED = {
    "CartPole-v1": {
        "total_mass": lambda p: p.masscart + p.masspole,
        "polemass_length": lambda p: p.masspole * p.length,
    }
}


_DERIVED["CartPolePositions-jaxpg"] = _DERIVED["CartPole-v1"]


_NEEDS_DOWNLOAD = {"MNISTBandit-bsuite"}


@functools.cache
def _core(name: str, options: tuple):
    """One object per environment: a new one would be a new key of every jit cache."""
    return _gymnax().make(name, **dict(options))


@functools.cache
def _gymnax():
    """gymnax, with jaxpg's own environments registered. Imported late: it makes JAX's devices."""
    import gymnax

    from jaxpg.envs import partial, tabular
    from jaxpg.envs.finance import almgren_chriss, liquidation_game, portfolio

    for module in (tabular, partial, almgren_chriss, liquidation_game, portfolio):
        for name, factory in module.ENVIRONMENTS.items():
            gymnax.register(name, factory)
    return gymnax


def names() -> list[str]:
    """The environments that `make` knows: gymnax's, jaxpg's, and what users registered there."""
    return [n for n in _gymnax().registered_envs if n not in _NEEDS_DOWNLOAD]


def make(name: str, **params: Any) -> Env:
    """An environment by name; keywords override its parameters or constructor arguments.

    Raises ValueError for an unknown name or parameter (with the nearest one), a value that is
    not a finite number (text, if the default is text), or out of the environment's `limits`, or
    an environment that would need a download.

    >>> env = jaxpg.make("CartPole-v1", gravity=20.0)
    >>> env.name, env.params.gravity
    ('CartPole-v1', 20.0)
    """
    if isinstance(name, str) and name in _NEEDS_DOWNLOAD:
        raise ValueError(f"environment {name!r} needs a download: allowed are those that do not")
    if not isinstance(name, str) or name not in names():
        raise unknown("environment", name, names())
    factory = arguments(name)
    usual = _core(name, ())[1]
    defaults = {f.name: f.type for f in dataclasses.fields(usual)}
    for key, value in params.items():
        if key not in defaults and key not in factory:
            raise unknown(f"{name} parameter", key, {*defaults, *factory})
        if key in factory and isinstance(factory[key].default, str):
            if not isinstance(value, str):
                raise ValueError(f"{name} {key}={value!r}: allowed is a string")
            continue
        default = getattr(usual, key) if key in defaults else factory[key].default
        if allowed := _not_allowed(value, default, defaults.get(key)):
            raise ValueError(f"{name} {key}={value!r}: allowed is {allowed}")
    if np.any(np.asarray(params.get("max_steps_in_episode", 1)) < 1):
        value = params["max_steps_in_episode"]
        raise ValueError(f"{name} max_steps_in_episode={value!r}: allowed is an integer >= 1")
    options = tuple(sorted((k, v) for k, v in params.items() if k not in defaults))
    core, default = _core(name, options)
    own = default.replace(**{k: v for k, v in params.items() if k in defaults})
    for key, (least, most) in getattr(core, "limits", {}).items():
        value = np.asarray(getattr(own, key))
        if np.any((value < least) | (value > most)):
            raise ValueError(f"{name} {key}={value}: allowed is a number >= {least} and <= {most}")
    derived = {k: f(own) for k, f in _DERIVED.get(name, {}).items() if k not in params}
    return Env(own.replace(**derived), core, (name, options))


def _not_allowed(value: Any, default: Any, hint: Any) -> str | None:
    """What is allowed where a value is not of the kind of its default; None if it is. Truths are no
    numbers, and an integer has no fraction."""
    x = np.asarray(value)
    if isinstance(default, bool):
        return None if x.dtype.kind == "b" else "True or False"
    meant = isinstance(default, int) and "float" not in str(hint)
    if x.dtype.kind not in "iuf" or not np.isfinite(x).all() or (meant and (x % 1).any()):
        return "an integer" if meant else "a finite number"
    return None


def arguments(name: str) -> Mapping[str, inspect.Parameter]:
    """Arguments of a registered environment's constructor: parameters that are static."""
    return inspect.signature(_gymnax().registration._registry[name]).parameters


def with_params(env: Env, **params: Any) -> Env:
    """Replaces parameters of an environment; what follows from them follows them.

    Raises ValueError for an unknown parameter or a value that is not allowed, as `make` does.
    """
    own = {f.name: getattr(env.params, f.name) for f in dataclasses.fields(env.params)}
    if env.made_of:
        name, options = env.made_of
        kept = {k: v for k, v in own.items() if k not in _DERIVED.get(name, {})}
        return make(name, **{**dict(options), **kept, **params})
    for key in params:
        if key not in own:
            raise unknown(f"{env.name} parameter", key, own)
    return dataclasses.replace(env, params=dataclasses.replace(env.params, **params))


def to_dict(env: Env) -> dict[str, Any]:
    """The keywords of `make` that give this environment again, as plain JSON values.

    Raises ValueError for an environment that `make` did not make.
    """
    if not env.made_of:
        raise ValueError(f"environment {env.name!r} was not made by jaxpg.make: it has no recipe")
    name, options = env.made_of
    params = {f.name: getattr(env.params, f.name) for f in dataclasses.fields(env.params)}
    return {"name": name, **dict(options), **{k: np.asarray(v).tolist() for k, v in params.items()}}


def from_dict(values: dict[str, Any]) -> Env:
    """The inverse of `to_dict`: JSON knows lists, environments want arrays. Raises as `make`."""
    own: dict[str, Any] = {k: np.asarray(v) if type(v) is list else v for k, v in values.items()}
    return make(**own)
