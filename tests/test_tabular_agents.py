"""Tabular agents: every step against its definition, and what they find against exact answers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core.metrics import merge_metrics
from jaxpg.core.run import run
from jaxpg.envs import tabular as T
from jaxpg.loops import tabular
from jaxpg.ops import dynamic_programming as dp
from tests.conftest import slow_of

KEY = jax.random.key(0)
NAMES = ("q_learning", "sarsa", "expected_sarsa")


def close(a, b, atol):
    np.testing.assert_allclose(a, b, atol=atol, rtol=0)


# One step.

RULES = {
    # the agent, its fields; Q [S, A] of either table, s', a' -> what s' is worth
    "q_learning": ({}, lambda Q, other, s, a, eps: other[s, Q[s].argmax()]),
    "double": ({"double": True}, lambda Q, other, s, a, eps: other[s, Q[s].argmax()]),
    "sarsa": ({}, lambda Q, other, s, a, eps: Q[s, a]),
    "expected_sarsa": (
        {"target_epsilon": 0.75},
        lambda Q, other, s, a, eps: 0.25 * Q[s].max() + 0.75 * Q[s].mean(),
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_step_is_the_rule(rule):
    """From a random table, in NumPy: one entry moves, by its own step size, to the rule's target;
    a termination cuts the bootstrap and a truncation does not."""
    fields, worth = RULES[rule]
    agent, gamma, steps = jaxpg.agents.get(rule.replace("double", "q_learning")), 0.8, 250
    env = jaxpg.make("GridWorld-jaxpg", map="S../.#./..G", max_steps_in_episode=7)
    cfg = agent.Config(
        num_steps=1, gamma=gamma, learning_rate=0.9, decay=0.6, epsilon=0.5, **fields
    )
    state = agent.init(cfg, env, KEY)
    table = jax.random.normal(jax.random.key(1), state.params.shape)
    state = state._replace(params=table)
    walk = jax.jit(
        lambda s: jax.lax.scan(lambda s, _: (agent.step(cfg, env, s)[0], s), s, None, steps)[1]
    )
    state = jax.tree.map(
        lambda x: x if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else np.asarray(x), walk(state)
    )
    P, R, terminal, _ = map(np.asarray, T.model(env))
    shape = (steps, -1, *R.shape)
    Q = state.params.reshape(shape).astype(float)
    visits = np.zeros(Q.shape[1:], int)
    seen = {"terminated": 0, "truncated": 0, "on": 0}
    for t in range(steps - 1):
        moved = np.argwhere(Q[t] != Q[t + 1])
        assert len(moved) == 1
        k, s, a = moved[0]
        assert s == state.env.obs[t, 0].argmax()
        if rule == "sarsa" and state.env.episode_length[t, 0] > 0:
            assert a == state.action[t, 0]  # the one that the last target was computed with
        to = P[s, a].argmax()
        ends = state.env.episode_length[t + 1, 0] == 0
        seen["terminated" if terminal[to] else "truncated" if ends else "on"] += 1
        next_action = state.action[t + 1, 0] if rule == "sarsa" else None
        target = R[s, a]
        if not terminal[to]:
            target += gamma * worth(Q[t, k], Q[t, k - 1], to, next_action, 0.5)
        visits[k, s, a] += 1
        rate = 0.9 / visits[k, s, a] ** 0.6
        close(Q[t + 1, k, s, a], Q[t, k, s, a] + rate * (target - Q[t, k, s, a]), 1e-5)
    assert min(seen.values()) >= 5
    assert (visits.sum((1, 2)) > 20).all()  # both tables learn
    assert visits.sum() == steps - 1


def test_environments_that_meet_move_an_entry_once_by_their_mean():
    cfg = jaxpg.sarsa.Config(learning_rate=0.5, decay=1.0)
    tables = tabular.Tables(jnp.zeros((3, 2)), jnp.array([[0, 0], [3, 0], [0, 1]]))
    entry = jnp.array([1, 2, 1, 1]), jnp.array([0, 1, 0, 1])
    c = tabular.change(cfg, tables, entry, jnp.array([4.0, 2.0, 8.0, 1.0]))
    Q, visits = tabular.write(tables, c)
    close(Q, [[0, 0], [0.5 / 4 * 6, 0.5], [0, 0.5 / 2 * 2]], 1e-6)
    assert visits.tolist() == [[0, 0], [4, 1], [0, 2]]


def test_exploration_is_epsilon_greedy_and_breaks_ties_at_random():
    Q = jnp.array([[1.0, 3.0, 3.0, 0.0], [0.0, 0.0, 0.0, 0.0], [5.0, 1.0, 2.0, 3.0]])
    n = 20_000
    actions = jax.vmap(lambda k: tabular.explore(Q, 0.2, k))(jax.random.split(KEY, n))
    often = np.stack([np.bincount(a, minlength=4) for a in np.asarray(actions).T]) / n
    expected = np.array([[0.05, 0.45, 0.45, 0.05], [0.25] * 4, [0.85, 0.05, 0.05, 0.05]])
    assert (np.abs(often - expected) < 5 * np.sqrt(expected * (1 - expected) / n)).all()
    assert actions.dtype == jnp.int32
    none = jax.vmap(lambda k: tabular.explore(Q, 0.0, k))(jax.random.split(KEY, 99))
    assert (none[:, 2] == 0).all()
    assert set(none[:, 0].tolist()) == {1, 2}


def test_epsilon_is_that_of_the_newest_iteration():
    agent, env = jaxpg.expected_sarsa, jaxpg.make("GridWorld-jaxpg")
    cfg = agent.Config(num_steps=5, epsilon=0.4, epsilon_schedule="linear", total_steps=20.0)
    state = agent.init(cfg, env, KEY)
    assert float(state.epsilon) == pytest.approx(0.4)
    state, _ = jaxpg.train(agent, cfg, env, KEY, 15)
    assert float(state.epsilon) == pytest.approx(0.4 * 0.5)  # 10 of 20 steps, where it began


@pytest.mark.parametrize("name", NAMES)
def test_act_is_greedy_or_explores(name):
    agent, env = jaxpg.agents.get(name), jaxpg.make("GridWorld-jaxpg")
    cfg = agent.Config(epsilon=0.7)
    state = agent.init(cfg, env, KEY)
    Q = jnp.zeros(state.params.shape).at[..., 5, 2].set(1)
    state = state._replace(params=Q, epsilon=jnp.array(0.2))
    act = partial(agent.act, cfg, env, state, jnp.tile(jax.nn.one_hot(5, 16), (8000, 1)), (), KEY)
    assert (act(True)[0] == 2).all()
    assert np.mean(act(False)[0] == 2) == pytest.approx(1 - 0.2 * 3 / 4, abs=0.02)


# States from observations.


def test_bins_are_those_of_a_loop():
    env, bins, low, high = jaxpg.make("CartPole-v1"), (3, 1, 4, 5), (-1, -2, 0, -3), (1, 2, 1, 4)
    cfg = jaxpg.sarsa.Config(bins=bins, low=low, high=high)
    obs = np.random.default_rng(0).normal(scale=2, size=(500, 4)).astype(np.float32)
    obs[:4] = [[-1, 0, 0, 0], [1, 0, 1, 0], [1e9, 1e9, 1e9, 1e9], [-1e9, -1e9, -1e9, -1e9]]
    expected = []
    for row in obs:
        index = 0
        for x, n, lo, hi in zip(row, bins, low, high, strict=True):
            edges = [lo + (hi - lo) * i / n for i in range(1, n)]
            index = index * n + sum(x >= edge for edge in edges)
        expected.append(index)
    assert tabular.state_of(cfg, env, jnp.asarray(obs)).tolist() == expected
    assert tabular.num_states(cfg, env) == 60
    assert len(set(expected)) > 40


def test_bounds_of_the_space_are_the_default():
    env = jaxpg.make("MountainCar-v0")
    cfg = jaxpg.q_learning.Config(bins=(10, 10))
    obs = jnp.array([[-1.2, -0.07], [0.6, 0.07], [-0.3, 0.0]])
    assert tabular.state_of(cfg, env, obs).tolist() == [0, 99, 55]


ERRORS = {
    "continuous actions": (
        "Pendulum-v1",
        {},
        "sarsa.Config on Pendulum-v1, .* continuous",
    ),
    "no bins": ("CartPole-v1", {}, r"sarsa.Config bins=\(\) on CartPole-v1: .* tuple of 4 integer"),
    "too few bins": ("CartPole-v1", {"bins": (3, 3)}, r"bins=\(3, 3\) .* tuple of 4 integers"),
    "an empty bin": ("CartPole-v1", {"bins": (3, 3, 0, 3)}, r"bins=\(3, 3, 0, 3\): .*>= 1"),
    "no range": (
        "CartPole-v1",
        {"bins": (3,) * 4},
        r"low=\(\) .* tuple of 4 numbers.*unbounded in dimensions \[1, 3\]",
    ),
    "half a range": (
        "CartPole-v1",
        {"bins": (3,) * 4, "low": (-1.0,) * 4, "high": (1.0,)},
        r"high=\(1.0,\) .* tuple of 4 numbers",
    ),
    "a range upside down": (
        "MountainCar-v0",
        {"bins": (3, 3), "low": (0.0, 1.0), "high": (1.0, 1.0)},
        r"low=\(0.0, 1.0\): allowed are numbers below high",
    ),
    "a range in words": ("MountainCar-v0", {"low": ("a", "b")}, r"low=\('a', 'b'\)"),
    "an endless table": ("MountainCar-v0", {"bins": (50_000, 50_000)}, r"product below 2\*\*31"),
    "bins of a number": ("FrozenLake-misc", {"bins": (4,)}, r"bins=\(4,\) .* discrete.*\(\)"),
    "a range of a number": ("FrozenLake-misc", {"low": (0.0,)}, r"low=\(0.0,\) .* discrete"),
    "pixels": ("Breakout-MinAtar", {"bins": (2,)}, "a tuple of 400 integers"),
    "epsilon above one": ("FrozenLake-misc", {"epsilon": 1.5}, "epsilon=1.5.*<= 1"),
    "epsilon below zero": ("FrozenLake-misc", {"epsilon": -0.5}, "epsilon=-0.5.*>= 0"),
    "a step that grows": ("FrozenLake-misc", {"decay": -1.0}, "decay=-1.0.*>= 0"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_makes_no_table_is_named(case):
    name, fields, words = ERRORS[case]
    env = jaxpg.make(name)
    with pytest.raises(ValueError, match=words):
        run(jaxpg.sarsa, jaxpg.sarsa.Config(**fields), env, KEY, total_steps=10)


# The optimum.

SLIPS, SEEDS, GAMMA = (0.0, 0.2), 3, 0.9
LEARNERS = {
    # environment steps; fields; how far a value may be off, without slips and with them
    "q_learning": (240_000, {"epsilon": 1.0, "learning_rate": 1.0, "decay": 0.8}, (1e-3, 0.15)),
    "expected_sarsa": (240_000, {"epsilon": 0.3, "learning_rate": 1.0, "decay": 0.7}, (1e-3, 0.2)),
    "sarsa": (
        400_000,
        {
            "epsilon": 1.0, "epsilon_schedule": "cosine",
            "learning_rate": 0.3, "learning_rate_schedule": "linear",
        },
        (0.02, 0.1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", slow_of(NAMES, "sarsa", "expected_sarsa"))
def test_the_exact_optimum_is_found(name):
    """In example 4.1, without slips and with them, all seeds. Off the policy that it follows
    (Q-learning), with epsilon falling to 0 (Sarsa), and for a fixed one (Expected Sarsa)."""
    agent, (total_steps, fields, limits) = jaxpg.agents.get(name), LEARNERS[name]
    cfg, epsilon = agent.Config(num_envs=8, gamma=GAMMA, **fields), 0.0
    if name == "expected_sarsa":
        epsilon = cfg.epsilon

    train = partial(jaxpg.train, agent, total_steps=total_steps)
    train = jax.jit(jax.vmap(train, (None, None, 0)))
    for slip, limit in zip(SLIPS, limits, strict=True):
        env = jaxpg.make("GridWorld-jaxpg", slip=slip)
        P, R, *_ = T.model(env)
        best = dp.value_iteration(P, R, GAMMA, epsilon)
        for Q in np.asarray(train(cfg, env, jax.random.split(KEY, SEEDS))[0].params):
            Q = Q.reshape(R.shape)
            # What the policy is worth is the best that there is, in every state.
            value = dp.policy_evaluation(P, R, dp.greedy_policy(Q, epsilon), GAMMA)
            close(value, dp.soft_value(best, epsilon), 1e-4)
            if name == "sarsa":  # its other entries remember when it explored
                close(Q.max(-1), best.max(-1), limit)
            else:
                close(Q, best, limit)


# The cliff.


@pytest.fixture(scope="module")
def cliff():
    """100k steps at epsilon = 0.1 of three agents, 3 seeds, and what is exact about it."""
    env, epsilon = jaxpg.make("Cliff-jaxpg"), 0.1
    P, R, _, start = T.model(env)
    start = int(start.argmax())
    best, safest = (dp.value_iteration(P, R, 1.0, e) for e in (0.0, epsilon))
    edge = dp.policy_evaluation(P, R, dp.greedy_policy(best, epsilon), 1.0)[start]
    out = {"edge": float(edge), "soft": float(dp.soft_value(safest, epsilon)[start])}
    out |= {"best": best, "safest": safest, "start": start}
    rates = {"q_learning": (0.5, 0.0), "sarsa": (1.0, 0.6), "expected_sarsa": (1.0, 0.0)}
    for name, (rate, decay) in rates.items():
        agent = jaxpg.agents.get(name)
        cfg = agent.Config(gamma=1.0, epsilon=epsilon, learning_rate=rate, decay=decay)
        train = partial(jaxpg.train, agent, total_steps=100_000)
        runs = jax.jit(jax.vmap(train, (None, None, 0)))(cfg, env, jax.random.split(KEY, 3))
        metrics = jax.device_get(runs[1])
        Q = np.asarray(runs[0].params).reshape(3, *R.shape)
        online = [merge_metrics({k: m[i, 500:] for k, m in metrics.items()}) for i in range(3)]
        out[name] = {
            "Q": Q,
            "online": np.array([m["episode/return"] for m in online]),  # of the second half
            "path": [path(q, P, start) for q in Q],
        }
    return out


def path(Q, P, s):
    """The states of the greedy policy after s, at most 100."""
    states, terminal = [], np.asarray(P).sum((1, 2)) == 0
    while not terminal[s] and len(states) < 100:
        s = int(P[s, Q[s].argmax()].argmax())
        states.append(s)
    return states


@pytest.mark.slow
def test_q_learning_walks_along_the_edge_and_pays_for_it(cliff):
    edge = [*range(24, 36), 47]
    for q, way in zip(cliff["q_learning"]["Q"], cliff["q_learning"]["path"], strict=True):
        assert way == edge  # 13 steps, -13
        on_it = [cliff["start"], *edge[:-1]]
        close(q[on_it].max(-1), cliff["best"][jnp.array(on_it)].max(-1), 1e-4)
    assert cliff["edge"] == pytest.approx(-50.8, abs=0.01)
    assert cliff["q_learning"]["online"].mean() == pytest.approx(cliff["edge"], abs=3)


@pytest.mark.slow
def test_sarsa_keeps_away_and_earns_more(cliff):
    for way in cliff["sarsa"]["path"]:
        assert 13 < len(way) <= 17
        assert not set(way) & set(range(25, 35))  # never beside the cliff
    assert (cliff["sarsa"]["online"] > cliff["q_learning"]["online"].max() + 15).all()
    assert cliff["soft"] == pytest.approx(-20.71, abs=0.01)
    assert (cliff["sarsa"]["online"] > cliff["soft"] - 4).all()


@pytest.mark.slow
def test_expected_sarsa_finds_the_best_policy_that_explores(cliff):
    """Exactly, with steps of 1: nothing about it is random but where it goes."""
    for q, way in zip(cliff["expected_sarsa"]["Q"], cliff["expected_sarsa"]["path"], strict=True):
        assert len(way) == 15
        on_it = [cliff["start"], *way[:-1]]
        close(q[on_it].max(-1), cliff["safest"][jnp.array(on_it)].max(-1), 0.05)
    online = cliff["expected_sarsa"]["online"]
    assert online.mean() == pytest.approx(cliff["soft"], abs=1)
    assert online.mean() > cliff["sarsa"]["online"].mean() - 0.5
