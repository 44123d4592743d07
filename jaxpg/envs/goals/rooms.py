"""Grid worlds with a goal, of any map; by default the four rooms of Sutton, Precup & Singh (1999).

Two environments on one map. `FourRooms-jaxpg` has the goal as a parameter and sees the number of
its cell: a table. `GoalRooms-jaxpg` draws the goal of each episode and sees both places.

Free cells are counted row by row, from 0. Actions are up, right, down, left; a move into a wall or
off the map stays where it is. Then, with probability `slip`, a second move follows, to one of the
empty neighbours, each equally likely. Only where a step ends counts: a cell that is left again by
the second move was not reached.

The reward is 1 at the goal and 0 else, as there; with `step_reward=-1` and `goal_reward=0` it is
minus the number of steps before the last. Episodes end at the goal, a time limit truncates.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.goals import SUCCESS, goal_space, judge_step, observe
from jaxpg.core.types import Array
from jaxpg.envs.tabular import MOVES, Tabular, draw

FOUR_ROOMS = (
    "#############/#.....#.....#/#.....#.....#/#...........#/#.....#.....#/#.....#.....#/"
    "##.####.....#/#.....###.###/#.....#.....#/#.....#.....#/#...........#/#.....#.....#/"
    "#############"
)
EAST_HALL = 62  # between the rooms of the right; the goal of the paper
CHOICES = ("all", "training", "held_out")  # of goals


class Grid(NamedTuple):
    """A map as arrays of its S free cells."""

    free: np.ndarray  # [rows, columns] bool
    cells: np.ndarray  # [S, 2] row and column
    beside: np.ndarray  # [S, 4] the cell that each move leads to
    open: np.ndarray  # [S, 4] bool: whether the move leaves the cell


def read_map(name: str, map: str) -> Grid:
    """Reads a map: rows that "/" parts, # for a wall and . for a free cell.

    name: of the environment, for errors. Raises ValueError for other letters, rows of unequal
    length, fewer than two free cells, and cells that no way connects.
    """
    rows, problem = map.split("/"), None
    if len({len(row) for row in rows}) > 1 or not rows[0]:
        problem = "rows of one length, parted by '/'"
    elif set(map) - set("#./"):
        problem = "the letters # and ."
    elif map.count(".") < 2:
        problem = "a map with two free cells, or more"
    if problem:
        raise ValueError(f"{name} map={map!r}: allowed is {problem}")
    free = np.array([[x == "." for x in row] for row in rows])
    cells = np.argwhere(free)
    number = np.pad(
        np.where(free, free.cumsum().reshape(free.shape) - 1, -1), 1, constant_values=-1
    )
    to = number[tuple((cells[:, None] + MOVES + 1).transpose(2, 0, 1))]  # [S, 4]
    beside = np.where(to >= 0, to, np.arange(len(cells))[:, None])
    found = np.zeros(len(cells), bool)
    found[0] = True
    for _ in cells:
        found[beside[found]] = True
    if not found.all():
        alone = tuple(cells[(~found).argmax()].tolist())
        raise ValueError(
            f"{name} map={map!r}: allowed is a map whose free cells are connected; (row, column) "
            f"{alone} is not reached from {tuple(cells[0].tolist())}"
        )
    return Grid(free, cells, beside, to >= 0)


def move(grid: Grid, slip: Any, s: Array, action: Array) -> tuple[Array, Array]:
    """Outcomes of a move from a cell []: the cells [5] where it may end, and how likely [5]."""
    here = jnp.asarray(grid.beside, jnp.int32)[s, action]
    open = jnp.asarray(grid.open)[here]
    each = slip * open / open.sum(dtype=float)
    successors = jnp.append(here, jnp.asarray(grid.beside, jnp.int32)[here])
    return successors, jnp.append(jnp.asarray(1 - slip, float), each)


@struct.dataclass
class Params:
    goal: int = EAST_HALL  # number of its cell
    slip: float = 1 / 3  # probability of the second move
    step_reward: float = 0.0
    goal_reward: float = 1.0  # instead of it, when the goal is reached
    max_steps_in_episode: int = 1000


def four_rooms(map: str = FOUR_ROOMS) -> Tabular:
    """A grid world of one goal, seen as the number of the cell; starts are all the other cells.

    The goal of a map of one's own is its last cell, unless the parameter `goal` names another.

    >>> env = jaxpg.make("FourRooms-jaxpg", slip=0.0)
    >>> env.example_obs.shape, env.params.goal
    ((104,), 62)
    """
    name = "FourRooms-jaxpg"
    grid = read_map(name, map)
    size = len(grid.cells)

    def outcomes(params, s, action):
        successors, probabilities = move(grid, params.slip, s, action)
        reward = jnp.where(successors == params.goal, params.goal_reward, params.step_reward)
        return successors, probabilities, reward.astype(float)

    def start(params):
        return (jnp.arange(size) != params.goal) / (size - 1)

    def terminal(params):
        return jnp.arange(size) == params.goal

    goal = EAST_HALL if map == FOUR_ROOMS else size - 1
    return Tabular(
        name, Params(goal=goal), 4, start, terminal, outcomes,
        limits={"goal": (0, size - 1), "slip": (0, 1)}, grid=grid,
    )  # fmt: skip


@struct.dataclass
class GoalParams:
    slip: float = 0.0  # probability of the second move
    step_reward: float = 0.0
    goal_reward: float = 1.0  # instead of it, when the goal is reached
    max_steps_in_episode: int = 100


@struct.dataclass
class State:
    s: Array  # [] int32 cell
    goal: Array  # [] int32 cell
    time: Array  # [] int32


class GoalRooms(environment.Environment):
    """A grid world whose goal is drawn in each episode, and then a start from the other cells.

    Observations `observation`, `achieved` (both the place) and `desired` (the goal) are places:
    coordinates [2], row and column from -1 to 1, or one-hot [S].
    """

    name, default_params = "GoalRooms-jaxpg", GoalParams()  # type: ignore  # properties in gymnax
    signals = (SUCCESS,)
    limits = {"slip": (0, 1)}  # noqa: RUF012  # read only

    def __init__(
        self,
        map: str = FOUR_ROOMS,
        one_hot: bool = False,
        goals: str = "all",
        held_out: float = 0.25,
        split: int = 0,
    ):
        """goals: which are drawn, "all", those of "training" or the "held_out" ones. held_out: the
        fraction of cells that are so. split: seed of the draw that parts them.

        Raises ValueError for a map that `read_map` refuses, and for a split without two cells on
        either side.
        """
        self.grid, self.one_hot = read_map(self.name, map), one_hot
        size = len(self.grid.cells)
        if goals not in CHOICES:
            raise ValueError(f"{self.name} goals={goals!r}: allowed is one of {', '.join(CHOICES)}")
        if split != int(split) or split < 0:
            raise ValueError(f"{self.name} split={split!r}: allowed is an integer >= 0")
        many = round(held_out * size)
        if goals != "all" and not 1 <= many < size:
            raise ValueError(
                f"{self.name} held_out={held_out!r}: allowed is a fraction of the {size} cells "
                "that leaves one on either side"
            )
        order = np.random.default_rng(int(split)).permutation(size)
        chosen = {"all": order, "training": order[many:], "held_out": order[:many]}[goals]
        self.goals = np.sort(chosen)  # [G] the cells that may be the goal
        rows, columns = np.array(self.grid.free.shape) - 1
        self._half_a_cell = 0.5 if one_hot else 1 / max(rows, columns)

    @property
    def num_actions(self) -> int:
        return 4

    def reset_env(self, key, params):
        k_goal, k_start = jax.random.split(key)
        size = len(self.grid.cells)
        at = jax.random.randint(k_goal, (), 0, len(self.goals), jnp.int32)
        goal = jnp.asarray(self.goals, jnp.int32)[at]
        other = jax.random.randint(k_start, (), 0, size - 1, jnp.int32)
        state = State(other + (other >= goal), goal, jnp.zeros((), jnp.int32))
        return self.observe(state), state

    def step_env(self, key, state: Any, action: Any, params: Any):
        successors, probabilities = move(self.grid, params.slip, state.s, action)
        state = State(successors[draw(key, probabilities)], state.goal, state.time + 1)
        obs = self.observe(state)
        reward, reached, info = judge_step(self, obs, params)
        return obs, state, reward, reached, info

    def goal_reached(self, achieved: Array, desired: Array, params: Any) -> Array:
        """True where both places are one cell: [] bool."""
        return abs(achieved - desired).max() < self._half_a_cell

    def goal_reward(self, achieved: Array, desired: Array, params: Any) -> Array:
        """Reward [] of a step that led to the place `achieved`."""
        reached = self.goal_reached(achieved, desired, params)
        return jnp.where(reached, params.goal_reward, params.step_reward).astype(float)

    def place(self, s: Array) -> Array:
        """A cell [] as observations have it: [2] or [S]."""
        if self.one_hot:
            return jax.nn.one_hot(s, len(self.grid.cells), dtype=float)
        most = np.maximum(np.array(self.grid.free.shape) - 1, 1)
        return jnp.asarray(2 * self.grid.cells / most - 1, float)[s]

    def observe(self, state: State) -> dict[str, Array]:
        here = self.place(state.s)
        return observe(here, here, self.place(state.goal))

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode

    def action_space(self, params):
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params):
        low, shape = (0.0, (len(self.grid.cells),)) if self.one_hot else (-1.0, (2,))
        box = spaces.Box(low, 1.0, shape)
        return goal_space(box, box)


ENVIRONMENTS = {"FourRooms-jaxpg": four_rooms, "GoalRooms-jaxpg": GoalRooms}
