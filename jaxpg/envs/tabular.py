"""Small discrete environments whose model is known exactly, in gymnax's protocol.

Each is a table of outcomes: what may follow an action in a state, how likely, at what reward.
`step` draws from it and `model` writes it down, so that `ops.dynamic_programming` can say what a
learner should find. States are counted row by row. The time limit is no part of the model: it
truncates.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.env import Env
from jaxpg.core.types import Array

UP, RIGHT, DOWN, LEFT = range(4)
MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])  # rows and columns
CORNERS = "G.../..../..../...G"  # Sutton & Barto (2018), example 4.1
CLIFF = "............/............/............/SCCCCCCCCCCG"  # example 6.6
LAKE = "S.../.O.O/...O/O..G"
HAZARDS = "......./.HHHHH./SHHHHHG/......."


class Model(NamedTuple):
    """Model of a finite MDP. Rows of terminal states are zero in P and R: nothing follows."""

    P: Array  # [S, A, S] probability of each successor
    R: Array  # [S, A] expected reward
    terminal: Array  # [S] bool; so are walls and cliffs, where nobody stands
    start: Array  # [S] distribution of the first state


@struct.dataclass
class State:
    s: Array  # [] int32
    time: Array  # [] int32


class Tabular(environment.Environment):
    """A finite MDP of `num_actions` actions.

    start: [S] probabilities of the first state. terminal: [S] bool. Either may be a function of the
    parameters. outcomes(params, s, action) gives the K things that may happen: successors [K],
    probabilities [K], rewards [K]. sees: [S] the observation in each state, an integer; None is the
    state itself. limits: the least and the greatest value of parameters, by name. grid: where the
    states lie on a map, for pictures; see `goals.rooms.Grid`. costs(params, s, action): the costs
    [K] of the same things, a signal of that name; None says of no cost.
    """

    default_params: Any = None  # type: ignore  # a property in gymnax, as is the name
    name: Any = None  # type: ignore

    def __init__(
        self,
        name: str,
        params: Any,
        num_actions: int,
        start: np.ndarray | Callable,
        terminal: np.ndarray | Callable,
        outcomes: Callable,
        sees: np.ndarray | None = None,
        limits: dict[str, tuple[float, float]] | None = None,
        grid: Any = None,
        costs: Callable | None = None,
    ):
        self.limits, self.grid, self.costs = limits or {}, grid, costs
        self.signals = ("cost",) if costs else ()
        self.name, self.default_params, self.outcomes = name, params, outcomes
        self._start, self._terminal, self._num_actions = start, terminal, num_actions
        self.num_states = len(self.start(params))
        self.sees = np.arange(self.num_states) if sees is None else np.asarray(sees)

    def start(self, params) -> Array:
        """Probabilities of the first state: [S]."""
        return jnp.asarray(self._start(params) if callable(self._start) else self._start, float)

    def terminal(self, params) -> Array:
        """True for states that end an episode: [S] bool."""
        end = self._terminal
        return jnp.asarray(end(params) if callable(end) else end, bool)

    @property
    def num_actions(self) -> int:
        return self._num_actions

    def reset_env(self, key, params):
        if not callable(self._start) and self._start.max() == 1:
            s = jnp.full((), self._start.argmax(), jnp.int32)
        else:
            s = draw(key, self.start(params))
        return self._observe(s), State(s, jnp.zeros((), jnp.int32))

    def step_env(self, key, state, action, params):
        successors, probabilities, rewards = self.outcomes(params, state.s, action)
        k = draw(key, probabilities)
        s = successors[k].astype(jnp.int32)
        terminated = self.terminal(params)[s]
        info = {"cost": self.costs(params, state.s, action)[k]} if self.costs else {}
        return self._observe(s), State(s, state.time + 1), rewards[k], terminated, info

    def _observe(self, s):
        return jnp.asarray(self.sees, jnp.int32)[s]

    def action_space(self, params):
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params):
        return spaces.Discrete(int(self.sees.max()) + 1)


def draw(key, probabilities: Array) -> Array:
    """Draws an index [] by `probabilities` [K]; never one of probability zero before the last."""
    below = jax.random.uniform(key) >= jnp.cumsum(probabilities)
    return jnp.minimum(below.sum(dtype=jnp.int32), len(probabilities) - 1)


def model(env: Env) -> Model:
    """The exact model of one of these environments under its parameters, which may be traced.

    Raises ValueError for an environment that is none of them.
    """
    core = env.core
    if not isinstance(core, Tabular):
        raise ValueError(f"{env.name} has no table: allowed are {', '.join(ENVIRONMENTS)}")
    states, actions = jnp.arange(core.num_states), jnp.arange(core.num_actions)
    one = lambda s, a: core.outcomes(env.params, s, a)  # noqa: E731
    successors, p, r = jax.vmap(lambda s: jax.vmap(lambda a: one(s, a))(actions))(states)
    going = ~core.terminal(env.params)
    P = (p[..., None] * jax.nn.one_hot(successors, core.num_states)).sum(-2)
    R = (p * r).sum(-1)
    return Model(P * going[:, None, None], R * going[:, None], ~going, core.start(env.params))


def cost_model(env: Env) -> Array:
    """The expected cost [S, A] of one of these environments that has costs, beside its `model`.

    Rows of terminal states are zero. Raises ValueError for an environment without costs.
    """
    core = env.core
    if not isinstance(core, Tabular) or core.costs is None:
        raise ValueError(f"{env.name} has no table of costs: allowed are {', '.join(WITH_COSTS)}")

    costs = core.costs

    def expected(s, a):
        _, p, _ = core.outcomes(env.params, s, a)
        return (p * costs(env.params, s, a)).sum()

    states, actions = jnp.arange(core.num_states), jnp.arange(core.num_actions)
    C = jax.vmap(lambda s: jax.vmap(lambda a: expected(s, a))(actions))(states)
    return C * ~core.terminal(env.params)[:, None]


@struct.dataclass
class GridParams:
    slip: float = 0.0  # probability that a move goes to one of its two sides instead
    step_reward: float = -1.0
    goal_reward: float = 0.0  # on top of it, when a goal is entered
    cliff_reward: float = -100.0  # instead of it
    max_steps_in_episode: int = 1000


def grid(name: str, map: str, params: Any = None, costs: bool = False) -> Tabular:
    """Cells in rows that "/" parts: S start, G goal, # wall, C cliff, O hole, H hazard, and . free.

    A move into a wall or off the map stays where it is; one into the cliff goes back to the start,
    and the episode goes on. It ends in a hole. A hazard is a free cell. With `costs`, a move into
    a cliff, a hole or a hazard costs 1. Without an S every free cell is a start, equally likely.
    Raises ValueError for another letter, rows of unequal length, no goal, no start, or a cliff
    without exactly one S.
    """
    rows = [list(row) for row in map.split("/")]
    problem = None
    if len({len(row) for row in rows}) > 1 or not rows[0]:
        problem = "rows of one length, parted by '/'"
    elif set(map) - set("SG#COH./"):
        problem = "the letters S, G, #, C, O, H and ."
    elif "G" not in map:
        problem = "a map with a goal, G"
    elif not set(map) & set("S."):
        problem = "a map with a start, S or ."
    elif "C" in map and map.count("S") != 1:
        problem = "one start, S, where there is a cliff, C"
    if problem:
        raise ValueError(f"{name} map={map!r}: allowed is {problem}")

    cells = np.array(rows)
    size, columns = cells.size, cells.shape[1]
    flat = cells.ravel()
    start = flat == ("S" if "S" in map else ".")
    row, column = np.divmod(np.arange(size), columns)
    to = np.stack([row, column], -1)[:, None] + MOVES  # [S, 4, 2]
    inside = ((to >= 0) & (to < cells.shape)).all(-1)
    there = (to * [columns, 1]).sum(-1).clip(0, size - 1)
    free = inside & (flat[there] != "#")
    there = np.where(free, there, np.arange(size)[:, None])
    falls, wins, hurts = flat[there] == "C", flat[there] == "G", np.isin(flat[there], [*"COH"])
    there = np.where(falls, start.argmax(), there)

    def moves(action):
        return (action + jnp.array([0, 1, 3])) % 4  # ahead, and to both sides

    def outcomes(params, s, action):
        move = moves(action)
        side = jnp.asarray(params.slip / 2, float)
        reward = params.step_reward + params.goal_reward * jnp.asarray(wins)[s, move]
        reward = jnp.where(jnp.asarray(falls)[s, move], params.cliff_reward, reward)
        return jnp.asarray(there)[s, move], jnp.stack([1 - 2 * side, side, side]), reward

    def cost(params, s, action):
        return jnp.asarray(hurts, float)[s, moves(action)]

    return Tabular(
        name, params or GridParams(), 4, start / start.sum(), np.isin(flat, [*"G#CO"]), outcomes,
        limits={"slip": (0, 1)}, costs=cost if costs else None,
    )  # fmt: skip


def grid_world(map: str = CORNERS) -> Tabular:
    """A grid with walls, slips and rewards; by default Sutton & Barto (2018), example 4.1."""
    return grid("GridWorld-jaxpg", map)


def cliff(map: str = CLIFF) -> Tabular:
    """The cliff, Sutton & Barto (2018), example 6.6; not discounted there."""
    return grid("Cliff-jaxpg", map)


def cliff_with_costs(map: str = CLIFF) -> Tabular:
    """The cliff, where a fall is a step like any other, and costs 1."""
    return grid("CliffCost-jaxpg", map, GridParams(cliff_reward=-1.0), costs=True)


def frozen_lake_with_costs(map: str = LAKE) -> Tabular:
    """The frozen lake of gymnasium, 4 x 4: 1 for the goal; a hole ends the episode and costs 1."""
    params = GridParams(slip=2 / 3, step_reward=0.0, goal_reward=1.0, max_steps_in_episode=500)
    return grid("FrozenLakeCost-jaxpg", map, params, costs=True)


def hazards(map: str = HAZARDS) -> Tabular:
    """A grid with a short way to the goal, through hazards, and a long one around them."""
    return grid("Hazards-jaxpg", map, GridParams(max_steps_in_episode=100), costs=True)


@struct.dataclass
class CorridorParams:
    step_reward: float = -1.0
    max_steps_in_episode: int = 1000


def short_corridor() -> Tabular:
    """The short corridor with switched actions, Sutton & Barto (2018), example 13.1.

    Three cells in a row and the goal behind them. Actions are left and right; in the second cell
    they are switched. All cells look alike, so that the best policy is random: right with
    probability 2 - sqrt(2), for a return of -6 - 4 sqrt(2) from the first cell.
    """
    left, right = np.array([0, 2, 1, 3]), np.array([1, 0, 3, 3])
    there = np.stack([left, right], -1)

    def outcomes(params, s, action):
        reward = jnp.asarray(params.step_reward, float)
        return jnp.asarray(there)[s, action][None], jnp.ones(1), reward[None]

    start, terminal = np.eye(4)[0], np.eye(4)[3] > 0
    return Tabular(
        "ShortCorridor-jaxpg", CorridorParams(), 2, start, terminal, outcomes, np.zeros(4, int)
    )


@struct.dataclass
class BanditParams:
    max_steps_in_episode: int = 1


def bandit_with_costs() -> Tabular:
    """Two arms, and an episode of one step: the first pays 1 and costs 1, the second nothing.

    Under a limit d on the expected cost the best policy draws the first with probability d, and
    the multiplier of the constraint is 1.
    """

    def outcomes(params, s, action):
        return jnp.ones(1, jnp.int32), jnp.ones(1), (action == 0).astype(float)[None]

    def costs(params, s, action):
        return (action == 0).astype(float)[None]

    start, terminal = np.eye(2)[0], np.eye(2)[1] > 0
    return Tabular("CostBandit-jaxpg", BanditParams(), 2, start, terminal, outcomes, costs=costs)


@struct.dataclass
class GarnetParams:
    max_steps_in_episode: int = 100


def garnet(states: int = 20, actions: int = 4, branches: int = 3, seed: int = 0) -> Tabular:
    """A random MDP that never terminates, Archibald, McKinnon & Thomas (1995).

    Every action leads to `branches` different states with random probabilities, at a reward from
    the standard normal distribution; every state is equally likely to be the first. Raises
    ValueError for numbers that make none.
    """
    most = {"states": np.inf, "actions": np.inf, "branches": states, "seed": np.inf}
    for name, value in {
        "states": states, "actions": actions, "branches": branches, "seed": seed,
    }.items():  # fmt: skip
        least = 0 if name == "seed" else 1
        if value != int(value) or not least <= value <= most[name]:
            limit = f" and <= states={states}" if name == "branches" else ""
            raise ValueError(
                f"Garnet-jaxpg {name}={value!r}: allowed is an integer >= {least}{limit}"
            )
    rng = np.random.default_rng(int(seed))
    shape = int(states), int(actions)
    there = rng.random((*shape, shape[0])).argsort(-1)[..., : int(branches)]
    cuts = np.sort(rng.random((*shape, int(branches) - 1)), -1)
    probabilities = np.diff(cuts, prepend=0, append=1, axis=-1)
    rewards = rng.normal(size=shape)

    def outcomes(params, s, action):
        reward = jnp.asarray(rewards, float)[s, action]
        p = jnp.asarray(probabilities, float)[s, action]
        return jnp.asarray(there)[s, action], p, jnp.full(p.shape, reward)

    start, terminal = np.full(shape[0], 1 / shape[0]), np.zeros(shape[0], bool)
    return Tabular("Garnet-jaxpg", GarnetParams(), shape[1], start, terminal, outcomes)


ENVIRONMENTS = {
    "GridWorld-jaxpg": grid_world,
    "Cliff-jaxpg": cliff,
    "ShortCorridor-jaxpg": short_corridor,
    "Garnet-jaxpg": garnet,
    "CliffCost-jaxpg": cliff_with_costs,
    "FrozenLakeCost-jaxpg": frozen_lake_with_costs,
    "Hazards-jaxpg": hazards,
    "CostBandit-jaxpg": bandit_with_costs,
}
WITH_COSTS = ("CliffCost-jaxpg", "FrozenLakeCost-jaxpg", "Hazards-jaxpg", "CostBandit-jaxpg")
