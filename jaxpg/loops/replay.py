"""The off-policy loop: collect, store, sample, update; and nothing but collect while warming up.

An agent keeps a `Replay` in its state beside what it has learnt, and hands the loop two functions:

    policy(obs [N, *obs], noise, key) -> action [N, *action], noise
    update(learner, batch, key) -> learner, td_error [B], metrics

Actions are integers, or in [-1, 1] for each dimension of a Box: so they are stored and learnt from;
the environment gets them stretched to its space. The noise is what exploration remembers from step
to step, leaves [N, ...], zeroed where an episode ends; () without any. The TD errors set the
priorities of prioritised replay.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core.config import label
from jaxpg.core.types import Array, Key, Metrics, Transition, Tree
from jaxpg.replay import uniform


class Replay(NamedTuple):
    """What an off-policy agent remembers of its environments."""

    env: E.EnvState
    noise: Tree  # [N, ...] of the exploration; () if it has none
    buffer: uniform.Buffer


class Batch(NamedTuple):
    """Transitions to learn from; a target is `reward + discount * V(next_obs)`."""

    obs: Tree  # [B, *obs]
    action: Array  # [B, *action] as the policy gave it
    reward: Array  # [B] discounted sum over the n steps
    discount: Array  # [B] gamma^n; 0 after a termination
    next_obs: Tree  # [B, *obs] the true successor, n steps ahead
    weight: Array  # [B] importance weights; ones if sampling is uniform


def init(cfg, env: E.Env, key: Key, noise: Tree = ()) -> Replay:
    """Fresh environments and an empty buffer. noise: its state at the start, leaves [N, ...].

    Reads the fields `num_envs, num_steps, buffer_size, learning_starts, batch_size`.
    Raises ValueError for sizes that do not fit each other.
    """
    rows = cfg.num_envs * cfg.num_steps
    if cfg.buffer_size < rows:
        raise ValueError(
            f"{label(type(cfg))} buffer_size={cfg.buffer_size}: allowed is an integer >= "
            f"num_envs * num_steps = {rows}, what an iteration adds"
        )
    if cfg.learning_starts > cfg.buffer_size:
        raise ValueError(
            f"{label(type(cfg))} learning_starts={cfg.learning_starts}: allowed is an integer <= "
            f"buffer_size={cfg.buffer_size}"
        )
    env_state = E.reset(env, key, cfg.num_envs)
    row = jax.tree.map(lambda x: x[0], _example(env, env_state))
    return Replay(env_state, noise, uniform.init(row, cfg.buffer_size))


def _example(env: E.Env, state: E.EnvState) -> Transition:
    """A stored transition of each environment, in shapes and dtypes."""
    n = state.episode_return.shape[0]
    shape = () if env.discrete else env.action_space.shape
    action = jnp.zeros((n, *shape), jnp.int32 if env.discrete else float)
    no = jnp.zeros(n, bool)
    return Transition(state.obs, action, jnp.zeros(n, float), no, no, state.obs, {})


def updates_in(cfg, iteration: Array) -> Array:
    """How many updates iteration [] int32 does: `updates_per_step` of them for each environment
    step; where that is no whole number, their running sum is rounded down. [] int32"""
    steps = cfg.num_envs * cfg.num_steps
    ratio = Fraction(cfg.updates_per_step).limit_denominator(10_000) * steps
    whole, rest = divmod(ratio.numerator, ratio.denominator)
    i = iteration % ratio.denominator
    extra = ((i + 1) * rest) // ratio.denominator - (i * rest) // ratio.denominator
    return (whole + extra).astype(jnp.int32)


def step(
    cfg, env: E.Env, replay: Replay, learner: Tree, policy: Callable, update: Callable,
    iteration: Array, key: Key,
) -> tuple[Replay, Tree, Metrics]:  # fmt: skip
    """One iteration: `num_steps` steps of every environment are stored, then as many updates are
    made as `updates_per_step` asks for, each on a fresh sample.

    Metrics are those of the episodes that ended, and the means of what the updates returned: NaN
    ("no data") in an iteration without one. Updates begin once `learning_starts` transitions are
    stored; until then, with `random_warmup`, actions are uniformly random.
    """
    k_rollout, k_updates = jax.random.split(key)
    buffer = replay.buffer
    warming = buffer.size < cfg.learning_starts

    # Collect.
    def act(obs, noise, key):
        k_policy, k_random = jax.random.split(key)
        action, noise = policy(obs, noise, k_policy)
        if cfg.random_warmup:
            action = jnp.where(warming, _random_action(env, action, k_random), action)
        return E.to_space(env, action), noise, {"action": action}

    env_state, noise, t, metrics = E.rollout(
        env, act, replay.env, replay.noise, k_rollout, cfg.num_steps
    )

    # Store.
    t = t._replace(action=t.extras["action"], extras={})
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), t)
    buffer = uniform.add(buffer, rows)

    # Learn. A traced trip count skips all of it at no cost while warming up, where a `cond` would
    # copy the learner, and no loop of one trip is there for XLA to inline and round differently.
    count = jnp.where(buffer.size < cfg.learning_starts, 0, updates_in(cfg, iteration))

    def draw(key):
        r = uniform.sample(buffer, key, cfg.batch_size)
        discount = cfg.gamma * ~r.terminated
        return Batch(r.obs, r.action, r.reward, discount, r.next_obs, jnp.ones_like(r.reward))

    def one(i, loop):
        learner, sums = loop
        k_sample, k_update = jax.random.split(jax.random.fold_in(k_updates, i))
        learner, _, info = update(learner, draw(k_sample), k_update)
        return learner, jax.tree.map(jnp.add, sums, info)

    shapes = jax.eval_shape(lambda k: update(learner, draw(k), k)[2], key)
    sums = jax.tree.map(lambda m: jnp.zeros(m.shape, m.dtype), shapes)
    learner, sums = jax.lax.fori_loop(0, count, one, (learner, sums))
    metrics |= {name: total / count for name, total in sums.items()}
    return Replay(env_state, noise, buffer), learner, metrics


def _random_action(env: E.Env, like: Array, key: Key) -> Array:
    """Uniform in the action space, as policies speak of it."""
    if env.discrete:
        return jax.random.randint(key, like.shape, 0, env.action_space.n, like.dtype)
    return jax.random.uniform(key, like.shape, like.dtype, -1, 1)
