"""Joint actions of a game, as a critic of all of them sees them.

An action of a player is a vector [..., D]: of a Box the numbers in [-1, 1] that a policy speaks in;
of integers one-hot, of several choices one after the other. A joint action is a list of them, an
entry [B, P_h, D_h] for each group h of `core.games`.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp

from jaxpg.core.env import Env
from jaxpg.core.games import Group, join_actions
from jaxpg.core.types import Array, Key
from jaxpg.nets import continuous
from jaxpg.ops.relax import straight_through


def choices(group: Group) -> tuple[int, ...]:
    """Numbers of choices that make up an action of a player; () if it is of a Box."""
    space = group.env.action_space
    return (space.n,) if group.env.discrete else tuple(getattr(space, "nvec", ()))


def size(cfg: Any, group: Group) -> int:
    """Length D of an action of a player. Raises ValueError unless actions are integers, or a Box
    with finite bounds."""
    return sum(choices(group)) or continuous.action_size(cfg, group.env)


def propose(group: Group, out: Array, key: Key, temperature: Array | float) -> Array:
    """Actions [B, P_g, D] of what actors put out, through which a gradient flows: its tanh, or
    one-hot draws of the softmax of each choice's logits, see `ops.relax`."""
    if not choices(group):
        return jnp.tanh(out)
    parts = _each_choice(group, out)
    keys = jax.random.split(key, len(parts))
    draws = [straight_through(k, x, temperature) for k, x in zip(keys, parts, strict=True)]
    return jnp.concatenate(draws, -1)


def of_buffer(found: list[Group], action: Array) -> list[Array]:
    """Joint action, from actions of a game as the replay buffer holds them [B, *action]."""
    rows = action.reshape(len(action), sum(g.size for g in found), -1)
    joint = []
    for g in found:
        own = rows[:, g.first : g.first + g.size]
        hot = [jax.nn.one_hot(own[..., i], n, dtype=float) for i, n in enumerate(choices(g))]
        joint.append(jnp.concatenate(hot, -1) if hot else own)
    return joint


def to_buffer(env: Env, found: list[Group], joint: list[Array]) -> Array:
    """The actions of a game [B, *action] as the replay buffer holds them, from what all do; of
    integers the largest entry, so that logits will do."""
    if not choices(found[0]):
        action = join_actions(env, joint)
        return action.reshape(len(action), -1)
    integers = []
    for group, x in zip(found, joint, strict=True):
        parts = [y.argmax(-1).astype(jnp.int32) for y in _each_choice(group, x)]
        integers.append(parts[0] if group.env.discrete else jnp.stack(parts, -1))
    return join_actions(env, integers)


def as_seen(joint: list[Array], which: int, own: Array | None = None) -> Array:
    """Joint action, for the critic of each player of the group `which`: [B, P_g, all numbers].

    own: [B, P_g, D] in the place of what the player itself does; the others do what they do.
    """
    own = joint[which] if own is None else own
    batch, players = own.shape[:2]
    me, parts = jnp.eye(players, dtype=bool)[:, :, None], []
    for i, theirs in enumerate(joint):
        each = jnp.broadcast_to(theirs[:, None], (batch, players, *theirs.shape[1:]))
        each = jnp.where(me, own[:, :, None], each) if i == which else each
        parts.append(each.reshape(batch, players, -1))
    return jnp.concatenate(parts, -1)


def _each_choice(group: Group, x: Array) -> list[Array]:
    """The logits, or one-hot vectors, of each choice of actions [..., D]."""
    return jnp.split(x, list(itertools.accumulate(choices(group)))[:-1], -1)
