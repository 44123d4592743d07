"""Kuhn poker for two players (Kuhn 1950), and its exact answers.

Of three cards, jack, queen and king, each player gets one. Both pay an ante of 1. The first passes
or bets 1; after a pass the second may do so; who faces a bet passes, and loses the ante, or bets as
well. Then the higher card wins. The first player loses 1/18 a game if both play their best.

A policy is a table [12, 2] of probabilities to pass and to bet, row 3 * history + card: the first
player decides in the histories "" and "pass, bet", the second one in "pass" and "bet". All that is
exact is a sum over the six deals, which can be compiled and differentiated.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.spaces import MultiDiscrete
from jaxpg.core.types import Array

NAME = "Kuhn-jaxpg"
PASS, BET = 0, 1
CARDS = ("jack", "queen", "king")
HISTORIES = ((), (PASS,), (BET,), (PASS, BET))  # in which someone decides
ENDS = ((PASS, PASS), (BET, PASS), (BET, BET), (PASS, BET, PASS), (PASS, BET, BET))
_ALL = (*HISTORIES, *ENDS)
_NEXT = np.array([[_ALL.index((*h, a)) for a in (PASS, BET)] for h in HISTORIES])
_NEXT = np.concatenate([_NEXT, np.repeat(np.arange(4, 9), 2).reshape(5, 2)])  # an end stays
_TURN = np.array([0, 1, 1, 0] + [-1] * 5)  # who decides
_SHOWN = np.array([0, 0, 0, 0, 1, 0, 2, 0, 2])  # what the higher card wins
_FOLDED = np.array([0, 0, 0, 0, 0, 1, 0, -1, 0])  # what the first wins whatever the cards
_DEALS = np.array([(a, b) for a in range(3) for b in range(3) if a != b])
_SIGN = np.sign(np.arange(3)[:, None] - np.arange(3))  # [card, card] 1 where the first is higher
_CHANCE = (1 - np.eye(3)) / 6  # [card, card] of a deal


@struct.dataclass
class State:
    cards: Array  # [2] int32
    history: Array  # [] int32 of HISTORIES, and then of ENDS


class Kuhn(environment.Environment):
    """Actions [2]: pass or bet; of who is not to move, 0, by the mask. It ends by termination.

    Observations [2, 8]: the own card as one-hot, the history as one-hot (zeros at the end), and
    whether it is the own turn. Rewards are what was won or lost, at the end.
    """

    name, default_params = NAME, ()  # type: ignore  # properties in gymnax
    players, signals = 2, ("rewards",)
    zero_sum = True  # see `core.games.require_score`

    def reset_env(self, key, params):
        cards = jnp.asarray(_DEALS, jnp.int32)[jax.random.randint(key, (), 0, len(_DEALS))]
        state = State(cards, jnp.zeros((), jnp.int32))
        return self._observe(state), state

    def step_env(self, key, state: Any, action: Any, params: Any):
        chosen = jnp.clip(action[jnp.asarray(_TURN)[state.history]], PASS, BET)
        history = jnp.asarray(_NEXT, jnp.int32)[state.history, chosen]
        sign = jnp.sign(state.cards[0] - state.cards[1])
        won = jnp.asarray(_SHOWN)[history] * sign + jnp.asarray(_FOLDED)[history]
        rewards = jnp.stack([won, -won]).astype(float)
        state = State(state.cards, history)
        over = history >= len(HISTORIES)
        return self._observe(state), state, rewards.mean(), over, {"rewards": rewards}

    def _observe(self, state: State) -> dict[str, Array]:
        turn = jnp.asarray(_TURN)[state.history] == jnp.arange(2)
        rows = encode(state.cards, jnp.stack([state.history] * 2), turn)
        legal = jnp.stack([jnp.ones(2, bool), turn], -1)  # to pass, and to bet
        return {"observation": rows, "action_mask": legal.reshape(-1)}

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params=None):
        return MultiDiscrete((2, 2))

    def observation_space(self, params=None):
        rows, mask = spaces.Box(0.0, 1.0, (2, 8)), spaces.Box(0, 1, (4,), jnp.bool_)
        return spaces.Dict({"observation": rows, "action_mask": mask})


def encode(card: Array, history: Array, turn: Array) -> Array:
    """Encodes what a player sees, [..., 8]: card, history, and whether it is its turn [...].

    >>> encode(jnp.array(2), jnp.array(0), jnp.array(True)).astype(int).tolist()
    [0, 0, 1, 1, 0, 0, 0, 1]
    """
    parts = [jax.nn.one_hot(card, 3, dtype=float), jax.nn.one_hot(history, 4, dtype=float)]
    return jnp.concatenate([*parts, turn[..., None].astype(float)], -1)


def observations() -> Array:
    """Observations of the player to move in the 12 information sets: [12, 8].

    >>> observations()[4].astype(int).tolist()  # a queen, after a pass
    [0, 1, 0, 0, 1, 0, 0, 1]
    """
    history, card = jnp.divmod(jnp.arange(12), 3)
    return encode(card, history, jnp.ones(12, bool))


def policy_table(policy: Callable[[Array], Array]) -> Array:
    """The table [12, 2] of a policy that maps observations [B, 8] to probabilities [B, 2].

    Raises ValueError for a policy whose result has another shape.

    >>> policy_table(lambda obs: jnp.full((len(obs), 2), 0.5)).shape
    (12, 2)
    """
    table = policy(observations())
    if jnp.shape(table) != (12, 2):
        raise ValueError(f"policy gives shape {jnp.shape(table)}: allowed is (12, 2), of 12 rows")
    return table


def equilibrium(alpha=0.0) -> Array:
    """The table [12, 2] of both players in one of the game's equilibria, Kuhn (1950).

    alpha: how often the first bets with a jack, from 0 to 1/3. Raises ValueError for another.

    >>> round(18 * float(value(equilibrium(0.2), equilibrium(0.3))), 4)
    -1.0
    """
    if not isinstance(alpha, jax.core.Tracer) and not np.all((alpha >= 0) & (alpha <= 1 / 3)):
        raise ValueError(f"alpha={alpha}: allowed is a number >= 0 and <= 1/3")
    first, answer = [alpha, 0.0, 3 * alpha], [0.0, alpha + 1 / 3, 1.0]
    bets = [*first, 1 / 3, 0.0, 1.0, 0.0, 1 / 3, 1.0, *answer]
    bet = jnp.stack([jnp.asarray(x, float) for x in bets])
    return jnp.stack([1 - bet, bet], -1)


def average_table(tables: Array) -> Array:
    """The table [12, 2] of a player who draws one of the tables [K, 12, 2] before each game, and
    plays by it to the end. Raises ValueError for tables of another shape.

    An answer counts as often as its table comes to the question: the first player is asked a second
    time only where it has passed.

    >>> bets = jnp.stack([jnp.zeros(12), jnp.ones(12)])  # one never bets, the other always
    >>> average_table(jnp.stack([1 - bets, bets], -1))[jnp.array([0, 9]), 1].tolist()
    [0.5, 0.0]
    """
    _require_tables("tables", tables, 3)
    reached = jnp.ones(tables.shape[:-1]).at[:, 9:].set(tables[:, :3, PASS])
    weights = reached / jnp.maximum(reached.sum(0), jnp.finfo(reached.dtype).tiny)
    never = reached.sum(0) == 0  # by any of them: then it does not matter
    return jnp.where(never[:, None], tables.mean(0), (weights[..., None] * tables).sum(0))


def _require_tables(name: str, tables: Array, axes: int) -> None:
    """Raises ValueError unless an array with so many axes is a table [12, 2], or several."""
    if jnp.ndim(tables) != axes or jnp.shape(tables)[-2:] != (12, 2):
        allowed = "(12, 2)" if axes == 2 else "(K, 12, 2)"
        raise ValueError(f"{name} is of shape {jnp.shape(tables)}: allowed is {allowed}")


def value(first: Array, second: Array) -> Array:
    """Value of the game to the first player, [], where the two play by these tables [12, 2].

    Raises ValueError for tables of another shape.

    >>> uniform = jnp.full((12, 2), 0.5)
    >>> float(value(uniform, uniform))
    0.125
    """
    _require_tables("first", first, 2)
    _require_tables("second", second, 2)
    opens, won = first.reshape(4, 3, 2)[0], _after_opening(first, second)
    return jnp.sum(opens[:, None] * won * _CHANCE[..., None])


def _after_opening(first: Array, second: Array) -> Array:
    """Payoffs of the first player after its pass and after its bet, by both cards: [3, 3, 2]."""
    checked, raised = second.reshape(4, 3, 2)[1:3]
    passed = checked[:, 0] * _SIGN + checked[:, 1] * _after_raise(first)
    bet = raised[:, 0] + raised[:, 1] * 2 * _SIGN
    return jnp.stack([passed, bet], -1)


def _after_raise(first: Array) -> Array:
    """Payoffs of the first player where the second has bet after its pass, by both cards."""
    answers = first.reshape(4, 3, 2)[3][:, None]
    return answers[..., BET] * 2 * _SIGN - answers[..., PASS]


def best_response_value(table: Array, seat: int) -> Array:
    """The most that the player in `seat`, 0 or 1, can win against the table [12, 2] of the other.

    It sees its own card alone: of each information set the better action is taken against all cards
    that the other may hold. Raises ValueError for another seat, or a table of another shape.

    >>> round(float(best_response_value(jnp.full((12, 2), 0.5), seat=0)), 6)
    0.5
    """
    if seat not in (0, 1):
        raise ValueError(f"seat={seat!r}: allowed are 0 and 1")
    _require_tables("table", table, 2)
    if seat == 0:
        checked, raised = table.reshape(4, 3, 2)[1:3]
        faced = _CHANCE * checked[:, BET]  # a bet after the own pass
        answer = jnp.maximum(-faced.sum(1), (faced * 2 * _SIGN).sum(1))
        passed = (_CHANCE * checked[:, PASS] * _SIGN).sum(1) + answer
        bet = (_CHANCE * (raised[:, PASS] + raised[:, BET] * 2 * _SIGN)).sum(1)
        return jnp.maximum(passed, bet).sum()
    opens = _CHANCE[..., None] * table.reshape(4, 3, 2)[0][:, None]  # [3, 3, 2] how they come
    passed, bet = opens[..., PASS], opens[..., BET]
    after_pass = jnp.minimum((passed * _SIGN).sum(0), (passed * _after_raise(table)).sum(0))
    after_bet = jnp.minimum(bet.sum(0), (bet * 2 * _SIGN).sum(0))
    return -(after_pass + after_bet).sum()


def nash_conv(first: Array, second: Array) -> Array:
    """Sum of what both players can gain alone, [], by these tables [12, 2]; 0 in an equilibrium.

    >>> uniform = jnp.full((12, 2), 0.5)
    >>> round(float(nash_conv(uniform, uniform)), 6)
    0.916667
    """
    return best_response_value(second, 0) + best_response_value(first, 1)


ENVIRONMENTS = {NAME: Kuhn}
