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
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxpg.agents import get
from jaxpg.core import env as E
from jaxpg.core import fields
from jaxpg.core.config import config, number, static, validate
from jaxpg.core.metrics import episode_metrics, no_data
from jaxpg.core.schedules import schedule, scheduled
from jaxpg.core.types import Agent, Array, EnvState, Key, Metrics, Optimizer, Schedule, Tree
from jaxpg.loops import archive as A
from jaxpg.loops import backward, optimizers, policies
from jaxpg.loops.minibatch import require_minibatches
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
    start_window: int = static(16, ge=1, help="Steps of the best episode that PPO begins at.")
    success_threshold: float = number(
        0.2, gt=0, le=1, help="Share of episodes that match the best one, to begin further back."
    )
    num_epochs: int = fields.num_epochs(4)
    minibatches: int = static(4, ge=1, help="Of PPO; divides num_envs * num_steps.")
    gamma: float = fields.gamma(0.99)
    entropy_coef: float = fields.entropy_coef(0.03)
    entropy_coef_schedule: Schedule = schedule()
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
    normalize_advantage: ClassVar[bool] = True  # of PPO


class TrainState(NamedTuple):
    params: Tree  # of the policy that imitates; () with `robustify`
    opt_state: optax.OptState  # likewise
    archive: A.Archive
    best_way: A.Way  # of the best episode that ended
    iteration: Array  # [] int32
    key: Key
    learner: Tree = ()  # PPO's training state; () without `robustify`, as the two below
    curriculum: Any = ()  # a backward.Curriculum
    chance: Any = ()  # [] uint32: the seed of all episodes while exploring


def optimizer(cfg: Config) -> optax.GradientTransformation:
    return optimizers.build_optimizer(cfg.optimizer, cfg.learning_rate, cfg.max_grad_norm)


def ppo_config(cfg: Config) -> Any:
    """PPO with these settings, and its own for all else; `step` has followed the schedules."""
    fields_of = lambda x: {field.name for field in dataclasses.fields(x)}  # noqa: E731
    shared = fields_of(cfg) & fields_of(get("ppo").Config)
    given = {name: getattr(cfg, name) for name in shared if not name.endswith("_schedule")}
    return get("ppo").Config(**given, learning_rate_schedule="constant")


def init(cfg: Config, env: E.Env, key: Key) -> TrainState:
    validate(cfg)
    A.require_restorable(cfg, env)
    if cfg.robustify:
        require_minibatches(cfg)
    k_params, k_env, key = jax.random.split(key, 3)
    none = empty_way(cfg, env)
    if cfg.robustify:
        return init_learner(cfg, env, none, key)
    net, _ = actor_critic(cfg, env)
    params = net.init(k_params, env.example_obs, method="policy")
    first = E.reset(env, k_env, cfg.num_envs)
    return TrainState(
        params=params,
        opt_state=optimizer(cfg).init(params),
        archive=A.init(cfg, env, first, none.actions),
        best_way=none,
        iteration=jnp.zeros((), jnp.int32),
        key=key,
    )


def empty_way(cfg: Config, env: E.Env) -> A.Way:
    """The way of no episode, with room for its actions, as policies speak of them."""
    _, pi = actor_critic(cfg, env)
    out = jax.ShapeDtypeStruct((pi.outputs + pi.free_outputs,), float)
    like = jax.eval_shape(lambda x: pi.action(pi.mode(x)), out)
    actions = jnp.zeros((cfg.trajectory_steps, *like.shape), like.dtype)
    return A.Way(jnp.full((), -jnp.inf, float), jnp.zeros((), jnp.int32), actions)


def init_learner(cfg: Config, env: E.Env, none: A.Way, key: Key) -> TrainState:
    """The state with PPO in the place of the policy that imitates, and an archive whose episodes
    all begin alike."""
    k_chance, k_learner, key = jax.random.split(key, 3)
    chance, curriculum = jax.random.bits(k_chance, (), jnp.uint32), backward.init(cfg.start_window)
    first = E.reset(env, backward.key_of(chance), 1)
    shown = backward.no_demonstration(env.core, env.params)
    world = backward.along(env, shown, curriculum, cfg.start_window)
    return TrainState(
        params=(),
        opt_state=(),
        archive=A.init(cfg, env, first, none.actions),
        best_way=none,
        iteration=jnp.zeros((), jnp.int32),
        key=key,
        learner=get("ppo").init(ppo_config(cfg), world, k_learner),
        curriculum=curriculum,
        chance=chance,
    )


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
    shown = backward.record(env, E.to_space(env, best.actions), best.length, state.chance)
    world = backward.along(env, shown, state.curriculum, cfg.start_window)
    learner, metrics = get("ppo").step(ppo_config(cfg), world, state.learner)
    curriculum, found = backward.update(cfg, shown, state.curriculum, metrics)
    found |= {k: x for k, x in metrics.items() if not k.startswith("episode/")}
    return state._replace(learner=learner, curriculum=curriculum), shown.to_go[0], found


def step(cfg: Config, env: E.Env, state: TrainState) -> tuple[TrainState, Metrics]:
    cfg = scheduled(cfg, state.iteration, steps_per_iter(cfg))
    key, k_explore, k_replay = jax.random.split(state.key, 3)

    found, sums = A.explore(cfg, env, state.archive, state.chance, k_explore)
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
    if cfg.robustify:
        return get("ppo").act(ppo_config(cfg), env, state.learner, obs, carry, key, greedy)
    return policies.act(cfg, env, state.params, (), obs, carry, key, greedy)


def steps_per_iter(cfg: Config) -> int:
    """Steps of the exploration, of PPO, and those in which the best episode is played again."""
    return (1 + cfg.robustify) * cfg.num_envs * cfg.num_steps + cfg.trajectory_steps


go_explore = Agent("go_explore", Config, init, step, act, steps_per_iter)
