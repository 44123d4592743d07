"""Tabular environments against the book, brute force and another suite; draws against models."""

import itertools
from collections import deque

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxpg
from jaxpg.core import env as E
from jaxpg.envs import registry, tabular
from jaxpg.ops import dynamic_programming as dp

GAMMA = 0.9


@pytest.fixture(scope="module", autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def close(a, b, atol=1e-9):
    np.testing.assert_allclose(a, b, atol=atol, rtol=0)


@pytest.fixture(scope="module")
def small(double):
    """A random MDP of 4 states and 2 actions, and a random policy, in NumPy."""
    m = tabular.model(jaxpg.make("Garnet-jaxpg", states=4, actions=2, branches=2, seed=5))
    policy = np.random.default_rng(0).dirichlet(np.ones(2), 4)
    return *map(np.asarray, m), policy


# The book.


def test_random_policy_has_the_values_of_figure_4_1():
    m = tabular.model(jaxpg.make("GridWorld-jaxpg"))
    V = dp.policy_evaluation(m.P, m.R, jnp.full(m.R.shape, 0.25), 1.0)
    book = [[0, -14, -20, -22], [-14, -18, -20, -20], [-20, -20, -18, -14], [-22, -20, -14, 0]]
    close(V.reshape(4, 4), book)
    visits = dp.state_distribution(m.P, m.start, jnp.full(m.R.shape, 0.25), 1.0)
    close(visits.sum(), 1 - m.start @ V)  # the mean length, and the end
    close(visits @ m.terminal, 1)


def test_the_cliff_is_example_6_6():
    env = jaxpg.make("Cliff-jaxpg")
    m = tabular.model(env)
    V = dp.value_iteration(m.P, m.R, 1.0).max(-1).reshape(4, 12)
    row, column = np.mgrid[:3, :12]
    close(V[:3], -(3 - row + 11 - column))
    close(V[3], [-13] + [0] * 11)
    start, beyond = 36, 2 * 12 + 5
    for s, a in [(start, tabular.RIGHT), (beyond, tabular.DOWN)]:
        assert m.P[s, a].argmax() == start
        close(m.R[s, a], -100)
    close(m.R[beyond, tabular.RIGHT], -1)


def test_the_cliff_is_that_of_gymnasium():
    ours = tabular.model(jaxpg.make("Cliff-jaxpg"))
    theirs = gymnasium.make("CliffWalking-v1").unwrapped.P
    for s in np.flatnonzero(~np.asarray(ours.terminal)):
        for a in range(4):
            [(p, to, reward, ended)] = theirs[int(s)][a]
            close(ours.P[s, a], np.eye(48)[to] * p)
            close(ours.R[s, a], reward)
            assert bool(ours.terminal[to]) == ended


def test_the_short_corridor_is_example_13_1():
    env, p = jaxpg.make("ShortCorridor-jaxpg"), 2 - np.sqrt(2)
    m = tabular.model(env)

    def value(p):
        policy = jnp.tile(jnp.array([1 - p, p]), (4, 1))
        return m.start @ dp.policy_evaluation(m.P, m.R, policy, 1.0)

    close(value(p), -6 - 4 * np.sqrt(2))
    close(jax.grad(value)(p), 0)
    assert value(p - 0.01) < value(p) > value(p + 0.01)
    obs = E.rollout(
        env, lambda o, c, k: (jax.random.randint(k, 8, 0, 2), c, ()),
        E.reset(env, jax.random.key(0), 8), (), jax.random.key(1), 9,
    )[2].obs  # fmt: skip
    assert obs.shape == (9, 8, 1)
    close(obs, 1)  # the cells look alike


# Dynamic programming.


@pytest.mark.parametrize("epsilon", [0.0, 0.3])
def test_value_iteration_finds_the_best_of_all_policies(small, epsilon):
    """By enumeration; an epsilon-soft policy is a choice per state, and epsilon times any."""
    P, R, _, _, _ = small
    values = []
    for choice in itertools.product(range(2), repeat=4):
        policy = (1 - epsilon) * np.eye(2)[list(choice)] + epsilon / 2
        follows = np.einsum("sa,sat->st", policy, P)
        values.append(np.linalg.solve(np.eye(4) - GAMMA * follows, (policy * R).sum(1)))
    Q = dp.value_iteration(P, R, GAMMA, epsilon, tolerance=1e-13)
    best = np.max(values, 0)  # in every state at once
    close(dp.soft_value(Q, epsilon), best)
    close(Q, R + GAMMA * P @ best)
    close(dp.policy_evaluation(P, R, dp.greedy_policy(Q, epsilon), GAMMA), best)


def test_policy_evaluation_and_visits_are_the_sums_that_define_them(small):
    P, R, _, start, policy = small
    follows = np.array([[policy[s] @ P[s, :, t] for t in range(4)] for s in range(4)])
    reward = np.array([policy[s] @ R[s] for s in range(4)])
    V, visits, ahead = np.zeros(4), np.zeros(4), np.eye(4)
    for t in range(400):
        V += GAMMA**t * ahead @ reward
        visits += GAMMA**t * start @ ahead
        ahead = ahead @ follows
    close(dp.policy_evaluation(P, R, policy, GAMMA), V)
    close(dp.policy_values(P, R, policy, GAMMA), R + GAMMA * np.einsum("sat,t->sa", P, V))
    close(dp.state_distribution(P, start, policy, GAMMA), visits)


def test_policy_gradient_is_the_slope_of_the_return(small):
    P, R, _, start, _ = small
    logits = np.random.default_rng(1).normal(size=(4, 2))

    def value(logits):
        policy = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        follows = np.einsum("sa,sat->st", policy, P)
        return start @ np.linalg.solve(np.eye(4) - GAMMA * follows, (policy * R).sum(1))

    slope, h = np.zeros((4, 2)), 1e-5
    for s, a in np.ndindex(4, 2):
        up, down = logits.copy(), logits.copy()
        up[s, a] += h
        down[s, a] -= h
        slope[s, a] = (value(up) - value(down)) / (2 * h)
    close(dp.policy_gradient(P, R, start, logits, GAMMA), slope, 1e-8)
    assert np.abs(slope).max() > 0.1


def test_greedy_policy_shares_among_equals():
    Q = jnp.array([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    close(dp.greedy_policy(Q), [[0, 0.5, 0.5, 0], [0.25] * 4])
    close(dp.greedy_policy(Q, 0.4), [[0.1, 0.4, 0.4, 0.1], [0.25] * 4])
    close(dp.soft_value(Q, 0.4), (dp.greedy_policy(Q, 0.4) * Q).sum(-1))


def test_parameters_can_be_a_batch():
    """Slips and rewards: the solver too goes through jit(vmap)."""
    base = jaxpg.make("Cliff-jaxpg")

    def value(slip, cliff_reward):
        params = base.params.replace(slip=slip, cliff_reward=cliff_reward)
        m = tabular.model(jaxpg.Env(params, base.core))
        Q = dp.value_iteration(m.P, m.R, 1.0, tolerance=1e-12)
        policy = dp.greedy_policy(Q)
        return m.start @ Q.max(-1), m.start @ dp.policy_evaluation(m.P, m.R, policy, 1.0)

    slips, rewards = jnp.array([0.0, 0.1, 0.1]), jnp.array([-100.0, -100.0, -1.0])
    best, evaluated = jax.jit(jax.vmap(value))(slips, rewards)
    close(best, evaluated, 1e-6)
    close(best[0], -13)
    assert best[2] > best[1]
    for i in range(3):
        close(best[i], value(slips[i], rewards[i])[0], 1e-6)


# Maps.


def distances(rows):
    """Steps from each cell to the nearest goal, breadth first; infinity if there is no way."""
    cells = {(i, j): c for i, row in enumerate(rows) for j, c in enumerate(row)}
    found = {at: 0 for at, c in cells.items() if c == "G"}
    queue = deque(found)
    while queue:
        i, j = queue.popleft()
        for at in [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]:
            if cells.get(at) in (".", "S") and at not in found:
                found[at] = found[i, j] + 1
                queue.append(at)
    return np.array([[found.get((i, j), np.inf) for j in range(4)] for i in range(3)])


best_values = jax.jit(lambda P, R: dp.value_iteration(P, R, GAMMA, tolerance=1e-12).max(-1))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(".#GS"), min_size=12, max_size=12))
def test_the_best_way_through_any_map_is_the_shortest(cells):
    cells[0], cells[-1] = "G", "."
    rows = ["".join(cells[i : i + 4]) for i in (0, 4, 8)]
    core = tabular.grid_world("/".join(rows))
    m = tabular.model(jaxpg.Env(core.default_params, core))
    V, flat = best_values(m.P, m.R).reshape(3, 4), np.array(cells)
    free = np.isin(flat, [".", "S"])
    expected = -(1 - GAMMA ** distances(rows)) / (1 - GAMMA)
    close(np.where(free.reshape(3, 4), V, 0), np.where(free.reshape(3, 4), expected, 0), 1e-8)
    close(m.P.sum(-1), np.repeat(free[:, None], 4, 1))
    start = flat == ("S" if "S" in cells else ".")
    close(m.start, start / start.sum())
    assert not np.asarray(m.P)[:, :, flat == "#"].any()


def test_slips_go_to_the_sides():
    core = tabular.grid_world(".../.S./..G")
    m = tabular.model(jaxpg.Env(core.default_params.replace(slip=0.3, goal_reward=5.0), core))
    close(m.P[4, tabular.UP], np.eye(9)[[1, 3, 5]].T @ [0.7, 0.15, 0.15])
    close(m.P[4, tabular.LEFT], np.eye(9)[[3, 1, 7]].T @ [0.7, 0.15, 0.15])
    close(m.P[0, tabular.UP], np.eye(9)[[0, 1]].T @ [0.85, 0.15])  # walls all round
    close(m.R[7, tabular.UP], -1 + 0.15 * 5)


# Draws.

CASES = {
    "GridWorld-jaxpg": {"map": "S.#/..G/S..", "slip": 0.3, "goal_reward": 2.0},
    "Cliff-jaxpg": {"slip": 0.2},
    "ShortCorridor-jaxpg": {"step_reward": -2.0},
    "Garnet-jaxpg": {"states": 5, "branches": 3, "seed": 1},
}


@pytest.mark.parametrize("name", CASES)
def test_draws_follow_the_model(name):
    env = jaxpg.make(name, **CASES[name])
    m, n = tabular.model(env), 4000
    S, A = m.R.shape

    @jax.jit
    def outcomes(key):
        def one(s, a, key):
            state = tabular.State(s, jnp.zeros((), jnp.int32))
            _, new, reward, ended, _ = env.core.step_env(key, state, a, env.params)
            return new.s, reward, ended

        keys = jax.random.split(key, (S, A, n))
        many = jax.vmap(jax.vmap(jax.vmap(one, (None, None, 0)), (None, 0, 0)), (0, None, 0))
        s, a = jnp.arange(S, dtype=jnp.int32), jnp.arange(A, dtype=jnp.int32)
        first = jax.vmap(lambda k: env.core.reset_env(k, env.params)[1].s)
        return *many(s, a, keys), first(jax.random.split(key, n))

    to, reward, ended, first = map(np.asarray, outcomes(jax.random.key(2)))
    going = ~np.asarray(m.terminal)
    assert (ended[going] == np.asarray(m.terminal)[to[going]]).all()
    often = (to[..., None] == np.arange(S)).mean(2)[going]
    P, R = np.asarray(m.P)[going], np.asarray(m.R)[going]
    assert (np.abs(often - P) <= 5 * np.sqrt(P * (1 - P) / n)).all()
    noise = reward.std(2)[going] / np.sqrt(n)
    assert (np.abs(reward.mean(2)[going] - R) <= 5 * noise + 1e-6).all()
    often, start = np.bincount(first, minlength=S) / n, np.asarray(m.start)
    assert (np.abs(often - start) <= 5 * np.sqrt(start * (1 - start) / n)).all()


def test_a_time_limit_truncates_and_a_goal_terminates():
    """Right, right, ... in a corridor: the goal is two steps away, the limit three."""
    core = tabular.grid_world("S.G")
    right = jnp.full(1, tabular.RIGHT)
    for limit, terminated, truncated in [(3, [0, 1, 0, 1], [0, 0, 0, 0]), (1, [0] * 4, [1] * 4)]:
        env = jaxpg.Env(core.default_params.replace(max_steps_in_episode=limit), core)
        begin = E.reset(env, jax.random.key(0), 1)
        _, _, t, _, metrics = E.rollout(
            env, lambda o, c, k: (right, c, ()), begin, (), jax.random.key(1), 4
        )
        assert t.terminated[:, 0].tolist() == list(map(bool, terminated))
        assert t.truncated[:, 0].tolist() == list(map(bool, truncated))
        there = [1, 2, 1, 2] if limit == 3 else [1] * 4
        assert t.next_obs[:, 0].argmax(-1).tolist() == there
        assert metrics["episode/return"] == (-2 if limit == 3 else -1)


# Names, recipes, errors.


def test_they_go_by_name_and_come_back_from_their_recipe():
    assert set(tabular.ENVIRONMENTS) <= set(registry.names())
    for name, params in CASES.items():
        env = jaxpg.make(name, **params)
        again = registry.make(**registry.to_dict(env))
        assert again.name == name
        assert again.core is env.core
        for a, b in zip(tabular.model(env), tabular.model(again), strict=True):
            close(a, b)
    seeds = [tabular.model(jaxpg.make("Garnet-jaxpg", seed=i)).P for i in (0, 1)]
    assert np.abs(seeds[0] - seeds[1]).max() > 0.1
    assert jaxpg.make("FrozenLake-misc", map_name="8x8").core.n_states == 64


ERRORS = {
    "unknown letter": ({"map": "S.X/..G"}, "map='S.X/..G'.*letters"),
    "ragged rows": ({"map": "S../.G"}, "rows of one length"),
    "no rows": ({"map": ""}, "rows of one length"),
    "no goal": ({"map": "S..."}, "a goal"),
    "no start": ({"map": "G#G"}, "a start"),
    "a cliff without a start": ({"map": "..C/..G"}, "one start"),
    "map is a number": ({"map": 4}, "map=4: allowed is a string"),
    "slip is text": ({"slip": "often"}, "slip='often': allowed is a finite number"),
    "slip above one": ({"slip": 1.5}, "slip=1.5: allowed is a number >= 0 and <= 1"),
    "slip below zero": ({"slip": -0.5}, "slip=-0.5"),
    "no time": ({"max_steps_in_episode": 0}, "max_steps_in_episode=0"),
    "unknown parameter": ({"slop": 0.1}, "'slop': did you mean 'slip'"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_maps_and_parameters_are_named(case):
    params, words = ERRORS[case]
    with pytest.raises(ValueError, match=words):
        jaxpg.make("GridWorld-jaxpg", **params)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"branches": 30}, "branches=30: allowed is an integer >= 1 and <= states=20"),
        ({"states": 0}, "states=0: allowed is an integer >= 1"),
        ({"actions": 1.5}, "actions=1.5"),
        ({"seed": -1}, "seed=-1: allowed is an integer >= 0"),
    ],
)
def test_bad_random_mdps_are_named(params, words):
    with pytest.raises(ValueError, match=words):
        jaxpg.make("Garnet-jaxpg", **params)


def test_only_tables_have_a_model():
    with pytest.raises(ValueError, match=r"CartPole-v1 has no table: allowed are .*Cliff-jaxpg"):
        tabular.model(jaxpg.make("CartPole-v1"))
