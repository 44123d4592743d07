"""Environments by name: gymnax's, jaxpg's own, those that users register with gymnax, those that
installed packages announce, those of suites, and any "module:Object"."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxpg.core.config import unknown
from jaxpg.core.env import Env
from jaxpg.core.names import Trust, name_problem
from jaxpg.core.sources import ENVS, announced
from jaxpg.envs import own, recipes, suites
from jaxpg.envs.wrappers.recipe import FILLED, WRAPPERS, settle, wrap_core

_NEEDS_DOWNLOAD = ("MNISTBandit-bsuite",)


@functools.cache
def _core(name: str, options: str, factory: Callable) -> tuple[Any, Any, str]:
    """The code and the usual parameters of an environment, from its options as JSON, and the name
    of which it is a version. One object per environment: a new one would be a new key of every jit
    cache."""
    given = json.loads(options)
    if wrappers := given.pop(WRAPPERS, []):
        core, usual, base = _core(name, json.dumps(given, sort_keys=True), factory)
        for kind, static in wrappers:
            core, usual = wrap_core(core, usual, kind, static)
        return core, usual, base
    with jax.ensure_compile_time_eval():  # inside a trace too: it is kept for what comes after
        try:
            made = factory(**{k: recipes.read(told) for k, told in given.items()})
        except ValueError:
            raise
        except Exception as error:
            said = " ".join(f"{type(error).__name__} {error}".split())
            raise ValueError(f"{name} {options}: its constructor refuses that: {said}") from error
        return own.take_apart(name, made)


def _usual(name: str, factory: Callable, params: Mapping[str, Any] = {}) -> Any:
    """The usual parameters of an environment, whose constructor gets what it cannot do without."""
    needed = [k for k, x in _arguments(name, factory).items() if x.default is x.empty]
    if missing := [key for key in needed if key not in params]:
        one = "one" if len(missing) == 1 else "them"
        words = " ".join(f"--param {key}=..." for key in missing)
        raise ValueError(
            f"{name} has no {', '.join(missing)}: its constructor needs {one}, given by {words} or "
            f"by jaxpg.make(..., {', '.join(f'{key}=...' for key in missing)})"
        )
    given = {key: _as_meant(params[key], None) for key in needed}
    if WRAPPERS in params:
        given[WRAPPERS] = params[WRAPPERS]
    return _core(name, json.dumps(given, sort_keys=True), factory)[1]


@functools.cache
def _gymnax() -> Any:
    """gymnax, with jaxpg's own environments registered. Imported late: it makes JAX's devices."""
    with jax.ensure_compile_time_eval():  # modules have arrays, also if a trace imports them
        import gymnax

        from jaxpg.envs import lqr, maze, noisy_tv, partial, tabular
        from jaxpg.envs.costs import cart_pole, hazards
        from jaxpg.envs.finance import almgren_chriss, liquidation_game, portfolio
        from jaxpg.envs.games import kuhn, matrix, pursuit, spread, tictactoe
        from jaxpg.envs.goals import arm, bit_flip, point, rooms

    modules = [tabular, partial, almgren_chriss, liquidation_game, portfolio]
    modules += [matrix, kuhn, tictactoe, pursuit, spread, bit_flip, point, arm, rooms]
    modules += [hazards, cart_pole, lqr, maze, noisy_tv]
    for module in modules:
        for name, factory in module.ENVIRONMENTS.items():
            gymnax.register(name, factory)
    return gymnax


def _corrections() -> Any:
    _gymnax()
    from jaxpg.envs import corrections

    return corrections


def names() -> list[str]:
    """The environments that `make` knows by name: gymnax's, jaxpg's, what users registered there,
    and what installed packages announce."""
    known = [n for n in _gymnax().registered_envs if n not in _NEEDS_DOWNLOAD]
    return [*known, *sorted(announced(ENVS).keys() - set(known))]


def make(name: str, **params: Any) -> Env:
    """An environment by name; keywords override its parameters or constructor arguments.

    name: of gymnax, of jaxpg, of an installed package that announces it, "suite/name" of another
    suite (docs/suites.md), or "module:Object" of a class, an instance, or a function that returns
    an `Env` or a core. Numbers of parameters may be traced. `wrappers=[("frame_stack", 4)]` puts
    wrappers around it, the inner one first. Raises ValueError for an unknown name or parameter
    (with the nearest one), a value that is not of the default's kind, finite and within the
    environment's `limits`, or that JSON cannot say, a suite that is not installed, and an
    environment that would need a download.

    >>> env = jaxpg.make("CartPole-v1", gravity=20.0)
    >>> env.name, env.params.gravity
    ('CartPole-v1', 20.0)
    """
    return find(name, True, **params)


def find(name: str, trust: Trust = False, /, **params: Any) -> Env:
    """An environment by name, as of `make`. trust: whether the module of "module:Object" may be
    imported for it, see `core.names`: True for what the user has said. Raises as `make`, and
    UntrustedError for what is not allowed."""
    if isinstance(name, str) and name in _NEEDS_DOWNLOAD:
        raise ValueError(f"environment {name!r} needs a download: allowed are those that do not")
    if WRAPPERS in params:
        params = _with_wrappers(params, trust)
    factory = find_factory(name, trust, _without_wrappers(params))
    _judge(name, params, factory)
    return _build(name, params, factory)


def _with_wrappers(params: Mapping[str, Any], trust: Trust) -> dict[str, Any]:
    """Arguments of `make` with its `wrappers` as a recipe has them, and the parameters in these."""
    wrappers, numbers = settle(params[WRAPPERS], trust)
    if twice := (numbers.keys() & params.keys()) - FILLED:
        raise ValueError(
            f"{min(twice)} is given twice, in {WRAPPERS} and beside it: allowed is one"
        )
    rest = numbers | _without_wrappers(params)
    return {**rest, WRAPPERS: wrappers} if wrappers else rest


def _without_wrappers(params: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are the environment's own."""
    return {key: value for key, value in params.items() if key != WRAPPERS}


def find_factory(name: str, trust: Trust, params: Mapping[str, Any]) -> Callable:
    """Finds the factory of an environment. params: its arguments. Raises as `find`."""
    if isinstance(name, str) and ":" not in name:
        if name in _gymnax().registered_envs and name not in _NEEDS_DOWNLOAD:
            return _corrections().FACTORIES.get(name, _gymnax().registration._registry[name])
        if name in announced(ENVS):
            return own.find_factory(announced(ENVS)[name], trust, params)
        if "/" in name:
            return suites.find_maker(name)
    if not isinstance(name, str) or ":" not in name:
        raise unknown("environment", name, names())
    try:
        return own.find_factory(name, trust, params)
    except ValueError as error:
        raise name_problem("environment", name, error) from error


def _judge(
    name: str, params: Mapping[str, Any], factory: Callable, given: Mapping[str, Any] = {}
) -> None:
    """Raises ValueError for the first parameter that is unknown, or whose value is not allowed.
    given: the constructor's arguments as JSON has them, where it has some already."""
    usual, options = _usual(name, factory, {**given, **params}), _arguments(name, factory)
    known = recipes.fields_of(usual)
    for key, value in _without_wrappers(params).items():
        if key in known:
            hint = getattr(known[key], "type", None)
            default, leaf = recipes.take(usual, key), recipes.is_leaf(known[key])
        elif key in options:
            default, hint, leaf = options[key].default, options[key].annotation, False
        else:
            raise unknown(f"{name} parameter", key, {*known, *options})
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


def _build(name: str, params: dict[str, Any], factory: Callable) -> Env:
    """An environment from parameters that were judged."""
    known = recipes.fields_of(_usual(name, factory, params))
    options = _arguments(name, factory)
    own_args = {k: x for k, x in _without_wrappers(params).items() if k not in known}
    given = {k: _as_meant(x, options[k].default) for k, x in own_args.items()}
    if WRAPPERS in params:
        given[WRAPPERS] = params[WRAPPERS]
    told = json.dumps(given, sort_keys=True)
    core, usual, base = _core(name, told, factory)
    values = {k: x for k, x in params.items() if k in known}
    for k, x in values.items():
        if recipes.is_leaf(known[k]):
            values[k] = recipes.settle(x, recipes.take(usual, k))
        elif recipes.can_tell(x):  # a part of the program, which has to be hashable
            values[k] = recipes.read(recipes.tell(x))
    made = recipes.put(usual, values)
    recipes.require_limits(name, core, made)
    derived = {k: f(made) for k, f in _derived(base).items() if k not in params}
    recipe = (name, told) if is_registered(name) else (name, told, factory)
    return Env(recipes.put(made, derived), core, recipe)


def is_registered(name: str) -> bool:
    """True for a name that needs no module: of gymnax's registry, or of a suite that is there."""
    return name in _gymnax().registration._registry or suites.knows(name)


def _derived(name: str) -> dict[str, Any]:
    """Parameters that follow from others, as functions of all."""
    return _corrections().DERIVED.get(name, {})


def _as_meant(value: Any, default: Any) -> Any:
    """A constructor's argument as JSON has it; 8.0 is 8 where an integer is meant."""
    told = recipes.tell(value)
    return int(told) if type(default) is int and isinstance(told, float) and told % 1 == 0 else told


def _factory(env: Env) -> Callable:
    """Factory of an environment that `make` made."""
    return env.made_of[2] if len(env.made_of) > 2 else find_factory(env.name, False, {})


def _arguments(name: str, factory: Callable) -> Mapping[str, inspect.Parameter]:
    """Arguments of an environment's constructor: parameters that are static."""
    registered = _gymnax().registration._registry
    if name in registered:
        return inspect.signature(registered[name]).parameters
    return own.arguments(factory)


def arguments(env: Env) -> Mapping[str, inspect.Parameter]:
    """Arguments of the constructor of an environment that `make` made; {} for another one."""
    return _arguments(env.name, _factory(env)) if env.made_of else {}


def options(env: Env) -> dict[str, Any]:
    """Arguments of an environment's constructor, of those that `make` got, as JSON has them."""
    return json.loads(env.made_of[1]) if env.made_of else {}


def with_params(env: Env, trust: Trust = True, /, **params: Any) -> Env:
    """Replaces parameters of an environment; what follows from them follows them.

    trust: whether its constructor may be called with these, see `core.calls`: True for what the
    user has said. Raises ValueError for an unknown parameter or a value that is not allowed, as
    `make` does.
    """
    now = {name: recipes.take(env.params, name) for name in recipes.fields_of(env.params)}
    if WRAPPERS in params:
        raise unknown(f"{env.name} parameter", WRAPPERS, now)
    if env.made_of:
        factory, given = _factory(env), options(env)
        own.judge_factory(env.name, factory, trust, _without_wrappers({**given, **params}))
        _judge(env.name, params, factory, given)
        base = _core(env.name, env.made_of[1], factory)[2]
        kept = {k: v for k, v in now.items() if k not in _derived(base)}
        return _build(env.name, {**given, **kept, **params}, factory)
    for key in params:
        if key not in now:
            raise unknown(f"{env.name} parameter", key, now)
    return dataclasses.replace(env, params=recipes.put(env.params, params))


def renamed(env: Env, values: Mapping[str, Any]) -> Env:
    """The environment under the name of `values`, as of `to_dict`, where that is no name of
    gymnax's registry: for a record whose environment is called otherwise now."""
    name = values["name"]
    if is_registered(name):
        return env
    if env.made_of:
        return Env(env.params, env.core, (name, env.made_of[1], _factory(env)))
    known = recipes.fields_of(env.params)
    given = {k: x for k, x in values.items() if k not in known and k != "name"}
    return Env(env.params, env.core, (name, json.dumps(given, sort_keys=True), type(env.core)))


def to_dict(env: Env) -> dict[str, Any]:
    """The keywords of `make` that give this environment again, as plain JSON values.

    Raises ValueError for an environment that `make` did not make, and for traced parameters.
    """
    if not env.made_of:
        raise ValueError(f"environment {env.name!r} was not made by jaxpg.make: it has no recipe")
    name = env.name
    params = {name: recipes.take(env.params, name) for name in recipes.fields_of(env.params)}
    if traced := [k for k, value in params.items() if recipes.is_traced(value)]:
        raise ValueError(f"{name} {traced[0]} is traced: allowed are numbers that are known")
    # What cannot be told is the core's default: `make` takes no other.
    params = {k: recipes.plain(value) for k, value in params.items() if recipes.can_tell(value)}
    return {"name": name, **options(env), **params}


def from_dict(values: Mapping[str, Any], trust: Trust = False) -> Env:
    """The inverse of `to_dict`. Raises as `find`."""
    params = {name: value for name, value in values.items() if name != "name"}
    return find(values.get("name", ""), trust, **params)
