"""Rules of actions that a function of the user's changes before the step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from gymnax.environments import spaces

from jaxpg.core.checks import show, why_not_called
from jaxpg.core.single import example_action, name_of, trace_step
from jaxpg.core.spaces import clip_to
from jaxpg.core.types import Array, Key, Tree
from jaxpg.envs.wrappers.layer import Move, Rule, State, same_reward
from jaxpg.envs.wrappers.params import Params, judge_shape

SHIELDED = "shielded"  # the signal


def shielded(core: Any, project: Callable[[Tree, Array], Array]) -> Rule:
    """Rule that executes project(obs, action), within the space. Its memory: the observation."""
    example = example_action(core, core.default_params)
    _require_action(core, "shielded project", project, example)

    def step(move: Move, key: Key, state: State, action: Array, params: Params):
        action = jnp.asarray(action)
        safe = jnp.asarray(project(state.memory, action)).astype(action.dtype)
        safe = clip_to(core.action_space(params.inner), safe)
        new = move(key, state.inner, safe, params.inner)
        info = {**new.info, SHIELDED: (safe != action).any().astype(float)}
        return new._replace(info=info), _like(state.memory, new.obs)

    return Rule(_remember, step, goal_reward=same_reward, signals=(SHIELDED,))


def residual(core: Any, base: Callable[[Tree], Array]) -> Rule:
    """Rule that executes base(obs) + residual_scale * action. Its memory: the observation."""
    usual = core.default_params
    space = core.action_space(usual)
    if not isinstance(space, spaces.Box) or not jnp.issubdtype(space.dtype, jnp.floating):
        raise ValueError(
            f"residual of {name_of(core)}, whose actions are {space}: allowed is a Box of floats"
        )
    example = example_action(core, usual)
    _require_action(core, "residual base", lambda obs, action: base(obs), example, base)

    def step(move: Move, key: Key, state: State, action: Array, params: Params):
        action = base(state.memory) + params.own["residual_scale"] * jnp.asarray(action)
        action = clip_to(core.action_space(params.inner), action).astype(example.dtype)
        new = move(key, state.inner, action, params.inner)
        return new, _like(state.memory, new.obs)

    judge = judge_shape("residual_scale", [example.shape])
    return Rule(_remember, step, own={"residual_scale": 1.0}, judge=judge, goal_reward=same_reward)


def _remember(params: Params, obs: Tree) -> tuple[Tree, Tree]:
    return obs, jax.tree.map(jnp.asarray, obs)


def _like(old: Tree, new: Tree) -> Tree:
    """An observation in the dtypes of the one before: some cores reset with other ones."""
    return jax.tree.map(lambda x, y: jnp.asarray(y).astype(x.dtype), old, new)


def _require_action(
    core: Any, said: str, function: Callable, example: Array, shown: Any = None
) -> None:
    """Raises ValueError unless function(obs, action) is an action of the core. said, shown: the
    argument, and what the user gave for it."""
    (obs, _), _ = trace_step(core, core.default_params)
    _require_arguments(said, shown or function, 1 if shown else 2)
    made = jax.eval_shape(function, obs, example)
    given = getattr(made, "shape", None), getattr(made, "dtype", None)
    is_real = given[1] is not None and jnp.issubdtype(given[1], jnp.floating)
    whole = jnp.issubdtype(example.dtype, jnp.integer)
    if given[0] != example.shape or (whole and is_real):
        raise ValueError(
            f"{said}={show(shown or function)}: of {name_of(core)} it gives {show(made)}, allowed "
            f"is an action of shape {example.shape} and dtype {example.dtype}"
        )


def _require_arguments(said: str, function: Callable, count: int) -> None:
    """Raises ValueError unless a function takes so many arguments: an observation, an action."""
    if wrong := why_not_called(function, count):
        asked = ", ".join(("obs", "action")[:count])
        raise ValueError(f"{said}={show(function)}: {wrong}; allowed is a function of ({asked})")
