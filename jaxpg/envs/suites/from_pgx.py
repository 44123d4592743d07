"""pgx (Koyamada et al. 2023): 2048 and MinAtar, of one player, and its games of two.

An illegal action, which the mask in the observation tells, ends the game with reward -1, and 1 for
the other player. pgx has no time limits: the adapter's is 10,000 steps.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pgx
from gymnax.environments import spaces

from jaxpg.core.spaces import MultiDiscrete
from jaxpg.envs.suites.base import Adapter


def names() -> list[str]:
    return [x for x in pgx.available_envs() if x != "sparrow_mahjong"]  # of three players


def find_constructor(name: str) -> Callable[..., Any]:
    found = type(pgx.make(name))  # pyright: ignore[reportArgumentType]
    board = name.partition("go_")[2]  # "9x9": two names of one class
    return functools.partial(found, size=int(board.partition("x")[0])) if board else found


def Core(name: str, inner: Any) -> Adapter:
    return (OnePlayer if inner.num_players == 1 else Game)(name, inner)


class OnePlayer(Adapter):
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


class Game(Adapter):
    """Game of two players who move in turn, and act in every step: the one who waits has action 0
    alone, without effect. Player i is pgx's player i, who may be of either side: who begins is
    drawn, as in pgx. Each sees the game from its own side."""

    signals, zero_sum = ("rewards",), True

    def __init__(self, name: str, inner: Any):
        super().__init__(name, inner)
        self.players, self.choices = inner.num_players, inner.num_actions
        seen = jax.eval_shape(lambda key: self._see(inner.init(key)), jax.random.key(0))
        shape, dtype = seen["observation"].shape, seen["observation"].dtype
        low, high = (0, 1) if dtype == jnp.bool_ else (-np.inf, np.inf)
        obs = spaces.Box(low, high, shape, dtype)
        mask = spaces.Box(0, 1, seen["action_mask"].shape, jnp.bool_)
        self.obs = spaces.Dict({"observation": obs, "action_mask": mask})
        self.actions = MultiDiscrete([self.choices] * self.players)

    def _see(self, state: Any) -> dict[str, Any]:
        """Observations [P, ...], and the masks of all players [P n], one after the other."""
        players = jnp.arange(self.players, dtype=jnp.int32)
        seen = jax.vmap(self.inner._observe, (None, 0))(state, players)
        waits = jnp.arange(self.choices) == 0
        moves = (players == state.current_player)[:, None]
        mask = jnp.where(moves, state.legal_action_mask, waits)
        return {"observation": seen, "action_mask": mask.ravel()}

    def begin(self, key, params):
        state = self.inner.init(key)
        return self._see(state), state

    def move(self, key, state, action, params):
        state = self.inner.step(state, action[state.current_player], key)
        rewards = state.rewards
        return self._see(state), state, rewards.mean(), state.terminated, {"rewards": rewards}
