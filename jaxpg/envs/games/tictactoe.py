"""Tic-tac-toe, and its exact answers: the best response to any policy, and how two of them end.

Two players set stones in turn on 3 x 3 squares, counted row by row; three in a row win. If both
play their best it is a draw. There are 5478 positions, and a policy is a table [5478, 9] of
probabilities of the squares: `positions` lists them, and all that is exact goes through them by
the number of stones, backwards. That part is NumPy, some milliseconds a table.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.spaces import MultiDiscrete
from jaxpg.core.types import Array

NAME = "TicTacToe-jaxpg"
SQUARES = np.arange(9).reshape(3, 3)
LINES = np.array(
    [*SQUARES, *SQUARES.T, SQUARES.diagonal(), SQUARES[:, ::-1].diagonal()]
)  # [8, 3] squares in a row
FIRST, SECOND = 1, 2  # stones; 0 is a free square


@struct.dataclass
class State:
    board: Array  # [9] int32: 0 free, 1 the first player's stone, 2 the second one's
    turn: Array  # [] int32: who is to move, 0 or 1
    over: Array  # [] bool


class TicTacToe(environment.Environment):
    """Actions [2] squares; of who is not to move, 0, by the mask. It ends by termination.

    Observations [2, 19]: the own stones, the other's, and whether it is the own turn. Rewards are 1
    to who wins and -1 to the other, at the end; who takes a square that is not free loses at once.
    """

    name, default_params = NAME, ()  # type: ignore  # properties in gymnax
    players, signals = 2, ("rewards",)
    zero_sum = True  # see `core.games.require_score`

    def reset_env(self, key, params):
        zero = jnp.zeros((), jnp.int32)
        state = State(jnp.zeros(9, jnp.int32), zero, jnp.zeros((), bool))
        return self._observe(state), state

    def step_env(self, key, state: Any, action: Any, params: Any):
        square, mover = action[state.turn], state.turn
        free = state.board[square] == 0
        board = jnp.where(free, state.board.at[square].set(mover + 1), state.board)
        wins = (board[jnp.asarray(LINES)] == mover + 1).all(-1).any()
        gain = jnp.where(free, wins.astype(float), -1.0)
        over = wins | ~free | (board > 0).all()
        rewards = jnp.where(jnp.arange(2) == mover, gain, -gain)
        state = State(board, 1 - mover, over)
        return self._observe(state), state, rewards.mean(), over, {"rewards": rewards}

    def _observe(self, state: State) -> dict[str, Array]:
        turn = (state.turn == jnp.arange(2)) & ~state.over
        stones = state.board == jnp.arange(1, 3)[:, None]  # [2, 9]
        rows = jnp.concatenate([stones, stones[::-1], turn[:, None]], -1).astype(float)
        waits = jnp.arange(9) == 0
        legal = jnp.where(turn[:, None], state.board == 0, waits)
        return {"observation": rows, "action_mask": legal.reshape(-1)}

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params=None):
        return MultiDiscrete((9, 9))

    def observation_space(self, params=None):
        rows, mask = spaces.Box(0.0, 1.0, (2, 19)), spaces.Box(0, 1, (18,), jnp.bool_)
        return spaces.Dict({"observation": rows, "action_mask": mask})


class Positions(NamedTuple):
    """All positions that can be reached, by the number of stones."""

    board: np.ndarray  # [S, 9] 0 free, 1 the first player's stone, 2 the second one's
    stones: np.ndarray  # [S]
    after: np.ndarray  # [S, 9] the position after each move; -1 where there is none
    result: np.ndarray  # [S] 1 where the first has won, -1 the second, else 0
    ended: np.ndarray  # [S] bool: no move follows

    @property
    def turn(self) -> np.ndarray:
        """The player to move, [S]: 0 or 1."""
        return self.stones % 2

    @property
    def legal(self) -> np.ndarray:
        """The moves of who is to move, [S, 9] bool; none where the game has ended."""
        return self.after >= 0

    @property
    def observation(self) -> np.ndarray:
        """Observations of the player to move, [S, 19]."""
        own = self.board == self.turn[:, None] + 1
        other = self.board == 2 - self.turn[:, None]
        return np.concatenate([own, other, np.ones((len(own), 1))], -1).astype(np.float32)


@functools.cache
def positions() -> Positions:
    """Lists all 5478 positions, the empty board first.

    >>> len(positions().board), int(positions().ended.sum())
    (5478, 958)
    """
    level, found = np.zeros((1, 9), np.int8), []
    begin = 0
    for stones in range(10):
        lines = level[:, LINES]  # [n, 8, 3]
        won = [(lines == stone).all(-1).any(-1) for stone in (FIRST, SECOND)]
        result = won[0].astype(int) - won[1]
        ended = (result != 0) | (stones == 9)
        row, square = np.nonzero((level == 0) & ~ended[:, None])
        moved = level[row]
        moved[np.arange(len(row)), square] = FIRST + stones % 2
        codes = moved @ 3 ** np.arange(9)
        _, kept, same = np.unique(codes, return_index=True, return_inverse=True)
        after = np.full(level.shape, -1)
        after[row, square] = begin + len(level) + same
        found.append((level, np.full(len(level), stones), after, result, ended))
        begin, level = begin + len(level), moved[kept]
    parts = [np.concatenate(part) for part in zip(*found, strict=True)]
    for part in parts:
        part.setflags(write=False)  # one object for all who ask
    return Positions(*parts)


def policy_table(policy: Callable[[np.ndarray, np.ndarray], Any]) -> np.ndarray:
    """The table [5478, 9] of a policy, a function of observations [S, 19] and legal moves [S, 9].

    It gives probabilities [S, 9], of which those of other moves count as 0. Where a game has ended,
    and nothing is legal, they are 0. Raises ValueError for another shape.

    >>> policy_table(lambda obs, legal: legal / legal.sum(-1, keepdims=True))[0].round(2).tolist()
    [0.11, 0.11, 0.11, 0.11, 0.11, 0.11, 0.11, 0.11, 0.11]
    """
    everywhere = positions()
    going, legal = ~everywhere.ended, everywhere.legal
    given = np.asarray(policy(everywhere.observation[going], legal[going]), float)
    if given.shape != (allowed := (int(going.sum()), 9)):
        raise ValueError(f"policy gives shape {given.shape}: allowed is {allowed}")
    table = np.zeros(legal.shape)
    table[going] = given * legal[going]
    return table


def random_table() -> np.ndarray:
    """The table [5478, 9] of a player who takes any free square alike.

    >>> random_table().sum(-1).round(6).tolist()[:2], float(random_table()[0, 4].round(3))
    ([1.0, 1.0], 0.111)
    """
    return policy_table(lambda obs, legal: legal / legal.sum(-1, keepdims=True))


def outcomes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Shares of wins, draws and losses of the first player, [3], where both play by these tables.

    Raises ValueError for what is no table.

    >>> outcomes(random_table(), random_table()).round(5).tolist()
    [0.58492, 0.12698, 0.2881]
    """
    p = positions()
    first, second = _require_table("first", first), _require_table("second", second)
    both = np.where(p.turn[:, None] == 0, first, second)
    chance = np.zeros((len(both), 3))
    chance[p.ended] = np.eye(3)[1 - p.result[p.ended]]
    for at in _backwards(p):
        chance[at] = (both[at][..., None] * chance[p.after[at]]).sum(1)
    return chance[0]


def value(first: np.ndarray, second: np.ndarray) -> float:
    """Value of the game to the first player, wins minus losses, where the two play by these tables.

    Raises as `outcomes`.

    >>> round(value(random_table(), random_table()), 5)
    0.29683
    """
    win, _, loss = outcomes(first, second)
    return float(win - loss)


def best_response(table: np.ndarray, seat: int) -> tuple[float, np.ndarray]:
    """The most that the player in `seat`, 0 or 1, wins a game against the table of the other, and
    the square [5478] that it takes in each position in which it is to move; -1 elsewhere.

    Raises ValueError for another seat, and for what is no table.

    >>> round(192 * best_response(random_table(), seat=0)[0], 6)
    191.0
    """
    if seat not in (0, 1):
        raise ValueError(f"seat={seat!r}: allowed are 0 and 1")
    p, table = positions(), _require_table("table", table)
    won = np.where(p.ended, p.result * (1.0 if seat == 0 else -1.0), 0.0)  # by who responds
    move = np.full(len(won), -1)
    for at in _backwards(p):
        after, legal = won[p.after[at]], p.legal[at]
        if p.turn[at][0] == seat:
            after = np.where(legal, after, -np.inf)
            move[at], won[at] = after.argmax(-1), after.max(-1)
        else:
            won[at] = (table[at] * after).sum(-1)
    return float(won[0]), move


def nash_conv(first: np.ndarray, second: np.ndarray) -> float:
    """Sum of what both players can gain alone by these tables; 0 if both play their best.

    Raises as `outcomes`.

    >>> round(nash_conv(random_table(), random_table()), 5)
    1.91966
    """
    return best_response(second, 0)[0] + best_response(first, 1)[0]


def _backwards(p: Positions) -> list[np.ndarray]:
    """The positions that go on, with the most stones first: those after them are known then."""
    return [np.flatnonzero((p.stones == n) & ~p.ended) for n in range(8, -1, -1)]


def _require_table(name: str, table: Any) -> np.ndarray:
    """The table as an array. Raises ValueError unless its rows are probabilities of legal moves."""
    p, table = positions(), np.asarray(table, float)
    if table.shape != p.legal.shape:
        raise ValueError(f"{name} is of shape {table.shape}: allowed is {p.legal.shape}")
    kept = np.where(p.legal, table, 0)
    good = (table >= 0).all(-1) & (abs(kept.sum(-1) - 1) < 1e-4) & (abs(table.sum(-1) - 1) < 1e-4)
    if not (good | p.ended).all():
        row = int(np.flatnonzero(~good & ~p.ended)[0])
        raise ValueError(
            f"{name} row {row} is {table[row].tolist()}: allowed are probabilities of its free "
            f"squares {np.flatnonzero(p.legal[row]).tolist()}, which sum to 1"
        )
    return kept


ENVIRONMENTS = {NAME: TicTacToe}
