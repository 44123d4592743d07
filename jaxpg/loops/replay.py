"""The off-policy loop: collect, store, sample, update; and nothing but collect while warming up.

An agent keeps a `Replay` in its state beside what it has learnt, and hands the loop two functions:

    policy(obs [N, *obs], carry, key) -> action [N, *action], carry
    update(learner, batch, key) -> learner, td_error [B], metrics

Actions are integers, one or several, or in [-1, 1] for each dimension of a Box: so they are stored
and learnt from; the environment gets them stretched to its space. The carry is what the policy
takes from step to step, leaves [N, ...], zeroed where an episode ends: noise that explores, or what
it remembers; () without any. The TD errors set the priorities of prioritised replay.

With a `memory` (`nets.memories`) the carry is stored beside the step, and a batch is of sequences,
Hausknecht & Stone (2015), arXiv:1507.06527: `sequence_length` steps to learn from, after `burn_in`
steps that only bring the stored carry up to date with the parameters of now; Kapturowski et al.
(2019), "Recurrent experience replay in distributed reinforcement learning", section 3.

With `hindsight` rows that are drawn are seen with goals that their episodes reached: see
`replay.hindsight`. With a `bonus` rewards that are drawn have one for what is new, see
`loops.intrinsic`.

The loop reads the fields `num_envs, num_steps, buffer_size, learning_starts, random_warmup,
batch_size, updates_per_step, gamma, n_step, prioritized, memory, hindsight, bonus, normalize_obs,
normalize_reward`; with `prioritized` also `priority_exponent, importance_exponent, total_steps`,
with `normalize_obs` `normalize_steps`, with a memory `sequence_length, burn_in`, with `hindsight`
`hindsight_goals`, with a bonus `bonus_weight`. What an agent does not have is a class constant of
its config, such as `n_step: ClassVar[int] = 1`. The buffer holds what was met; what is drawn is
normalised by the statistics of now, so that all of a batch has one scale.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core import schedules, signals
from jaxpg.core.config import label
from jaxpg.core.metrics import mean_if_any
from jaxpg.core.observations import action_mask, random_actions
from jaxpg.core.parallel.devices import shard_axis
from jaxpg.core.scans import scan_returns
from jaxpg.core.types import Array, Key, Metrics, Tree
from jaxpg.loops import intrinsic, updates
from jaxpg.loops.replay_fields import relabels, remembers, require_fields
from jaxpg.ops import normalize
from jaxpg.ops.returns import starts
from jaxpg.replay import hindsight, prioritized, uniform


class Replay(NamedTuple):
    """State of an off-policy agent's environments, replay buffer and running scales."""

    env: E.EnvState
    carry: Tree  # [N, ...] of the policy; () if it has none
    buffer: uniform.Buffer
    priorities: prioritized.Priorities | tuple[()]  # () when off
    obs_stats: normalize.RunningStats | tuple[()]  # () when off
    reward_scale: normalize.RewardScale | tuple[()]
    episodes: hindsight.Episodes | tuple[()] = ()  # of the rows; () without hindsight
    explorer: intrinsic.Intrinsic | tuple[()] = ()  # () without a bonus


class Row(NamedTuple):
    """A Transition as the buffer holds it, and what the policy remembered before it."""

    obs: Tree
    action: Array  # as the policy gave it
    reward: Array
    terminated: Array
    truncated: Array
    next_obs: Tree
    signals: dict[str, Array]
    carry: Tree  # () without memory


class Batch(NamedTuple):
    """Transitions to learn from; `td_target` makes a target of them and V(next_obs).

    With a memory all but the weight are sequences, [sequence_length, B, ...].
    """

    obs: Tree  # [B, *obs] whitened, if `normalize_obs`
    action: Array  # [B, *action] as the policy gave it
    reward: Array  # [B] discounted sum over the n steps, each scaled, if `normalize_reward`
    discount: Array  # [B] gamma^n; 0 after a termination
    next_obs: Tree  # [B, *obs] the true successor, n steps ahead
    weight: Array  # [B] importance weights; ones if sampling is uniform
    signals: dict[str, Array]  # [B, ...] of the step itself, also where the reward is of n steps
    before: Tree = ()  # [burn_in, B, *obs] the steps before the sequence; () without memory
    carry: Tree = ()  # [1, B, ...] what was remembered before the first of them
    start: Array | tuple[()] = ()  # [burn_in + sequence_length, B] bool: an episode begins


def td_target(b: Batch, next_value: Array) -> Array:
    """Target reward + discount * V(next_obs) [...]; after a termination the reward alone, whatever
    a critic says there."""
    return b.reward + b.discount * jnp.where(b.discount == 0, 0, next_value)


def whiten(replay: Replay, obs: Tree) -> Tree:
    """Observations [..., *obs] as the networks see them, by the statistics as they are."""
    return normalize.whiten(replay.obs_stats, obs)


def init(cfg, env: E.Env, key: Key, carry: Tree = (), marks: Tree = ()) -> Replay:
    """Fresh environments and an empty buffer. carry: the policy's at the start, leaves [N, ...].
    marks: of one step, what `step` stores beside it, by name; () is nothing.

    Raises ValueError for what cannot work: see `require_fields`.
    """
    require_fields(cfg, env)
    state = E.reset(env, key, cfg.num_envs)
    obs = jax.tree.map(lambda x: x[0], state.obs)
    integers = env.action_kind in ("discrete", "multi-discrete")
    shape = () if env.discrete else (E.action_size(env),)
    dtype = jnp.int32 if integers else float
    action, reward, no = jnp.zeros(shape, dtype), jnp.zeros((), float), jnp.zeros((), bool)
    remembered = jax.tree.map(lambda x: x[0], carry) if remembers(cfg) else ()
    shapes = signals.shapes(env.core, env.params)
    zeros = {name: jnp.zeros(x.shape, x.dtype) for name, x in (shapes | dict(marks)).items()}
    row = Row(obs, action, reward, no, no, obs, zeros, remembered)
    buffer = uniform.init(row, cfg.buffer_size)
    return Replay(
        state,
        carry,
        buffer,
        prioritized.init(cfg.buffer_size) if cfg.prioritized else (),
        normalize.init_stats(obs, cfg.normalize_obs),
        normalize.init_reward_scale(cfg.num_envs, cfg.normalize_reward),
        hindsight.init(cfg.num_envs, cfg.buffer_size) if relabels(cfg) else (),
        intrinsic.init(cfg, env, key),
    )


def progress(cfg, iteration: Array) -> Array:
    """Fraction of the run that is done, 0 to 1. [] float

    Raises ValueError if `total_steps` is None; `train` and `run` fill it in.
    """
    if cfg.total_steps is None:
        raise ValueError(
            f"{label(type(cfg))} total_steps=None: allowed is a number > 0, steps of the run"
        )
    return schedules.progress(iteration, cfg.num_envs * cfg.num_steps, cfg.total_steps)


def step(
    cfg, env: E.Env, replay: Replay, learner: Tree, policy: Callable, update: Callable,
    iteration: Array, key: Key, mark: Callable | None = None,
) -> tuple[Replay, Tree, Metrics]:  # fmt: skip
    """One iteration: `num_steps` steps of every environment are stored, then as many updates are
    made as `updates_per_step` asks for, each on a fresh sample.

    Metrics are those of the episodes that ended, and the means of what the updates returned: NaN
    ("no data") in an iteration without one. Updates begin once `learning_starts` transitions are
    stored; until then, with `random_warmup`, actions are uniformly random. mark: of the shape
    (T, N) and a key, more to store beside the steps, by name; batches have it among their signals.
    """
    k_rollout, k_updates, *k_mark = jax.random.split(key, 2 if mark is None else 3)
    buffer, priorities, episodes = replay.buffer, replay.priorities, replay.episodes

    # Collect.
    warming = buffer.size < cfg.learning_starts

    def act(obs, carry, key):
        k_policy, k_random = jax.random.split(key)
        action, after = policy(whiten(replay, obs), carry, k_policy)
        if cfg.random_warmup:
            anything = random_actions(k_random, env.action_space, action, action_mask(obs))
            action = jnp.where(warming, anything, action)
        return E.to_space(env, action), after, (action, carry if remembers(cfg) else ())

    env_state, carry, t, (action, before), metrics = E.rollout(
        env, act, replay.env, replay.carry, k_rollout, cfg.num_steps
    )

    # Store, as it was met.
    until = cfg.normalize_steps if cfg.normalize_obs else None
    stats = normalize.update_stats(replay.obs_stats, t.obs, until)
    ended = t.terminated | t.truncated
    scale = normalize.update_reward_scale(
        replay.reward_scale, t.reward, ended, cfg.gamma, scan=scan_returns
    )
    explorer, found = intrinsic.meet_off_policy(
        cfg, env, replay.explorer, t._replace(action=action)
    )
    if mark is not None:
        t = t._replace(signals=t.signals | mark(t.reward.shape, k_mark[0]))
    rows = Row(*t._replace(action=action), before)
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
    if priorities:
        new = (buffer.position + jnp.arange(t.reward.size, dtype=jnp.int32)) % cfg.buffer_size
        priorities = prioritized.add(priorities, new, cfg.priority_exponent)
    if episodes:
        before = replay.env.episode_length
        episodes = hindsight.add(episodes, buffer.position, before, ended)
    buffer = uniform.add(buffer, rows)

    # Learn.
    def draw(priorities, key):
        return sample(
            cfg, buffer, priorities, iteration, key, stats, scale, env, episodes, explorer
        )

    count = jnp.where(buffer.size < cfg.learning_starts, 0, updates.in_iteration(cfg, iteration))
    learner, priorities, info = _learn(cfg, count, learner, priorities, draw, update, k_updates)
    replay = Replay(env_state, carry, buffer, priorities, stats, scale, episodes, explorer)
    return replay, learner, metrics | found | info


def _learn(
    cfg, count: Array, learner: Tree, priorities, draw: Callable, update: Callable, key: Key
) -> tuple[Tree, Any, Metrics]:
    """Makes `count` [] int32 updates, each on a fresh sample by draw(priorities, key).

    Returns the learner, the priorities and the means of what the updates returned. A traced trip
    count costs nothing while warming up, where a `cond` would copy the learner, and is never the 1
    that XLA would inline and round differently.
    """

    def one(i, loop):
        learner, priorities, sums = loop
        k_sample, k_update = jax.random.split(jax.random.fold_in(key, i))
        index, batch = draw(priorities, k_sample)
        new, td_error, info = update(learner, batch, k_update)
        mine = i < count  # always, but under `vmap` if lanes differ
        learner = jax.tree.map(lambda x, old: jnp.where(mine, x, old), new, learner)
        sums = jax.tree.map(lambda total, x: total + jnp.where(mine, x, 0), sums, info)
        if cfg.prioritized:
            priorities = prioritized.update(
                priorities, index, td_error, cfg.priority_exponent, mine
            )
        return learner, priorities, sums

    def info_of(key):
        k_sample, k_update = jax.random.split(key)
        return update(learner, draw(priorities, k_sample)[1], k_update)[2]

    sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(info_of, key))
    learner, priorities, sums = jax.lax.fori_loop(
        0, updates.most_of_lanes(count), one, (learner, priorities, sums)
    )
    return learner, priorities, {name: mean_if_any(x, count) for name, x in sums.items()}


def sample(
    cfg, buffer: uniform.Buffer, priorities, iteration: Array, key: Key,
    stats: normalize.RunningStats | tuple[()] = (), scale: normalize.RewardScale | tuple[()] = (),
    env: Any = None, episodes: hindsight.Episodes | tuple[()] = (), explorer: Any = (),
) -> tuple[Array, Batch]:  # fmt: skip
    """The rows that were drawn [B], and what they hold, normalised by statistics that are not ().
    env, episodes: for hindsight. explorer: the Intrinsic, for a bonus.

    The importance exponent rises linearly over the run from `importance_exponent` to 1.
    """
    if remembers(cfg):
        return _sample_sequences(cfg, buffer, key, stats, scale, env, explorer)
    k_goal = key
    if episodes:
        key, k_goal = jax.random.split(key)
    if cfg.prioritized:
        index, probability = prioritized.sample(priorities, key, cfg.batch_size)
        beta = cfg.importance_exponent
        beta = beta + (1 - beta) * progress(cfg, iteration)
        weight = prioritized.weights(probability, buffer.size, beta)
    else:
        index = uniform.indices(buffer, key, cfg.batch_size)
        weight = jnp.ones(cfg.batch_size, float)
    ahead = cfg.n_step, cfg.num_envs, cfg.gamma
    reward_of = functools.partial(normalize.divide_reward, scale)
    if explorer:
        line = uniform.rows_ahead(buffer, index, cfg.n_step, cfg.num_envs)[1]
        met = jax.tree.map(lambda x: x[line], buffer.data._replace(carry=()))
        extra = intrinsic.weigh(cfg, env, explorer, met)  # [n, B]
        reward_of = lambda stored: normalize.divide_reward(scale, stored) + extra  # noqa: E731
    data, goals = buffer.data, ()
    if episodes:
        share = cfg.hindsight, cfg.hindsight_goals
        goals = hindsight.draw_goals(buffer, episodes, index, *share, k_goal)
        reward, discount, next_obs = hindsight.n_step(env, buffer, index, *goals, *ahead, reward_of)
    else:
        reward, discount, next_obs = uniform.n_step(buffer, index, *ahead, reward_of)
    obs, action, values = jax.tree.map(lambda x: x[index], (data.obs, data.action, data.signals))
    if episodes:
        obs = hindsight.with_goal(obs, *goals)
    obs, next_obs = (normalize.whiten(stats, x) for x in (obs, next_obs))
    return index, shard_axis(Batch(obs, action, reward, discount, next_obs, weight, values), 0)


def _sample_sequences(
    cfg, buffer: uniform.Buffer, key: Key, stats, scale, env: Any, explorer: Any
) -> tuple[Array, Batch]:
    """Sequences drawn uniformly of all that are stored, also across the ends of episodes."""
    burn_in, steps = cfg.burn_in, cfg.burn_in + cfg.sequence_length
    first = uniform.sequences(buffer, key, cfg.batch_size, steps, cfg.num_envs)
    line = first + jnp.arange(steps, dtype=jnp.int32)[:, None] * cfg.num_envs
    line = line % cfg.buffer_size  # [steps, B]
    t = jax.tree.map(lambda x: x[line], buffer.data._replace(carry=()))
    obs, next_obs = (normalize.whiten(stats, x) for x in (t.obs, t.next_obs))
    reward, discount = normalize.divide_reward(scale, t.reward), cfg.gamma * ~t.terminated
    if explorer:
        reward += intrinsic.weigh(cfg, env, explorer, t)
    learnt = obs, t.action, reward, discount, next_obs
    batch = Batch(
        *jax.tree.map(lambda x: x[burn_in:], learnt),
        weight=jnp.ones((1, cfg.batch_size), float),
        signals=jax.tree.map(lambda x: x[burn_in:], t.signals),
        before=jax.tree.map(lambda x: x[:burn_in], obs),
        carry=jax.tree.map(lambda x: x[first][None], buffer.data.carry),
        start=starts(t.terminated | t.truncated),
    )
    batch = shard_axis(batch, 1)
    return first, batch._replace(weight=batch.weight[0])
