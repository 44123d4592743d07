"""Tabular learning: states from observations, exploration, and steps of the table.

A table holds Q(s, a) for every state and action. A discrete observation is the state; a Box is
cut into `bins` of equal width per dimension between `low` and `high`, and what lies outside belongs
to the outermost ones.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import env as E
from jaxpg.core import sums
from jaxpg.core.checks import require_key
from jaxpg.core.config import label, validate
from jaxpg.core.metrics import ended_episodes, episode_metrics, merge_metrics
from jaxpg.core.observations import action_mask, array_leaves, mask_illegal
from jaxpg.core.spaces import is_bound
from jaxpg.core.types import Array, Key, Tree
from jaxpg.ops.dynamic_programming import greedy_policy


class Tables(NamedTuple):
    Q: Array  # [..., S, A]
    visits: Array  # [..., S, A] int32: steps that each entry has been moved, up to 2^31 - 1


def num_states(cfg, env: E.Env) -> int:
    """Number of rows of a table. Reads the fields `bins, low, high`.

    Raises ValueError for actions that are not discrete, and for bins that do not fit the
    observation.
    """
    validate(cfg)
    me = label(type(cfg))
    if not env.discrete:
        raise ValueError(
            f"{me} on {env.name}, whose actions are {env.action_kind}: allowed are those with "
            "discrete actions"
        )
    rows = num_rows(cfg, env)
    if cfg.bins and rows * env.action_space.n >= 2**31:
        raise ValueError(
            f"{me} bins={cfg.bins!r}: allowed is a product below 2**31 / {env.action_space.n} "
            "actions"
        )
    return rows


def num_rows(cfg, env: E.Env) -> int:
    """Number of states that observations are cut into, whatever the actions.

    Raises ValueError for bins that do not fit the observation.
    """
    me = label(type(cfg))
    with jax.ensure_compile_time_eval():  # whether it is bounded must be known
        space = env.core.observation_space(env.core.default_params)
    if hasattr(space, "n"):
        for name in ("bins", "low", "high"):
            if getattr(cfg, name):
                raise ValueError(
                    f"{me} {name}={getattr(cfg, name)!r} on {env.name}, whose observations are "
                    "discrete: allowed is ()"
                )
        return space.n
    if not hasattr(space, "low"):
        raise ValueError(f"{env.name} has observations {space}: allowed are Discrete and Box")
    size = math.prod(space.shape)
    low, high = (
        np.broadcast_to(np.asarray(x, float), space.shape).ravel() for x in (space.low, space.high)
    )
    unbounded = np.flatnonzero(~(is_bound(low) & is_bound(high))).tolist()
    for name, needed in {"bins": True, "low": unbounded, "high": unbounded}.items():
        value = getattr(cfg, name)
        if len(value) == size or not (value or needed):
            continue
        why = f", unbounded in dimensions {unbounded}" if unbounded and name != "bins" else ""
        what = "integers" if name == "bins" else "numbers"
        raise ValueError(
            f"{me} {name}={value!r} on {env.name}: allowed is a tuple of {size} {what}, "
            f"one for each dimension of the observation{why}"
        )
    if cfg.low and cfg.high and not np.all(np.less(cfg.low, cfg.high)):
        raise ValueError(f"{me} low={cfg.low!r}: allowed are numbers below high={cfg.high!r}")
    return math.prod(cfg.bins)


def state_of(cfg, env: E.Env, obs: Tree) -> Array:
    """The row of each observation [B, *obs], as agents see it: [B] int32."""
    (obs,) = array_leaves(obs)
    space = env.core.observation_space(env.params)
    if hasattr(space, "n"):
        return obs.argmax(-1).astype(jnp.int32)
    low, high = (
        jnp.array(given, float) if given else jnp.broadcast_to(own, space.shape).ravel()
        for given, own in [(cfg.low, space.low), (cfg.high, space.high)]
    )  # fmt: skip
    x, bins = obs.reshape(obs.shape[0], -1), jnp.array(cfg.bins)
    cell = jnp.clip(jnp.floor((x - low) / (high - low) * bins), 0, bins - 1).astype(jnp.int32)
    return jnp.ravel_multi_index(tuple(cell.T), cfg.bins, mode="clip").astype(jnp.int32)


def explore(Q: Array, epsilon, key: Key, legal: Array | None = None) -> Array:
    """An epsilon-greedy action for each row of Q [B, A]; ties are broken at random. [B] int32

    legal: [B, A] bool, by default all.
    """
    require_key(key)
    policy = greedy_policy(Q, epsilon, legal)
    return jax.random.categorical(key, jnp.log(policy)).astype(jnp.int32)


def act(Q: Array, epsilon, obs: Tree, carry: Tree, key: Key, greedy: bool) -> tuple[Array, Tree]:
    """Actions [N] int32 by the values Q [N, A] of the actions: the best legal one, or exploring."""
    if greedy:
        return mask_illegal(Q, obs).argmax(-1).astype(jnp.int32), carry
    return explore(Q, epsilon, key, action_mask(obs)), carry


def advance(env: E.Env, state: E.EnvState, action: Array, key: Key):
    """One step of every environment: its new state, a Transition [N, ...], `rollout`'s metrics.

    Where an observation to learn from is not finite no row of the table stands for it: the reward
    is NaN, and so is then the entry, which `nan_guard` names.
    """
    new, t = E.step(env, state, action, key)
    metrics = episode_metrics(ended_episodes(state, t))
    if not hasattr(env.core.observation_space(env.params), "n"):
        fine = _is_finite(t.obs) & (_is_finite(t.next_obs) | t.terminated)
        t = t._replace(reward=jnp.where(fine, t.reward, jnp.nan))
    return new, t, metrics


def _is_finite(obs: Tree) -> Array:
    """True for each of the observations [N, *obs] without NaN and infinity: [N] bool."""
    (x,) = array_leaves(obs)
    return jnp.isfinite(x).reshape(len(x), -1).all(-1)


class Change(NamedTuple):
    """Update of the tables by one step of every environment."""

    entry: tuple  # of [N] int32: indices into a table
    by: Array  # [N] float
    visits: Array  # [N] int32: steps that the entry has then been moved


def change(cfg, tables: Tables, entry: tuple, error: Array) -> Change:
    """The step of table entries (indices [N] of each axis) by their TD errors [N].

    The n-th step of an entry is `learning_rate / n ** decay`. Environments that meet in an entry
    move it once, by the mean of their errors.
    """
    same = functools.reduce(jnp.logical_and, [i[:, None] == i for i in entry])
    n = sums.one_more(tables.visits[entry])
    rate = cfg.learning_rate * n.astype(error.dtype) ** -cfg.decay
    return Change(entry, rate * error / same.sum(1, dtype=jnp.int32), n)


def write(tables: Tables, c: Change) -> Tables:
    return Tables(tables.Q.at[c.entry].add(c.by), tables.visits.at[c.entry].set(c.visits))


def interact(cfg, step: Callable, tables: Tables, carry: Tree, key: Key):
    """Runs `num_steps` times step(tables, carry, key) -> Change, carry, metrics.

    Returns the tables, the carry and the metrics: those of the episodes merged, others averaged.
    """

    # A change is written when the next step begins, before anything is read. Were it written at
    # once, XLA would copy the whole table at every step, for what it reads again of the old one.
    def body(loop, key):
        tables, change, carry = loop
        tables = write(tables, change)
        change, carry, metrics = step(tables, carry, key)
        return (tables, change, carry), metrics

    somewhere = (jnp.zeros(cfg.num_envs, jnp.int32),) * tables.Q.ndim
    nothing = Change(somewhere, jnp.zeros(cfg.num_envs, float), tables.visits[somewhere])
    keys = jax.random.split(key, cfg.num_steps)
    (tables, last, carry), metrics = jax.lax.scan(body, (tables, nothing, carry), keys)
    means = {name: m.mean() for name, m in metrics.items() if not name.startswith("episode/")}
    return write(tables, last), carry, merge_metrics(metrics) | means
