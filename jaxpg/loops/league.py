"""A league: snapshots of a policy that is learnt, who of them plays next, and who was beaten."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core.metrics import mean_if_any
from jaxpg.core.types import Array, Key, Transition, Tree
from jaxpg.loops.multi_agent import Learner
from jaxpg.ops import normalize

MEMORY = 0.99  # of the counts of wins, an iteration


class Member(NamedTuple):
    """A policy of the league."""

    params: Tree
    obs_stats: normalize.RunningStats | tuple[()]


class League(NamedTuple):
    """Snapshots of a policy; the ring begins anew when it is full."""

    members: Member  # [K, ...]
    count: Array  # [] int32 snapshots so far
    wins: Array  # [K] of the learner against each, draws by half; older ones count less
    games: Array  # [K]


def begin_league(learner: Learner, size: int) -> League:
    """A league of so many places, with the learner as it is in the first one."""
    first, zeros = Member(learner.params, learner.obs_stats), jnp.zeros(size, float)
    members = jax.tree.map(lambda x: jnp.broadcast_to(x, (size, *x.shape)), first)
    return League(members, jnp.ones((), jnp.int32), zeros, zeros)


def weigh_opponents(opponents: str, league: League) -> Array:
    """Probabilities [K] of the members to be an opponent: "latest", "uniform", "prioritized"."""
    size = len(league.games)
    place = jnp.arange(size)
    if opponents == "latest":
        return (place == (league.count - 1) % size).astype(float)
    weights = (place < league.count).astype(float)
    if opponents == "prioritized":
        # One win and one loss ahead: who is new is met, and nobody is given up.
        weights *= jnp.square(1 - (league.wins + 1) / (league.games + 2))
    return weights / weights.sum()


def draw_members(key: Key, weights: Array, shape: tuple[int, ...]) -> Array:
    """Numbers [*shape] int32 of members, by their probabilities [K]."""
    return jax.random.categorical(key, jnp.log(weights), shape=shape).astype(jnp.int32)


def count_wins(
    league: League, t: Transition, reward: Array, seat: Array, opponent: Array
) -> tuple[League, Array]:
    """Counts the episodes that ended in a rollout t [T, N], won where the learner's last reward is
    above 0; and their mean score [], of a win 1 and of a draw 1/2.

    reward, seat: [T, N] the learner's. opponent: [T, N, P] who sat where.
    """
    ended = t.terminated | t.truncated
    score = jnp.where(ended, (1 + jnp.sign(reward)) / 2, 0)
    others = ended[..., None] & (jnp.arange(opponent.shape[-1]) != seat[..., None])
    wins = jnp.zeros_like(league.wins).at[opponent].add(others * score[..., None])
    games = jnp.zeros_like(league.games).at[opponent].add(others.astype(float))
    wins, games = MEMORY * league.wins + wins, MEMORY * league.games + games
    mean = mean_if_any(score.sum(), ended.sum(dtype=jnp.int32))
    return league._replace(wins=wins, games=games), mean


def take_in(league: League, learner: Learner, due: Array) -> League:
    """The league with a snapshot of the learner, in the place of the oldest, if one is due []."""
    slot = league.count % len(league.games)
    new = Member(learner.params, learner.obs_stats)

    def put(x: Array, y: Array | float) -> Array:
        return x.at[slot].set(jnp.where(due, y, x[slot]))

    members, count = jax.tree.map(put, league.members, new), league.count + due.astype(jnp.int32)
    return League(members, count, put(league.wins, 0.0), put(league.games, 0.0))
