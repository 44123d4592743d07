"""Checks of an environment's spaces, observations, rewards and ends, by shapes alone."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxpg.core import signals, spaces
from jaxpg.core.env import Env
from jaxpg.core.types import Tree

METHODS = ("reset", "step", "action_space", "observation_space", "default_params")
REAL = (jnp.floating, jnp.integer, jnp.bool_)
STEP = ("obs", "state", "reward", "terminated", "truncated", "info")


def check_environment(env: Env) -> None:
    """Raises ValueError for spaces, observations, rewards or ends of episodes that agents cannot
    take. Parameters may be traced. An action space without a head is for agents to refuse."""
    name = getattr(env.core, "name", type(env.core).__name__)
    if missing := [method for method in METHODS if not hasattr(env.core, method)]:
        raise ValueError(f"{name} has no {missing[0]}: allowed is a core with {', '.join(METHODS)}")
    try:
        hash(env.core)
    except TypeError as error:
        kind = type(env.core).__name__
        raise ValueError(f"{name}: {kind} has no hash, allowed is a core that has one") from error
    with jax.ensure_compile_time_eval():
        action = env.action_space
        observation = env.core.observation_space(env.core.default_params)
    _check_shape(f"{name} action space", action)
    _check_bounds(f"{name} action space", action)
    _check_observation_space(f"{name} observation space", observation)
    if spaces.kind(action) in spaces.KINDS:
        leaves, tree = jax.tree.flatten(jax.eval_shape(lambda params: params, env.params))
        _check_steps(name, env.core, tree, tuple(leaves))


def _check_shape(what: str, space: Any) -> None:
    """Raises ValueError unless a space with a shape has one that is a tuple of sides."""
    shape = getattr(space, "shape", ())
    sides = shape if isinstance(shape, (tuple, list)) else [None]
    if not all(isinstance(n, (int, np.integer)) and n >= 1 for n in sides):
        raise ValueError(
            f"{what} {type(space).__name__} of shape {shape!r}: allowed is a tuple of integers >= 1"
        )


def _check_bounds(what: str, space: Any) -> None:
    """Raises ValueError for bounds of a Box that do not fit its shape, or have nothing between
    them; those that are traced have shapes alone."""
    if not hasattr(space, "low"):
        return
    bounds, shape = (space.low, space.high), tuple(space.shape)
    try:
        fits = np.broadcast_shapes(*map(np.shape, bounds), shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{what} has bounds of shapes {np.shape(space.low)} and {np.shape(space.high)}: "
            f"allowed are numbers, or one for each of {shape}"
        )
    if not any(isinstance(x, jax.core.Tracer) for x in bounds):
        low, high = map(np.asarray, bounds)
        if not np.all(low <= high):
            raise ValueError(f"{what} has low={low} and high={high}: allowed is low <= high")


def _check_observation_space(what: str, space: Any) -> None:
    inner = getattr(space, "spaces", None)
    if inner is None:
        return _check_shape(what, space)
    for name, one in inner.items() if isinstance(inner, Mapping) else enumerate(inner):
        _check_observation_space(f"{what} {name!r}", one)


@functools.cache  # a trace of the environment
def _check_steps(name: str, core: Any, tree: Any, leaves: tuple) -> None:
    """Raises ValueError for what `reset` and `step` give, under parameters of these shapes."""
    try:
        first, after = signals.trace_step(core, jax.tree.unflatten(tree, leaves))
    except ValueError:
        raise
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        kind = type(error).__name__
        raise ValueError(f"{name}: its reset or step cannot be traced, {kind}: {said}") from error
    if not (isinstance(first, tuple) and len(first) == 2):
        raise ValueError(f"{name}: reset gives {signals.count(first)}, allowed are obs and state")
    if not (isinstance(after, tuple) and len(after) == 6):
        raise ValueError(
            f"{name}: step gives {signals.count(after)}, allowed are {', '.join(STEP)}"
        )
    given = dict(zip(STEP, after, strict=True))
    for what in ("reward", "terminated", "truncated"):
        _check_scalar(name, what, given[what])
    info = given["info"]
    if not isinstance(info, dict) or "final_observation" not in info:
        raise ValueError(f"{name}: the info of step has no 'final_observation', the true successor")
    _check_same(f"{name}: observations of reset and step", first[0], given["obs"])
    _check_same(f"{name}: observations of reset and info", first[0], info["final_observation"])
    _check_same(f"{name}: states of reset and step", first[1], given["state"])
    if not jax.tree.leaves(first[0]):
        raise ValueError(f"{name} observation {first[0]!r}: allowed is at least one array")
    _check_observation(f"{name} observation", core.observation_space(core.default_params), first[0])


def _check_same(what: str, one: Tree, other: Tree) -> None:
    """Raises ValueError unless two trees have one structure, and leaves of the same shapes."""
    (a, tree_a), (b, tree_b) = map(jax.tree.flatten, (one, other))
    if tree_a != tree_b or [x.shape for x in a] != [x.shape for x in b]:
        one, other = (jax.tree.map(lambda x: x.shape, x) for x in (one, other))
        raise ValueError(f"{what} are {one} and {other}, allowed is one structure and its shapes")


def _check_scalar(name: str, what: str, x: Any) -> None:
    """Raises ValueError unless a reward is one real number, the end of an episode one bool."""
    kinds, allowed = (REAL, "a real number") if what == "reward" else ((jnp.bool_,), "a bool")
    if x.shape != () or not any(jnp.issubdtype(x.dtype, kind) for kind in kinds):
        raise ValueError(
            f"{name}: {what} is of {x.dtype} and shape {x.shape}, allowed is {allowed} of shape ()"
        )


def _check_observation(what: str, space: Any, obs: Tree) -> None:
    """Raises ValueError for an observation without elements, or of another shape than its space
    says. A mask of actions need not be in the space."""
    inner = getattr(space, "spaces", None)
    if isinstance(obs, dict) and isinstance(inner, Mapping):
        mine, said = (set(x) - {"action_mask"} for x in (obs, inner))
        if mine != said:
            raise ValueError(f"{what} has {sorted(mine)}, its space {sorted(said)}: both the same")
        for name in said:
            _check_observation(f"{what} {name!r}", inner[name], obs[name])
    elif isinstance(obs, tuple) and inner is not None and len(inner) == len(obs):
        for i, one in enumerate(obs):
            _check_observation(f"{what} {i}", inner[i], one)
    elif (shape := getattr(obs, "shape", None)) is not None:
        said = tuple(getattr(space, "shape", shape))
        if shape != said or 0 in shape:
            raise ValueError(
                f"{what} of shape {shape}, its space of {said}: allowed is one shape, without a 0"
            )
