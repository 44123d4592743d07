"""Mazes with one goal: the only reward is there, and the shortest way to it is known exactly.

A maze has rooms, every second cell of every second row, and walls between them. Those along a
random spanning tree of the rooms are taken away: one way, and only one, leads from any free cell to
any other. The tree is that of Kruskal (1956): all walls in random order, each taken away if what it
parts is not connected yet.

The order follows from the parameter `level` alone, at each reset, inside the program: a level is a
number that may be traced, swept, drawn for each episode (`jaxpg.randomized(env, level=(0, 999))`)
and played again later. Resets of one level are the same computation for all environments, which a
`vmap` does once. Kruskal's tree, for it is a loop of as many steps as there are walls, the same for
all levels; a depth-first search takes twice as many steps with a stack, and Wilson's walks (1996)
end at a time that is not known.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.checks import require_integer
from jaxpg.core.types import Array

NAME = "Maze-jaxpg"
MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])  # up, right, down, left: row and column


def walls(rooms: int) -> np.ndarray:
    """Walls between neighbours of rooms x rooms rooms: the numbers of the two, [walls, 2]."""
    number = np.arange(rooms * rooms).reshape(rooms, rooms)
    beside = np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()], 1)
    below = np.stack([number[:-1].ravel(), number[1:].ravel()], 1)
    return np.concatenate([beside, below])


def spanning_tree(order: Array, rooms: int) -> Array:
    """Walls that are taken away if they are looked at in this order, a permutation of all: [walls]
    bool, in the order of `walls`. Kruskal (1956)."""

    def look(part: Array, ends: Array) -> tuple[Array, Array]:
        """part: [rooms^2] int32, equal for rooms that are connected."""
        one, other = part[ends[0]], part[ends[1]]
        return jnp.where(part == other, one, part), one != other

    ends = jnp.asarray(walls(rooms), jnp.int32)[order]
    begin = jnp.arange(rooms * rooms, dtype=jnp.int32)
    return jnp.zeros(len(order), bool).at[order].set(jax.lax.scan(look, begin, ends)[1])


def scramble(level: Any, count: int) -> Array:
    """Words of a level without a pattern: [count] uint32. A hash, the finaliser of MurmurHash3
    (Appleby 2011), and no draw: `reset` has a key for what differs between episodes."""

    def mix(x: Array) -> Array:
        x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
        x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
        return x ^ (x >> 16)

    apart = jnp.arange(1, count + 1, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
    return mix(mix(jnp.asarray(level).astype(jnp.uint32)) + apart)


def carve(level: Any, size: int) -> Array:
    """Free cells of a level: [size, size] bool.

    >>> carve(0, 5).sum().item()  # four rooms and three ways between them
    7
    """
    rooms = size // 2
    ends = walls(rooms)
    order = jnp.argsort(scramble(level, len(ends))).astype(jnp.int32)
    place = lambda room: 2 * np.stack(divmod(room, rooms), -1) + 1  # noqa: E731
    free = np.zeros((size, size), bool)
    free[1::2, 1::2] = True
    between = place(ends).sum(1) // 2  # [walls, 2] row and column
    return jnp.asarray(free).at[tuple(between.T)].set(spanning_tree(order, rooms))


@struct.dataclass
class Params:
    level: int
    max_steps_in_episode: int


@struct.dataclass
class State:
    free: Array  # [size, size] bool
    position: Array  # [2] int32 row and column
    time: Array  # [] int32


class Maze(environment.Environment):
    """Actions are up, right, down, left; a move into a wall stays. The start is the room in the
    upper left corner, the goal that in the lower right one: it ends an episode with reward 1, all
    other rewards are 0. A time limit truncates, by default of as many steps as there are cells.

    Observations: the cell as one-hot [(size - 2)^2], the outer wall left out; or, with `view`, what
    is near, [view, view, 2]: walls, and the goal.

    >>> env = jaxpg.make("Maze-jaxpg", level=3)
    >>> env.example_obs.shape, int(env.core.shortest_path(env.params))
    ((225,), 32)
    """

    name: Any = NAME
    limits = {"level": (0, 2**31 - 1)}  # noqa: RUF012  # read only

    def __init__(self, size: int = 17, view: int | None = None):
        """size: cells of a side, with the outer walls. view: cells of a side of what is seen; None
        is all, as the number of the cell. Raises ValueError for numbers that are not odd, and below
        5 or 3."""
        sides = [("size", size, 5), *([] if view is None else [("view", view, 3)])]
        for name, value, least in sides:
            require_integer(f"{NAME} {name}", value, least)
            if value % 2 == 0:
                raise ValueError(f"{NAME} {name}={value}: allowed is an odd integer >= {least}")
        self.size, self.view = int(size), view
        self.usual = Params(0, self.size**2)

    @property
    def default_params(self) -> Params:
        return self.usual

    def reset_env(self, key, params):
        one = jnp.ones(2, jnp.int32)
        state = State(carve(params.level, self.size), one, jnp.zeros((), jnp.int32))
        return self.observe(state), state

    def step_env(self, key, state: Any, action: Any, params: Any):
        to = state.position + jnp.asarray(MOVES, jnp.int32)[action]
        position = jnp.where(state.free[to[0], to[1]], to, state.position)
        state = State(state.free, position, state.time + 1)
        there = (position == self.size - 2).all()
        return self.observe(state), state, there.astype(float), there, {}

    def observe(self, state: State) -> Array:
        row, column = state.position[0], state.position[1]
        if self.view is None:
            inner = self.size - 2
            return jax.nn.one_hot((row - 1) * inner + column - 1, inner**2, dtype=float)
        goal = jnp.zeros((self.size, self.size), bool).at[-2, -2].set(True)
        seen = jnp.stack([~state.free, goal], -1).astype(float)
        edge = self.view // 2
        seen = jnp.pad(seen, ((edge, edge), (edge, edge), (0, 0)))
        return jax.lax.dynamic_slice(seen, (row, column, 0), (self.view, self.view, 2))

    def distances(self, params: Any) -> Array:
        """Steps from each cell to the goal: [size, size] int32, the number of all cells for walls.

        By dynamic programming: a cell is one step further than its nearest neighbour.
        """
        free, far = carve(params.level, self.size), self.size**2
        begin = jnp.full(free.shape, far, jnp.int32).at[-2, -2].set(0)

        def nearer(d: Array) -> Array:
            """One sweep over all cells; the outer wall keeps `roll` from going round."""
            beside = jnp.stack([jnp.roll(d, tuple(move), (0, 1)) for move in MOVES]).min(0)
            return jnp.where(free, jnp.minimum(d, beside + 1), far)

        changed = lambda both: (both[0] != both[1]).any()  # noqa: E731
        both = jax.lax.while_loop(changed, lambda x: (x[1], nearer(x[1])), (begin, nearer(begin)))
        return both[1]

    def shortest_path(self, params: Any) -> Array:
        """Steps of the shortest way from the start to the goal: [] int32."""
        return self.distances(params)[1, 1]

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode

    def action_space(self, params):
        return spaces.Discrete(4)

    def observation_space(self, params):
        cells = ((self.size - 2) ** 2,)
        return spaces.Box(0.0, 1.0, cells if self.view is None else (self.view, self.view, 2))


ENVIRONMENTS = {NAME: Maze}
