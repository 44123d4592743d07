"""pgx (Koyamada et al. 2023): 2048 and MinAtar, its games of one player.

An illegal action, which the mask in the observation tells, ends the game with reward -1. pgx has no
time limits: the adapter's is 10,000 steps.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import pgx
from gymnax.environments import spaces

from jaxpg.envs.suites.base import Adapter


def names() -> list[str]:
    return [x for x in pgx.available_envs() if x == "2048" or x.startswith("minatar-")]


def find_constructor(name: str) -> Callable[..., Any]:
    return type(pgx.make(name))  # pyright: ignore[reportArgumentType]


class Core(Adapter):
    def __init__(self, name: str, inner: Any):
        super().__init__(name, inner)
        obs = spaces.Box(0, 1, inner.observation_shape, jnp.bool_)
        mask = spaces.Box(0, 1, (inner.num_actions,), jnp.bool_)
        self.obs = spaces.Dict({"observation": obs, "action_mask": mask})
        self.actions = spaces.Discrete(inner.num_actions)

    def begin(self, key, params):
        state = self.inner.init(key)
        return _see(state), state

    def move(self, key, state, action, params):
        state = self.inner.step(state, action, key)
        return _see(state), state, state.rewards[0], state.terminated


def _see(state: Any) -> dict[str, Any]:
    return {"observation": state.observation, "action_mask": state.legal_action_mask}
