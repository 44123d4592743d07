"""Kuhn poker: its episodes by hand, and its exact answers against a walk over its tree."""

import doctest
import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.envs.games import kuhn

KEY = jax.random.key(0)
UNIFORM = jnp.full((12, 2), 0.5)
WON = {"pp": 1, "bb": 2, "pbb": 2}  # by the higher card
FOLDED = {"bp": 1, "pbp": -1}  # by the first player


def dealt(first, second):
    env = jaxpg.make("Kuhn-jaxpg")
    cards = jnp.array([first, second], jnp.int32)
    return env, kuhn.State(cards, jnp.zeros((), jnp.int32))


def expected_rewards(line, first, second):
    """By the rules in words."""
    won = FOLDED.get(line) or WON[line] * (1 if first > second else -1)
    return [won, -won]


LINES = [*WON, *FOLDED]


@pytest.mark.parametrize("line", LINES)
def test_a_game_by_hand(line):
    for first, second in itertools.permutations(range(3), 2):
        env, state = dealt(first, second)
        obs = env.core._observe(state)
        for i, letter in enumerate(line):
            mover, history = i % 2, ["", "p", "b", "pb"].index(line[:i])
            for player, card in enumerate((first, second)):
                row = np.zeros(8)
                row[[card, 3 + history]] = 1
                row[7] = player == mover
                np.testing.assert_array_equal(obs["observation"][player], row)
                assert obs["action_mask"][2 * player]
                assert obs["action_mask"][2 * player + 1] == (player == mover)
            at = 3 * history + (first, second)[mover]
            np.testing.assert_array_equal(obs["observation"][mover], kuhn.observations()[at])
            chosen = "pb".index(letter)
            for other in (0, 1):  # of who waits, without effect
                action = jnp.array([chosen, other] if mover == 0 else [other, chosen])
                moved = env.core.step_env(KEY, state, action, ())
                obs, after, reward, ended, info = moved
                assert ended == (i == len(line) - 1)
                assert reward == 0
                won = expected_rewards(line, first, second) if ended else [0, 0]
                assert info["rewards"].tolist() == won
            state = after
        assert obs["action_mask"].tolist() == [True, False, True, False]
        assert not obs["observation"][:, 3:].any()
        assert not env.core.is_truncated(state, ())


def test_all_deals_are_as_likely():
    env = jaxpg.make("Kuhn-jaxpg")
    cards = np.asarray(jaxpg.core.env.reset(env, KEY, 6000).inner.cards)
    _, counts = np.unique(cards @ [3, 1], return_counts=True)
    assert len(counts) == 6
    assert (abs(counts - 1000) < 120).all()
    assert (cards[:, 0] != cards[:, 1]).all()


def test_it_keeps_the_contract():
    jaxpg.check_env("Kuhn-jaxpg")


# Exact answers.


def walk(first, second, line="", cards=None, choose=None):
    """What the first player wins: a walk over the tree. choose: actions of a pure responder, by
    (seat, card, line), in the place of its table."""
    if cards is None:
        deals = list(itertools.permutations(range(3), 2))
        return sum(walk(first, second, "", x, choose) for x in deals) / len(deals)
    if line in LINES:
        return expected_rewards(line, *cards)[0]
    seat, history = len(line) % 2, ["", "p", "b", "pb"].index(line)
    table, at = (first, second)[seat], 3 * history + cards[seat]
    chances = table[at] if table is not None else choose[seat, cards[seat], line]
    return sum(
        p * walk(first, second, line + x, cards, choose)
        for p, x in zip(chances, "pb", strict=True)
        if p
    )


def best_by_enumeration(table, seat):
    """Of all 64 pure strategies of one seat, the one that wins most."""
    lines = [("", "pb"), ("p", "b")][seat]
    sets = [(seat, card, line) for card in range(3) for line in lines]
    found = []
    for actions in itertools.product(((1, 0), (0, 1)), repeat=len(sets)):
        choose = dict(zip(sets, actions, strict=True))
        both = (None, table) if seat == 0 else (table, None)
        found.append(walk(*both, choose=choose))
    return max(found) if seat == 0 else -min(found)


def table(seed):
    rng = np.random.default_rng(seed)
    return rng.dirichlet([0.7, 0.7], 12)


@pytest.mark.parametrize("seed", range(3))
def test_answers_are_those_of_an_enumeration(seed):
    first, second = table(seed), table(seed + 10)
    with jax.enable_x64(True):
        one, other = jnp.asarray(first), jnp.asarray(second)
        np.testing.assert_allclose(kuhn.value(one, other), walk(first, second), rtol=1e-12)
        best = [best_by_enumeration(second, 0), best_by_enumeration(first, 1)]
        found = [kuhn.best_response_value(other, 0), kuhn.best_response_value(one, 1)]
        np.testing.assert_allclose(found, best, rtol=1e-12)
        np.testing.assert_allclose(kuhn.nash_conv(one, other), sum(best), rtol=1e-12)
        assert kuhn.nash_conv(one, other) > 0.1


def test_uniform_play():
    half = [[Fraction(1, 2)] * 2] * 12
    assert kuhn.value(UNIFORM, UNIFORM) == float(walk(half, half)) == 1 / 8
    conv = best_by_enumeration(half, 0) + best_by_enumeration(half, 1)
    assert conv == Fraction(11, 12)
    np.testing.assert_allclose(kuhn.nash_conv(UNIFORM, UNIFORM), 0.916667, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.25, 1 / 3])
def test_equilibria_lose_an_eighteenth(alpha):
    both = kuhn.equilibrium(alpha)
    np.testing.assert_allclose(both.sum(-1), 1, rtol=1e-6)
    np.testing.assert_allclose(kuhn.value(both, both), -1 / 18, atol=1e-6)
    np.testing.assert_allclose(kuhn.best_response_value(both, 0), -1 / 18, atol=1e-6)
    np.testing.assert_allclose(kuhn.best_response_value(both, 1), 1 / 18, atol=1e-6)
    assert abs(kuhn.nash_conv(both, both)) < 1e-6
    other = kuhn.equilibrium(1 / 3 - alpha)
    np.testing.assert_allclose(kuhn.value(both, other), -1 / 18, atol=1e-6)
    bluffs = both.at[0].set(jnp.array([0.4, 0.6]))
    assert kuhn.nash_conv(bluffs, both) > 0.01


def test_answers_can_be_compiled_and_differentiated():
    tables = jnp.stack([UNIFORM, kuhn.equilibrium(0.2)])
    found = jax.jit(jax.vmap(kuhn.nash_conv))(tables, tables)
    np.testing.assert_allclose(found, [11 / 12, 0], atol=1e-6)
    slope = jax.grad(lambda x: kuhn.value(jax.nn.softmax(x), UNIFORM))(jnp.zeros((12, 2)))
    assert jnp.isfinite(slope).all()
    assert slope[2, kuhn.BET] > 0  # with a king
    assert not slope[3:9].any()  # where the other decides


def test_play_wins_what_it_must():
    """Rollouts of two tables, which a policy looks up by what it sees."""
    env, tables = (
        jaxpg.make("Kuhn-jaxpg"),
        jnp.stack([jnp.asarray(table(s), float) for s in (0, 1)]),
    )
    keys = kuhn.observations()

    def policy(obs, carry, key):
        at = (obs.obs["observation"][:, :, None] == keys).all(-1)  # [N, 2, 12]
        chances = jnp.where(at[..., None], tables[None], 0).sum(2)
        chances = jnp.where(at.any(-1, keepdims=True), chances, jnp.array([1.0, 0.0]))
        return jax.random.categorical(key, jnp.log(chances)), carry, ()

    state = jaxpg.core.env.reset(env, KEY, 512)
    *_, t, _, _ = jaxpg.rollout(env, policy, state, (), jax.random.key(1), 200)
    won = np.asarray(t.signals["rewards"])[np.asarray(t.terminated)]
    error = won[:, 0].std() / np.sqrt(len(won))
    assert abs(won[:, 0].mean() - kuhn.value(*tables)) < 4 * error
    assert error < 0.01
    assert (won.sum(-1) == 0).all()


def test_a_table_is_that_of_a_function_of_observations():
    def policy(obs):  # bets with a king
        return jnp.stack([1 - obs[:, 2], obs[:, 2]], -1)

    found = kuhn.policy_table(policy)
    assert found[:, kuhn.BET].tolist() == [0, 0, 1] * 4
    with pytest.raises(ValueError, match=r"policy gives shape \(12, 3\): allowed is \(12, 2\)"):
        kuhn.policy_table(lambda obs: jnp.zeros((12, 3)))


def test_what_is_not_allowed_is_refused():
    with pytest.raises(ValueError, match=r"alpha=0.5: allowed is a number >= 0 and <= 1/3"):
        kuhn.equilibrium(0.5)
    with pytest.raises(ValueError, match=r"seat=2: allowed are 0 and 1"):
        kuhn.best_response_value(UNIFORM, 2)
    wrong, right = jnp.ones((6, 2)), jnp.full((12, 2), 0.5)
    for call in (
        lambda: kuhn.value(right, wrong),
        lambda: kuhn.nash_conv(right, wrong),
        lambda: kuhn.best_response_value(jnp.ones((12, 3)), seat=0),
        lambda: kuhn.average_table(right),
    ):
        with pytest.raises(ValueError, match=r"is of shape \(.*\): allowed is \(.*12, 2\)"):
            call()


def test_examples_are_so():
    found = doctest.testmod(kuhn)
    assert found.failed == 0
    assert found.attempted
