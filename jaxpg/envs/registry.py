"""Environments by name: gymnax's, jaxpg's own, and those that users register with gymnax."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxpg.core.config import unknown
from jaxpg.core.env import Env
from jaxpg.envs import recipes

_NEEDS_DOWNLOAD = ("MNISTBandit-bsuite",)


@functools.cache
def _core(name: str, options: str) -> tuple[Any, Any]:
    """The code and the default parameters of an environment, from its options as JSON. One object
    per environment: a new one would be a new key of every jit cache."""
    factory = _corrections().FACTORIES.get(name, _gymnax().registration._registry[name])
    with jax.ensure_compile_time_eval():  # inside a trace too: it is kept for what comes after
        try:
            core = factory(**{k: recipes.read(told) for k, told in json.loads(options).items()})
        except ValueError:
            raise
        except Exception as error:
            said = " ".join(f"{type(error).__name__} {error}".split())
            raise ValueError(f"{name} {options}: its constructor refuses that: {said}") from error
        return core, core.default_params


@functools.cache
def _gymnax() -> Any:
    """gymnax, with jaxpg's own environments registered. Imported late: it makes JAX's devices."""
    with jax.ensure_compile_time_eval():  # modules have arrays, also if a trace imports them
        import gymnax

        from jaxpg.envs import partial, tabular
        from jaxpg.envs.finance import almgren_chriss, liquidation_game, portfolio

    for module in (tabular, partial, almgren_chriss, liquidation_game, portfolio):
        for name, factory in module.ENVIRONMENTS.items():
            gymnax.register(name, factory)
    return gymnax


def _corrections() -> Any:
    _gymnax()
    from jaxpg.envs import corrections

    return corrections


def names() -> list[str]:
    """The environments that `make` knows: gymnax's, jaxpg's, and what users registered there."""
    return [n for n in _gymnax().registered_envs if n not in _NEEDS_DOWNLOAD]


def make(name: str, **params: Any) -> Env:
    """An environment by name; keywords override its parameters or constructor arguments.

    Numbers of parameters may be traced. Raises ValueError for an unknown name or parameter (with
    the nearest one), a value that is not of the default's kind, finite and within the environment's
    `limits`, or that JSON cannot say, and an environment that would need a download.

    >>> env = jaxpg.make("CartPole-v1", gravity=20.0)
    >>> env.name, env.params.gravity
    ('CartPole-v1', 20.0)
    """
    if isinstance(name, str) and name in _NEEDS_DOWNLOAD:
        raise ValueError(f"environment {name!r} needs a download: allowed are those that do not")
    if not isinstance(name, str) or name not in names():
        raise unknown("environment", name, names())
    _judge(name, params)
    return _build(name, params)


def _judge(name: str, params: dict[str, Any]) -> None:
    """Raises ValueError for the first parameter that is unknown, or whose value is not allowed."""
    usual, factory = _core(name, "{}")[1], arguments(name)
    own = {f.name: f for f in dataclasses.fields(usual)}
    for key, value in params.items():
        if key in own:
            default, hint, leaf = getattr(usual, key), own[key].type, _is_leaf(own[key])
        elif key in factory:
            default, hint, leaf = factory[key].default, factory[key].annotation, False
        else:
            raise unknown(f"{name} parameter", key, {*own, *factory})
        if recipes.is_traced(value):
            if leaf:
                continue
            raise ValueError(f"{name} {key} is traced: allowed is a value that is known before")
        least = " >= 1" if key == "max_steps_in_episode" else ""
        if allowed := recipes.not_allowed(value, default, hint):
            allowed += least if allowed == "an integer" else ""
            shown = " ".join(repr(value).split())  # arrays and keys are written in lines
            raise ValueError(f"{name} {key}={shown}: allowed is {allowed}")
        if least and np.any(np.asarray(recipes.read(recipes.tell(value))) < 1):
            raise ValueError(f"{name} {key}={value!r}: allowed is an integer >= 1")


def _is_leaf(field: dataclasses.Field) -> bool:
    """True for a parameter that may be traced; flax's `pytree_node=False` says that it may not."""
    return field.metadata.get("pytree_node", True)


def _build(name: str, params: dict[str, Any]) -> Env:
    """An environment from parameters that were judged."""
    own = {f.name: f for f in dataclasses.fields(_core(name, "{}")[1])}
    factory = arguments(name)
    given = {k: _as_meant(x, factory[k].default) for k, x in params.items() if k not in own}
    options = json.dumps(given, sort_keys=True)
    core, usual = _core(name, options)
    values = {k: x for k, x in params.items() if k in own}
    for k, x in values.items():
        if _is_leaf(own[k]):
            values[k] = recipes.settle(x, getattr(usual, k))
        elif recipes.can_tell(x):  # a part of the program, which has to be hashable
            values[k] = recipes.read(recipes.tell(x))
    made = dataclasses.replace(usual, **values)
    for key, (least, most) in getattr(core, "limits", {}).items():
        value = getattr(made, key)
        if not recipes.is_traced(value) and np.any(
            (np.asarray(value) < least) | (np.asarray(value) > most)
        ):
            raise ValueError(f"{name} {key}={value}: allowed is a number >= {least} and <= {most}")
    derived = {k: f(made) for k, f in _derived(name).items() if k not in params}
    return Env(dataclasses.replace(made, **derived), core, (name, options))


def _derived(name: str) -> dict[str, Any]:
    """Parameters that follow from others, as functions of all."""
    return _corrections().DERIVED.get(name, {})


def _as_meant(value: Any, default: Any) -> Any:
    """A constructor's argument as JSON has it; 8.0 is 8 where an integer is meant."""
    told = recipes.tell(value)
    return int(told) if type(default) is int and isinstance(told, float) and told % 1 == 0 else told


def arguments(name: str) -> Mapping[str, inspect.Parameter]:
    """Arguments of a registered environment's constructor: parameters that are static."""
    return inspect.signature(_gymnax().registration._registry[name]).parameters


def options(env: Env) -> dict[str, Any]:
    """Arguments of an environment's constructor, of those that `make` got, as JSON has them."""
    return json.loads(env.made_of[1]) if env.made_of else {}


def with_params(env: Env, **params: Any) -> Env:
    """Replaces parameters of an environment; what follows from them follows them.

    Raises ValueError for an unknown parameter or a value that is not allowed, as `make` does.
    """
    own = {f.name: getattr(env.params, f.name) for f in dataclasses.fields(env.params)}
    if env.made_of:
        _judge(env.name, params)
        kept = {k: v for k, v in own.items() if k not in _derived(env.name)}
        return _build(env.name, {**options(env), **kept, **params})
    for key in params:
        if key not in own:
            raise unknown(f"{env.name} parameter", key, own)
    return dataclasses.replace(env, params=dataclasses.replace(env.params, **params))


def to_dict(env: Env) -> dict[str, Any]:
    """The keywords of `make` that give this environment again, as plain JSON values.

    Raises ValueError for an environment that `make` did not make, and for traced parameters.
    """
    if not env.made_of:
        raise ValueError(f"environment {env.name!r} was not made by jaxpg.make: it has no recipe")
    name = env.name
    params = {f.name: getattr(env.params, f.name) for f in dataclasses.fields(env.params)}
    if traced := [k for k, value in params.items() if recipes.is_traced(value)]:
        raise ValueError(f"{name} {traced[0]} is traced: allowed are numbers that are known")
    # What cannot be told is the core's default: `make` takes no other.
    params = {k: recipes.plain(value) for k, value in params.items() if recipes.can_tell(value)}
    return {"name": name, **options(env), **params}


def from_dict(values: dict[str, Any]) -> Env:
    """The inverse of `to_dict`. Raises as `make`."""
    return make(**values)
