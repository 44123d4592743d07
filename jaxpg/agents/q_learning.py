"""Q-learning in a table, Watkins (1989); Watkins & Dayan (1992); Sutton & Barto (2018), eq. 6.8.

Each step (s, a, r, s') moves one entry towards what the best next action is worth:

    Q(s, a) += alpha (r + gamma max_a' Q(s', a') - Q(s, a))

whatever action is taken next, so that it learns the best policy while following another: one that
is greedy but for a fraction epsilon of its steps. It converges to the best Q if every entry is
tried for ever and the steps decrease, but not too fast: `decay` above 0.5 (Even-Dar & Mansour
2003). In a deterministic environment any constant step from 0 to 1 will do.

`double` is double Q-learning, van Hasselt (2010), algorithm 1: two tables, of which either picks
the action that the other values, because the maximum of noisy values is biased upwards.

Several environments fill the same table, each with its own steps; one is the textbook's.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, static
from jaxpg.core.observations import action_mask, mask_illegal
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Schedule, Tree
from jaxpg.loops import tabular
from jaxpg.ops.returns import bootstrap


@config
class Config:
    num_envs: int = fields.num_envs(1)
    num_steps: int = fields.num_steps(100)
    double: bool = static(False, help="Two tables: one picks the action that the other judges.")
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
    params: Array  # [tables, S, A] Q(s, a)
    visits: Array  # [tables, S, A] int32
    env: E.EnvState
    epsilon: Array  # [] float: of the newest iteration
    iteration: Array  # [] int32
    key: Key


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    shape = 1 + cfg.double, tabular.num_states(cfg, env), env.action_space.n
    k_env, key = jax.random.split(key)
    return TrainState(
        params=jnp.full(shape, cfg.initial_value, float),
        visits=jnp.zeros(shape, jnp.int32),
        env=E.reset(env, k_env, cfg.num_envs),
        epsilon=jnp.asarray(cfg.epsilon, float),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)

    def one(tables, env_state, key):
        Q, k_act, k_env, k_table = tables.Q, *jax.random.split(key, 3)
        s = tabular.state_of(cfg, env, env_state.obs)
        action = tabular.explore(Q[:, s].mean(0), cfg.epsilon, k_act, action_mask(env_state.obs))
        env_state, t, metrics = tabular.advance(env, env_state, action, k_env)

        # With one table, the one that learns and the one that is asked are the same.
        mine = jax.random.randint(k_table, s.shape, 0, len(Q), jnp.int32)
        other = (mine + 1) % len(Q)
        next_s = tabular.state_of(cfg, env, t.next_obs)
        best = mask_illegal(Q[mine, next_s], t.next_obs).argmax(-1)
        target = t.reward + cfg.gamma * bootstrap(Q[other, next_s, best], t.terminated)
        error = target - Q[mine, s, action]
        metrics["loss/q"] = (error**2).mean() / 2
        return tabular.change(cfg, tables, (mine, s, action), error), env_state, metrics

    key, k_loop = jax.random.split(state.key)
    tables = tabular.Tables(state.params, state.visits)
    tables, env_state, metrics = tabular.interact(cfg, one, tables, state.env, k_loop)
    epsilon = jnp.asarray(cfg.epsilon, float)
    return TrainState(*tables, env_state, epsilon, state.iteration + 1, key), metrics


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    Q = state.params[:, tabular.state_of(cfg, env, obs)].mean(0)
    return tabular.act(Q, state.epsilon, obs, carry, key, greedy)


q_learning = Agent("q_learning", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps)
