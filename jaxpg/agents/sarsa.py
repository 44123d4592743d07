"""Sarsa in a table, Rummery & Niranjan (1994); Sutton & Barto (2018), eq. 6.7.

Each step moves one entry towards what the action that is taken next is worth:

    Q(s, a) += alpha (r + gamma Q(s', a') - Q(s, a))

so that it learns the value of the policy that it follows: greedy but for a fraction epsilon of its
steps. With epsilon fixed, that is the best policy among those that explore so much, which keeps
away from what is dangerous for it; with epsilon falling to 0 (`epsilon_schedule`) and decreasing
steps (`decay`) it is the best policy of all (Singh et al. 2000).

Where a time limit ends an episode, a' is drawn for the last state and never taken.
Several environments fill the same table, each with its own steps; one is the textbook's.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config
from jaxpg.core.observations import action_mask
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Schedule, Tree
from jaxpg.loops import tabular
from jaxpg.ops.returns import bootstrap


@config
class Config:
    num_envs: int = fields.num_envs(1)
    num_steps: int = fields.num_steps(100)
    gamma: float = fields.gamma(0.99)
    learning_rate: float = fields.learning_rate(0.1, of="table")
    learning_rate_schedule: Schedule = schedule()
    decay: float = fields.decay(0.0)
    epsilon: float = fields.epsilon(0.1)
    epsilon_schedule: Schedule = schedule()
    initial_value: float = fields.initial_value(0.0)
    bins: tuple[int, ...] = fields.bins(())
    low: tuple[float, ...] = fields.low(())
    high: tuple[float, ...] = fields.high(())
    warmup: float = fields.warmup(0.05)
    total_steps: float | None = fields.total_steps(None)

    memory: ClassVar[str] = "none"  # a table looks at one observation


class TrainState(NamedTuple):
    params: Array  # [S, A] Q(s, a)
    visits: Array  # [S, A] int32
    env: E.EnvState
    action: Array  # [N] int32: chosen, not yet taken; of no meaning where an episode begins
    epsilon: Array  # [] float: of the newest iteration
    iteration: Array  # [] int32
    key: Key


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    shape = tabular.num_states(cfg, env), env.action_space.n
    k_env, key = jax.random.split(key)
    return TrainState(
        params=jnp.full(shape, cfg.initial_value, float),
        visits=jnp.zeros(shape, jnp.int32),
        env=E.reset(env, k_env, cfg.num_envs),
        action=jnp.zeros(cfg.num_envs, jnp.int32),
        epsilon=jnp.asarray(cfg.epsilon, float),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)

    def one(tables, loop, key):
        env_state, action = loop
        Q, k_first, k_env, k_next = tables.Q, *jax.random.split(key, 3)
        s = tabular.state_of(cfg, env, env_state.obs)
        first = tabular.explore(Q[s], cfg.epsilon, k_first, action_mask(env_state.obs))
        action = jnp.where(env_state.episode_length == 0, first, action)
        env_state, t, metrics = tabular.advance(env, env_state, action, k_env)

        next_s = tabular.state_of(cfg, env, t.next_obs)
        next_action = tabular.explore(Q[next_s], cfg.epsilon, k_next, action_mask(t.next_obs))
        target = t.reward + cfg.gamma * bootstrap(Q[next_s, next_action], t.terminated)
        error = target - Q[s, action]
        metrics["loss/q"] = (error**2).mean() / 2
        change = tabular.change(cfg, tables, (s, action), error)
        return change, (env_state, next_action), metrics

    key, k_loop = jax.random.split(state.key)
    tables, loop = tabular.Tables(state.params, state.visits), (state.env, state.action)
    tables, (env_state, action), metrics = tabular.interact(cfg, one, tables, loop, k_loop)
    epsilon = jnp.asarray(cfg.epsilon, float)
    return TrainState(*tables, env_state, action, epsilon, state.iteration + 1, key), metrics


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    Q = state.params[tabular.state_of(cfg, env, obs)]
    return tabular.act(Q, state.epsilon, obs, carry, key, greedy)


sarsa = Agent("sarsa", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps)
