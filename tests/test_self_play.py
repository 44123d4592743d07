"""Self-play: who plays against whom, what is counted, and where it leads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.agents.self_play import take_seat
from jaxpg.core.episodes import actions
from jaxpg.core.types import Transition
from jaxpg.envs.games import kuhn
from jaxpg.loops import league
from jaxpg.loops.multi_agent import Learner
from jaxpg.ops.games import elo_ratings

KEY = jax.random.key(0)
TINY = {
    "num_envs": 8, "num_steps": 6, "hidden": (4,), "league_size": 3, "snapshot_every": 1,
    "total_steps": 1000.0,
}  # fmt: skip


def learner(value):
    return Learner({"w": jnp.full(2, value)}, (), (), ())


def test_the_ring_holds_the_last_snapshots_and_forgets_wins_against_older_ones():
    ring = league.begin_league(learner(0.0), 3)
    ring = ring._replace(wins=jnp.ones(3), games=jnp.full(3, 2.0))
    for i in range(1, 5):
        ring = league.take_in(ring, learner(float(i)), jnp.array(i != 2))
    assert int(ring.count) == 4  # of 0, 1, 3, 4; the first is the oldest of them
    np.testing.assert_array_equal(ring.members.params["w"][:, 0], [4, 1, 3])
    np.testing.assert_array_equal(ring.games, [0, 0, 0])


@pytest.mark.parametrize(
    ("opponents", "count", "expected"),
    [
        ("latest", 2, [0, 1, 0]),
        ("latest", 4, [1, 0, 0]),  # the fourth lies in the place of the first
        ("uniform", 2, [0.5, 0.5, 0]),
        ("uniform", 7, [1 / 3, 1 / 3, 1 / 3]),
        ("prioritized", 3, np.array([9, 16, 1]) / 26),  # win rates 1/4, 0 and 3/4, one each ahead
    ],
)
def test_opponents_are_drawn_by_their_weights(opponents, count, expected):
    ring = league.begin_league(learner(0.0), 3)._replace(count=jnp.int32(count))
    ring = ring._replace(wins=jnp.array([1.0, -1.0, 5.0]), games=jnp.array([6.0, 3.0, 6.0]))
    found = league.weigh_opponents(opponents, ring)
    rates = (ring.wins + 1) / (ring.games + 2)
    np.testing.assert_allclose(rates, [1 / 4, 0, 3 / 4])
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    drawn = league.draw_members(KEY, found, (1000,))
    assert set(np.unique(drawn)) == set(np.flatnonzero(expected))
    often = np.bincount(drawn, minlength=3) / 1000
    np.testing.assert_allclose(often, expected, atol=0.06)  # four standard errors


def test_wins_are_counted_for_the_opponents_of_the_episode_that_ended():
    """Three steps of two games between three seats: one is won at step 1, one drawn at step 2."""
    no = np.zeros((3, 2), bool)
    ended = no.copy()
    ended[1, 0], ended[2, 1] = True, True
    reward = jnp.array([[5.0, 0.0], [1.0, -1.0], [0.0, 0.0]])
    zeros = jnp.zeros((3, 2))
    t = Transition(zeros, zeros, zeros, jnp.asarray(ended), jnp.asarray(no), zeros, {})
    seat = jnp.array([[0, 1]] * 3)  # the learner's; who is in the league for it does not count
    opponent = jnp.array([[[3, 1, 2], [0, 3, 0]]] * 3)
    ring, score = league.count_wins(league.begin_league(learner(0.0), 4), t, reward, seat, opponent)
    np.testing.assert_array_equal(ring.games, [2, 1, 1, 0])
    np.testing.assert_array_equal(ring.wins, [1, 1, 1, 0])
    assert float(score) == 0.75


def test_rows_are_those_of_the_learner_s_seat():
    rows = jnp.arange(2 * 3 * 2 * 4).reshape(2, 3, 2, 4)
    seat = jnp.array([[0, 1, 0], [1, 1, 0]])
    found = take_seat({"a": rows, "b": rows[..., 0]}, seat)
    for t in range(2):
        for n in range(3):
            np.testing.assert_array_equal(found["a"][t, n], rows[t, n, seat[t, n]])
            np.testing.assert_array_equal(found["b"][t, n], rows[t, n, seat[t, n], 0])


def test_a_seat_and_opponents_last_for_an_episode():
    """Of repeated games of five rounds: they change where an episode ends, and only there."""
    env = jaxpg.make("MatrixGame-jaxpg", game="prisoners", rounds=5)
    cfg = jaxpg.self_play.Config(**TINY | {"num_steps": 1, "minibatches": 1})
    step = jax.jit(jaxpg.self_play.step)
    state, seen = jaxpg.self_play.init(cfg, env, KEY), []
    for _ in range(15):
        state, _ = step(cfg, env, state)
        seen.append((state.table.seat, state.table.opponent))
    seats, opponents = (np.stack(x) for x in zip(*seen, strict=True))
    assert (seats[4::5] == 0).all()
    assert (opponents[4::5] == 0).all(), "what follows an end begins anew"
    for begin in (0, 5, 10):
        running = slice(begin, begin + 4)
        assert (seats[running] == seats[begin]).all()
        assert (opponents[running] == opponents[begin]).all()
    assert set(np.unique(seats)) == {0, 1, 2}
    assert len(np.unique(opponents)) == 3


def test_the_average_plays_a_member_for_each_episode():
    """Members that always choose one action: in an episode all actions are the same, and over
    episodes they come as often as their members."""
    env = jaxpg.make("MatrixGame-jaxpg", game="rock_paper_scissors", rounds=6)
    cfg = jaxpg.self_play.Config(**TINY | {"play": "average"})
    state = jaxpg.self_play.init(cfg, env, KEY)
    params = jax.tree.map(jnp.zeros_like, state.league.members.params)
    params["params"]["actor"]["bias"] = 50 * jnp.eye(3)
    members = state.league.members._replace(params=params)
    state = state._replace(league=state.league._replace(members=members, count=jnp.int32(3)))
    found, _ = actions(
        jaxpg.self_play, cfg, env, state, KEY, episodes=600, greedy=False, num_steps=6
    )
    found = np.asarray(found)  # [T, episodes, P]
    assert (found == found[0]).all()
    shares = np.bincount(found[0].ravel(), minlength=3) / found[0].size
    np.testing.assert_allclose(shares, 1 / 3, atol=0.06)


def test_the_average_of_tables_is_the_policy_of_who_draws_one_before_a_game():
    """Against any other, by the exact value of the game from both seats."""
    rng = np.random.default_rng(0)
    bet = rng.uniform(size=(4, 12))
    tables = jnp.asarray(np.stack([1 - bet, bet], -1), float)
    average, other = kuhn.average_table(tables), jnp.full((12, 2), 0.5).at[:, 0].add(0.2)
    other = other / other.sum(-1, keepdims=True)
    for seat in (0, 1):
        play = (lambda x: kuhn.value(x, other)) if seat == 0 else (lambda x: kuhn.value(other, x))
        np.testing.assert_allclose(play(average), jax.vmap(play)(tables).mean(), rtol=1e-5)


def test_players_of_other_kinds_are_refused():
    env = jaxpg.make("Pursuit-jaxpg")
    with pytest.raises(ValueError, match="of kinds hunters, prey: allowed are games of one kind"):
        jaxpg.self_play.init(jaxpg.self_play.Config(**TINY), env, KEY)


def test_scores_of_members_are_of_both_seats():
    """Of members that always play rock, paper, scissors, of one that plays any, and of a place that
    nobody has yet."""
    env = jaxpg.make("MatrixGame-jaxpg", game="rock_paper_scissors")
    cfg = jaxpg.self_play.Config(**TINY | {"league_size": 5})
    ring = jaxpg.self_play.init(cfg, env, KEY).league
    params = jax.tree.map(jnp.zeros_like, ring.members.params)
    params["params"]["actor"]["bias"] = 50.0 * jnp.eye(5, 3)
    ring = ring._replace(members=ring.members._replace(params=params), count=jnp.int32(4))
    scores = np.asarray(league.score_members(cfg, env, ring, KEY, games=400, num_steps=1))
    np.testing.assert_array_equal(scores[:3, :3], [[0.5, 0, 1], [1, 0.5, 0], [0, 1, 0.5]])
    np.testing.assert_allclose(scores[3, :4], 0.5, atol=0.06)
    assert np.isnan(scores[4]).all()
    assert np.isnan(scores[:, 4]).all()
    np.testing.assert_allclose(scores[:4, :4] + scores[:4, :4].T, 1)


@pytest.mark.parametrize(
    ("numbers", "more", "words"),
    [
        (
            [[0, 3]],
            {},
            r"0 to 3 on MatrixGame-jaxpg: allowed are .*\[M, 2\], from 0 to 2",
        ),
        ([[-1, 0]], {}, "numbers of -1 to 0"),
        ([[0, 1, 1]], {}, r"numbers of shape \(1, 3\)"),
        ([0, 1], {}, r"numbers of shape \(2,\)"),
        ([[0.0, 1.0]], {}, "and float32"),
        ([[0, 1]], {"num_steps": 0}, "num_steps=0: allowed is an integer >= 1"),
    ],
)
def test_matches_of_no_members_are_refused(numbers, more, words):
    """JAX takes the nearest one for a member that there is not."""
    env = jaxpg.make("MatrixGame-jaxpg", game="rock_paper_scissors")
    ring = league.begin_league(learner(0.0), 3)
    with pytest.raises(ValueError, match=words):
        league.play_matches(None, env, ring, numbers, KEY, **{"num_steps": 1} | more)


def test_scores_are_of_games_of_two_players():
    ring, env = league.begin_league(learner(0.0), 3), jaxpg.make("Spread-jaxpg")
    with pytest.raises(ValueError, match="on Spread-jaxpg, of 3 players: allowed are two"):
        league.score_members(None, env, ring, KEY, games=1, num_steps=1)
    kuhn_poker = jaxpg.make("Kuhn-jaxpg")
    with pytest.raises(ValueError, match="games=0: allowed is an integer >= 1"):
        league.score_members(None, kuhn_poker, ring, KEY, games=0, num_steps=3)


def test_ratings_are_those_under_which_the_scores_were_expected():
    """Of Elo's own model, up to the draw that each is given; the order stands with few games."""
    true = jnp.array([200.0, 0.0, -50.0, -150.0])
    scores = 1 / (1 + 10 ** ((true - true[:, None]) / 400))
    many = jnp.tile(scores, (20, 20))  # twenty of each, so that one draw counts for little
    np.testing.assert_allclose(elo_ratings(many)[:4], true, atol=4)
    few = elo_ratings(scores.at[0, 3].set(jnp.nan).at[3, 0].set(jnp.nan))
    assert (np.diff(few) < 0).all()
    np.testing.assert_allclose(few.sum(), 0, atol=1e-2)
