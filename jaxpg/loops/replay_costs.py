"""Costs of an agent that learns from a replay buffer: critics of the cost, and the multiplier.

An environment says its cost by a signal `cost` []. The critics regress on the discounted cost to
come, and the policy maximises the Lagrangian of its value and that cost:

    y = c + cost_gamma max_i Q'_C,i(s', a'),   a' ~ pi(. | s')
    J_pi = E[ (soft value(s, a) - lambda max_i Q_C,i(s, a)) / (1 + lambda) ]

There are two critics, and the greater of them counts: a policy seeks out the actions at which a
critic errs on the cheap side, as it seeks out those at which one of the reward errs on the high
side, where SAC takes the lesser of two.

lambda is moved by the controller of `ops.constraints` in every iteration in which episodes ended,
from a mean over the last EPISODES of them, for one episode alone is noise; its integral gets the
violation once for each of them, so that gains do not depend on `num_envs`. The limit is on an
episode's plain sum. While the buffer fills lambda stays at 0: nothing learns that could heed it.

An agent has the fields `cost_limit, cost_gamma, multiplier_p, multiplier_i, multiplier_d` and those
of its critics, `optimizer, critic_learning_rate, tau`. `cost_limit=None` asks for nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.core import env as E
from jaxpg.core import signals
from jaxpg.core.config import label
from jaxpg.core.metrics import no_data
from jaxpg.core.types import Array, Metrics, Tree
from jaxpg.loops.optimizers import build_optimizer
from jaxpg.loops.replay import Batch, Replay
from jaxpg.ops import constraints
from jaxpg.ops.constraints import Multiplier

EPISODES = 10  # of the mean that the limit is held against


class CostState(NamedTuple):
    critic: Tree  # both of them
    target: Tree  # a copy, behind
    opt_state: optax.OptState
    episodes: Array  # [] int32 how many the mean is of, EPISODES at most
    cost: Array  # [] mean cost of these; 0 before the first
    multiplier: Multiplier
    weight: Array  # [] the multiplier itself


def _optimizer(cfg: Any, critic: Tree) -> optax.GradientTransformation:
    stacked = not isinstance(critic, tuple)
    return build_optimizer(cfg.optimizer, cfg.critic_learning_rate, stacked=stacked)


def init_costs(cfg: Any, env: E.Env, critic: Tree) -> CostState | tuple[()]:
    """Costs before the first step, () without a limit.

    critic: parameters of two critics to begin with, a tuple or stacked along the first axis. Raises
    ValueError for an environment without a signal `cost` [].
    """
    if cfg.cost_limit is None:
        return ()
    signals.require(env.core, env.params, "cost", (), f"{label(type(cfg))} cost_limit")
    zero = jnp.zeros((), float)
    return CostState(
        critic=jax.tree.map(jnp.copy, critic),
        target=jax.tree.map(jnp.copy, critic),
        opt_state=_optimizer(cfg, critic).init(critic),
        episodes=jnp.zeros((), jnp.int32),
        cost=zero,
        multiplier=constraints.init_multiplier(),
        weight=zero,
    )


def learn_costs(
    cfg: Any, costs: CostState, b: Batch, q: Callable[[Tree], Array], next_value: Array
) -> tuple[CostState, Array]:
    """One regression of the critics on the cost of one-step rows; the loss [].

    q(critic): both critics at the rows' observations and actions [2, B]. next_value: cost to come
    [B] at their next observations, by `costs.target`. A row with a discount of 0 is a termination.
    """
    after = jnp.where(b.discount == 0, 0, cfg.cost_gamma * next_value)
    y = b.signals["cost"] + after

    def loss(critic: Tree) -> Array:
        return 0.5 * jnp.square(q(critic) - y).mean(-1).sum()

    found, grads = jax.value_and_grad(loss)(costs.critic)
    updates, opt_state = _optimizer(cfg, costs.critic).update(grads, costs.opt_state, costs.critic)
    critic: Tree = optax.apply_updates(costs.critic, updates)
    target: Tree = optax.incremental_update(critic, costs.target, cfg.tau)
    return costs._replace(critic=critic, target=target, opt_state=opt_state), found


def control_costs(cfg: Any, learner: Any, metrics: Metrics, replay: Replay) -> tuple[Any, Metrics]:
    """Moves the multiplier by the episodes that ended in an iteration, if the agent learns yet, and
    adds it to the metrics. Does nothing without a limit.

    learner: with `costs`. metrics: of that iteration, with `episode/cost` and `episode/count`.
    """
    if cfg.cost_limit is None:
        return learner, metrics
    old: CostState = learner.costs
    count = metrics["episode/count"]
    ended = (count > 0) & (replay.buffer.size >= cfg.learning_starts)
    episodes = jnp.minimum(old.episodes + count, EPISODES)
    share = jnp.minimum(count, EPISODES) / jnp.maximum(episodes, 1)
    cost = old.cost + share * (jnp.where(ended, metrics["episode/cost"], 0) - old.cost)
    gains = cfg.multiplier_p, cfg.multiplier_i, cfg.multiplier_d
    moved = constraints.control(old.multiplier, cost, cfg.cost_limit, *gains, steps=count)
    now = old.episodes, old.cost, old.multiplier, old.weight
    now = jax.tree.map(lambda x, y: jnp.where(ended, x, y), (episodes, cost, *moved), now)
    new = dict(zip(("episodes", "cost", "multiplier", "weight"), now, strict=True))
    costs = old._replace(**new)
    known = jnp.where(costs.episodes > 0, costs.cost, no_data(costs.cost.dtype))
    found = {"cost/episode": known, "cost/multiplier": costs.weight}
    return learner._replace(costs=costs), metrics | found
