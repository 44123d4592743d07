"""Hindsight experience replay, Andrychowicz et al. (2017), arXiv:1707.01495.

An episode that missed its goal has reached something else. A transition that is drawn is seen, with
probability k / (k + 1), as if the goal had been one that its episode reached (algorithm 1: k goals
beside the original one):

    r = goal_reward(achieved', g),    terminated = goal_reached(achieved', g),

where achieved' is what the step has reached, and g is what was achieved after (sec. 3.3, 4.5)

    final       the last step of the episode
    future      a step of the episode from this one on
    episode     any step of the episode
    random      any step of any episode

of those that are stored. The reward and the termination both are of the new goal; a truncation
stays. Where an episode terminated at its own goal it is over, also for the new one, which may not
be reached there: sums of n steps end, and what follows is the value of the last observation.

`Episodes` stand beside a `uniform.Buffer` of the same capacity, whose rows are steps of N
environments in turn: row i is of environment i % N, and its next step is row i + N of the ring.

Deviations from the paper: goals are drawn when a row is drawn, not once when it is stored, so that
a row is seen with new ones; an episode that goes on gives what it has reached so far; of an episode
that is partly overwritten only what is left counts.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core.env import Env
from jaxpg.core.episodes import in_first_episode
from jaxpg.core.types import Array, Key, Tree
from jaxpg.replay import uniform


class Episodes(NamedTuple):
    """Episodes that the rows of a ring belong to.

    The episodes of an environment have numbers, counted modulo the rows that the ring holds of it:
    of those that are stored no two are the same.
    """

    number: Array  # [capacity] int32: of the row's episode
    time: Array  # [capacity] int32: steps of the episode before the row
    length: Array  # [capacity] int32: steps so far of the episode in row number * N + environment
    newest: Array  # [N] int32: number of the episode that goes on


def init(num_envs: int, capacity: int) -> Episodes:
    """Episodes of an empty buffer; the capacity is a multiple of `num_envs`."""
    zeros = (jnp.zeros(size, jnp.int32) for size in (capacity, capacity, capacity, num_envs))
    return Episodes(*zeros)


def add(episodes: Episodes, position: Array, before: Array, ended: Array) -> Episodes:
    """Adds T steps of N environments, whose rows [T, N] are written from `position` [] int32 on.

    before: [N] int32 steps of the running episodes so far. ended: [T, N] bool, at the step the
    episode ends. No more than the capacity in all.
    """
    steps, num_envs = ended.shape
    capacity = len(episodes.number)
    line = jnp.arange(steps, dtype=jnp.int32)[:, None]
    begins = jnp.concatenate([jnp.zeros((1, num_envs), bool), ended[:-1]])
    first = jax.lax.cummax(jnp.where(begins, line, -before))  # the line in which it began
    number = episodes.newest + begins.cumsum(0, jnp.int32)
    after = number[-1] + ended[-1]
    number = number % (capacity // num_envs)
    time = line - first

    # The newest step of an episode has its length; the others are written nowhere.
    newest = ended | (line == steps - 1)
    slot = number * num_envs + jnp.arange(num_envs, dtype=jnp.int32)
    slot = jnp.where(newest, slot, capacity)
    rows = (position + jnp.arange(ended.size, dtype=jnp.int32)) % capacity

    def write(data, x):
        options = {"mode": "promise_in_bounds", "unique_indices": True}
        return data.at[rows].set(x.reshape(-1), **options)

    return Episodes(
        write(episodes.number, number),
        write(episodes.time, time),
        episodes.length.at[slot].set(time + 1, mode="drop"),
        after % (capacity // num_envs),
    )


def span(buffer: uniform.Buffer, episodes: Episodes, index: Array) -> tuple[Array, Array]:
    """Steps of its own episode that are stored before and after each row `index` [B] int32: how
    many, [B] int32 each."""
    num_envs, capacity = len(episodes.newest), len(episodes.number)
    age = (index - (buffer.position - buffer.size)) % capacity  # rows that are older
    time = episodes.time[index]
    length = episodes.length[episodes.number[index] * num_envs + index % num_envs]
    return jnp.minimum(time, age // num_envs), length - 1 - time


def goal_rows(
    buffer: uniform.Buffer, episodes: Episodes, index: Array, strategy: str, key: Key
) -> Array:
    """Rows [B] int32 whose achieved goals the rows `index` [B] int32 are to be judged by."""
    if strategy == "random":
        return uniform.indices(buffer, key, len(index))
    behind, ahead = span(buffer, episodes, index)
    if strategy == "final":
        steps = ahead
    else:
        first = jnp.zeros_like(behind) if strategy == "future" else -behind
        steps = jax.random.randint(key, index.shape, first, ahead + 1, jnp.int32)
    return (index + steps * len(episodes.newest)) % len(episodes.number)


def draw_goals(
    buffer: uniform.Buffer, episodes: Episodes, index: Array, strategy: str, goals: int, key: Key
) -> tuple[Array, Array]:
    """New goals [B, G] for the rows `index` [B] int32, and which of them [B] bool are to have them:
    a share goals / (goals + 1), drawn."""
    k_which, k_goal = jax.random.split(key)
    rows = goal_rows(buffer, episodes, index, strategy, k_goal)
    which = jax.random.uniform(k_which, index.shape) < goals / (goals + 1)
    data: Any = buffer.data
    return data.next_obs["achieved"][rows], which


def with_goal(obs: dict[str, Array], goal: Array, which: Array) -> dict[str, Array]:
    """Observations [..., B, *obs] that desire the goals [B, G] where `which` [B] is true."""
    which = which.reshape(-1, *[1] * (goal.ndim - 1))
    return obs | {"desired": jnp.where(which, goal, obs["desired"])}


def judge(env: Env, data: Any, rows: Array, goal: Array, which: Array) -> tuple[Array, Array]:
    """Reward and termination of the steps in `rows` [n, B] of a buffer's data: by the goals [B, G]
    where `which` [B] bool is true, else as they were met. [n, B] each"""
    over_rows = lambda f: jax.vmap(jax.vmap(f, (0, 0, None)), (0, None, None))  # noqa: E731
    pair = data.next_obs["achieved"][rows], goal
    reward = over_rows(env.core.goal_reward)(*pair, env.params)
    reached = over_rows(env.core.goal_reached)(*pair, env.params)
    met = data.reward[rows], data.terminated[rows]
    return jnp.where(which, reward.astype(float), met[0]), jnp.where(which, reached, met[1])


def n_step(
    env: Env,
    buffer: uniform.Buffer,
    index: Array,
    goal: Array,
    which: Array,
    n: int,
    stride: int,
    gamma,
    reward_of=lambda reward: reward,
) -> tuple[Array, Array, Tree]:
    """The next n steps from each of the rows `index` [B], as `uniform.n_step` has them, by the
    goals [B, G] where `which` [B] bool is true.

    A step that reaches the goal is the last one that counts, and so is one that ended the episode;
    but only the former makes the factor of the value that follows 0.
    """
    data: Any = buffer.data
    ahead, line, stored = uniform.rows_ahead(buffer, index, n, stride)
    reward, terminated = judge(env, data, line, goal, which)
    ended = terminated | data.terminated[line] | data.truncated[line]
    counts = stored & in_first_episode(ended)
    reward = jnp.where(counts, gamma**ahead * reward_of(reward), 0).sum(0)
    steps = counts.sum(0, dtype=jnp.int32)
    last = steps - 1, jnp.arange(len(index))
    next_obs = jax.tree.map(lambda x: x[line[last]], data.next_obs)
    return reward, gamma**steps * ~terminated[last], with_goal(next_obs, goal, which)
