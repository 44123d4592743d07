"""Expected Sarsa in a table, van Seijen et al. (2009); Sutton & Barto (2018), eq. 6.9.

Each step moves one entry towards what the policy expects of the next state:

    Q(s, a) += alpha (r + gamma sum_a' pi(a' | s') Q(s', a') - Q(s, a))

with pi the policy that it follows, greedy but for a fraction epsilon of its steps. It learns what
Sarsa learns, without the variance of drawing a': in a deterministic environment steps of alpha = 1
converge, where Sarsa's would not. At `target_epsilon=0` the target is Q-learning's, and any other
value learns the best policy among those that explore so much, whatever is followed.

Several environments fill the same table, each with its own steps; one is the textbook's.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, number
from jaxpg.core.observations import action_mask
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, Key, Metrics, Schedule, Tree
from jaxpg.loops import tabular
from jaxpg.ops.dynamic_programming import soft_value
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
    target_epsilon: float | None = number(
        None, ge=0, le=1, help="Fraction of random actions of the target's policy; None is epsilon."
    )
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
        epsilon=jnp.asarray(cfg.epsilon, float),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    expected = cfg.epsilon if cfg.target_epsilon is None else cfg.target_epsilon

    def one(tables, env_state, key):
        Q, k_act, k_env = tables.Q, *jax.random.split(key)
        s = tabular.state_of(cfg, env, env_state.obs)
        action = tabular.explore(Q[s], cfg.epsilon, k_act, action_mask(env_state.obs))
        env_state, t, metrics = tabular.advance(env, env_state, action, k_env)

        next_s, may = tabular.state_of(cfg, env, t.next_obs), action_mask(t.next_obs)
        next_value = bootstrap(soft_value(Q[next_s], expected, may), t.terminated)
        error = t.reward + cfg.gamma * next_value - Q[s, action]
        metrics["loss/q"] = (error**2).mean() / 2
        return tabular.change(cfg, tables, (s, action), error), env_state, metrics

    key, k_loop = jax.random.split(state.key)
    tables = tabular.Tables(state.params, state.visits)
    tables, env_state, metrics = tabular.interact(cfg, one, tables, state.env, k_loop)
    epsilon = jnp.asarray(cfg.epsilon, float)
    return TrainState(*tables, env_state, epsilon, state.iteration + 1, key), metrics


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    Q = state.params[tabular.state_of(cfg, env, obs)]
    return tabular.act(Q, state.epsilon, obs, carry, key, greedy)


expected_sarsa = Agent(
    "expected_sarsa", Config, init, step, act, lambda cfg: cfg.num_envs * cfg.num_steps
)
