"""Rules of noise: on what is observed, and on what is done."""

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from jaxpg.core.single import example_action, name_of
from jaxpg.core.types import Array, Key, Tree
from jaxpg.envs.wrappers.layer import Move, Rule, State, same_reward
from jaxpg.envs.wrappers.observations import map_arrays, map_spaces
from jaxpg.envs.wrappers.params import Params, judge_shape
from jaxpg.envs.wrappers.steps import require_no_mask

ANY = (0.0, float(np.finfo(np.float32).max))


def noisy_observations(core: Any) -> Rule:
    """Rule that adds Gaussian noise to the floats of observations."""
    space = core.observation_space(core.default_params)
    shapes = []
    map_spaces(lambda one: shapes.append(one.shape) if _is_float(one) else None, space)
    if not shapes:
        raise ValueError(
            f"noisy_observations of {name_of(core)}, which observes {space}: allowed is a Box of "
            "floats, or one beside other parts"
        )

    def observe(key: Key, params: Params, obs: Tree) -> Tree:
        number = itertools.count()

        def change(one: Any, x: Array) -> Array:
            if not _is_float(one):
                return x
            noise = jax.random.normal(jax.random.fold_in(key, next(number)), one.shape)
            return x + (params.own["observation_noise"] * noise).astype(jnp.asarray(x).dtype)

        return map_arrays(change, space, obs)

    def step(move: Move, key: Key, state: State, action: Array, params: Params):
        k_noise, key = jax.random.split(key)
        new = move(key, state.inner, action, params.inner)
        return new._replace(obs=observe(k_noise, params, new.obs)), ()

    judge = judge_shape("observation_noise", shapes)
    return Rule(
        step=step, observe=observe, own={"observation_noise": 0.1}, judge=judge,
        limits={"observation_noise": ANY}, observation_space=_widen,
    )  # fmt: skip


def _widen(space: Any, params: Params) -> Any:
    """The space without bounds of its floats: noise has none."""

    def change(one: Any) -> Any:
        return spaces.Box(-jnp.inf, jnp.inf, one.shape, one.dtype) if _is_float(one) else one

    return map_spaces(change, space)


def _is_float(space: Any) -> bool:
    return isinstance(space, spaces.Box) and jnp.issubdtype(space.dtype, jnp.floating)


def noisy_actions(core: Any) -> Rule:
    """Rule that executes another action by chance: of a Box the action with Gaussian noise, of
    discrete actions any, with some probability."""
    require_no_mask("noisy_actions", core)
    space = core.action_space(core.default_params)
    of_box = isinstance(space, spaces.Box)
    change: Callable = _push if of_box else _replace

    def step(move: Move, key: Key, state: State, action: Array, params: Params):
        k_noise, key = jax.random.split(key)
        action, noise = jnp.asarray(action), params.own["action_noise"]
        action = change(k_noise, core.action_space(params.inner), action, noise)
        return move(key, state.inner, action, params.inner), ()

    return Rule(
        step=step, own={"action_noise": 0.1}, goal_reward=same_reward,
        limits={"action_noise": ANY if of_box else (0.0, 1.0)},
        judge=judge_shape("action_noise", [example_action(core, core.default_params).shape]),
    )  # fmt: skip


def _push(key: Key, space: Any, action: Array, std: Any) -> Array:
    """The action with Gaussian noise, within the space."""
    noise = std * jax.random.normal(key, action.shape, action.dtype)
    return jnp.clip(action + noise, space.low, space.high).astype(action.dtype)


def _replace(key: Key, space: Any, action: Array, probability: Any) -> Array:
    """The action, or with this probability a uniformly random one; of several at once each."""
    k_whether, k_which = jax.random.split(key)
    most = getattr(space, "n", None)
    most = jnp.asarray(space.nvec if most is None else most, action.dtype)
    other = jax.random.randint(k_which, action.shape, 0, most, action.dtype)
    return jnp.where(jax.random.bernoulli(k_whether, probability, action.shape), other, action)
