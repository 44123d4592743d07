"""Grid worlds with goals: the four rooms against exact numbers, draws against the model, goals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core import env as E
from jaxpg.envs import registry, tabular
from jaxpg.envs.goals import rooms
from jaxpg.ops import dynamic_programming as dp

STEPS = {"step_reward": -1.0, "goal_reward": -1.0}  # the return is minus the episode's length
SMALL = "..#/.../#.."


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def distances(map, goal):
    """Steps from each cell to the goal, by waves over the text."""
    rows = map.split("/")
    cells = [(i, j) for i, row in enumerate(rows) for j, x in enumerate(row) if x == "."]
    found, wave = {cells[goal]: 0}, [cells[goal]]
    for i, j in wave:
        for at in [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]:
            if at in cells and at not in found:
                found[at] = found[i, j] + 1
                wave.append(at)
    return np.array([found[at] for at in cells])


# The four rooms.


def test_four_rooms_have_the_exact_optimum_and_random_walk(double):
    """Found apart from the package, by iterating over a model that was written cell by cell."""
    m = tabular.model(jaxpg.make("FourRooms-jaxpg", **STEPS))
    best = dp.value_iteration(m.P, m.R, 1.0, tolerance=1e-13).max(-1)
    random = dp.policy_evaluation(m.P, m.R, jnp.full(m.R.shape, 0.25), 1.0)
    np.testing.assert_allclose(-m.start @ best, 8.39240265583936, atol=1e-8)
    np.testing.assert_allclose(-m.start @ random, 401.1133640551425, atol=1e-6)


def test_four_rooms_are_those_of_the_paper():
    env = jaxpg.make("FourRooms-jaxpg")
    grid = env.core.grid
    assert env.example_obs.shape == (104,)
    assert env.params.goal == 62
    assert grid.cells[62].tolist() == [7, 9]  # the east hall
    for hall in [(3, 6), (6, 2), (7, 9), (10, 6)]:
        s = np.flatnonzero((grid.cells == hall).all(1))[0]
        assert grid.open[s].sum() == 2
    m = tabular.model(env)
    np.testing.assert_allclose(m.start, (np.arange(104) != 62) / 103, atol=1e-7)
    assert np.flatnonzero(m.terminal).tolist() == [62]
    np.testing.assert_allclose(m.R, m.P[..., 62], atol=1e-6)  # 1 at the goal, 0 else


@pytest.mark.parametrize(("map", "goal"), [(rooms.FOUR_ROOMS, 0), (SMALL, 6), ("./././.", 2)])
def test_without_slip_the_best_way_is_the_shortest(map, goal, double):
    m = tabular.model(jaxpg.make("FourRooms-jaxpg", map=map, goal=goal, slip=0.0, **STEPS))
    best = dp.value_iteration(m.P, m.R, 1.0, tolerance=1e-13).max(-1)
    np.testing.assert_allclose(-best, distances(map, goal), atol=1e-9)


def test_the_second_move_goes_to_empty_neighbours():
    """From the upper left corner up is a wall: then right or down, by half the slip each."""
    m = tabular.model(jaxpg.make("FourRooms-jaxpg", map=SMALL, slip=0.3))
    np.testing.assert_allclose(m.P[0, tabular.UP], [0.7, 0.15, 0.15, 0, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(m.P[0, tabular.RIGHT], [0.15, 0.7, 0, 0.15, 0, 0, 0], atol=1e-6)


def test_steps_follow_the_model_of_the_core():
    env, n = jaxpg.make("FourRooms-jaxpg", map=SMALL), 4000
    P = np.asarray(tabular.model(env).P)
    assert env.params.goal == 6  # the last cell

    @jax.jit
    @jax.vmap
    def ends(key):
        def one(s, a):
            state = tabular.State(s, jnp.zeros((), jnp.int32))
            return env.core.step_env(key, state, a, env.params)[1].s

        return jax.vmap(lambda s: jax.vmap(lambda a: one(s, a))(jnp.arange(4)))(jnp.arange(7))

    to = np.asarray(ends(jax.random.split(jax.random.key(0), n)))
    often = (to[..., None] == np.arange(7)).mean(0)[:6]
    assert (np.abs(often - P[:6]) <= 5 * np.sqrt(P[:6] * (1 - P[:6]) / n) + 1e-9).all()


def test_the_goal_may_be_traced_and_moves():
    """One program for many goals: each ends where it says, and nowhere else."""
    base = jaxpg.make("FourRooms-jaxpg", map=SMALL, max_steps_in_episode=50)

    @jax.jit
    @jax.vmap
    def play(goal, key):
        env = jaxpg.Env(base.params.replace(goal=goal), base.core)
        policy = lambda obs, c, k: (jax.random.randint(k, (8,), 0, 4), c, obs)  # noqa: E731
        state = E.reset(env, key, 8)
        return E.rollout(env, policy, state, (), key, 60)[2]

    t = play(jnp.arange(7), jax.random.split(jax.random.key(0), 7))
    at = np.asarray(t.next_obs.argmax(-1))
    there = at == np.arange(7)[:, None, None]
    assert (np.asarray(t.terminated) == there).all()
    assert there.sum() > 100
    assert (np.asarray(t.reward) == there).all()
    assert not (np.asarray(t.obs.argmax(-1)) == np.arange(7)[:, None, None]).any()
    assert not np.asarray(t.truncated & t.terminated).any()


# Drawn goals.


def drawn(env, n=3000):
    """First states of episodes."""
    return jax.jit(jax.vmap(lambda k: env.core.reset_env(k, env.params)[1]))(
        jax.random.split(jax.random.key(1), n)
    )


def test_goals_of_training_and_the_held_out_ones_part_all_cells():
    goals = {x: jaxpg.make("GoalRooms-jaxpg", goals=x).core.goals for x in rooms.CHOICES}
    assert [len(goals[x]) for x in rooms.CHOICES] == [104, 78, 26]
    assert sorted([*goals["training"], *goals["held_out"]]) == goals["all"].tolist()
    other = jaxpg.make("GoalRooms-jaxpg", goals="held_out", split=1).core.goals
    assert set(other) != set(goals["held_out"])
    for name, few in goals.items():
        first = drawn(jaxpg.make("GoalRooms-jaxpg", goals=name))
        assert set(np.asarray(first.goal).tolist()) == set(few.tolist())
        assert not (first.s == first.goal).any()


def test_starts_are_uniform_over_the_other_cells():
    first = drawn(jaxpg.make("GoalRooms-jaxpg", map=SMALL), 8000)
    often = np.zeros((7, 7))
    np.add.at(often, (np.asarray(first.goal), np.asarray(first.s)), 1 / 8000)
    expected = (1 - np.eye(7)) / 42
    assert (np.abs(often - expected) <= 5 * np.sqrt(expected / 8000)).all()


@pytest.mark.parametrize("one_hot", [False, True])
def test_reward_and_end_are_those_of_places(one_hot):
    """Over all pairs of cells, and then over steps that are played."""
    env = jaxpg.make("GoalRooms-jaxpg", map=SMALL, one_hot=one_hot, max_steps_in_episode=30)
    core, cells = env.core, jnp.arange(7)
    places = jax.vmap(core.place)(cells)
    assert len(np.unique(places, axis=0)) == 7
    pairs = lambda f: jax.vmap(lambda a: jax.vmap(lambda b: f(a, b, env.params))(places))(places)  # noqa: E731
    np.testing.assert_array_equal(pairs(core.goal_reached), np.eye(7, dtype=bool))
    np.testing.assert_array_equal(pairs(core.goal_reward), np.eye(7))

    policy = lambda obs, c, k: (jax.random.randint(k, (8,), 0, 4), c, ())  # noqa: E731
    *_, t, _, metrics = jax.jit(lambda: E.rollout(
        env, policy, E.reset(env, jax.random.key(0), 8), (), jax.random.key(1), 100
    ))()  # fmt: skip
    assert list(t.obs) == ["achieved", "desired", "observation"]  # sorted, as JAX has dicts
    reached = (t.next_obs["achieved"] == t.next_obs["desired"]).all(-1)
    np.testing.assert_array_equal(t.terminated, reached)
    np.testing.assert_array_equal(t.signals["success"], reached)
    np.testing.assert_array_equal(t.reward, reached)
    assert t.terminated.any()
    assert t.truncated.any()
    ended = t.terminated | t.truncated
    np.testing.assert_allclose(metrics["episode/success"], t.terminated.sum() / ended.sum())


def test_coordinates_lie_in_the_map():
    core = jaxpg.make("GoalRooms-jaxpg").core
    places = np.asarray(jax.vmap(core.place)(jnp.arange(104)))
    np.testing.assert_allclose((places + 1) * 6, core.grid.cells, atol=1e-5)


# Names, recipes, errors.


def test_they_keep_the_contract_and_come_back_from_their_recipe():
    jaxpg.check_env(jaxpg.make("FourRooms-jaxpg", map=SMALL))
    env = jaxpg.make("GoalRooms-jaxpg", map=SMALL, goals="training", slip=0.1)
    jaxpg.check_env(env)
    assert registry.make(**registry.to_dict(env)) == env


ERRORS = {
    "unknown letter": ({"map": "S.X"}, "map='S.X': allowed is the letters # and ."),
    "ragged rows": ({"map": "../."}, "rows of one length"),
    "no rows": ({"map": ""}, "rows of one length"),
    "one cell": ({"map": "#.#"}, "two free cells"),
    "two islands": ({"map": "..#../..#.."}, r"\(0, 3\) is not reached from \(0, 0\)"),
    "slip above one": ({"slip": 1.5}, "slip=1.5: allowed is a number >= 0 and <= 1"),
    "unknown parameter": ({"slop": 0.1}, "'slop': did you mean 'slip'"),
}


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("name", rooms.ENVIRONMENTS)
def test_bad_maps_and_parameters_are_named(name, case):
    params, words = ERRORS[case]
    with pytest.raises(ValueError, match=words):
        jaxpg.make(name, **params)


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("FourRooms-jaxpg", {"goal": 104}, "goal=104: allowed is a number >= 0 and <= 103"),
        ("FourRooms-jaxpg", {"goal": 1.5}, "goal=1.5: allowed is an integer"),
        ("GoalRooms-jaxpg", {"goals": "some"}, "goals='some': allowed is one of all, training, he"),
        ("GoalRooms-jaxpg", {"goals": "held_out", "held_out": 0.0}, "held_out=0.0: allowed is a f"),
        ("GoalRooms-jaxpg", {"goals": "training", "held_out": 1.0}, "held_out=1.0: allowed is a f"),
        ("GoalRooms-jaxpg", {"split": -1}, "split=-1: allowed is an integer >= 0"),
    ],
)
def test_bad_goals_are_named(name, params, words):
    with pytest.raises(ValueError, match=words):
        jaxpg.make(name, **params)
