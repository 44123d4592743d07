"""A league: snapshots of a policy that is learnt, who of them plays next, and who beats whom."""

from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core.checks import require_integer
from jaxpg.core.episodes import play
from jaxpg.core.games import join_actions, rows_of
from jaxpg.core.metrics import mean_if_any
from jaxpg.core.types import Array, Key, Transition, Tree
from jaxpg.loops import players, sharing
from jaxpg.loops.multi_agent import Learner
from jaxpg.nets.networks import Network
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
    total = jnp.cumsum(weights)  # one random number a draw, not one for each member
    at = jax.random.uniform(key, shape, weights.dtype) * total[-1]
    found = jnp.searchsorted(total, at, side="right", method="compare_all")
    last = (total < total[-1]).sum(dtype=jnp.int32)  # where the product is rounded up
    return jnp.minimum(found.astype(jnp.int32), last)


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


def answer(
    cfg: Any, net: Network, league: League, number: Array, rows: Tree, memory: Tree
) -> tuple[Array, Tree]:
    """Outputs and memories of the members of these numbers [N, P] on the rows [N, P, ...]."""

    def one(member: Member, rows: Tree, memory: Tree) -> tuple[Array, Tree]:
        return players.apply(cfg, net, member, rows, memory)[::2]

    members = jax.tree.map(lambda x: x[number], league.members)
    return jax.vmap(jax.vmap(one))(members, rows, memory)


def play_matches(
    cfg: Any, env: E.Env, league: League, numbers: Array, key: Key, num_steps: int
) -> Array:
    """Returns [M, P] of the players of M games, up to `num_steps` steps each.

    cfg: of `self_play`. numbers: [M, P] int32, the member in each seat; actions are sampled. A game
    that is not over by then has what was paid so far. Raises ValueError for numbers of no member.

    >>> import jaxpg
    >>> env = jaxpg.make("MatrixGame-jaxpg", game="rock_paper_scissors")
    >>> cfg = jaxpg.self_play.Config(num_envs=2, num_steps=2, minibatches=1, league_size=2)
    >>> state = jaxpg.self_play.init(cfg, env, jax.random.key(0))
    >>> numbers = jnp.array([[0, 0], [0, 0], [0, 0]])
    >>> play_matches(cfg, env, state.league, numbers, jax.random.key(1), num_steps=1).shape
    (3, 2)
    """
    numbers = _require_numbers(env, league, numbers)
    require_integer("num_steps", num_steps, 1)
    [group] = sharing.teams(cfg, env)
    net, pi = players.network(cfg, env, group)

    def policy(obs: Tree, memory: Tree, key: Key) -> tuple[Array, Tree, tuple[()]]:
        rows = players.observe(cfg, env, group, obs)
        out, memory = answer(cfg, net, league, numbers, rows, memory)
        return join_actions(env, [pi.action(pi.sample(out, key)[0])]), memory, ()

    t, _, mask = play(env, policy, key, len(numbers), num_steps)
    return jnp.where(mask[..., None], rows_of(group, t).reward, 0).sum(0)


def _require_numbers(env: E.Env, league: League, numbers: Any) -> Array:
    """The numbers [M, P] of members as an array.

    Raises ValueError unless they are integers, one for each player, of places of the league.
    """
    numbers, size = jnp.asarray(numbers), len(league.games)
    seats = getattr(env.core, "players", 1)
    whole = jnp.issubdtype(numbers.dtype, jnp.integer) and numbers.shape[1:] == (seats,)
    traced = isinstance(numbers, jax.core.Tracer)
    if not whole or not (traced or ((numbers >= 0) & (numbers < size)).all()):
        found = f"shape {numbers.shape} and {numbers.dtype}"
        if whole:
            found = f"{int(numbers.min())} to {int(numbers.max())}"
        raise ValueError(
            f"numbers of {found} on {env.name}: allowed are integers [M, {seats}], from 0 to "
            f"{size - 1}, a member of the league for each player"
        )
    return numbers


def score_members(
    cfg: Any, env: E.Env, league: League, key: Key, games: int, num_steps: int
) -> Array:
    """Mean scores [K, K] of each member against each other one in a game of two players: a win, a
    return above 0, is 1, a draw 1/2.

    Each pair plays `games` games in either seat. A place that no snapshot has yet scores NaN. What
    is not over after `num_steps` steps counts by what was paid so far: of most games a draw.
    Raises ValueError for a game of other than two players.
    """
    if (seats := getattr(env.core, "players", 1)) != 2:
        raise ValueError(f"score_members on {env.name}, of {seats} players: allowed are two")
    require_integer("games", games, 1)
    size = len(league.games)
    pairs = jnp.stack(jnp.meshgrid(*[jnp.arange(size, dtype=jnp.int32)] * 2, indexing="ij"), -1)
    numbers = jnp.repeat(pairs.reshape(-1, 2), games, 0)
    returns = play_matches(cfg, env, league, numbers, key, num_steps)
    score = ((1 + jnp.sign(returns)) / 2).reshape(size, size, games, 2).mean(2)
    there = jnp.arange(size) < league.count
    mean = (score[..., 0] + score[..., 1].T) / 2
    return jnp.where(there[:, None] & there, mean, jnp.nan)
