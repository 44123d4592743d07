"""Go-Explore, Ecoffet et al. (2019), arXiv:1901.10995: first return, then explore.

An archive has, for each cell of observations, the state that reached it by the best way so far. In
an iteration every environment is put into the state of a cell that is drawn by

    weight = 1 / sqrt(steps that led to the cell + 1)      (Ecoffet et al. 2021, arXiv:2004.12919),

and takes `num_steps` random actions, each of which repeats the one before with probability
`repeat`. What reaches a new cell, or an old one by a better way, goes into the archive. So nothing
that was found is lost, and no policy has to find the way back: the state is restored, which every
environment in JAX allows.

The best episode that ended is played again from its start, and the policy imitates it: a few steps
of maximum likelihood of its actions; of those at equal observations only the last, for the others
led back there. Such a policy knows one way, from where episodes begin.

With `robustify` PPO learns in its place, as in the paper's second phase, a policy that bears
noise: from starts along the best episode, which move from its end to its beginning, see
`loops.backward`. Both phases go on side by side, so that a better episode is learnt from at once.
While exploring, the i-th step of every episode draws the same chance, so that a way can be played
again; PPO meets all of it.

Deviations: cells keep the number of steps that led to them as their one count; an environment whose
episode ends goes back to its cell and explores on.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.agents import ppo
from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, number, static, validate
from jaxpg.core.metrics import ended_episodes, episode_metrics, no_data
from jaxpg.core.observations import action_mask, random_actions
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, EnvState, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import archive as A
from jaxpg.loops import backward, optimizers, policies
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.networks import MLP


@config
class Config:
    num_envs: int = fields.num_envs(16)
    num_steps: int = fields.num_steps(64, help="Steps explored from a cell.")
    repeat: float = number(
        0.95, ge=0, le=1, help="Probability that a random action is the one before it."
    )
    trajectory_steps: int = static(
        500, ge=1, help="Longest way in the archive; beyond it nothing is kept."
    )
    cell: str | Callable = static(
        "auto", choices=("auto",), kind=A.CELL,
        help="Cell of an observation: by its value, or by a function of one's own.",
    )  # fmt: skip
    slots: int = static(
        4096, ge=1, help="Cells of a function, and of observations that are hashed."
    )
    bins: tuple[int, ...] = fields.bins(())
    low: tuple[float, ...] = fields.low(())
    high: tuple[float, ...] = fields.high(())
    learning_rate: float = fields.learning_rate(3e-3, of="policy")
    learning_rate_schedule: Schedule = schedule()
    optimizer: Optimizer = fields.optimizer("adam", of="policy")
    max_grad_norm: float = fields.max_grad_norm(0.5)
    imitation_updates: int = static(
        10, ge=1, help="Updates of an iteration that imitate the best episode."
    )
    robustify: bool = static(
        False, help="PPO learns from starts along the best episode, in place of imitation."
    )
    start_window: int = static(8, ge=1, help="Steps of the best episode that PPO begins at.")
    success_threshold: float = number(
        0.2, ge=0, le=1, help="Share of episodes that match the best one, to begin further back."
    )
    num_epochs: int = fields.num_epochs(4)
    minibatches: int = static(4, ge=1, help="Of PPO; divides num_envs * num_steps.")
    gamma: float = fields.gamma(0.99)
    entropy_coef: float = fields.entropy_coef(0.01)
    temperature: float = fields.temperature(1.0)
    net: fields.Net = fields.net(MLP)
    hidden: tuple[int, ...] = fields.hidden((64, 64))
    activation: fields.Activation = fields.activation("tanh")
    kernel_init: fields.Initializer = fields.kernel_init("orthogonal")
    layer_norm: bool = fields.layer_norm(False)
    warmup: float = fields.warmup(0.05)
    total_steps: float | None = fields.total_steps(None)

    head: ClassVar[str] = "auto"  # a density of actions themselves
    shared: ClassVar[bool] = False  # no critic
    memory: ClassVar[str] = "none"
    batch_norm: ClassVar[bool] = False


class Robust(NamedTuple):
    """What PPO has learnt along the best episode, with `robustify`."""

    learner: ppo.TrainState  # its parameters and optimiser are those of the TrainState
    curriculum: backward.Curriculum
    chance: Key  # of all episodes while exploring


class TrainState(NamedTuple):
    params: Tree
    opt_state: optax.OptState
    archive: A.Archive
    best_way: A.Way  # of the best episode that ended
    robust: Robust | tuple[()]  # () without `robustify`
    iteration: Array  # [] int32
    key: Key


def optimizer(cfg: Config) -> optax.GradientTransformation:
    return optimizers.build_optimizer(cfg.optimizer, cfg.learning_rate, cfg.max_grad_norm)


def ppo_config(cfg: Config) -> ppo.Config:
    """PPO with these settings, and its own for all else."""
    names = {f.name for f in dataclasses.fields(cfg)} & {
        f.name for f in dataclasses.fields(ppo.Config)
    }
    given = {name: getattr(cfg, name) for name in names}
    return ppo.Config(**given | {"learning_rate_schedule": "constant"})  # `step` follows it


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    A.require_restorable(cfg, env)
    net, pi = actor_critic(cfg, env)
    k_params, k_env, key = jax.random.split(key, 3)
    params = net.init(k_params, env.example_obs, method="policy")
    out = jax.eval_shape(lambda: net.apply(params, env.example_obs, method="policy"))
    like = jax.eval_shape(lambda x: pi.action(pi.mode(x)), out)
    actions = jnp.zeros((cfg.trajectory_steps, *like.shape), like.dtype)
    zero = jnp.zeros((), jnp.int32)
    way = A.Way(jnp.full((), -jnp.inf, float), zero, actions)
    robust, opt_state = (), optimizer(cfg).init(params)
    if cfg.robustify:
        curriculum = backward.init(cfg.start_window)
        shown = backward.record(env, E.to_space(env, actions), zero, k_env)
        world = backward.along(env, shown, curriculum, cfg.start_window)
        learner = ppo.init(ppo_config(cfg), world, k_params)
        params, opt_state = learner.params, learner.opt_state
        robust = Robust(learner._replace(params=(), opt_state=()), curriculum, k_env)
        first = E.reset(env, k_env, 1)
    else:
        first = E.reset(env, k_env, cfg.num_envs)
    return TrainState(params, opt_state, A.init(cfg, env, first, actions), way, robust, zero, key)


def explore(
    cfg: Config, env: E.Env, archive: A.Archive, chance: Key | None, key: Key
) -> tuple[A.Found, dict[str, Array]]:
    """`num_steps` random steps from cells of the archive; and sums of the episodes that ended.

    chance: what the i-th step of every episode draws from; None: each from a key of its own.
    """
    k_cell, k_first, k_steps = jax.random.split(key, 3)
    cell = A.choose(archive, k_cell, cfg.num_envs)
    begin, way = jax.tree.map(lambda x: x[cell], (archive.state, archive.actions))
    first = random_actions(k_first, env.action_space, way[:, 0], action_mask(begin.obs))
    lanes = jnp.arange(cfg.num_envs, dtype=jnp.int32)

    def go(loop: tuple[EnvState, Array, Array], key: Key):
        state, actions, last = loop
        k_action, k_repeat, k_env = jax.random.split(key, 3)
        legal = action_mask(state.obs)
        action = random_actions(k_action, env.action_space, last, legal)
        if legal is None:  # else the one before may be illegal now
            again = jax.random.uniform(k_repeat, (cfg.num_envs,)) < cfg.repeat
            action = jnp.where(again.reshape(-1, *[1] * (action.ndim - 1)), last, action)
        actions = actions.at[lanes, state.episode_length].set(action, mode="drop")
        if chance is None:
            new, t = E.step_before_reset(env, state, E.to_space(env, action), k_env)
        else:
            new, t = backward.step_by_chance(env, state, E.to_space(env, action), chance)
        ended, sums = t.terminated | t.truncated, ended_episodes(state, t)
        score, length = state.episode_return + t.reward, state.episode_length + 1
        found = A.Found(new, actions, ended, score, length)
        new, actions = jax.tree.map(
            lambda old, x: jnp.where(ended.reshape(-1, *[1] * (x.ndim - 1)), old, x),
            (begin, way), (new, actions),
        )  # fmt: skip
        return (new, actions, action), (found, sums)

    keys = jax.random.split(k_steps, cfg.num_steps)
    _, (found, sums) = jax.lax.scan(go, (begin, way, first), keys)
    return found, {name: x.sum(0, dtype=x.dtype) for name, x in sums.items()}


def replay(cfg: Config, env: E.Env, way: A.Way, key: Key) -> tuple[Tree, Array, Array]:
    """Plays a way again from the start of an episode: the observations before each action
    [L, *obs]; whether it was taken [L] bool; and the return []."""
    k_reset, k_steps = jax.random.split(key)

    def go(loop: tuple[EnvState, Array, Array], x: tuple[Array, Array, Key]):
        state, going, total = loop
        action, i, key = x
        going &= i < way.length
        new, t = E.step_before_reset(env, state, E.to_space(env, action[None]), key)
        total += jnp.where(going, t.reward[0], 0)
        on = going & ~(t.terminated | t.truncated)[0]
        return (new, on, total), (jax.tree.map(lambda x: x[0], state.obs), going)

    steps = jnp.arange(cfg.trajectory_steps, dtype=jnp.int32)
    begin = E.reset(env, k_reset, 1), jnp.ones((), bool), jnp.zeros((), float)
    keys = jax.random.split(k_steps, cfg.trajectory_steps)
    (_, _, total), (obs, taken) = jax.lax.scan(go, begin, (way.actions, steps, keys))
    return obs, taken, total


def loss(params: Tree, cfg: Config, env: E.Env, obs: Tree, actions: Array, taken: Array) -> Array:
    """Mean negative log-likelihood of the actions that were taken."""
    net, pi = actor_critic(cfg, env)
    log_prob = pi.log_prob(net.apply(params, obs, method="policy"), actions)
    return -jnp.where(taken, log_prob, 0).sum() / jnp.maximum(taken.sum(dtype=jnp.int32), 1)


def imitate(
    cfg: Config, env: E.Env, state: TrainState, best: A.Way, key: Key
) -> tuple[TrainState, Array, Metrics]:
    """Makes the actions of the best episode likelier; and its return when it is played again."""
    obs, taken, total = replay(cfg, env, best, key)
    taken = A.last_visits(env, obs, taken)

    def update(_, loop):
        params, opt_state, _ = loop
        value, grads = jax.value_and_grad(loss)(params, cfg, env, obs, best.actions, taken)
        change, opt_state = optimizer(cfg).update(grads, opt_state, params)
        return optax.apply_updates(params, change), opt_state, value

    begin = state.params, state.opt_state, jnp.zeros((), float)
    params, opt_state, value = jax.lax.fori_loop(0, cfg.imitation_updates, update, begin)
    return state._replace(params=params, opt_state=opt_state), total, {"loss/policy": value}


def robustify(
    cfg: Config, env: E.Env, state: TrainState, best: A.Way
) -> tuple[TrainState, Array, Metrics]:
    """An iteration of PPO from starts along the best episode; and the return of that."""
    learner, curriculum, chance = state.robust
    shown = backward.record(env, E.to_space(env, best.actions), best.length, chance)
    world = backward.along(env, shown, curriculum, cfg.start_window)
    learner = learner._replace(params=state.params, opt_state=state.opt_state)
    learner, metrics = ppo.step(ppo_config(cfg), world, learner)
    curriculum, found = backward.update(cfg, shown, curriculum, metrics)
    found |= {k: x for k, x in metrics.items() if not k.startswith("episode/")}
    robust = Robust(learner._replace(params=(), opt_state=()), curriculum, chance)
    state = state._replace(params=learner.params, opt_state=learner.opt_state, robust=robust)
    return state, shown.to_go[0], found


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, steps_per_iter(cfg))
    key, k_explore, k_replay = jax.random.split(state.key, 3)

    chance = state.robust.chance if state.robust else None
    found, sums = explore(cfg, env, state.archive, chance, k_explore)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)
    keeps = ~flat.ended & (flat.length <= cfg.trajectory_steps)
    cell = A.cell_of(cfg, env, flat.state.obs)
    archive = A.add(state.archive, cell, flat.state, flat.actions, keeps)
    best = A.best_end(state.best_way, found)

    if cfg.robustify:
        state, total, learnt = robustify(cfg, env, state, best)
    else:
        state, total, learnt = imitate(cfg, env, state, best, k_replay)
    some, nothing = jnp.isfinite(best.score), no_data(total.dtype)
    metrics = episode_metrics(sums) | {
        "archive/cells": archive.filled.sum(dtype=jnp.int32),
        "episode/best_return": jnp.where(some, best.score, nothing),
        "episode/best_length": jnp.where(some, best.length, nothing),
        "episode/replayed_return": jnp.where(some, total, nothing),
    }
    state = state._replace(archive=archive, best_way=best, iteration=state.iteration + 1, key=key)
    return state, metrics | learnt


def act(
    cfg: Config, env: E.Env, state: TrainState, obs: Tree, carry: Tree, key: Key, greedy: bool
) -> tuple[Array, Tree]:
    return policies.act(cfg, env, state.params, (), obs, carry, key, greedy)


def steps_per_iter(cfg: Config) -> int:
    """Steps of the exploration, of PPO, and those in which the best episode is played again."""
    return (1 + cfg.robustify) * cfg.num_envs * cfg.num_steps + cfg.trajectory_steps


go_explore = Agent("go_explore", Config, init, step, act, steps_per_iter)
