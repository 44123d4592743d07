"""Costs beside the reward: a critic of their own, what an episode costs, and the multiplier.

An environment says its cost by a signal `cost` []. An agent that limits it has the fields
`cost_limit, cost_unit, cost_gamma, cost_gae_lambda`, of the critic those of `fit_value`, and of the
Lagrangian `multiplier_p, multiplier_i, multiplier_d`, the gains of its controller; all 0 leave the
multiplier at 0. `cost_limit=None` asks for nothing.

Of several costs, a signal `cost` [K] and a `cost_limit` of K numbers, each has a critic and a
multiplier of its own: all is as of one cost, with an axis [K] in front.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core import signals
from jaxpg.core.config import label
from jaxpg.core.metrics import no_data
from jaxpg.core.scans import scan_returns
from jaxpg.core.types import Array, Key, Metrics, Tree
from jaxpg.loops import fit_value
from jaxpg.ops import constraints
from jaxpg.ops.constraints import Multiplier, Running
from jaxpg.ops.returns import gae


class CostState(NamedTuple):
    critic: Tree
    critic_opt: Tree
    running: Running  # [num_envs] of the episodes that are under way
    cost: Array  # [] mean of the last episodes that ended; 0 before the first
    length: Array  # [] mean sum of their discounts, in steps; 0 before the first
    multiplier: Multiplier
    weight: Array  # [] the multiplier itself


class Limit(NamedTuple):
    """Costs of a rollout, as a policy is to mind them."""

    advantage: Array  # [T, N]
    scale: Array  # [T, N] a mean of scale * advantage is a change of an episode's cost
    violation: Array  # [] cost of an episode less the limit; -inf before the first has ended


def init_costs(cfg: Any, env: E.Env, critic: Tree) -> CostState | tuple[()]:
    """Costs before the first step, () without a limit.

    critic: parameters. Raises ValueError for an environment without a signal `cost` [], or [K] for
    a limit of K numbers.
    """
    if cfg.cost_limit is None:
        return ()
    several = (len(cfg.cost_limit),) if isinstance(cfg.cost_limit, tuple) else ()
    signals.require(env.core, env.params, "cost", several, f"{label(type(cfg))} cost_limit")
    if several:
        one = _init_one(cfg, critic)
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (*several, *x.shape)), one)
    return _init_one(cfg, critic)


def _init_one(cfg: Any, critic: Tree) -> CostState:
    return CostState(
        critic=critic,
        critic_opt=fit_value.optimizer(cfg).init(critic),
        running=constraints.init_running(cfg.num_envs),
        cost=jnp.zeros((), float),
        length=jnp.zeros((), float),
        multiplier=constraints.init_multiplier(),
        weight=jnp.zeros((), float),
    )


def require_limit(cfg: Any, env: E.Env) -> None:
    """Raises ValueError where an environment has costs, and an agent that is there to limit them is
    given no limit. Where there are none it has nothing to limit."""
    if cfg.cost_limit is None and "cost" in signals.shapes(env.core, env.params):
        raise ValueError(
            f"{label(type(cfg))} cost_limit=None: {env.name} has costs, allowed is a number >= 0"
        )


def discount(cfg: Any) -> Any:
    """Discount of the costs that the limit counts: 1 where it is of whole episodes."""
    return cfg.cost_gamma if cfg.cost_unit == "discounted" else 1.0


def learn_costs(
    cfg: Any,
    value_of: Callable,
    state: Any,
    t: E.Transition,
    obs: Tree,
    next_obs: Tree,
    key: Key,
) -> tuple[CostState, Limit, Metrics]:
    """Advantages of the costs of a rollout; then the critic is fitted to their returns, and the
    multiplier is moved by what the episodes cost that ended.

    value_of(critic, obs) -> [T, N]; state: CostState; obs, next_obs: [T, N, ...] as it sees them.
    Of several costs metrics have the number of each behind their name, "cost/multiplier_0".
    """  # fmt: skip

    def learn(limit, cost, state, key):
        return _learn_one(cfg, limit, cost, value_of, state, t, obs, next_obs, key)

    cost = t.signals["cost"]
    if not isinstance(cfg.cost_limit, tuple):
        return learn(cfg.cost_limit, cost, state, key)
    limits = jnp.stack([jnp.asarray(x, float) for x in cfg.cost_limit])
    keys = jax.random.split(key, len(limits))
    state, limit, found = jax.vmap(learn)(limits, jnp.moveaxis(cost, -1, 0), state, keys)
    several = {f"{name}_{k}": x[k] for name, x in found.items() for k in range(len(limits))}
    return state, limit, several


def _learn_one(
    cfg: Any, cost_limit: Any, cost: Array, value_of: Callable, state: Any, t: E.Transition,
    obs: Tree, next_obs: Tree, key: Key,
) -> tuple[CostState, Limit, Metrics]:  # fmt: skip
    """Advantages of one cost [T, N], and all else that `learn_costs` does."""
    ended = t.terminated | t.truncated
    running, sums = constraints.sum_costs(
        state.running, cost, ended, discount(cfg), scan=scan_returns
    )
    count = ended.sum(dtype=cost.dtype)
    mean = lambda x, before: jnp.where(  # noqa: E731
        count > 0, jnp.where(ended, x, 0).sum() / jnp.maximum(count, 1), before
    )
    now, length = mean(sums.cost, state.cost), mean(sums.length, state.length)

    value, next_value = value_of(state.critic, obs), value_of(state.critic, next_obs)
    ends = t.terminated, t.truncated
    advantage = gae(
        cost, value, next_value, *ends, cfg.cost_gamma, cfg.cost_gae_lambda, scan=scan_returns
    )
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), obs)
    critic, critic_opt, l_value = fit_value.fit(
        value_of, state.critic, state.critic_opt, flat, (advantage + value).reshape(-1), key, cfg
    )
    scale = length * sums.discount / jnp.maximum(sums.discount.mean(), 1e-8)
    known = jnp.where(length > 0, now, no_data(now.dtype))
    gains = cfg.multiplier_p, cfg.multiplier_i, cfg.multiplier_d
    # A rollout in which no episode ended says nothing new: its violation is not counted again.
    news = jnp.where(count > 0, now, jnp.nan)
    multiplier, weight = constraints.control(state.multiplier, news, cost_limit, *gains)
    weight = jnp.where(count > 0, weight, state.weight)
    state = CostState(critic, critic_opt, running, now, length, multiplier, weight)
    metrics = {"cost/episode": known, "cost/multiplier": weight, "loss/cost_value": l_value}
    violation = jnp.where(length > 0, now - cost_limit, -jnp.inf)
    return state, Limit(advantage, scale, violation), metrics
