"""Learning from a bonus for what is new, beside the reward; `loops.bonuses` has the bonuses.

Agents that learn from rollouts have a second critic of the intrinsic returns, which are those of a
life without episodes and have their own discount, Burda et al. (2018), arXiv:1810.12894, section
2.3: being sent to the start is no loss of what is still to be found. The advantages are added,

    A = A_reward + bonus_weight * A_bonus.

Agents that learn from a replay buffer add the bonus to the rewards that they draw, by what is known
at that time: what was new when it was stored may be so no longer.

A bonus whose unit means nothing is divided by the running deviation of its discounted returns. They
are summed along time, of each environment for itself.

The fields are `bonus, bonus_weight` and, on rollouts, `bonus_gamma`. Keys are folded from those of
the agent, which draws the same numbers with a bonus as without.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core.checks import show
from jaxpg.core.config import label
from jaxpg.core.scans import scan_returns
from jaxpg.core.types import Array, Key, Metrics, Transition, Tree
from jaxpg.loops.bonuses import make_bonus
from jaxpg.loops.minibatch import epochs
from jaxpg.loops.optimizers import ON_POLICY, apply_updates, build_optimizer
from jaxpg.nets.values import state_value
from jaxpg.ops import losses, normalize
from jaxpg.ops.returns import gae

_KEY = 0xB0B05000  # folded into an agent's key: far from the numbers that `split` counts with


class Intrinsic(NamedTuple):
    bonus: Tree  # what the bonus has learnt
    scale: normalize.RewardScale | tuple[()]  # of its returns; () where it is not scaled
    critic: Tree = ()  # of its returns; () without rollouts
    critic_opt: Tree = ()


def init(cfg: Any, env: E.Env, key: Key) -> Intrinsic | tuple[()]:
    """Before the first step, of an agent that learns from a replay buffer; () without a bonus.

    Raises ValueError for a bonus that must see steps in their order.
    """
    bonus = make_bonus(cfg)
    if bonus is None:
        return ()
    if bonus.ordered:
        raise ValueError(
            f"{label(type(cfg))} bonus={cfg.bonus!r}: it sees steps in their order, and a replay "
            "buffer draws them in none; allowed is another one"
        )
    scale = normalize.init_reward_scale(cfg.num_envs, bonus.scaled)
    return Intrinsic(bonus.init(jax.random.fold_in(key, _KEY), env, cfg.num_envs), scale)


def init_on_policy(cfg: Any, env: E.Env, key: Key, learning_rate: Any) -> Intrinsic | tuple[()]:
    """Before the first rollout, with a critic of the bonus; () without one."""
    bonus = make_bonus(cfg)
    if bonus is None:
        return ()
    k_bonus, k_critic = jax.random.split(jax.random.fold_in(key, _KEY))
    critic = state_value(cfg, env).init(k_critic, env.example_obs)
    return Intrinsic(
        bonus.init(k_bonus, env, cfg.num_envs),
        normalize.init_reward_scale(cfg.num_envs, bonus.scaled),
        critic,
        _optimizer(cfg, learning_rate).init(critic),
    )


def _optimizer(cfg, learning_rate: Any):
    return build_optimizer(cfg.optimizer, learning_rate, cfg.max_grad_norm, ON_POLICY)


def update_return_scale(
    scale: normalize.RewardScale | tuple[()], bonus: Array, gamma: Any
) -> normalize.RewardScale | tuple[()]:
    """Takes in the bonuses of a rollout [T, N]: each environment's discounted return goes on from
    where the last rollout left it, also over the ends of episodes. A rollout without any bonus, as
    of a warm-up, says nothing of the scale."""
    never = jnp.zeros(bonus.shape, bool)
    new = normalize.update_reward_scale(scale, bonus, never, gamma, scan=scan_returns)
    some = (bonus != 0).any()
    return jax.tree.map(lambda x, old: jnp.where(some, x, old), new, scale)


def _bonus_of(cfg, bonus: Any, learnt: Any, env: E.Env, t: Transition) -> Array:
    """Bonuses of steps. Raises ValueError for a bonus that gives something else than a number for
    each."""
    found = bonus.bonus(learnt, env, t)
    if getattr(found, "shape", None) != t.reward.shape:
        raise ValueError(
            f"{label(type(cfg))} bonus={show(cfg.bonus)}: of steps {t.reward.shape} it gives "
            f"{show(getattr(found, 'shape', found))}, allowed is an array of a number for each"
        )
    return found


def _update(cfg, bonus: Any, learnt: Any, env: E.Env, t: Transition) -> Any:
    """State of a bonus after a rollout. Raises ValueError for one of other shapes than before."""
    new = bonus.update(learnt, env, t)
    before, after = (jax.tree.map(jnp.shape, x) for x in (learnt, new))
    if before != after:
        raise ValueError(
            f"{label(type(cfg))} bonus={show(cfg.bonus)}: update gives a state of shapes "
            f"{show(after)}, allowed are those of init, {show(before)}"
        )
    return new


def _metrics_of(cfg, bonus: Any, learnt: Any) -> Metrics:
    """Metrics of a bonus. Raises ValueError for what is no dict of numbers by name."""
    found = bonus.metrics(learnt)
    if not isinstance(found, dict) or any(jnp.shape(x) for x in found.values()):
        raise ValueError(
            f"{label(type(cfg))} bonus={show(cfg.bonus)}: metrics gives {show(found)}, allowed is "
            "a dict of numbers, such as {'bonus/loss': loss}"
        )
    return found


def _meet(cfg, env: E.Env, state: Any, t: Transition, gamma: Any) -> tuple[Any, Array, Metrics]:
    """The state after a rollout [T, N], its bonuses [T, N] in their scale, and metrics."""
    bonus = make_bonus(cfg)
    found = _bonus_of(cfg, bonus, state.bonus, env, t)
    scale = update_return_scale(state.scale, found, gamma)
    state = state._replace(bonus=_update(cfg, bonus, state.bonus, env, t), scale=scale)
    metrics = {"bonus/mean": found.mean()} | _metrics_of(cfg, bonus, state.bonus)
    return state, normalize.divide_reward(scale, found, jnp.inf), metrics


def learn_on_policy(
    cfg: Any,
    env: E.Env,
    state: Any,
    t: Transition,
    obs: Tree,
    last_obs: Tree,
    key: Key,
    learning_rate: Any,
    num_epochs: int = 1,
    minibatches: int = 1,
) -> tuple[Intrinsic, Array, Metrics]:
    """Advantages [T, N] of the bonuses of a rollout, by the critic and what was known before it;
    then both learn from it.

    state: Intrinsic. t: as the environment gave it. obs: [T, N, *obs], last_obs: [N, *obs] the
    observation that the rollout stopped at, as the critic sees them.
    """
    state, reward, metrics = _meet(cfg, env, state, t, cfg.bonus_gamma)
    net = state_value(cfg, env)
    value = net.apply(state.critic, obs)
    last = net.apply(state.critic, last_obs)
    # What follows an episode's last step is the first one of the next: that is where life goes on.
    next_value = jnp.concatenate([value[1:], last[None]])
    never = jnp.zeros(reward.shape, bool)
    advantage = gae(
        reward, value, next_value, never, never, cfg.bonus_gamma, cfg.gae_lambda, scan=scan_returns
    )
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), obs)
    rule = _optimizer(cfg, learning_rate)

    def update(carry, minibatch, _):
        critic, opt_state = carry
        obs, target = minibatch
        loss, grads = jax.value_and_grad(lambda c: losses.value(net.apply(c, obs), target))(critic)
        updates, opt_state = rule.update(grads, opt_state, critic)
        return (apply_updates(critic, updates), opt_state), {"loss/bonus_value": loss}

    (critic, critic_opt), info = epochs(
        update, (state.critic, state.critic_opt), (flat, (advantage + value).reshape(-1)),
        jax.random.fold_in(key, _KEY), num_epochs=num_epochs, minibatches=minibatches,
    )  # fmt: skip
    return state._replace(critic=critic, critic_opt=critic_opt), advantage, metrics | info


def meet_off_policy(cfg: Any, env: E.Env, state: Any, t: Transition) -> tuple[Any, Metrics]:
    """The state after steps [T, N] that a replay buffer takes in, and metrics; () stays ()."""
    if not state:
        return state, {}
    state, _, metrics = _meet(cfg, env, state, t, cfg.gamma)
    return state, metrics


def weigh(cfg: Any, env: E.Env, state: Any, t: Any) -> Array:
    """Weighted bonus that stored steps [...] get beside their reward, by what is known now: [...].

    t: what has a Transition's fields.
    """
    found = _bonus_of(cfg, make_bonus(cfg), state.bonus, env, t)
    return cfg.bonus_weight * normalize.divide_reward(state.scale, found, jnp.inf)
