"""Wrappers by name: how one is put around an environment, and what of it a folder writes down.

An environment's recipe has a list `wrappers`, the inner one first, of names and those arguments
that are a part of the program. Numbers are parameters of the environment, as its own are.
"""

import functools
import importlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from jaxpg.core.checks import require_env, show
from jaxpg.core.config import unknown
from jaxpg.core.env import Env
from jaxpg.core.games import is_game
from jaxpg.core.names import Trust
from jaxpg.core.single import name_of
from jaxpg.envs import recipes
from jaxpg.envs.wrappers import named
from jaxpg.envs.wrappers.params import CHANCES

WRAPPERS = "wrappers"  # the argument of `make`, and the name in a recipe
ROOMS = {
    "frame_stack": "observations",
    "flatten_observation": "observations",
    "time_aware_observation": "observations",
    "grayscale_observation": "observations",
    "resize_observation": "observations",
    "action_repeat": "steps",
    "sticky_actions": "steps",
    "time_limit": "steps",
    "clip_reward": "steps",
    "scale_reward": "steps",
    "randomized": "randomized",
    "levels": "levels",
    "shielded": "actions",
    "residual": "actions",
    "noisy_observations": "noise",
    "noisy_actions": "noise",
}
OF_ROWS = (  # that leave each player of a game a row of its own
    "frame_stack",
    "action_repeat",
    "sticky_actions",
    "time_limit",
    "clip_reward",
    "scale_reward",
    "randomized",
    "levels",
)
_NEEDED = inspect.Parameter.empty
ARGUMENTS: dict[str, dict[str, Any]] = {  # static ones, a part of the program, with their defaults
    "frame_stack": {"num": 4},
    "time_aware_observation": {"normalize": True},
    "resize_observation": {"shape": _NEEDED},
    "action_repeat": {"num": _NEEDED},
    "shielded": {"project": _NEEDED},
    "residual": {"base": _NEEDED},
}
NUMBERS = {  # arguments that are parameters: leaves, which may be traced and swept
    "sticky_actions": ("sticky_probability",),
    "time_limit": ("time_limit",),
    "clip_reward": ("reward_low", "reward_high"),
    "scale_reward": ("reward_scale",),
    "residual": ("residual_scale",),
    "noisy_observations": ("observation_noise",),
    "noisy_actions": ("action_noise",),
}
FILLED = {CHANCES}  # parameters that a wrapper sets unless they are given
ALLOWED = f"a list of names, or pairs of a name and its arguments, of {', '.join(ROOMS)}"


def wrap(env: Env, kind: str, arguments: Mapping[str, Any]) -> Env:
    """Puts a wrapper around an environment. Raises ValueError for arguments that it does not take,
    and for an environment that it does not fit."""
    require_env(env)
    static, numbers = _split(kind, arguments)
    core, usual = wrap_core(env.core, env.params, kind, static, trust=True)
    for name, value in numbers.items():
        if recipes.is_traced(value):
            continue
        if allowed := recipes.not_allowed(value, recipes.take(usual, name), None):
            raise ValueError(f"{kind} {name}={show(value)}: allowed is {allowed}")
    settled = {k: recipes.settle(x, recipes.take(usual, k)) for k, x in numbers.items()}
    params = recipes.put(usual, settled)
    recipes.require_limits(kind, core, params)
    try:
        static = named.with_names(kind, static)
    except ValueError:  # no other program finds that function
        return Env(params, core)
    if not env.made_of:
        return Env(params, core)
    name, told, *factory = env.made_of
    given = json.loads(told)
    given[WRAPPERS] = [*given.get(WRAPPERS, []), [kind, static]]
    return Env(params, core, (name, json.dumps(given, sort_keys=True), *factory))


def wrap_core(
    core: Any, params: Any, kind: str, static: Mapping[str, Any], trust: Trust = False
) -> tuple[Any, Any]:
    """Puts a wrapper around a core: the new one, and its parameters, those of the wrapper as usual.

    static: its static arguments as JSON has them, or a function itself. trust: whether a function
    may be imported by its name. Raises ValueError for what does not fit.
    """
    given = named.with_function(kind, static, trust)
    functions = tuple((k, x) for k, x in given.items() if callable(x))
    plain = {k: x for k, x in given.items() if not callable(x)}
    with jax.ensure_compile_time_eval():  # inside a trace too: it is kept for what comes after
        made = _core(core, kind, json.dumps(plain, sort_keys=True), functions)
        from jaxpg.envs.wrappers.layer import usual_params

        return made, usual_params(made, params)


@functools.cache
def _core(core: Any, kind: str, told: str, functions: tuple[tuple[str, Callable], ...]) -> Any:
    """The wrapped core. One object for each: a new one would be a new key of every jit cache."""
    from jaxpg.envs.wrappers.layer import make_core

    if is_game(core) and kind not in OF_ROWS:
        raise ValueError(
            f"{kind} of {name_of(core)}, a game of {core.players} players: allowed are "
            f"{', '.join(OF_ROWS)}, for they leave each player's observations in its own row"
        )
    room = importlib.import_module(f"jaxpg.envs.wrappers.{ROOMS[kind]}")
    static = {name: recipes.read(value) for name, value in json.loads(told).items()}
    rule = getattr(room, kind)(core, **static, **dict(functions))
    for name in rule.signals:
        if name in getattr(core, "signals", ()):
            raise ValueError(
                f"{kind}: {name_of(core)} has a signal {name!r} already: allowed is each such "
                "wrapper once"
            )
    for name in rule.own:
        if name in recipes.fields_of(core.default_params):
            raise ValueError(
                f"{kind}: {name_of(core)} has a parameter {name!r} already: allowed is each such "
                "wrapper once"
            )
    return make_core(core, rule)


def settle(given: Any, trust: Trust = False) -> tuple[list[list[Any]], dict[str, Any]]:
    """Settles the argument `wrappers` of `make`: as a recipe has it, and the parameters in it.

    trust: whether a function may be imported by its name, see `core.names`. Raises ValueError for
    an unknown wrapper or argument, and for a function that no file can name.
    """
    if isinstance(given, (str, Mapping)) or not isinstance(given, Iterable):
        raise ValueError(f"{WRAPPERS}={show(given)}: allowed is {ALLOWED}")
    found, numbers = [], {}
    for entry in given:
        kind, arguments = _read_entry(entry)
        static, own = _split(kind, arguments)
        static = named.with_names(kind, static)
        named.with_function(kind, static, trust)
        found.append([kind, static])
        if twice := own.keys() & numbers.keys():
            raise ValueError(f"{WRAPPERS}: {kind} stands twice, with two values of {min(twice)}")
        numbers |= own
    return found, numbers


def _read_entry(entry: Any) -> tuple[str, dict[str, Any]]:
    """The name of a wrapper and its arguments by name, of an entry of `wrappers`."""
    pair = (entry, {}) if isinstance(entry, str) else entry
    if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[0], str):
        raise ValueError(f"{WRAPPERS}: {show(entry)}: allowed is {ALLOWED}")
    kind, value = pair
    if kind not in ROOMS:
        raise unknown("wrapper", kind, list(ROOMS))
    if isinstance(value, Mapping):
        return kind, dict(value)
    names = argument_names(kind)
    if not names:
        raise ValueError(f"{kind} {show(value)}: allowed are arguments by name, a dict")
    return kind, {names[0]: value}


def argument_names(kind: str) -> list[str]:
    """Names of a wrapper's arguments, but for the environment; [] if it has none, or takes any."""
    return [*ARGUMENTS.get(kind, {}), *NUMBERS.get(kind, ())]


def _split(kind: str, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits arguments into the static ones, as JSON has them or a function itself, and those that
    are parameters."""
    if kind == "randomized":
        return _split_ranges(arguments)
    if kind == "levels":
        return _split_levels(arguments)
    names = argument_names(kind)
    for name in arguments:
        if name not in names:
            raise unknown(f"argument of {kind}", name, names)
    numbers = {k: x for k, x in arguments.items() if k in NUMBERS.get(kind, ())}
    static = {}
    for name, default in ARGUMENTS.get(kind, {}).items():
        value = arguments.get(name, default)
        if value is _NEEDED:
            raise ValueError(f"{kind} has no {name}: it needs one")
        if name == named.FUNCTIONS.get(kind):
            static[name] = _function(kind, value)
            continue
        if not recipes.can_tell(value):
            raise ValueError(f"{kind} {name}={show(value)}: allowed is {recipes.PLAIN}")
        static[name] = recipes.tell(value)
    return static, numbers


def _function(kind: str, value: Any) -> Any:
    """A function, or its name as JSON has it. Raises ValueError for what is neither."""
    if callable(value) or isinstance(value, (str, Mapping)):
        return value
    raise ValueError(
        f"{kind} {named.FUNCTIONS[kind]}={show(value)}: allowed is a function, or module:Name"
    )


def _split_ranges(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits what parameters are drawn from into how, "range" or "choice", and the numbers."""
    how, numbers = {}, {}
    for name, value in arguments.items():
        if isinstance(value, str) and value in ("range", "choice"):
            how[name] = value  # the numbers stand among the parameters
        elif isinstance(value, Mapping) and set(value) == {"low", "high"}:
            how[name] = "range"
            numbers |= {f"{name}_{end}": value[end] for end in value}
        elif isinstance(value, tuple) and len(value) == 2:
            how[name] = "range"
            numbers |= {f"{name}_low": value[0], f"{name}_high": value[1]}
        elif isinstance(value, list) and value:
            how[name], numbers[f"{name}_choices"] = "choice", value
        else:
            raise ValueError(
                f"randomized {name}={show(value)}: allowed is a range (low, high), or a list of "
                "values, at least one"
            )
    if not how:
        raise ValueError("randomized: allowed is at least one parameter, such as gravity=(8, 12)")
    return how, numbers


def _split_levels(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits parameters of levels as `_split_ranges`; all are drawn alike at first."""
    how, numbers = {}, {}
    for name, value in arguments.items():
        how[name] = "choice"
        if isinstance(value, str) and value == "choice":
            continue  # the numbers stand among the parameters
        if not isinstance(value, (list, tuple, range)) and not np.ndim(value):
            raise ValueError(
                f"levels {name}={show(value)}: allowed are values of all levels, a list or an "
                "array, at least one"
            )
        if not len(value):
            raise ValueError(f"levels {name}={show(value)}: allowed is at least one level")
        numbers[f"{name}_choices"] = list(value) if isinstance(value, range) else value
        numbers[CHANCES] = np.full(len(value), 1 / len(value))
    if not how:
        raise ValueError("levels: allowed is at least one parameter, such as level=range(200)")
    return how, numbers
