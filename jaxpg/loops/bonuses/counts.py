"""Bonuses by counts of states: exact ones, and those of states that are much alike.

Both count the successors of steps; the bonus of one that was met n times before is 1 / sqrt(n + 1).
"""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core.config import static
from jaxpg.core.env import Env
from jaxpg.core.observations import array_leaves
from jaxpg.core.types import Array, Key, Metrics, Transition, Tree
from jaxpg.loops.bonuses.scales import Scale, init_scale, is_warm, update_scale, whiten_leaves
from jaxpg.ops import novelty

MOST = 2**30  # visits of an entry that are counted


class Counts(NamedTuple):
    visits: Array  # [entries] int32
    salt: Array  # [D] uint32 of the hash


class HashedCounts(NamedTuple):
    visits: Array  # [2^bits] int32
    directions: Array  # [bits, D]
    scale: Scale


@dataclasses.dataclass(frozen=True)
class Count:
    """Counts of observations that are equal to the last bit.

    Of a Discrete observation, and of one that is one-hot, the count is exact. Others share `slots`
    entries by a hash: of m different ones about m^2 / (2 slots) pairs share theirs.
    """

    slots: int = static(2**16, ge=1, le=2**30)
    scaled: ClassVar[bool] = False
    ordered: ClassVar[bool] = False

    def init(self, key: Key, env: Env, num_envs: int) -> Counts:
        size = flatten(env, env.example_obs).shape[-1]
        salt = jax.random.bits(key, (size,), jnp.uint32)
        return Counts(jnp.zeros(size + 1 + self.slots, jnp.int32), salt)

    def index(self, state: Counts, env: Env, obs: Tree) -> Array:
        """Entry of observations [..., *obs]: [...] int32."""
        return novelty.table_index(flatten(env, obs), state.salt, self.slots)

    def bonus(self, state: Counts, env: Env, t: Transition) -> Array:
        return novelty.count_bonus(state.visits[self.index(state, env, t.next_obs)])

    def update(self, state: Counts, env: Env, t: Transition) -> Counts:
        return state._replace(visits=count(state.visits, self.index(state, env, t.next_obs)))

    def metrics(self, state: Counts) -> Metrics:
        return {"bonus/states": (state.visits > 0).sum(dtype=jnp.int32).astype(float)}


@dataclasses.dataclass(frozen=True)
class PseudoCount:
    """Counts of codes of `bits` bits, which observations that are alike share: SimHash, Tang et al.
    (2017), arXiv:1611.04717.

    The scale of observations is that of the first `warmup` steps, without a bonus, and then stands:
    if it moved, the same state would have another code.
    """

    bits: int = static(16, ge=1, le=30)
    warmup: int = static(1000, ge=0)
    scaled: ClassVar[bool] = False
    ordered: ClassVar[bool] = False

    def init(self, key: Key, env: Env, num_envs: int) -> HashedCounts:
        size = flatten(env, env.example_obs).shape[-1]
        directions = jax.random.normal(key, (self.bits, size), float)
        return HashedCounts(jnp.zeros(2**self.bits, jnp.int32), directions, init_scale(env))

    def index(self, state: HashedCounts, env: Env, obs: Tree) -> Array:
        """Entry of observations [..., *obs]: [...] int32."""
        x = join_leaves(env, whiten_leaves(state.scale, obs))
        return novelty.simhash(x, state.directions)

    def bonus(self, state: HashedCounts, env: Env, t: Transition) -> Array:
        found = novelty.count_bonus(state.visits[self.index(state, env, t.next_obs)])
        return jnp.where(is_warm(state.scale, self.warmup), found, 0)

    def update(self, state: HashedCounts, env: Env, t: Transition) -> HashedCounts:
        visits = count(state.visits, self.index(state, env, t.next_obs))
        visits = jnp.where(is_warm(state.scale, self.warmup), visits, state.visits)
        return state._replace(
            visits=visits, scale=update_scale(state.scale, t.next_obs, until=self.warmup)
        )

    def metrics(self, state: HashedCounts) -> Metrics:
        return {"bonus/states": (state.visits > 0).sum(dtype=jnp.int32).astype(float)}


def count(visits: Array, index: Array) -> Array:
    """Counts of entries [S] int32 with one more for each of the indices [...], up to MOST."""
    index = index.reshape(-1)
    return visits.at[index].add(1).at[index].min(MOST)


def flatten(env: Env, obs: Tree) -> Array:
    """Observations [..., *obs], of all leaves side by side: [..., D]."""
    return join_leaves(env, array_leaves(obs))


def join_leaves(env: Env, leaves: list[Array]) -> Array:
    """Leaves [..., *shape] of an observation side by side: [..., D]."""
    shapes = env.obs_shapes
    flat = [
        x.reshape(*x.shape[: x.ndim - len(shape)], -1)
        for x, shape in zip(leaves, shapes, strict=True)
    ]
    return jnp.concatenate(flat, -1) if len(flat) > 1 else flat[0]
