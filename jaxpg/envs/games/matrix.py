"""Games in matrix form, one-shot and repeated, for two players or more.

All players choose at once, and payoffs [P, n_0, ..., n_{P-1}] say what each of them gets. What is
exact about them is in `ops.games`. The last player may be a scripted one: a mixed strategy, of a
type that is drawn at each reset, against whom the others learn.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.config import unknown
from jaxpg.core.spaces import MultiDiscrete
from jaxpg.core.types import Array

NAME = "MatrixGame-jaxpg"
# Of the first player, and of the second; where they are the same, all have one payoff.
_CLIMBING = [[11, -30, 0], [-30, 7, 6], [0, 0, 5]]  # Claus & Boutilier (1998)
_PENALTY = [[10, 0, 0], [0, 2, 0], [0, 0, 10]]  # Claus & Boutilier (1998), without k
_AT_K = [[0, 0, 1], [0, 0, 0], [1, 0, 0]]
_STAG_HUNT = [[4, 0], [3, 1]]  # Leibo et al. (2017), as is chicken
_CHICKEN = [[3, 1], [4, 0]]
_PRISONERS = [[-1, -3], [0, -2]]  # Foerster et al. (2018)
_PENNIES = [[1, -1], [-1, 1]]  # Osborne & Rubinstein (1994), example 17.1
_BACH, _STRAVINSKY = [[2, 0], [0, 1]], [[1, 0], [0, 2]]  # the same, example 15.3
_RPS = [[0, -1, 1], [1, 0, -1], [-1, 1, 0]]
_BIASED = [[0, -25, 50], [25, 0, -5], [-50, 5, 0]]  # Bosansky et al. (2016), figure 7


def _same(table: list) -> np.ndarray:
    return np.array([table, table], float)


def _symmetric(table: list) -> np.ndarray:
    return np.array([table, np.transpose(table)], float)


def _zero_sum(table: list) -> np.ndarray:
    return np.array([table, np.negative(table)], float)


GAMES = {
    "climbing": _same(_CLIMBING),
    "penalty": _same(_PENALTY),
    "stag_hunt": _symmetric(_STAG_HUNT),
    "prisoners": _symmetric(_PRISONERS),
    "chicken": _symmetric(_CHICKEN),
    "matching_pennies": _zero_sum(_PENNIES),
    "battle_of_the_sexes": np.array([_BACH, _STRAVINSKY], float),
    "rock_paper_scissors": _zero_sum(_RPS),
    "weighted_rock_paper_scissors": _zero_sum(_BIASED),
}


@struct.dataclass
class Params:
    table: Array  # [P, n_0, ..., n_{P-1}] payoffs
    k: float = 0.0  # of the game "penalty" alone: the payoff where the two miss each other
    types: Array | None = None  # [K, n_{P-1}] mixed strategies of the scripted player, if any


@struct.dataclass
class State:
    last: Array  # [P] int32 actions of the last round; -1 before the first
    time: Array  # [] int32 rounds played
    type: Array  # [] int32 of the scripted player
    strategy: Array | None  # [n_{P-1}] what it draws from in this episode; None: nobody is scripted


class MatrixGame(environment.Environment):
    """Actions [P], one each. An episode has `rounds` rounds, and then it terminates.

    Observations [P, D]: of a single round 1, which says nothing; of several the own last action as
    one-hot, those of the others in their order, zeros at the start, and the part of rounds left.
    Where numbers of actions differ, players are of different kinds: groups of one each, `player_0`
    and so on, and the observation is a dict with a row [1, D] for each.

    A scripted player has the last place, `players` counts it, and its entry of the action has no
    effect. `info["actions"]` has what was played, which is a signal then, `alive` leaves it out of
    what is learnt, and the environment's own reward is the mean over those who learn.
    """

    name = NAME  # type: ignore  # a property in gymnax, as are the parameters
    default_params: Any = None  # type: ignore

    def __init__(
        self,
        game: str = "climbing",
        payoffs: Sequence | None = None,
        rounds: int = 1,
        opponent: Sequence | None = None,
    ):
        """payoffs: nested lists [P][n_0]..[n_{P-1}] in the place of `game`. opponent: the types of
        a scripted last player, nested lists [K][n_{P-1}] of probabilities.

        Raises ValueError for a game that is not known, and for what is not allowed.
        """
        if payoffs is None and game not in GAMES:
            raise unknown(f"{NAME} game", game, GAMES)
        if payoffs is not None and game != "climbing":
            raise ValueError(f"{NAME} game={game!r} with payoffs: allowed is one of them")
        if rounds != int(rounds) or rounds < 1:
            raise ValueError(f"{NAME} rounds={rounds!r}: allowed is an integer >= 1")
        table = GAMES[game] if payoffs is None else _read_payoffs(payoffs)
        self.nvec, self.players, self.rounds = table.shape[1:], len(table), int(rounds)
        if len(set(self.nvec)) > 1:
            self.groups = {f"player_{i}": 1 for i in range(self.players)}
        self.at_k = _same(_AT_K) if game == "penalty" else 0.0
        self.limits = {} if game == "penalty" else {"k": (0, 0)}
        types = None if opponent is None else _read_types(opponent, self.nvec[-1])
        self.limits |= {} if types is None else {"types": (0, 1)}
        self.learners = self.players - (types is not None)
        self.signals = ("rewards",) if types is None else ("rewards", "actions", "alive")
        self.zero_sum = types is None and not table.sum(0).any()
        self.default_params = Params(table, -30.0 if game == "penalty" else 0.0, types)  # type: ignore

    def payoffs(self, params: Params) -> Array:
        """Payoffs of each player, [P, n_0, ..., n_{P-1}]."""
        return jnp.asarray(params.table, float) + params.k * self.at_k

    def reset_env(self, key, params):
        self._judge(params)
        last, zero = jnp.full(self.players, -1, jnp.int32), jnp.zeros((), jnp.int32)
        state = State(last, zero, zero, None)
        if params.types is not None:
            types = jnp.asarray(params.types, float)
            drawn = jax.random.randint(key, (), 0, len(types), jnp.int32)
            state = State(last, zero, drawn, types[drawn] / types[drawn].sum())
        return self._observe(state), state

    def step_env(self, key, state: Any, action: Any, params: Any):
        actions = jnp.asarray(action, jnp.int32)
        if state.strategy is not None:
            drawn = jax.random.categorical(key, jnp.log(state.strategy))
            actions = actions.at[-1].set(drawn.astype(jnp.int32))
        rewards = self.payoffs(params)[(slice(None), *actions)]
        state = State(actions, state.time + 1, state.type, state.strategy)
        reward = rewards[: self.learners].mean()
        alive = np.arange(self.players) < self.learners  # nobody learns from the scripted one
        info = {"rewards": rewards, "actions": actions, "alive": alive}
        return self._observe(state), state, reward, state.time >= self.rounds, info

    def _observe(self, state: State) -> Array | dict[str, Array]:
        rows = self._rows(state)
        if not hasattr(self, "groups"):
            return rows
        return {name: rows[i : i + 1] for i, name in enumerate(self.groups)}

    def _rows(self, state: State) -> Array:
        """A row of the observation for each player, [P, D]."""
        if self.rounds == 1:
            return jnp.ones((self.players, 1))
        shown = [jax.nn.one_hot(state.last[i], n, dtype=float) for i, n in enumerate(self.nvec)]
        left = 1 - state.time.astype(float)[None] / self.rounds
        rows = []
        for i, own in enumerate(shown):
            others = [x for j, x in enumerate(shown) if j != i]
            rows.append(jnp.concatenate([own, *others, left]))
        return jnp.stack(rows)

    def _judge(self, params: Params) -> None:
        """Raises ValueError for parameters of other shapes than the game's."""
        table, n = params.table, self.nvec[-1]
        types: Any = params.types
        if np.shape(table) != (shape := (self.players, *self.nvec)):
            raise ValueError(
                f"{NAME} table of shape {np.shape(table)}: allowed is {shape}, others are made by "
                "payoffs=..."
            )
        scripted = self.learners < self.players
        fits = types is not None and np.ndim(types) == 2 and np.shape(types)[1] == n
        if not (fits if scripted else types is None):
            told = None if types is None else f"an array of shape {np.shape(types)}"
            allowed = f"probabilities [K, {n}]" if scripted else "None without opponent=..."
            raise ValueError(f"{NAME} types is {told}: allowed is {allowed}")

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params=None):
        return MultiDiscrete(self.nvec)

    def observation_space(self, params=None):
        size = 1 if self.rounds == 1 else sum(self.nvec) + 1
        if not hasattr(self, "groups"):
            return spaces.Box(0.0, 1.0, (self.players, size))
        return spaces.Dict({name: spaces.Box(0.0, 1.0, (1, size)) for name in self.groups})


def _read_payoffs(payoffs: Sequence) -> np.ndarray:
    """Payoffs of the user's own as an array. Raises ValueError for those of no game."""
    table = _as_array(payoffs)
    players = table.ndim - 1
    if players < 2 or len(table) != players or not table.size or not np.isfinite(table).all():
        raise ValueError(
            f"{NAME} payoffs={payoffs!r}: allowed are numbers in nested lists [P][n_0]..[n_P-1], "
            "for P >= 2 players of n_i actions each"
        )
    return table


def _read_types(opponent: Sequence, n: int) -> np.ndarray:
    """Types of a scripted player as an array. Raises ValueError for what are no strategies."""
    types = _as_array(opponent)
    good = types.ndim == 2 and len(types) > 0 and types.shape[-1] == n and (types >= 0).all()
    if not good or not np.allclose(types.sum(-1), 1, rtol=0, atol=1e-6):
        raise ValueError(
            f"{NAME} opponent={opponent!r}: allowed is a list of types, each {n} probabilities of "
            "the last player's actions, which sum to 1"
        )
    return types


def _as_array(nested: Any) -> np.ndarray:
    """Nested lists of numbers as an array; an empty one of what is none."""
    try:
        return np.asarray(nested, float)
    except (TypeError, ValueError):
        return np.zeros(0)


ENVIRONMENTS = {NAME: MatrixGame}
