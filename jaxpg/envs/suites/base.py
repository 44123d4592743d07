"""Shared parts of the adapters of suites: a clock of their own, a state around the suite's, one-hot
codes of what is no number."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.types import Array, Key, Tree

LIMIT = 10_000  # steps of an episode where the suite has no limit: evaluations give up there


@struct.dataclass
class Params:
    max_steps_in_episode: int = LIMIT


@struct.dataclass
class State:
    inner: Tree  # the suite's own
    time: Array  # [] int32: steps of this episode


def make_params(values: Mapping[str, Any], limit: int) -> Any:
    """Parameters of these names and usual values, and the time limit."""
    values = {**values, "max_steps_in_episode": limit}
    kinds = {name: type(value) for name, value in values.items()}
    return struct.dataclass(type("Params", (), values | {"__annotations__": kinds}))()


class Adapter(environment.Environment):
    """Environment of another suite in gymnax's form.

    Here inheriting is right: gymnax's `step` resets, and tells ends from time limits. A suite's
    `Core` sets `obs` and `actions`, the two spaces, and has two methods, which do neither:

        begin(key, params) -> observation, the suite's state
        move(key, state, action, params) -> observation, state, reward, whether the task has
            ended, which a time limit is not, and, where it has signals, info
    """

    obs: Any
    actions: Any
    begin: Callable[..., Any]
    move: Callable[..., Any]
    reset_pool: int | None = None  # a number where a reset is dear, against a step

    def __init__(self, name: str, inner: Any, limit: int = LIMIT):
        """inner: the suite's object; limit: the usual steps of an episode."""
        self._name, self.inner, self.limit = name, inner, int(limit)
        self.params = Params(self.limit)

    @property
    def name(self) -> str:
        return self._name

    @property
    def default_params(self) -> Any:
        return self.params

    def reset_env(self, key: Key, params: Any) -> tuple[Tree, State]:
        obs, inner = self.begin(key, params)
        return obs, State(inner, jnp.zeros((), jnp.int32))

    def step_env(self, key: Key, state: State, action: Array, params: Any):
        obs, inner, reward, terminated, *info = self.move(key, state.inner, action, params)
        return obs, State(inner, state.time + 1), reward, terminated, info[0] if info else {}

    def action_space(self, params: Any = None) -> Any:
        return self.actions

    def observation_space(self, params: Any = None) -> Any:
        return self.obs


class Kinds(spaces.Box):
    """Integers `least`, `least` + 1, ... of `count` kinds (tiles, colours), as one-hot codes."""

    def __init__(self, shape: Sequence[int], least: int, count: int):
        super().__init__(0, 1, (*shape, count))
        self.least, self.count = least, count


def bounded(low: Any, high: Any, shape: Sequence[int], dtype: Any) -> spaces.Box:
    """The space of numbers in these bounds; integers of 3 to 40 kinds are taken for kinds. (Clocks
    have more of them, and may reach one more than they say.)"""
    if not np.issubdtype(dtype, np.integer):
        return spaces.Box(low, high, shape, dtype)
    count = np.max(high) - np.min(low) + 1
    if 3 <= count <= 40:
        return Kinds(shape, int(np.min(low)), int(count))
    return spaces.Box(low, high + 1, shape, dtype)


def encode(space: Any, obs: Any) -> Tree:
    """An observation as its space has it: a dict for a suite's own tuple, with the mask of actions
    as a vector; codes for what is of kinds."""
    if isinstance(space, spaces.Dict):
        seen = {name: encode(part, getattr(obs, name)) for name, part in space.spaces.items()}
        return {k: x.ravel() if k == "action_mask" else x for k, x in seen.items()}
    return jax.nn.one_hot(obs - space.least, space.count) if isinstance(space, Kinds) else obs


def encode_layers(obs: Array, sizes: Sequence[int]) -> Array:
    """One-hot codes, one after the other, of integers [..., C] of which the c-th is one of
    sizes[c]: [..., sum(sizes)]."""
    codes = [jax.nn.one_hot(obs[..., i], size) for i, size in enumerate(sizes)]
    return jnp.concatenate(codes, -1)
