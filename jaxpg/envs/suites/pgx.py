"""pgx (Koyamada et al. 2023): 2048 and MinAtar, its games of one player.

Observations are a Dict with the mask of legal actions, which an episode's first state has too. An
illegal action ends the game with reward -1. pgx has no time limits.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pgx
from gymnax.environments import spaces

from jaxpg.core.types import Array, Tree
from jaxpg.envs.suites.base import Adapter


def names() -> list[str]:
    """pgx's games of one player; the others need someone to play against."""
    return [x for x in pgx.available_envs() if x == "2048" or x.startswith("minatar-")]


def find_constructor(name: str) -> Callable[..., Any]:
    """Finds the class of a game."""
    return type(pgx.make(name))


class Core(Adapter):
    def begin(self, key: jax.Array) -> tuple[Tree, Tree]:
        state = self.inner.init(key)
        return self.see(state), state

    def move(self, key: jax.Array, state: Tree, action: Array) -> tuple[Tree, Tree, Array, Array]:
        state = self.inner.step(state, action, key)
        return self.see(state), state, state.rewards[0], state.terminated

    def see(self, state: Tree) -> Tree:
        return {"observation": state.observation, "action_mask": state.legal_action_mask}

    def action_space(self, params: Any = None) -> spaces.Discrete:
        return spaces.Discrete(self.inner.num_actions)

    def observation_space(self, params: Any = None) -> spaces.Dict:
        obs = spaces.Box(0, 1, self.inner.observation_shape, jnp.bool_)
        mask = spaces.Box(0, 1, (self.inner.num_actions,), jnp.bool_)
        return spaces.Dict({"observation": obs, "action_mask": mask})
