"""Hunters and prey on a torus of cells: two groups that see different things, and prey that leave.

All move at once, to one of the four cells next to theirs or not at all; a cell has room for many. A
prey is caught, and leaves, when `needed` hunters are at most one step from it: one hunter alone
follows it for ever, for both are equally fast. The episode ends with the last prey. (A small
relative of the pursuit of Benda, Jagannathan & Dodhiawala 1986, where four hunters surround one.)

Every hunter is paid `catch_reward` for each prey that any of them catch, and pays `time_cost` a
step; a prey pays the one and is paid the other. Functions of what is seen are policies to measure
against: `random`, `chase` and `pinch` of hunters, `flee` of prey.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.env import Env
from jaxpg.core.spaces import MultiDiscrete
from jaxpg.core.types import Array, Key, Tree

MOVES = np.array([[0, 0], [0, 1], [1, 0], [0, -1], [-1, 0]])  # stay, up, right, down, left


@struct.dataclass
class Params:
    needed: int = 2  # hunters that catch a prey together
    prey_speed: float = 1.0  # probability that a prey's move comes about
    catch_reward: float = 1.0
    time_cost: float = 0.01
    max_steps_in_episode: int = 50


@struct.dataclass
class State:
    cell: Array  # [P, 2] int32: x and y
    alive: Array  # [P] bool
    time: Array  # [] int32


class Pursuit(environment.Environment):
    """Actions [P] of 0 .. 4: stay, up, right, down, left; hunters come first.

    Observations are ways to others on the torus (x and y, in halves of its side, in [-1, 1]). Of a
    hunter [2 (H - 1) + 3 Q]: to the other hunters, then of each prey the way and 1, or zeros once
    it was caught. Of a prey [2 H + 3 (Q - 1)]: to the hunters, then likewise of the other prey.
    """

    name, default_params = "Pursuit-jaxpg", Params()  # type: ignore  # properties in gymnax
    signals = ("rewards", "alive", "leaves")

    def __init__(self, hunters: int = 3, prey: int = 2, size: int = 8):
        """size: cells of a side. Raises ValueError for a number that is no integer, or too
        small."""
        for field, value, least in (("hunters", hunters, 1), ("prey", prey, 1), ("size", size, 3)):
            if value != int(value) or value < least:
                raise ValueError(f"{self.name} {field}={value!r}: allowed is an integer >= {least}")
        self.hunters, self.prey, self.size = int(hunters), int(prey), int(size)
        self.players = self.hunters + self.prey
        self.groups = {"hunters": self.hunters, "prey": self.prey}
        inf = float("inf")
        self.limits = {
            "needed": (1, self.hunters),
            "prey_speed": (0, 1),
            "catch_reward": (0, inf),
            "time_cost": (0, inf),
        }

    def reset_env(self, key, params):
        cell = jax.random.randint(key, (self.players, 2), 0, self.size, jnp.int32)
        state = State(cell, jnp.ones(self.players, bool), jnp.zeros((), jnp.int32))
        return self.observe(state), state

    def step_env(self, key, state: Any, action: Any, params: Any):
        can = jax.random.uniform(key, (self.prey,)) < params.prey_speed
        can = state.alive & jnp.concatenate([jnp.ones(self.hunters, bool), can])
        cell = (state.cell + jnp.asarray(MOVES, jnp.int32)[action] * can[:, None]) % self.size
        way = self.ways(cell)[: self.hunters, self.hunters :]
        near = (abs(way).sum(-1) <= 1).sum(0, dtype=jnp.int32)
        caught = (near >= params.needed) & state.alive[self.hunters :]
        alive = state.alive & ~jnp.concatenate([jnp.zeros(self.hunters, bool), caught])
        terminated = ~alive[self.hunters :].any()
        hunter = params.catch_reward * caught.sum(dtype=float) - params.time_cost
        prey = params.time_cost - params.catch_reward * caught.astype(float)
        prey = prey * state.alive[self.hunters :]
        rewards = jnp.concatenate([jnp.full(self.hunters, hunter), prey])
        leaves = state.alive & (terminated | ~alive)
        info = {"rewards": rewards, "alive": state.alive, "leaves": leaves}
        state = State(cell, alive, state.time + 1)
        return self.observe(state), state, rewards.mean(), terminated, info

    def ways(self, cell: Array) -> Array:
        """The shortest ways [P, P, 2] from cells [P, 2] to each other, in cells."""
        return self.shortest(cell - cell[:, None])

    def shortest(self, way: Array) -> Array:
        """The shortest of the ways round the torus that lead to the same cell."""
        half = self.size // 2
        return (way + half) % self.size - half

    def observe(self, state: State) -> dict[str, Array]:
        h, q = self.hunters, self.prey
        alive = state.alive.astype(float)
        way = self.ways(state.cell) * (2 / self.size) * alive[:, None]
        to_prey = jnp.concatenate([way[:, h:], jnp.broadcast_to(alive[h:, None], (h + q, q, 1))], 2)
        hunters = [_others(way[:h, :h]), to_prey[:h].reshape(h, 3 * q)]
        prey = [way[h:, :h].reshape(q, 2 * h), _others(to_prey[h:])]
        return {
            "hunters": jnp.concatenate(hunters, 1),
            "prey": jnp.concatenate(prey, 1) * alive[h:, None],
        }

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode

    def action_space(self, params):
        return MultiDiscrete([len(MOVES)] * self.players)

    def observation_space(self, params):
        h, q = self.hunters, self.prey
        shapes = {"hunters": (h, 2 * (h - 1) + 3 * q), "prey": (q, 2 * h + 3 * (q - 1))}
        return spaces.Dict({k: spaces.Box(-1.0, 1.0, shape) for k, shape in shapes.items()})


def _others(x: Array) -> Array:
    """Rows of [n, n, D] without the diagonal, as vectors [n, (n - 1) D]."""
    n, _, d = x.shape
    return x.reshape(n * n, d)[1:].reshape(n - 1, n + 1, d)[:, :-1].reshape(n, (n - 1) * d)


# Policies by hand: (core, what a group sees [n, D], key) -> actions [n].


def random(core: Pursuit, obs: Array, key: Key) -> Array:
    """Moves at random."""
    return jax.random.randint(key, (len(obs),), 0, len(MOVES), jnp.int32)


def chase(core: Pursuit, obs: Array, key: Key) -> Array:
    """Moves each hunter towards the prey that is nearest to it, along the longer of both ways."""
    to_prey, alive, _ = _seen_by_hunters(core, obs)
    length = jnp.where(alive, abs(to_prey).sum(-1), jnp.inf)
    return _towards(jnp.take_along_axis(to_prey, length.argmin(1)[:, None, None], 1)[:, 0])


def pinch(core: Pursuit, obs: Array, key: Key) -> Array:
    """Moves all hunters against one prey, that with the least way in all: the first two keep to its
    row and come from both sides, the others to its column, against the way it runs."""
    to_prey, alive, to_hunters = _seen_by_hunters(core, obs)
    ways = core.shortest(to_prey - to_hunters[:, :, None])  # of hunter j to prey q, as i knows
    length = jnp.where(alive, abs(ways).sum((1, 3)), jnp.inf)
    aim = jnp.take_along_axis(to_prey, length.argmin(1)[:, None, None], 1)[:, 0]
    x, y = aim[:, 0], aim[:, 1]
    up_or_down, across = jnp.where(y > 0, 1, 3), jnp.where(x > 0, 2, 4)
    role = np.minimum(np.arange(len(obs)), 2)
    side = jnp.where(x == 0, 0, jnp.asarray([2, 4, 0])[role])
    behind = y[:2].sum()  # above 0 if the prey has run upwards from its row
    against = jnp.where(behind > 0, 3, jnp.where(behind < 0, 1, up_or_down))
    meet = jnp.where(y == 0, 0, jnp.where(abs(y) == 1, up_or_down, against))
    from_sides, along = jnp.where(y != 0, up_or_down, side), jnp.where(x != 0, across, meet)
    return jnp.where(role < 2, from_sides, along)


def flee(core: Pursuit, obs: Array, key: Key) -> Array:
    """Moves each prey to where the nearest hunter would be farthest, among equals at random."""
    to_hunters = _cells(core, obs[:, : 2 * core.hunters].reshape(-1, 1, core.hunters, 2))
    way = core.shortest(to_hunters - jnp.asarray(MOVES)[:, None])
    length = jnp.sort(abs(way).sum(-1), -1)  # [Q, moves, H]
    score = (length * (3.0 * core.size) ** -jnp.arange(core.hunters)).sum(-1)
    return (score + 1e-6 * jax.random.uniform(key, score.shape)).argmax(-1)


def _cells(core: Pursuit, ways: Array) -> Array:
    """Observed ways in cells."""
    return jnp.round(ways * core.size / 2).astype(jnp.int32)


def _seen_by_hunters(core: Pursuit, obs: Array) -> tuple[Array, Array, Array]:
    """Ways to prey [H, Q, 2] and which are there [H, Q]; ways to all hunters [H, H, 2]."""
    n = len(obs)
    ways, told = jnp.split(obs, [2 * (n - 1)], 1)
    told = told.reshape(n, -1, 3)
    to_hunters = jnp.zeros((n, n, 2)).at[~np.eye(n, dtype=bool)].set(ways.reshape(-1, 2))
    return _cells(core, told[..., :2]), told[..., 2] > 0, _cells(core, to_hunters)


def _towards(way: Array) -> Array:
    """Moves [n] that shorten ways [n, 2], the longer part first."""
    x, y = way[:, 0], way[:, 1]
    across = jnp.where(x > 0, 2, 4)
    along = jnp.where(y > 0, 1, jnp.where(y < 0, 3, 0))
    return jnp.where(abs(x) > abs(y), across, along)


class Hunt(NamedTuple):
    """Outcome of episodes, as means over them."""

    caught: Array  # [] part of the prey
    steps: Array  # []
    returns: dict[str, Array]  # of each group, a member


def play(
    env: Env, key: Key, hunters: Callable = chase, prey: Callable = flee, episodes: int = 1000
) -> Hunt:
    """Plays whole episodes with a policy for each group.

    >>> import jax
    >>> from jaxpg.envs.games import pursuit
    >>> env = jaxpg.make("Pursuit-jaxpg", prey=1)
    >>> hunt = pursuit.play(env, jax.random.key(0), pursuit.pinch, pursuit.random)
    >>> bool(hunt.caught > 0.9)
    True
    """
    core, params = env.core, env.params
    steps = int(params.max_steps_in_episode)

    def one_step(loop, key):
        obs, state, going = loop
        k_hunt, k_flee, k_step = jax.random.split(key, 3)
        move = [hunters(core, obs["hunters"], k_hunt), prey(core, obs["prey"], k_flee)]
        obs, state, _, ended, info = core.step_env(k_step, state, jnp.concatenate(move), params)
        return (obs, state, going & ~ended), (info["rewards"] * going, going)

    def one(key):
        k_reset, k_steps = jax.random.split(key)
        first = core.reset_env(k_reset, params)
        loop = (*first, jnp.ones((), bool))
        (_, state, _), (rewards, going) = jax.lax.scan(
            one_step, loop, jax.random.split(k_steps, steps)
        )
        return state.alive, rewards.sum(0), going.sum(dtype=jnp.int32)

    alive, returns, length = jax.jit(jax.vmap(one))(jax.random.split(key, episodes))
    caught = 1 - alive[:, core.hunters :].mean()
    parts: Tree = jnp.split(returns.mean(0), [core.hunters])
    return Hunt(caught, length.mean(), dict(zip(core.groups, map(jnp.mean, parts), strict=True)))


ENVIRONMENTS = {"Pursuit-jaxpg": Pursuit}
