"""Games in matrix form: their exact answers, against enumeration and closed forms, and their
episodes, by hand."""

import doctest
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.envs import registry
from jaxpg.envs.games import matrix
from jaxpg.ops import games

NAME, KEY = matrix.NAME, jax.random.key(0)
THREE = np.random.default_rng(0).normal(size=(3, 2, 3, 4))  # of three players


def make(game="climbing", **params):
    return jaxpg.make(NAME, game=game, **params)


def table(game="climbing", **params):
    env = make(game, **params)
    return env.core.payoffs(env.params)


def strategies(nvec, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.dirichlet(np.ones(n)), float) for n in nvec]


def play(payoffs, logits, time, num_steps, entropy_coef=0.0):
    """The strategies that the exact gradients come to, and their payoffs."""
    follow = jax.jit(games.follow_gradient, static_argnums=3)
    logits, _ = follow(payoffs, logits, time, num_steps, entropy_coef)
    found = [jax.nn.softmax(x) for x in logits]
    return found, games.expected_payoffs(payoffs, found)


# Exact answers.


@pytest.mark.parametrize("payoffs", [THREE, matrix.GAMES["chicken"]], ids=["three", "chicken"])
def test_payoffs_are_those_of_an_enumeration(payoffs):
    nvec = payoffs.shape[1:]
    with jax.enable_x64(True):
        own = strategies(nvec)
        expected, values = np.zeros(len(nvec)), [np.zeros(n) for n in nvec]
        for actions in itertools.product(*map(range, nvec)):
            chances = [float(own[i][a]) for i, a in enumerate(actions)]
            expected += np.prod(chances) * payoffs[(slice(None), *actions)]
            for i, a in enumerate(actions):
                values[i][a] += np.prod(chances[:i] + chances[i + 1 :]) * payoffs[(i, *actions)]
        given = jnp.asarray(payoffs)
        np.testing.assert_allclose(games.expected_payoffs(given, own), expected, rtol=1e-12)
        for found, value in zip(games.action_values(given, own), values, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-12)
        best = [value.max() for value in values]
        np.testing.assert_allclose(games.best_responses(given, own), best, rtol=1e-12)
        conv = sum(best) - expected.sum()
        np.testing.assert_allclose(games.nash_conv(given, own), conv, rtol=1e-12)
        assert conv > 0


THIRD = [1 / 3] * 3
EQUILIBRIA = [
    ("rock_paper_scissors", THIRD, THIRD),
    ("weighted_rock_paper_scissors", [1 / 16, 10 / 16, 5 / 16], [1 / 16, 10 / 16, 5 / 16]),
    ("matching_pennies", [0.5, 0.5], [0.5, 0.5]),
    ("battle_of_the_sexes", [2 / 3, 1 / 3], [1 / 3, 2 / 3]),
    ("battle_of_the_sexes", [0, 1], [0, 1]),
    ("chicken", [0.5, 0.5], [0.5, 0.5]),
    ("chicken", [1, 0], [0, 1]),
    ("stag_hunt", [0.5, 0.5], [0.5, 0.5]),
    ("stag_hunt", [1, 0], [1, 0]),
    ("prisoners", [0, 1], [0, 1]),
    ("climbing", [1, 0, 0], [1, 0, 0]),
    ("climbing", [0, 1, 0], [0, 1, 0]),
    ("penalty", [0, 1, 0], [0, 1, 0]),
    ("penalty", [0, 0, 1], [0, 0, 1]),
]


@pytest.mark.parametrize(("game", "first", "second"), EQUILIBRIA)
def test_known_equilibria(game, first, second):
    one, other = jnp.array(first, float), jnp.array(second, float)
    assert abs(games.nash_conv(table(game), [one, other])) < 1e-5
    moved = jnp.roll(one, 1) * 0.5 + one * 0.3 + 0.2 / len(one)
    if not np.allclose(moved, one):
        assert games.nash_conv(table(game), [moved, other]) > 0.01


def test_the_prisoners_dilemma_has_no_other_equilibrium():
    value = table("prisoners")
    assert games.nash_conv(value, [jnp.eye(2)[0]] * 2) == 2
    assert games.expected_payoffs(value, [jnp.eye(2)[1]] * 2).tolist() == [-2, -2]


@pytest.mark.parametrize("entropy_coef", [0.0, 0.3])
def test_the_gradient_is_that_of_the_own_payoff_by_the_own_logits(entropy_coef):
    payoffs, rng = jnp.asarray(THREE, float), np.random.default_rng(1)
    logits = [jnp.asarray(rng.normal(size=n), float) for n in THREE.shape[1:]]

    def objective(own, i):
        log = [jax.nn.log_softmax(own if j == i else x) for j, x in enumerate(logits)]
        entropy = -(jnp.exp(log[i]) * log[i]).sum()
        value = games.expected_payoffs(payoffs, [jnp.exp(x) for x in log])[i]
        return value + entropy_coef * entropy

    for i, found in enumerate(games.policy_gradient(payoffs, logits, entropy_coef)):
        expected = jax.grad(objective)(logits[i], i)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_examples_are_so():
    found = doctest.testmod(games)
    assert found.failed == 0
    assert found.attempted


# What independent learners come to.


def test_in_the_climbing_game_learners_stop_short_of_the_top():
    """From uniform to (second, third), worth 6; then slowly to 7, where neither leaves alone."""
    payoffs, uniform = table(), [jnp.zeros(3)] * 2
    (first, second), value = play(payoffs, uniform, 100.0, 1000)
    assert first[1] > 0.99
    assert second[2] > 0.99
    np.testing.assert_allclose(value, [5.99] * 2, atol=0.02)
    (first, second), value = play(payoffs, uniform, 2000.0, 20_000)
    assert first[1] > 0.99
    assert second[1] > 0.99
    assert 6.98 < value[0] <= 7
    assert games.nash_conv(payoffs, [first, second]) < 0.02


def test_one_controller_of_both_climbs_to_the_top():
    joint = table()[:1].reshape(1, -1)  # the game of one player over pairs
    (pair,), value = play(joint, [jnp.zeros(9)], 100.0, 1000)
    assert pair[0] > 0.99
    np.testing.assert_allclose(value, [11], atol=0.02)


def test_from_random_starts_a_quarter_reaches_the_top():
    starts = jax.random.normal(KEY, (500, 2, 3))

    def end(start):
        return play(table(), list(start), 200.0, 2000)[1][0]

    value = np.asarray(jax.jit(jax.vmap(end))(starts))
    shares = [(abs(value - peak) < 0.5).mean() for peak in (11, 7)]
    np.testing.assert_allclose(shares, [0.24, 0.33], atol=0.05)
    assert ((abs(value - 11) < 0.5) | (value < 7.01)).all()


def test_matching_pennies_turns_in_a_circle():
    """By the gradients 1 / (p (1 - p)) of one player plus that of the other never changes."""
    payoffs, start = table("matching_pennies"), [jnp.array([1.0, 0.0]), jnp.array([0.0, 0.5])]
    with jax.enable_x64(True):
        _, way = games.follow_gradient(jnp.asarray(payoffs, float), start, 400.0, 8000)
        p, q = (jax.nn.softmax(x)[:, 0] for x in way)
        kept = 1 / (p * (1 - p)) + 1 / (q * (1 - q))
        np.testing.assert_allclose(kept, kept[0], rtol=1e-6)
        turns = int(((p[1:] > 0.5) & (p[:-1] <= 0.5)).sum())
        assert turns > 5
        assert abs(p.mean() - 0.5) < 0.02
        assert p.max() > 0.7


def test_entropy_settles_matching_pennies():
    start = [jnp.array([2.0, 0.0]), jnp.array([0.0, 1.0])]
    (p, q), value = play(table("matching_pennies"), start, 400.0, 8000, 0.1)
    np.testing.assert_allclose([p, q], 0.5, atol=1e-4)
    np.testing.assert_allclose(value, 0, atol=1e-4)


def test_the_stag_is_hunted_from_where_both_hunt_it_more_than_once():
    """The border of the basins is p + q = 1, along which 1 / (p (1 - p)) is the same of both."""
    ends = {}
    for p, q in [(0.55, 0.55), (0.45, 0.45), (0.9, 0.12), (0.9, 0.08), (0.3, 0.72), (0.3, 0.68)]:
        start = [jnp.log(jnp.array([x, 1 - x])) for x in (p, q)]
        value = play(table("stag_hunt"), start, 400.0, 4000)[1][0]
        ends[p, q] = "stag" if value > 3.9 else "hare"
        assert abs(value - (4 if ends[p, q] == "stag" else 1)) < 0.1
    assert ends == {(p, q): "stag" if p + q > 1 else "hare" for p, q in ends}


def test_a_penalty_below_minus_8_scares_from_the_best():
    """To uniform players the outer actions are worth (10 + k) / 3, and the inner one 2/3."""
    uniform = [jnp.zeros(3)] * 2
    for k in (-30.0, -9.0, -7.0, 0.0):
        (first, second), _ = play(table("penalty", k=k), uniform, 2.0, 100)
        assert (first[1] > 0.34) == (second[1] > 0.34) == (k < -8), k
        assert abs(first[1] - 1 / 3) > 0.05
    _, value = play(table("penalty"), uniform, 200.0, 4000)
    np.testing.assert_allclose(value, 2, atol=0.1)


def test_the_more_is_at_stake_the_fewer_dare():
    """From random starts all end in one of the three equilibria, and mostly where nobody can
    lose if k is large."""
    starts, env = jax.random.normal(KEY, (200, 2, 3)), make("penalty")

    def end(k, start):
        return play(env.core.payoffs(env.params.replace(k=k)), list(start), 100.0, 2000)[1][0]

    penalties = jnp.array([-100.0, -30.0, -10.0, 0.0])
    value = np.asarray(jax.jit(jax.vmap(jax.vmap(end, (None, 0)), (0, None)))(penalties, starts))
    best = abs(value - 10) < 0.2
    assert (best | (abs(value - 2) < 0.2)).mean() > 0.99
    np.testing.assert_allclose(best.mean(1), [0.38, 0.64, 0.89, 0.99], atol=0.08)


def test_prisoners_defect():
    _, value = play(table("prisoners"), [jnp.array([2.0, 0.0])] * 2, 200.0, 2000)
    np.testing.assert_allclose(value, -2, atol=0.02)


# Episodes.


def step(env, state, actions, key=KEY):
    return env.core.step_env(key, state, jnp.array(actions), env.params)


def test_a_round_pays_what_the_table_says():
    for game, payoffs in matrix.GAMES.items():
        env = make(game)
        expected = np.asarray(payoffs)
        if game == "penalty":
            assert env.params.k == -30
            expected = expected + np.array([[0, 0, -30], [0, 0, 0], [-30, 0, 0]])
        obs, state = env.core.reset_env(KEY, env.params)
        assert obs.tolist() == [[1], [1]]
        for actions in itertools.product(*map(range, expected.shape[1:])):
            _, _, reward, ended, info = step(env, state, actions)
            assert info["rewards"].tolist() == expected[(slice(None), *actions)].tolist()
            assert reward == expected[(slice(None), *actions)].mean()
            assert ended
            assert info["actions"].tolist() == list(actions)


def test_in_a_repeated_game_all_see_the_last_round():
    env = jaxpg.make(NAME, payoffs=THREE, rounds=2)
    assert env.core.players == 3
    assert env.core.signals == ("rewards",)
    assert env.action_space.nvec == (2, 3, 4)
    names = ["player_0", "player_1", "player_2"]  # with 2, 3 and 4 actions they are of three kinds
    assert env.core.groups == dict.fromkeys(names, 1)
    obs, state = env.core.reset_env(KEY, env.params)
    assert [obs[name].tolist() for name in names] == [[[0] * 9 + [1]]] * 3
    obs, state, reward, ended, info = step(env, state, [1, 2, 3])
    np.testing.assert_allclose(info["rewards"], THREE[:, 1, 2, 3], rtol=1e-6)
    np.testing.assert_allclose(reward, THREE[:, 1, 2, 3].mean(), rtol=1e-5)
    assert not ended
    a, b, c = [0, 1], [0, 0, 1], [0, 0, 0, 1]
    rows = [[*a, *b, *c, 0.5], [*b, *a, *c, 0.5], [*c, *a, *b, 0.5]]
    assert [obs[name].tolist() for name in names] == [[row] for row in rows]
    obs, state, _, ended, _ = step(env, state, [0, 0, 0])
    assert ended
    assert not env.core.is_truncated(state, env.params)
    assert obs["player_0"].tolist() == [[1, 0, 1, 0, 0, 1, 0, 0, 0, 0]]


SCRIPTED = {"opponent": [[0.5, 0.3, 0.2]]}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("ippo", SCRIPTED),
        *(pytest.param(name, {}, marks=pytest.mark.slow) for name in ("mappo", "iql", "maddpg")),
    ],
)
def test_players_need_not_have_equally_many_actions(name, more):
    """To every agent of several players they are groups of one; shapes alone are looked at."""
    payoffs = [[[1, 0, 0], [0, 2, 0]], [[0, 1, 0], [3, 0, 0]]]
    env, agent = jaxpg.make(NAME, payoffs=payoffs, **more), getattr(jaxpg, name)
    small = {} if name in ("iql", "maddpg") else {"num_steps": 2, "minibatches": 1}
    cfg = agent.Config(num_envs=2, hidden=(3,), **small)
    train = functools.partial(jaxpg.train, agent, cfg, env, total_steps=4)
    state, metrics = jax.eval_shape(train, KEY)
    assert {"episode/return_0", "episode/return_1"} <= metrics.keys()
    act = lambda state, obs, key: agent.act(cfg, env, state, obs, (), key, greedy=False)[0]  # noqa: E731
    obs = jaxpg.core.env.reset(env, KEY, 2).obs
    assert jax.eval_shape(act, state, obs, KEY).shape == (2, 2)


def test_a_scripted_player_draws_from_its_type():
    types = [[0.5, 0.3, 0.2], [0.0, 0.0, 1.0]]
    env = make("rock_paper_scissors", opponent=types, rounds=400)
    assert env.core.players == 2
    assert env.core.signals == ("rewards", "actions", "alive")
    env_state = jaxpg.core.env.reset(env, KEY, 64)
    kinds = np.asarray(env_state.inner.type)
    assert 20 < kinds.sum() < 44
    np.testing.assert_allclose(env_state.inner.strategy, np.array(types)[kinds], rtol=1e-6)
    policy = lambda obs, carry, key: (jnp.full((64, 2), 1, jnp.int32), carry, ())  # noqa: E731
    _, _, t, _, _ = jaxpg.rollout(env, policy, env_state, (), KEY, 399)
    played = np.asarray(t.signals["actions"])
    assert (played[..., 0] == 1).all()
    for kind in (0, 1):
        shares = np.bincount(played[:, kinds == kind, 1].astype(int).ravel(), minlength=3)
        np.testing.assert_allclose(shares / shares.sum(), types[kind], atol=0.015)
    np.testing.assert_array_equal(t.reward, t.signals["rewards"][..., 0])  # of the learner alone
    expected = np.array(matrix.GAMES["rock_paper_scissors"])[0] @ types[0]
    np.testing.assert_allclose(expected, [-0.1, 0.3, -0.2], atol=1e-9)
    np.testing.assert_allclose(t.reward[:, kinds == 0].mean(), expected[1], atol=0.02)
    seen = np.asarray(t.next_obs)[:, :, 0, 3:6].argmax(-1)  # by the learner, in its first row
    np.testing.assert_array_equal(seen, played[..., 1])
    floor = -sum(p * np.log(p) for p in types[0])  # nats a round, of the best model
    assert floor == pytest.approx(1.02965, abs=1e-5)


@pytest.mark.parametrize("sizes", [(3,), (3, 3, 3), (2, 2), ()])
def test_strategies_that_do_not_fit_are_named(sizes):
    payoffs = jnp.asarray(matrix.GAMES["climbing"])
    with pytest.raises(ValueError, match=r"of shape \(2, 3, 3\) with strategies of shapes"):
        games.nash_conv(payoffs, [jnp.ones(n) / n for n in sizes])
    with pytest.raises(ValueError, match="num_steps=0: allowed is an integer >= 1"):
        games.follow_gradient(payoffs, [jnp.zeros(3)] * 2, 1.0, 0)


def test_payoffs_may_be_traced():
    def value(k, scale):
        env = make("penalty", k=k)
        env = jaxpg.Env(env.params.replace(table=env.params.table * scale), env.core)
        _, state = env.core.reset_env(KEY, env.params)
        return step(env, state, [0, 2])[2], step(env, state, [0, 0])[2]

    missed, met = jax.vmap(value)(jnp.array([-1.0, -5.0]), jnp.array([1.0, 2.0]))
    assert missed.tolist() == [-1, -5]
    assert met.tolist() == [10, 20]


CASES = {
    "one round": {},
    "penalty": {"game": "penalty", "k": -5.0},
    "scripted": {"game": "rock_paper_scissors", "opponent": [[0.5, 0.3, 0.2]], "rounds": 5},
    "three": {"payoffs": THREE.tolist(), "rounds": 3},
}


@pytest.mark.parametrize("case", CASES)
def test_games_keep_the_contract_and_have_a_recipe(case):
    env = jaxpg.make(NAME, **CASES[case])
    jaxpg.check_env(env)
    again = registry.from_dict(registry.to_dict(env))
    assert again == env
    assert again.core is env.core


def test_an_agent_of_all_players_finds_the_top():
    env, cfg = make(), jaxpg.ppo.Config(num_envs=64, num_steps=4, hidden=(8,), learning_rate=1e-2)
    train = jax.jit(lambda key: jaxpg.train(jaxpg.ppo, cfg, env, key, 12_000))
    _, metrics = train(jax.random.key(0))
    assert metrics["episode/return"][-5:].mean() > 10


REFUSED = {
    "a game": ({"game": "climbin"}, "unknown MatrixGame-jaxpg game 'climbin': did you mean"),
    "both": ({"game": "penalty", "payoffs": THREE.tolist()}, "game='penalty' with payoffs: allow"),
    "no number": ({"payoffs": [[[np.nan, 0], [0, 2]]] * 2}, "payoffs=.*is a finite number"),
    "no chance": ({"opponent": [[np.nan, 1, 0]]}, "opponent=.*allowed is a finite number"),
    "an endless payoff": ({"payoffs": [[[np.inf, 0], [0, 2]]] * 2}, "payoffs=.*is a finite number"),
    "rows of two lengths": ({"payoffs": [[1, 2], [3]]}, "payoffs=.*: allowed are numbers in nest"),
    "one player": ({"payoffs": [[1, 2]]}, "P >= 2"),
    "too few tables": ({"payoffs": [[[1, 2], [3, 4]]]}, "P >= 2"),
    "no round": ({"rounds": 0}, "rounds=0: allowed is an integer >= 1"),
    "half a round": ({"rounds": 1.5}, "rounds=1.5: allowed is an integer"),
    "a type too short": ({"opponent": [[0.5, 0.5]]}, "opponent=.*: allowed is a list of types, e"),
    "a type of 0.9": ({"opponent": [[0.5, 0.3, 0.1]]}, "which sum to 1"),
    "a type below 0": ({"opponent": [[1.5, -0.3, -0.2]]}, "opponent=.*: allowed is a list"),
    "k elsewhere": ({"k": 3.0}, "k=3.0: allowed is a number >= 0 and <= 0"),
    "another table": ({"table": [[1, 2], [3, 4]]}, r"table of shape \(2, 2\): allowed is \(2, 3, "),
    "types of nobody": ({"types": [[0.5, 0.3, 0.2]]}, "types is an array .*: allowed is None with"),
    "types too short": (
        {"opponent": [[1, 0, 0]], "types": [[0.5, 0.5]]},
        r"types is an array .*: allowed is probabilities \[K, 3\]",
    ),
    "types above 1": ({"opponent": [[1, 0, 0]], "types": [[0.5, 2, 0]]}, "types=.*<= 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_game_is_refused(case):
    params, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        jaxpg.core.env.reset(jaxpg.make(NAME, **params), KEY, 1)
