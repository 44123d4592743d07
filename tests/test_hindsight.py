"""Hindsight against a NumPy loop over all steps that were ever made."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxpg
from jaxpg.core.env import Env
from jaxpg.core.train import initial_state
from jaxpg.loops import replay
from jaxpg.replay import hindsight, uniform

ENVS, STEPS, CAPACITY, GAMMA = 2, 3, 24, 0.9  # two environments, of which the ring holds 12 steps
STRATEGIES = ("final", "future", "episode", "random")
KEY = jax.random.key(0)


class Symbols:
    """Goals of two numbers: which step it is, and a symbol, by which they are judged."""

    def goal_reward(self, achieved, desired, params):
        return -params * jnp.abs(achieved[1] - desired[1]) - 0.25

    def goal_reached(self, achieved, desired, params):
        return achieved[1] == desired[1]


ENV = Env(jnp.float32(2.0), Symbols())


class Step(NamedTuple):
    obs: dict
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    next_obs: dict


def empty():
    goal, no = jnp.zeros(2), jnp.zeros((), bool)
    obs = {"observation": jnp.zeros(()), "achieved": goal, "desired": goal}
    row = Step(obs, jnp.zeros(()), no, no, obs)
    return uniform.init(row, CAPACITY), hindsight.init(ENVS, CAPACITY)


@jax.jit
def store(buffer, episodes, rows, before):
    ended = rows.terminated | rows.truncated
    episodes = hindsight.add(episodes, buffer.position, before, ended)
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)
    return uniform.add(buffer, rows), episodes


def play(seed, writes, ends):
    """A ring after so many writes, and of each environment the list of all its steps."""
    rng, (buffer, episodes) = np.random.default_rng(seed), empty()
    history, before = [[] for _ in range(ENVS)], np.zeros(ENVS, np.int32)
    numbers, desired = np.zeros(ENVS, int), rng.integers(4, size=(ENVS, 2)).astype(np.float32)
    for _ in range(writes):
        lines, begun = [], before.copy()
        for _ in range(STEPS):
            for e in range(ENVS):
                achieved = np.float32([100 * e + len(history[e]), rng.integers(4)])
                ended = rng.random() < ends
                term, trunc = ended and rng.random() < 0.6, False
                trunc = bool(ended and not term)
                row = {
                    "episode": numbers[e], "achieved": achieved, "desired": desired[e].copy(),
                    "reward": np.float32(rng.normal()), "terminated": term, "truncated": trunc,
                }  # fmt: skip
                history[e].append(row)
                lines.append(row)
                before[e] += 1
                if ended:
                    numbers[e], before[e] = numbers[e] + 1, 0
                    desired[e] = rng.integers(4, size=2)
        columns = {k: np.array([r[k] for r in lines]) for k in lines[0]}
        columns = {k: x.reshape(STEPS, ENVS, *x.shape[1:]) for k, x in columns.items()}
        goals = {k: columns[k] for k in ("achieved", "desired")}
        obs = {"observation": columns["achieved"][..., 0], **goals}
        rows = Step(obs, *(columns[k] for k in Step._fields[1:4]), obs)
        buffer, episodes = store(buffer, episodes, jax.tree.map(jnp.asarray, rows), begun)
    return buffer, episodes, history


def stored_rows(history):
    """Where each row of the ring came from: {row: (environment, step)}."""
    made = len(history[0])
    kept = range(max(0, made - CAPACITY // ENVS), made)
    return {(t * ENVS + e) % CAPACITY: (e, t) for t in kept for e in range(ENVS)}


def allowed(history, e, t, strategy):
    """Steps, as (environment, step), whose achieved goal the strategy may give to step t of e."""
    rows = stored_rows(history).values()
    if strategy == "random":
        return set(rows)
    own = [s for f, s in rows if f == e and history[e][s]["episode"] == history[e][t]["episode"]]
    if strategy == "final":
        own = [max(own)]
    return {(e, s) for s in own if s >= t or strategy == "episode"}


def expected(history, e, t, goal, n):
    """Sum of rewards, discount and the last step of n steps from t, by a goal or, None, as met."""
    total, k, steps = 0.0, 0, history[e]
    while True:
        step = steps[t + k]
        reward, over = step["reward"], step["terminated"]
        if goal is not None:
            distance = abs(step["achieved"][1] - goal[1])
            reward, over = -2.0 * distance - 0.25, distance == 0
        total += GAMMA**k * reward
        k += 1
        ended = over or step["terminated"] or step["truncated"]
        if ended or k == n or t + k == len(steps):
            return total, 0.0 if over else GAMMA**k, steps[t + k - 1]


@functools.partial(jax.jit, static_argnames=("strategy", "n"))
def draw(buffer, episodes, index, key, strategy, n):
    goal, which = hindsight.draw_goals(buffer, episodes, index, strategy, 3, key)
    return goal, which, hindsight.n_step(ENV, buffer, index, goal, which, n, ENVS, GAMMA)


def check(seed, writes, ends, strategy, n, draw=draw):
    """Compares what is drawn for every stored row with the loops above."""
    buffer, episodes, history = play(seed, writes, ends)
    rows = stored_rows(history)
    index = np.resize(sorted(rows), CAPACITY).astype(np.int32)
    goal, which, found = draw(buffer, episodes, index, jax.random.key(seed), strategy, n)
    goal, which, (reward, discount, last) = jax.tree.map(np.asarray, (goal, which, found))
    for i, row in enumerate(index):
        e, t = rows[row]
        f, s = divmod(int(goal[i, 0]), 100)
        assert (f, s) in allowed(history, e, t, strategy)
        np.testing.assert_array_equal(history[f][s]["achieved"], goal[i])
        total, factor, step = expected(history, e, t, goal[i] if which[i] else None, n)
        np.testing.assert_allclose((reward[i], discount[i]), (total, factor), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(last["achieved"][i], step["achieved"])
        aim = goal[i] if which[i] else history[e][t]["desired"]
        np.testing.assert_array_equal(last["desired"][i], aim)


RINGS = st.tuples(st.integers(0, 10_000), st.integers(1, 11), st.sampled_from([0.02, 0.2, 0.6]))
MANY = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@pytest.mark.parametrize("strategy", STRATEGIES)
@MANY
@given(RINGS)
def test_goals_rewards_and_ends_are_those_of_a_loop(strategy, ring):
    """Rings in part, full, wrapped; episodes of one step, and longer than the ring."""
    check(*ring, strategy, 1 if strategy == "final" else 3)


WRAPPED = 3, 9, 0.2


def test_an_old_termination_that_is_kept_is_found(monkeypatch):
    """The reward is of the new goal and the end of the old one: it still learns, so only this sees
    it."""
    check(*WRAPPED, "future", 3)
    judge = hindsight.judge

    def keep(env, data, rows, *goal):
        return judge(env, data, rows, *goal)[0], data.terminated[rows]

    monkeypatch.setattr(hindsight, "judge", keep)
    traced_anew = lambda *x: draw.__wrapped__(*x)  # noqa: E731
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check(*WRAPPED, "future", 3, draw=jax.jit(traced_anew, static_argnums=(4, 5)))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "ring", [(3, 2, 0.05), pytest.param(WRAPPED, marks=pytest.mark.slow)], ids=["part", "wrapped"]
)
def test_every_goal_that_is_allowed_is_drawn_equally_often(ring, strategy):
    """By one chi-square statistic over all rows."""
    buffer, episodes, history = play(*ring)
    rows, count = stored_rows(history), 2000
    index = jnp.repeat(jnp.array(sorted(rows), jnp.int32), count)
    goal = jax.jit(hindsight.draw_goals, static_argnums=(3, 4))(
        buffer, episodes, index, strategy, 4, KEY
    )[0]
    steps = np.asarray(goal[:, 0], int).reshape(len(rows), count)
    statistic = freedom = 0
    for row, found in zip(sorted(rows), steps, strict=True):
        may = sorted(100 * f + s for f, s in allowed(history, *rows[row], strategy))
        values, counts = np.unique(found, return_counts=True)
        assert values.tolist() == may
        statistic += scipy.stats.chisquare(counts).statistic
        freedom += len(may) - 1
    assert freedom == 0 or scipy.stats.chi2.sf(statistic, freedom) > 1e-3


@pytest.mark.parametrize("goals", [1, 4])
def test_a_share_of_the_rows_has_a_new_goal(goals):
    buffer, episodes, _ = play(*WRAPPED)
    index = jnp.zeros(40_000, jnp.int32)
    which = hindsight.draw_goals(buffer, episodes, index, "final", goals, KEY)[1]
    assert float(which.mean()) == pytest.approx(goals / (goals + 1), abs=0.01)


def test_lanes_of_a_vmap_have_their_own_episodes():
    rings = [play(*ring)[:2] for ring in (WRAPPED, (4, 2, 0.6))]
    buffers, episodes = jax.tree.map(lambda *x: jnp.stack(x), *rings)
    index, keys = jnp.arange(12, dtype=jnp.int32), jax.random.split(KEY)
    lanes = jax.jit(jax.vmap(lambda *x: draw(*x, "future", 3), (0, 0, None, 0)))(
        buffers, episodes, index, keys
    )
    for i, (buffer, own) in enumerate(rings):
        one = draw(buffer, own, index, keys[i], "future", 3)
        for x, y in zip(jax.tree.leaves(lanes), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(x[i], y, rtol=1e-5)


def bits(n=3):
    return jaxpg.make("BitFlip-jaxpg", n=n)


SMALL = {
    "num_envs": 2, "num_steps": 3, "hidden": (4,), "buffer_size": 24, "learning_starts": 6,
    "batch_size": 8, "updates_per_step": 0.5, "hindsight": "future",
}  # fmt: skip


DQN = jaxpg.dqn.Config(**SMALL, n_step=2, prioritized=True, total_steps=100.0)


@pytest.fixture(scope="module")
def learn(tmp_path_factory):
    """Runs of DQN on three bits, ten iterations: the ring is full and has wrapped."""
    root = tmp_path_factory.mktemp("runs")

    @functools.cache
    def run(name, stop=None):
        callbacks = [lambda event: event.iteration == stop]
        return jaxpg.run(
            jaxpg.dqn, DQN, bits(), KEY, total_steps=60, chunk=2, checkpoints=2,
            evaluations=0, out=root / name, callbacks=callbacks,
        )  # fmt: skip

    return root, run


def test_what_a_run_draws_is_judged_by_the_goals_it_is_seen_with(learn):
    """Of a buffer with priorities, two steps ahead."""
    env, cfg = bits(), jaxpg.core.config.replace(DQN, batch_size=256)
    r = learn[1]("whole").state.replay
    index, b = jax.jit(functools.partial(replay.sample, cfg))(
        r.buffer, r.priorities, jnp.int32(0), KEY, r.obs_stats, r.reward_scale, env, r.episodes
    )
    index, b, data = jax.tree.map(np.asarray, (index, b, r.buffer.data))
    goal, after = b.obs["desired"], b.next_obs["achieved"]
    np.testing.assert_array_equal(b.next_obs["desired"], goal)
    reached, seen = (after == goal).all(-1), (goal != data.obs["desired"][index]).any(-1)
    assert 0.3 < seen.mean() < 0.9
    assert 0.2 < reached.mean() < 0.9
    np.testing.assert_array_equal(b.discount == 0, reached)
    steps = np.log(b.discount[~reached]) / np.log(0.99)
    assert set(steps.round(3)) == {1, 2}
    sums = np.where(steps.round() == 1, -1, -1.99)
    np.testing.assert_allclose(b.reward[~reached], sums, rtol=1e-5)
    assert set(b.reward[reached].tolist()) == {0, -1}
    # A new goal is what the same episode achieved from this row on.
    ended, at = data.terminated | data.truncated, int(r.buffer.position)
    for row, g in zip(index[seen], goal[seen], strict=True):
        future = []
        while True:
            future.append(data.next_obs["achieved"][row].tolist())
            if ended[row] or (row + 2) % CAPACITY in (at, at + 1):
                break
            row = (row + 2) % CAPACITY
        assert g.tolist() in future
    leaf = np.ravel(r.priorities.sums[0]).astype(float)
    w = (CAPACITY * leaf / leaf.sum())[index] ** -0.4
    np.testing.assert_allclose(b.weight, w / w.max(), rtol=1e-4)


def test_a_run_goes_on_byte_identically(learn):
    """Stopped in the middle and resumed, the table of episodes is that of the run in one piece."""
    root, run = learn
    whole = run("whole")
    assert run("stopped", stop=4).iteration == 4
    resumed = jaxpg.resume(root / "stopped")
    assert (whole.iteration, resumed.iteration) == (10, 10)
    assert resumed.state.replay.episodes.number.shape == (CAPACITY,)
    raw = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    for x, y in zip(*map(jax.tree.leaves, (whole.state, resumed.state)), strict=True):
        assert np.asarray(raw(x)).tobytes() == np.asarray(raw(y)).tobytes()
    assert np.isfinite(whole.metrics["loss/q"][-1]).all()


def point():
    return jaxpg.make("PointReach-jaxpg", max_steps_in_episode=4, tolerance=0.5)


AGENTS = ("dqn", "ddpg", "td3", "sac")


def with_hindsight(name):
    agent = getattr(jaxpg, name)
    if name == "dqn":
        return agent, bits(), DQN
    return agent, point(), agent.Config(**SMALL, normalize_obs=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", AGENTS)
def test_seeds_side_by_side_are_those_alone(name):
    """Integers of two seeds are those of each alone; what is learnt is finite."""
    agent, env, cfg = with_hindsight(name)
    train = functools.partial(jaxpg.train, agent, cfg, env, total_steps=36)
    states, metrics = jax.jit(jax.vmap(train))(jax.random.split(KEY))
    one, _ = jax.jit(train)(jax.random.split(KEY)[1])
    for x, y in zip(states.replay.episodes, one.replay.episodes, strict=True):
        np.testing.assert_array_equal(x[1], y)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(states.learner))
    assert np.isfinite(metrics["loss/q"][:, -1]).all()


@pytest.mark.parametrize("name", AGENTS)
def test_a_state_with_hindsight_keeps_its_shapes(name):
    agent, env, cfg = with_hindsight(name)
    begin = jax.eval_shape(functools.partial(initial_state, agent), cfg, env, KEY)
    after, metrics = jax.eval_shape(agent.step, cfg, env, begin)
    shapes = [jax.tree.map(lambda x: (x.shape, x.dtype), state) for state in (begin, after)]
    assert shapes[0] == shapes[1]
    assert begin.replay.episodes.length.shape == (CAPACITY,)
    assert all(x.shape == () for x in metrics.values())


@pytest.mark.parametrize("name", AGENTS)
def test_it_is_off_unless_asked_for(name):
    agent = getattr(jaxpg, name)
    assert agent.Config().hindsight == "none"
    env = bits() if name == "dqn" else point()
    state = jax.eval_shape(functools.partial(agent.init, agent.Config(), env), KEY)
    assert state.replay.episodes == ()


@pytest.mark.parametrize(
    ("fields", "env", "message"),
    [
        ({}, "CartPole-v1", "dqn.Config hindsight='future' on CartPole-v1, .*: allowed are env"),
        ({"hindsight": "futur"}, "", "hindsight='futur': did you mean 'future'.*'episode'"),
        ({"hindsight_goals": 0}, "", "hindsight_goals=0: allowed is an integer >= 1"),
        ({"memory": "gru"}, "", "hindsight=future: with memory='gru' allowed is none"),
        ({"buffer_size": 25}, "", "buffer_size=25: allowed is an integer, a multiple of num_envs"),
    ],
)
def test_what_cannot_work_is_refused(fields, env, message):
    env = jaxpg.make(env) if env else bits()
    cfg = jaxpg.dqn.Config(**SMALL | fields)
    with pytest.raises(ValueError, match=message):
        jaxpg.dqn.init(cfg, env, KEY)
