"""Independent learners: one agent for each player of a game, who knows nothing of the others.

To a learner the others are a part of its environment. So a learner's environment is the game with
all policies as they are at this iteration among its parameters: it collects its own episodes
against them, and they do not move while it learns. All learn at the same time (Tan 1993).

A game's core has `players` P; its observations and actions are [P, ...], and the `info` of its
steps has rewards [P].
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from gymnax.environments import spaces

from jaxpg.core.config import require
from jaxpg.core.env import Env
from jaxpg.core.types import Agent, Array, Key, Metrics, Tree


@struct.dataclass
class Params:
    game: Any
    cfg: Any
    policies: Tree  # [P, ...] training states; () while there are none
    player: Array | int  # [] int32: whose view this is

    @property
    def max_steps_in_episode(self):
        return self.game.max_steps_in_episode


@dataclasses.dataclass(frozen=True)
class View:
    """A game as one of its players sees it."""

    game: Any
    agent: Agent

    @property
    def name(self) -> str:
        return self.game.name

    @property
    def default_params(self) -> Params:
        return Params(self.game.default_params, None, (), 0)

    def reset(self, key: Key, params: Params):
        obs, state = self.game.reset(key, params.game)
        return obs[params.player], (state, obs)

    def step(self, key: Key, state: tuple, action: Array, params: Params):
        state, obs = state
        k_act, k_game = jax.random.split(key)
        env = Env(params, self)
        all_actions = each(self.agent, params.cfg, env, params.policies, obs[None], k_act, False)
        actions = all_actions[0].at[params.player].set(action)
        obs, state, _, terminated, truncated, info = self.game.step(
            k_game, state, actions, params.game
        )
        own = {"final_observation": info["final_observation"][params.player]}
        reward = info["rewards"][params.player]
        return obs[params.player], (state, obs), reward, terminated, truncated, own

    def action_space(self, params: Params):
        space = self.game.action_space(params.game)
        return spaces.Box(space.low, space.high, space.shape[1:])

    def observation_space(self, params: Params):
        space = self.game.observation_space(params.game)
        return spaces.Box(space.low, space.high, space.shape[1:])


def each(agent: Agent, cfg, view: Env, policies: Tree, obs: Array, key: Key, greedy: bool) -> Array:
    """Actions [B, P, ...] of all players, from observations [B, P, ...]."""
    keys = jax.random.split(key, obs.shape[1])

    def act(policy, obs, key):
        return agent.act(cfg, view, policy, obs, (), key, greedy)[0]

    return jax.vmap(act, (0, 1, 0), 1)(policies, obs, keys)


@functools.cache  # one object per agent: a new one would be a new key of every jit cache
def independent(agent: Agent) -> Agent:
    """An agent for games: a copy of `agent` for each player, with the same config.

    Its state is the copies' [P, ...]; its metrics are their means, and sums where they count.
    """

    def view(cfg, env: Env, policies, player) -> Env:
        return Env(Params(env.params, cfg, policies, player), View(env.core, agent))

    def init(cfg, env: Env, key: Key) -> Tree:
        if not hasattr(env.core, "players"):
            raise ValueError(f"{env.name}: allowed are games, whose core has `players`")
        require(cfg, "loops.independent", memory="none")
        if cfg.memory != "none":
            raise ValueError(f"memory={cfg.memory!r}: allowed is 'none' in a game")
        own = view(cfg, env, (), jnp.zeros((), jnp.int32))
        keys = jax.random.split(key, env.core.players)
        return jax.vmap(lambda key: agent.init(cfg, own, key))(keys)

    def step(cfg, env: Env, states: Tree) -> tuple[Tree, Metrics]:
        def one(player, state):
            return agent.step(cfg, view(cfg, env, states, player), state)

        players = jnp.arange(env.core.players, dtype=jnp.int32)
        states, metrics = jax.vmap(one)(players, states)
        counts = {k: jnp.issubdtype(m.dtype, jnp.integer) for k, m in metrics.items()}
        return states, {
            k: m.sum(dtype=m.dtype) if counts[k] else m.mean() for k, m in metrics.items()
        }

    def act(cfg, env: Env, states: Tree, obs, carry, key: Key, greedy: bool):
        own = view(cfg, env, states, jnp.zeros((), jnp.int32))
        return each(agent, cfg, own, states, obs, key, greedy), carry

    return agent._replace(name=f"independent_{agent.name}", init=init, step=step, act=act)
