"""Tic-tac-toe: its episodes against the rules, and its exact answers against a plain recursion."""

import doctest
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.envs.games import tictactoe as ttt

KEY = jax.random.key(0)
ROWS = ["012", "345", "678", "036", "147", "258", "048", "246"]
ALL = ttt.positions()
AT = {"".join(".xo"[x] for x in board): i for i, board in enumerate(ALL.board)}


def winner(board):
    """1 for x, -1 for o, 0 for nobody, of a board as text."""
    lines = {"".join(board[int(i)] for i in row) for row in ROWS}
    return ("xxx" in lines) - ("ooo" in lines)


def moves(board):
    """The boards after each move, by square; {} where the game has ended."""
    if winner(board):
        return {}
    stone = "xo"[9 - board.count(".") & 1]
    return {i: board[:i] + stone + board[i + 1 :] for i in range(9) if board[i] == "."}


def some_table(seed):
    """Random probabilities of what is legal, some of them 0."""
    rng = np.random.default_rng(seed)
    weights = rng.random(ALL.legal.shape) ** 4 * ALL.legal
    return weights / np.maximum(weights.sum(-1, keepdims=True), 1e-300)


def ends(first, second, board="." * 9):
    """How often the first wins, draws and loses, by recursion."""

    @functools.cache
    def of(board):
        if not (after := moves(board)):
            return np.eye(3)[1 - winner(board)]
        table = second if 9 - board.count(".") & 1 else first
        return sum(table[AT[board]][i] * of(x) for i, x in after.items())

    return of(board)


def best(table, seat):
    """The most that a seat wins against a table, or against its best if that is None."""

    @functools.cache
    def of(board):
        if not (after := moves(board)):
            return winner(board) * (1 - 2 * seat)
        if 9 - board.count(".") & 1 == seat:
            return max(map(of, after.values()))
        if table is None:
            return min(map(of, after.values()))
        return sum(table[AT[board]][i] * of(x) for i, x in after.items())

    return of("." * 9)


# Positions.


def test_positions_are_those_that_can_be_reached():
    reached, todo = set(), {"." * 9}
    while todo:
        reached |= todo
        todo = {x for board in todo for x in moves(board).values()} - reached
    assert AT.keys() == reached
    assert len(AT) == 5478
    for board, i in AT.items():
        after = moves(board)
        assert {j: AT[x] for j, x in after.items()} == {
            j: x for j, x in enumerate(ALL.after[i]) if x >= 0
        }
        assert ALL.result[i] == winner(board)
        assert ALL.ended[i] == (not after)
        assert ALL.stones[i] == 9 - board.count(".")


def test_episodes_go_through_positions():
    """Random games in the environment, beside the list."""
    env = jaxpg.make("TicTacToe-jaxpg")
    step = jax.jit(env.core.step_env)
    rng, results = np.random.default_rng(0), set()
    for _ in range(30):
        obs, state = env.core.reset_env(KEY, ())
        at, ended = 0, False
        while not ended:
            mover = int(ALL.turn[at])
            rows, mask = np.asarray(obs["observation"]), np.asarray(obs["action_mask"])
            np.testing.assert_array_equal(rows[mover], ALL.observation[at])
            np.testing.assert_array_equal(rows[1 - mover, :9], rows[mover, 9:18])
            np.testing.assert_array_equal(rows[1 - mover, 9:18], rows[mover, :9])
            assert rows[1 - mover, 18] == 0
            mask = mask.reshape(2, 9)
            np.testing.assert_array_equal(mask[mover], ALL.legal[at])
            np.testing.assert_array_equal(mask[1 - mover], np.arange(9) == 0)
            square = rng.choice(np.flatnonzero(mask[mover]))
            action = np.zeros(2, np.int32)
            action[mover] = square
            obs, state, reward, ended, info = step(KEY, state, jnp.asarray(action), ())
            at = ALL.after[at, square]
            assert at >= 0
            assert ended == ALL.ended[at]
            assert reward == 0
            assert info["rewards"].tolist() == [ALL.result[at], -ALL.result[at]]
        results.add(int(ALL.result[at]))
        np.testing.assert_array_equal(obs["action_mask"].reshape(2, 9).sum(-1), [1, 1])
        assert obs["observation"][:, 18].tolist() == [0, 0]
        assert not env.core.is_truncated(state, ())
    assert results == {1, 0, -1}


def test_who_takes_a_square_that_is_taken_loses():
    env = jaxpg.make("TicTacToe-jaxpg")
    _, state = env.core.reset_env(KEY, ())
    _, state, _, ended, _ = env.core.step_env(KEY, state, jnp.array([4, 0]), ())
    assert not ended
    _, _, _, ended, info = env.core.step_env(KEY, state, jnp.array([0, 4]), ())
    assert ended
    assert info["rewards"].tolist() == [1, -1]


def test_it_keeps_the_contract():
    jaxpg.check_env("TicTacToe-jaxpg")


def test_random_play_ends_as_it_must():
    env = jaxpg.make("TicTacToe-jaxpg")

    def policy(obs, carry, key):
        legal = obs.mask.reshape(-1, 2, 9)
        return jax.random.categorical(key, jnp.where(legal, 0.0, -1e9)), carry, ()

    state = jaxpg.core.env.reset(env, KEY, 256)
    *_, t, _, _ = jaxpg.rollout(env, policy, state, (), jax.random.key(1), 150)
    won = np.asarray(t.signals["rewards"])[np.asarray(t.terminated)][:, 0]
    shares = np.array([(won == x).mean() for x in (1, 0, -1)])
    assert len(won) > 4000
    np.testing.assert_allclose(shares, [0.58492, 0.12698, 0.28810], atol=0.03)


# Exact answers.


@pytest.mark.parametrize("seed", range(2))
def test_answers_are_those_of_a_recursion(seed):
    first, second = some_table(seed), some_table(seed + 10)
    np.testing.assert_allclose(ttt.outcomes(first, second), ends(first, second), rtol=1e-12)
    win, _, loss = ends(first, second)
    np.testing.assert_allclose(ttt.value(first, second), win - loss, rtol=1e-10)
    most = [best(second, 0), best(first, 1)]
    for seat, table in enumerate((second, first)):
        found, move = ttt.best_response(table, seat)
        np.testing.assert_allclose(found, most[seat], rtol=1e-12)
        own = (ALL.turn == seat) & ~ALL.ended
        assert ((move >= 0) == own).all()
        # The squares that it takes win as much as it says.
        response = np.where(own[:, None], np.eye(9)[move], ttt.random_table())
        both = (response, table) if seat == 0 else (table, response)
        np.testing.assert_allclose(ttt.value(*both) * (1 - 2 * seat), found, rtol=1e-10)
    np.testing.assert_allclose(ttt.nash_conv(first, second), sum(most), rtol=1e-12)


def test_random_play():
    table = ttt.random_table()
    np.testing.assert_allclose(
        ttt.outcomes(table, table), [0.58492, 0.12698, 0.28810], rtol=0, atol=5e-6
    )
    assert ttt.best_response(table, 0)[0] == pytest.approx(191 / 192, abs=1e-12)
    assert ttt.best_response(table, 1)[0] == pytest.approx(best(table, 1), abs=1e-12)


def test_best_play_is_a_draw():
    """A table of the best moves is found by responding to the best of the other, from the end."""
    assert best(None, 0) == best(None, 1) == 0
    value, table = np.where(ALL.ended, ALL.result, 0), np.zeros((5478, 9))
    for i in np.argsort(-ALL.stones, kind="stable"):
        if ALL.ended[i]:
            continue
        sign, squares = 1 - 2 * ALL.turn[i], np.flatnonzero(ALL.legal[i])
        worth = sign * value[ALL.after[i, squares]]
        table[i, squares[worth.argmax()]], value[i] = 1, sign * worth.max()
    assert ttt.outcomes(table, table).tolist() == [0, 1, 0]
    assert ttt.nash_conv(table, table) == 0
    assert ttt.nash_conv(table, ttt.random_table()) > 0.5


def test_a_table_is_that_of_a_function_of_observations():
    def policy(obs, legal):  # the middle if it is free, else anything
        logits = np.where(legal, 0.0, -np.inf)
        logits[:, 4] += np.where(legal[:, 4], 50, 0)
        assert (legal == (obs[:, :9] + obs[:, 9:18] == 0)).all()
        return np.asarray(jax.nn.softmax(jnp.asarray(logits)))

    table = ttt.policy_table(policy)
    assert table[0, 4] == pytest.approx(1)
    assert ttt.value(table, ttt.random_table()) > ttt.value(ttt.random_table(), ttt.random_table())
    with pytest.raises(ValueError, match=r"policy gives shape \(4520, 8\): allowed is \(4520, 9\)"):
        ttt.policy_table(lambda obs, legal: legal[:, :8])


def test_what_is_no_table_is_refused():
    table = ttt.random_table()
    with pytest.raises(ValueError, match=r"seat=2: allowed are 0 and 1"):
        ttt.best_response(table, 2)
    with pytest.raises(ValueError, match=r"table is of shape \(3, 9\): allowed is \(5478, 9\)"):
        ttt.best_response(table[:3], 0)
    for wrong in (table * 0.5, np.roll(table, 1, -1), np.full_like(table, np.nan)):
        with pytest.raises(ValueError, match=r"second row \d+ is .*: allowed are probabilities of"):
            ttt.outcomes(table, wrong)
    with pytest.raises(ValueError, match="read-only"):
        ttt.positions().board[0, 0] = 1


def test_examples_are_so():
    assert doctest.testmod(ttt) == (0, 7)
