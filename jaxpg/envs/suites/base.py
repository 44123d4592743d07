"""What the adapters of suites share: a clock of their own, and a state around the suite's."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import environment

from jaxpg.core.types import Array, Tree

LIMIT = 10_000  # steps of an episode where the suite has no limit: evaluations give up there


@struct.dataclass
class Params:
    max_steps_in_episode: int = LIMIT


@struct.dataclass
class State:
    inner: Tree  # the suite's own
    time: Array  # [] int32: steps of this episode


class Adapter(environment.Environment):
    """Environment of another suite in gymnax's form.

    Here inheriting is right: gymnax's `step` resets, and tells ends from time limits. A suite's
    class writes `begin` and `move`, which do neither.
    """

    def __init__(self, name: str, inner: Any, limit: int = LIMIT):
        """inner: the suite's object; limit: the steps of its episodes."""
        self._name, self.inner, self.limit = name, inner, int(limit)

    @property
    def name(self) -> str:
        return self._name

    @property
    def default_params(self) -> Params:
        return Params(self.limit)

    def begin(self, key: jax.Array) -> tuple[Tree, Tree]:
        """An episode's first observation and the suite's state."""
        raise NotImplementedError

    def move(self, key: jax.Array, state: Tree, action: Array) -> tuple[Tree, Tree, Array, Array]:
        """One step of the suite's state: the observation, the state, the reward, and whether the
        task has ended, which a time limit is not."""
        raise NotImplementedError

    def reset_env(self, key: jax.Array, params: Params) -> tuple[Tree, State]:
        obs, inner = self.begin(key)
        return obs, State(inner, jnp.zeros((), jnp.int32))

    def step_env(self, key: jax.Array, state: State, action: Array, params: Params):
        obs, inner, reward, terminated = self.move(key, state.inner, action)
        return obs, State(inner, state.time + 1), reward, terminated, {}
