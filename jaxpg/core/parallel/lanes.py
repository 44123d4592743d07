"""Lanes: runs side by side in one program, each with a config and an environment of its own.

A config whose numbers are arrays [lanes] is one config a lane; then the environment's parameters
are [lanes] too, and so is the key. Lanes share the program, not their fate: one that learnt what is
not finite, or that has reached what it was asked for, stands still while the others go on.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.metrics import ACTIVE, no_data
from jaxpg.core.types import Agent, Array, Key, Metrics, Tree, learnt_leaves


class Lanes(NamedTuple):
    """The training state of one lane, and whether it still learns."""

    state: Tree
    active: Array  # [] bool


def has_lanes(cfg) -> bool:
    """True if the numeric fields of a config have a leading [lanes] axis."""
    return any(np.ndim(x) > 0 for x in jax.tree.leaves(cfg))


def stack(pairs: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    """Configs and environments of one structure as a config and an environment of lanes."""

    def leaf(*values) -> Array:
        x = np.stack([np.asarray(v) for v in values])
        return jnp.asarray(x, float if x.dtype.kind == "f" else None)

    return jax.tree.map(leaf, *pairs)


def take_lane(tree: Tree, lane: int) -> Tree:
    """One lane of a tree [lanes, ...]. Numbers are NumPy's: an agent's `init` judges those of a
    config also inside a trace, where `jnp` would make tracers of them."""

    def leaf(x):
        key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return (x if key else np.asarray(x))[lane]

    return jax.tree.map(leaf, tree)


@functools.cache  # one object per agent: a new one would be a new key of every jit cache
def lanes(agent: Agent) -> Agent:
    """Wraps an agent so that its state says whether the lane is still learning."""

    def init(cfg, env, key: Key) -> Lanes:
        return Lanes(agent.init(cfg, env, key), jnp.ones((), bool))

    def step(cfg, env, lane: Lanes) -> tuple[Lanes, Metrics]:
        state, metrics = agent.step(cfg, env, lane.state)
        return lane._replace(state=state), metrics | {ACTIVE: lane.active.astype(jnp.int32)}

    def act(cfg, env, lane: Lanes, *rest):
        return agent.act(cfg, env, lane.state, *rest)

    return agent._replace(init=init, step=step, act=act)


def freeze_finished_lanes(before: Lanes, after: Lanes, metrics: Metrics) -> tuple[Lanes, Metrics]:
    """Reverts this chunk for lanes that have stopped or that learnt what is not finite.

    Leaves are [lanes, ...], metrics [lanes, chunk]: those of a lane that stands still are NaN, or 0
    where they count. Once a chunk and not at every step, for a state may hold a replay buffer.
    """
    finite = [jnp.isfinite(x).all(tuple(range(1, x.ndim))) for _, x in learnt_leaves(after)]
    active = functools.reduce(jnp.logical_and, finite, before.active)

    def keep(new: Array, old) -> Array:
        return jnp.where(active.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    def none(x: Array):
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return jnp.array(no_data(x.dtype) if floating else 0, x.dtype)

    state = jax.tree.map(keep, after.state, before.state)
    return Lanes(state, active), {name: keep(x, none(x)) for name, x in metrics.items()}
