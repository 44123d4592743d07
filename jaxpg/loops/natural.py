"""An iteration of NPG, TRPO and CPO: collect, one large policy step, fit the critic.

What an agent adds is its `improve`: the policy step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core.config import require_several, validate
from jaxpg.core.scans import scan_returns
from jaxpg.core.schedules import scheduled
from jaxpg.core.types import Array, Key, Metrics, Tree
from jaxpg.loops import fit_value, policies
from jaxpg.loops.costs import CostState, Limit, init_costs, learn_costs
from jaxpg.nets.actor_critic import actor_critic, empty_carry
from jaxpg.nets.noise import exploring
from jaxpg.ops import losses, normalize
from jaxpg.ops.constraints import penalize
from jaxpg.ops.returns import gae


class TrainState(NamedTuple):
    actor: Tree
    critic: Tree
    critic_opt: optax.OptState
    env: E.EnvState
    carry: Tree  # [num_envs, ...] noise that the policy holds; () without any
    obs_stats: normalize.RunningStats | tuple[()]  # () when off
    reward_scale: normalize.RewardScale | tuple[()]
    costs: CostState | tuple[()]  # () without a limit
    iteration: Array  # [] int32
    key: Key


class Batch(NamedTuple):
    """Training data of the policy: leaves [T, N, ...]."""

    obs: Tree
    draw: Array
    advantage: Array
    limit: Limit | tuple[()] = ()


def init(cfg: Any, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    fit_value.check(cfg)
    batch, what = cfg.num_envs * cfg.num_steps, "num_envs * num_steps = 1 step"
    require_several(cfg, "normalize_advantage", batch, what)
    k_actor, k_critic, k_env, key = jax.random.split(key, 4)
    net, _ = actor_critic(cfg, env)
    actor = net.init(k_actor, env.example_obs, method="policy")
    critic = net.init(k_critic, env.example_obs, method="value")
    env_state = E.reset(env, k_env, cfg.num_envs)
    return TrainState(
        actor=actor,
        critic=critic,
        critic_opt=fit_value.optimizer(cfg).init(critic),
        env=env_state,
        carry=empty_carry(net, actor, env_state.obs),
        obs_stats=normalize.init_stats(env.example_obs, cfg.normalize_obs),
        reward_scale=normalize.init_reward_scale(cfg.num_envs, cfg.normalize_reward),
        costs=init_costs(cfg, env, critic),
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def step(improve: Callable, cfg: Any, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    """One iteration. `improve(actor, cfg, env, batch, key)` returns the new actor and metrics."""
    cfg = scheduled(cfg, state.iteration, cfg.num_envs * cfg.num_steps)
    net, pi = actor_critic(cfg, env)
    key, k_rollout, k_critic, k_policy = jax.random.split(state.key, 4)

    # Collect.
    def act(obs, carry, key):
        obs, rngs = normalize.whiten(state.obs_stats, obs), exploring(cfg, key)
        out, carry = net.apply(state.actor, obs, carry, method="explore", rngs=rngs)
        draw, _ = pi.sample(out, key)
        return pi.action(draw), carry, draw

    env_state, carry, t, draw, metrics = E.rollout(
        env, act, state.env, state.carry, k_rollout, cfg.num_steps
    )

    # Advantages.
    def value_of(critic, obs):
        return net.apply(critic, obs, method="value")

    obs, next_obs = (normalize.whiten(state.obs_stats, x) for x in (t.obs, t.next_obs))
    ended = t.terminated | t.truncated
    scale, reward = normalize.scale_reward(
        state.reward_scale, t.reward, ended, cfg.gamma, scan=scan_returns
    )
    value, next_value = value_of(state.critic, obs), value_of(state.critic, next_obs)
    ends = t.terminated, t.truncated
    advantage = gae(reward, value, next_value, *ends, cfg.gamma, cfg.gae_lambda, scan=scan_returns)
    target = advantage + value
    costs, limit, info = state.costs, (), {}
    if cfg.cost_limit is not None:
        k_cost = jax.random.fold_in(k_critic, 1)
        costs, limit, info = learn_costs(cfg, value_of, state.costs, t, obs, next_obs, k_cost)
        advantage = penalize(advantage, limit.advantage, costs.weight)
    if cfg.normalize_advantage:
        advantage = normalize.standardize(advantage)

    # Learn: the policy on the whole batch, then the critic.
    batch = Batch(obs, draw, advantage, limit)
    actor, step_info = improve(state.actor, cfg, env, batch, k_policy)
    flat_obs = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), obs)
    critic, critic_opt, l_value = fit_value.fit(
        value_of, state.critic, state.critic_opt, flat_obs, target.reshape(-1), k_critic, cfg
    )
    explained = losses.explained_variance(value, target)
    stats = normalize.update_stats(state.obs_stats, t.obs, cfg.normalize_steps)
    state = TrainState(
        actor, critic, critic_opt, env_state, carry, stats, scale, costs, state.iteration + 1, key
    )
    info |= step_info
    return state, metrics | info | {"loss/value": l_value, "value/explained_variance": explained}


def act(
    cfg: Any, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return policies.act(cfg, env, state.actor, state.obs_stats, obs, carry, key, greedy)


def steps_per_iter(cfg: Any) -> int:
    return cfg.num_envs * cfg.num_steps
