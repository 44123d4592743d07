"""Faults of an environment that shapes alone show: methods, parameters, spaces, and what
`reset` and `step` give. `jaxpg.check_env` looks further, and runs it."""

import functools
import inspect
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxpg.core import single, spaces
from jaxpg.core.checks import why_not_called
from jaxpg.core.env import Env
from jaxpg.core.gymnax_import import has_own_step, inherits
from jaxpg.core.observation_rules import find_mask_faults, find_observation_faults
from jaxpg.core.single import STEP, name_of
from jaxpg.core.types import Tree

METHODS = {  # and what they are given
    "reset": ("key", "params"),
    "step": ("key", "state", "action", "params"),
    "action_space": ("params",),
    "observation_space": ("params",),
}
PARTS = {  # of gymnax's `step`
    "reset_env": ("key", "params"),
    "step_env": ("key", "state", "action", "params"),
    "is_truncated": ("state", "params"),
}
REAL = (jnp.floating, jnp.integer, jnp.bool_)
HINTS = {  # what helps where a trace fails
    "TracerBoolConversionError": "`if` cannot look at a traced array: jnp.where can, jax.lax.cond",
    "TracerArrayConversionError": "NumPy cannot compute with traced arrays: jax.numpy can",
    "TracerIntegerConversionError": "Python cannot count with traced arrays: jax.numpy can",
    "ConcretizationTypeError": "Python cannot compute with traced arrays: jax.numpy can",
    "UnexpectedTracerError": "what a trace computed was kept outside of it, and used again",
}


class Fault(NamedTuple):
    """Fault of an environment."""

    rule: str  # that it breaks, as docs/environments.md lists them
    text: str  # in one sentence: what is found, and what is allowed


def check_environment(env: Env) -> None:
    """Raises ValueError for the first of `find_faults`."""
    for fault in find_faults(env):
        raise ValueError(fault.text)


def find_faults(env: Env) -> list[Fault]:
    """Finds what is wrong with an environment, by shapes alone; nothing is compiled. What comes
    first keeps the rest from being looked at.

    Parameters may be traced. An action space without a head is for agents to refuse.
    """
    name = name_of(env.core)
    for look in (_find_in_core, _find_in_params, _find_in_spaces, _find_in_steps):
        if found := list(look(name, env)):
            return found
    return []


def _find_in_core(name: str, env: Env) -> Iterator[Fault]:
    """Faults of the object itself: methods that are missing or take something else; no hash."""
    core = env.core
    for method in METHODS:
        if not callable(getattr(core, method, None)):
            allowed = ", ".join([*METHODS, "default_params"])
            yield Fault("methods", f"{name} has no {method}: allowed is a core with {allowed}")
    try:
        core.default_params  # noqa: B018  a property may fail
    except Exception as error:
        missing = isinstance(error, AttributeError) and not hasattr(type(core), "default_params")
        said = "has no default_params" if missing else f"default_params fails, {_say(error, core)}"
        yield Fault("methods", f"{name} {said}: allowed are its usual parameters, a pytree")
    parts = {} if has_own_step(core) else PARTS
    for method, arguments in {**METHODS, **parts}.items():
        if method != "is_truncated" and inherits(core, method) and method not in ("reset", "step"):
            text = f"{name} has no {method}: gymnax's class asks for {method}{_words(arguments)}"
            yield Fault("methods", text)
        elif callable(function := getattr(core, method, None)) and why_not_called(
            function, len(arguments)
        ):
            text = f"{name}: {method} takes {inspect.signature(function)}, allowed is "
            yield Fault("methods", f"{text}{method}{_words(arguments)}")
    if not isinstance(getattr(core, "name", ""), str):
        yield Fault("methods", f"{name} name={core.name!r}: allowed is a text")
    try:
        hash(core)
    except TypeError:
        kind = type(core).__name__
        text = f"{name}: {kind} has no hash, allowed is a core that has one: numbers that differ "
        yield Fault("hash", f"{text}belong into its parameters, and a dataclass takes eq=False")


def _words(arguments: tuple[str, ...]) -> str:
    return f"({', '.join(arguments)})"


def _say(error: Exception, core: Any) -> str:
    """Describes an error of an environment's own code in one line, with where it was raised."""
    said, kind = str(error).strip().partition("\n")[0], type(error).__name__
    try:
        file = inspect.getfile(type(core))
    except (TypeError, OSError):
        file = ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    where = f" (line {lines[-1]} of {os.path.basename(file)})" if lines else ""
    return f"{kind}: {said}{where}"


def _find_in_params(name: str, env: Env) -> Iterator[Fault]:
    """Faults of the parameters: no pytree, or leaves that are no numbers."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(env.params):
        if isinstance(leaf, (bool, int, float, complex, np.ndarray, np.generic)):
            continue
        if isinstance(leaf, (jax.Array, jax.core.Tracer, jax.ShapeDtypeStruct)):
            continue
        kind = type(leaf).__name__
        if not path:
            text = f"parameters of {kind}, which is no pytree: allowed is a flax.struct.dataclass"
        else:
            text = (
                f"parameter {jax.tree_util.keystr(path).lstrip('.')} is a {kind}: allowed are "
                "numbers and arrays; what is none is flax.struct.field(pytree_node=False), or an "
                "argument of the constructor"
            )
        yield Fault("parameters", f"{name}: {text}")
    try:
        hash(jax.tree.structure(env.params))
    except TypeError as error:
        text = f"{name}: parameters that are no leaves have no hash, {error}: allowed is a tuple"
        yield Fault("parameters", text)


def _find_in_spaces(name: str, env: Env) -> Iterator[Fault]:
    """Faults of the spaces: no shape, or bounds that do not fit it."""
    found = {}
    for what, params in {"action": env.params, "observation": env.core.default_params}.items():
        try:
            with jax.ensure_compile_time_eval():
                found[what] = getattr(env.core, f"{what}_space")(params)
        except Exception as error:
            text = f"{name}: its {what}_space fails, {_say(error, env.core)}"
            yield Fault(f"{what} space", text)
    if "action" in found:
        what = f"{name} action space"
        for text in list(_find_shape(what, found["action"])) or find_bounds(what, found["action"]):
            yield Fault("action space", text)
    if "observation" in found:
        for text in _find_inner_shape(f"{name} observation space", found["observation"]):
            yield Fault("observation space", text)


def _find_shape(what: str, space: Any) -> Iterator[str]:
    """Looks whether a space with a shape has one that is a tuple of sides."""
    shape = getattr(space, "shape", ())
    sides = shape if isinstance(shape, (tuple, list)) else [None]
    if not all(isinstance(n, (int, np.integer)) and n >= 1 for n in sides):
        kind = type(space).__name__
        yield f"{what} {kind} of shape {shape!r}: allowed is a tuple of integers >= 1"


def find_bounds(what: str, space: Any) -> Iterator[str]:
    """Looks whether bounds of a Box fit its shape, and have something between them; those that are
    traced have shapes alone."""
    if not hasattr(space, "low"):
        return
    bounds, shape = (space.low, space.high), tuple(space.shape)
    try:
        fits = np.broadcast_shapes(*map(np.shape, bounds), shape) == shape
    except ValueError:
        fits = False
    if not fits:
        yield (
            f"{what} has bounds of shapes {np.shape(space.low)} and {np.shape(space.high)}: "
            f"allowed are numbers, or one for each of {shape}"
        )
    elif not any(isinstance(x, jax.core.Tracer) for x in bounds):
        low, high = map(np.asarray, bounds)
        if not np.all(low <= high):
            yield f"{what} has low={low} and high={high}: allowed is low <= high"


def _find_inner_shape(what: str, space: Any) -> Iterator[str]:
    inner = getattr(space, "spaces", None)
    if inner is None:
        yield from _find_shape(what, space)
        return
    for name, one in inner.items() if isinstance(inner, Mapping) else enumerate(inner):
        yield from _find_inner_shape(f"{what} {name!r}", one)


def _find_in_steps(name: str, env: Env) -> tuple[Fault, ...]:
    """Faults of what `reset` and `step` give, under parameters of these shapes."""
    with jax.ensure_compile_time_eval():
        space = env.action_space
    if spaces.kind(space) not in spaces.KINDS:
        return ()
    leaves, tree = jax.tree.flatten(jax.eval_shape(lambda params: params, env.params))
    return _find_in_traces(name, env.core, tree, tuple(leaves))


@functools.cache  # a trace of the environment
def _find_in_traces(name: str, core: Any, tree: Any, leaves: tuple) -> tuple[Fault, ...]:
    try:
        first, after = single.trace_step(core, jax.tree.unflatten(tree, leaves))
    except single.CountError as error:
        return (Fault("values", str(error)),)
    except Exception as error:
        if isinstance(error, ValueError) and type(core).__module__.startswith("jaxpg."):
            raise  # a sentence of ours
        return (Fault("traceable", _say_untraceable(name, core, error)),)
    return tuple(_find_in_values(name, core, first, dict(zip(STEP, after, strict=True))))


def _say_untraceable(name: str, core: Any, error: Exception) -> str:
    text = f"{name}: its reset or step cannot be traced, {_say(error, core)}"
    kinds = [kind.__name__ for kind in type(error).__mro__]
    if isinstance(error, AttributeError) and inherits(core, "is_truncated"):
        asked = ("'time'", "'max_steps_in_episode'")
        if str(error).endswith(tuple(f"attribute {x}" for x in asked)):
            return (
                f"{text}; gymnax's is_truncated asks for state.time >= params.max_steps_in_episode"
            )
    hint = next((HINTS[kind] for kind in kinds if kind in HINTS), "")
    return f"{text}; {hint}" if hint else text


def _find_in_values(name: str, core: Any, first: Any, after: dict[str, Any]) -> Iterator[Fault]:
    for what in ("reward", "terminated", "truncated"):
        for text in _find_scalar(name, what, after[what]):
            yield Fault("reward" if what == "reward" else "ends", text)
    info, (obs, state) = after["info"], first
    if not isinstance(info, dict) or "final_observation" not in info:
        text = f"{name}: the info of step has no 'final_observation', the true successor"
        yield Fault("final observation", text)
        info = {"final_observation": obs}
    what, own = f"{name}: observations of reset and", has_own_step(core)
    step = "step" if own else "step_env"
    for text in find_difference(f"{what} {step}", obs, after["obs"], single.kind_of):
        yield Fault("observation", text)
    final = info["final_observation"]
    for text in find_difference(f"{what} info", obs, final, single.kind_of) if own else ():
        yield Fault("final observation", text)
    for text in find_difference(f"{name}: states of reset and step", state, after["state"], str):
        yield Fault("state", text)
    if not jax.tree.leaves(obs):
        text = f"{name} observation {obs!r}: allowed is at least one array"
        yield Fault("observation", text)
    space = core.observation_space(core.default_params)
    for text in find_observation_faults(f"{name} observation", space, obs):
        yield Fault("observation", text)
    for where, told in {"observation": obs, "info": info}.items():
        for text in find_mask_faults(f"{name}: the action_mask of its {where}", core, told):
            yield Fault("mask", text)


def find_difference(
    what: str, one: Tree, other: Tree, same: Callable[[Any], Any] | None = None
) -> Iterator[str]:
    """Looks whether two trees have one structure, and leaves of the same shapes, and dtypes of
    which `same` gives the same."""
    (a, tree_a), (b, tree_b) = map(jax.tree.flatten, (one, other))
    if tree_a != tree_b or [x.shape for x in a] != [x.shape for x in b]:
        one, other = (jax.tree.map(lambda x: x.shape, x) for x in (one, other))
        yield f"{what} are {one} and {other}, allowed is one structure and its shapes"
    elif same and [same(x.dtype) for x in a] != [same(x.dtype) for x in b]:
        paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(one)]
        of = zip(paths, a, b, strict=True)
        told = [
            f"{p.lstrip('.')} of {x.dtype} and {y.dtype}" for p, x, y in of if x.dtype != y.dtype
        ]
        yield (
            f"{what} have {', '.join(told).removeprefix(' of ')}: allowed is one dtype, as "
            "jnp.zeros((), float) has it, or jnp.zeros((), jnp.int32)"
        )


def _find_scalar(name: str, what: str, x: Any) -> Iterator[str]:
    """Looks whether a reward is one real number, the end of an episode one bool."""
    kinds, allowed = (REAL, "a real number") if what == "reward" else ((jnp.bool_,), "a bool")
    if x.shape != () or not any(jnp.issubdtype(x.dtype, kind) for kind in kinds):
        found = f"{what} is of {x.dtype} and shape {x.shape}"
        yield f"{name}: {found}, allowed is {allowed} of shape ()"
