"""Observations as agents see them: pytrees of floats, and masks of actions that are not legal."""

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core.types import Array, Key, Tree

ILLEGAL = -1e9  # finite, so that gradients and 0 * log 0 are
GOAL_KEYS = ("observation", "achieved", "desired")  # of goal environments, see `core.goals`


class Masked(NamedTuple):
    """An observation in which not every action is legal.

    The environment says so by an entry `action_mask` of a Dict observation, or of `info`; there it
    is of the state that was reached, and an episode's first state has every action.

    Of a MultiDiscrete space the masks of all entries stand one after the other, sum(nvec) in all;
    of a MultiBinary one the mask says which entries, flattened, may be 1.
    """

    obs: Tree  # [..., *obs]
    mask: Array  # [..., actions] bool: True is legal


class Informed(NamedTuple):
    """An observation, and what a critic sees in its place: more than the policy may."""

    obs: Tree  # [..., *obs]; may be Masked
    critic: Tree  # [..., *state]


def split_observation(obs: Tree) -> tuple[Tree, Tree]:
    """The observation that the policy sees, and that of the critic."""
    return obs if isinstance(obs, Informed) else (obs, obs)


def array_leaves(obs: Tree) -> list[Array]:
    """The arrays of an observation that a network looks at.

    Of a goal environment's observation those that differ in their last axis alone, as vectors do,
    are one array, side by side: what is to be done depends on state and goal together, and of
    features of each apart a value could only be a sum.
    """
    obs = obs.obs if isinstance(obs, Masked) else obs
    leaves = jax.tree.leaves(obs)
    if not (isinstance(obs, dict) and obs.keys() >= set(GOAL_KEYS)):
        return leaves
    alike: dict[tuple[int, ...], list[Array]] = {}
    for x in leaves:
        alike.setdefault(x.shape[:-1], []).append(x)
    return [jnp.concatenate(several, -1) for several in alike.values()]


def action_mask(obs: Tree) -> Array | None:
    """Mask of the legal actions: [..., actions] bool; None if all are."""
    return obs.mask if isinstance(obs, Masked) else None


def finite_at_end(obs: Tree, terminated: Array) -> Tree:
    """Observations [N, *obs] in which, after a termination [N] bool, what is not finite is 0.

    Nothing follows, but networks see them and buffers keep them, and 0 times NaN is NaN.
    """

    def one(x: Array) -> Array:
        over = terminated.reshape(-1, *[1] * (x.ndim - 1))
        return jnp.where(over & ~jnp.isfinite(x), jnp.zeros_like(x), x)

    return jax.tree.map(one, obs)


def mask_illegal(out: Array, obs: Tree) -> Array:
    """Logits or values [..., actions], with those of illegal actions far below all others."""
    mask = action_mask(obs)
    return out if mask is None else jnp.where(mask, out, ILLEGAL)


def random_discrete(key: Key, shape: tuple[int, ...], n: int, legal: Array | None) -> Array:
    """Actions [*shape] int32, uniform over 0 .. n-1 or over what is legal ([*shape, n] bool)."""
    if legal is None:
        return jax.random.randint(key, shape, 0, n, jnp.int32)
    return jax.random.categorical(key, jnp.where(legal, 0.0, ILLEGAL)).astype(jnp.int32)


def random_actions(key: Key, space: Any, like: Array, legal: Array | None) -> Array:
    """Actions as policies speak of them, like these [N, *action], uniform over the space: integers,
    one or several (of which the masks of what is legal, [N, sum(nvec)] bool, stand one after the
    other), or in [-1, 1] of a Box."""
    if hasattr(space, "n"):
        return random_discrete(key, like.shape, space.n, legal)
    if not hasattr(space, "nvec"):
        return jax.random.uniform(key, like.shape, like.dtype, -1, 1)
    ends, lead = list(itertools.accumulate(space.nvec)), like.shape[:-1]
    masks = [None] * len(ends) if legal is None else jnp.split(legal, ends[:-1], -1)
    each = zip(jax.random.split(key, len(ends)), space.nvec, masks, strict=True)
    return jnp.stack([random_discrete(k, lead, n, mask) for k, n, mask in each], -1)
