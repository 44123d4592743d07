"""The off-policy loop, with learners and environments whose right answers are known."""

import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

from jaxpg.core.config import config, number, static
from jaxpg.core.env import Env
from jaxpg.loops import replay, updates
from jaxpg.replay import prioritized
from tests.conftest import slow_of


@config
class Config:
    num_envs: int = static(2)
    num_steps: int = static(3)
    buffer_size: int = static(48)
    learning_starts: int = static(0)
    random_warmup: bool = static(False)
    batch_size: int = static(4)
    updates_per_step: float = static(1.0)
    gamma: float = number(0.5)
    n_step: int = static(1)
    prioritized: bool = static(False)
    priority_exponent: float = number(0.5)
    importance_exponent: float = number(0.4)
    total_steps: float | None = number(600.0)

    memory: ClassVar[str] = "none"
    hindsight: ClassVar[str] = "none"
    bonus: ClassVar[str] = "none"
    normalize_obs: ClassVar[bool] = False
    normalize_reward: ClassVar[bool] = False


@struct.dataclass
class Params:
    max_steps_in_episode: int = 9


@struct.dataclass
class State:
    episode: jax.Array  # a number of its own
    time: jax.Array
    action: jax.Array  # the last one


class Diary(environment.Environment):
    """Observations say which episode it is, its time and the last action; the reward is the time.

    An episode terminates with probability 0.2 a step, and is cut at 9.
    """

    name, default_params = "Diary", Params()

    def __init__(self, discrete=True):
        self.discrete = discrete

    def obs(self, state):
        return jnp.stack([state.episode, state.time, state.action])

    def reset_env(self, key, params):
        state = State(jax.random.uniform(key), jnp.zeros(()), jnp.zeros(()))
        return self.obs(state), state

    def step_env(self, key, state, action, params):
        action = jnp.float32(action).reshape(())
        state = State(state.episode, state.time + 1, action)
        return self.obs(state), state, state.time, jax.random.bernoulli(key, 0.2), {}

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode

    def action_space(self, params):
        return spaces.Discrete(3) if self.discrete else spaces.Box(2.0, 6.0, (1,))

    def observation_space(self, params):
        return spaces.Box(-10, 10, (3,))


def env(discrete=True):
    core = Diary(discrete)
    return Env(core.default_params, core)


DISCRETE, BOX = env(), env(False)


def always(action):
    def policy(obs, noise, key):
        like = jnp.full(obs.shape[0], action, jnp.int32)
        return (like, noise) if isinstance(action, int) else (like[:, None] * 0.0 + action, noise)

    return policy


class Seen:
    """A learner that keeps its batches: [room, B, ...], and how many it saw."""

    @staticmethod
    def init(cfg, room=32):
        zeros = functools.partial(jnp.zeros, (room, cfg.batch_size))
        obs = jnp.zeros((room, cfg.batch_size, 3))
        batch = replay.Batch(obs, zeros(jnp.int32), zeros(), zeros(), obs, zeros(), {})
        return batch, jnp.zeros((), jnp.int32)

    @staticmethod
    def update(learner, batch, key):
        seen, count = learner
        seen = jax.tree.map(lambda s, x: s.at[count % len(s)].set(x), seen, batch)
        return (seen, count + 1), batch.obs[:, 1], {"seen/count": count.astype(float)}


@functools.partial(jax.jit, static_argnames=("iterations", "action"))
def go(cfg, env, learner, key, iterations, action=1, start=0, memory=None):
    """Several iterations; metrics are [iterations]."""

    def one(loop, i):
        memory, learner, key = loop
        key, k = jax.random.split(key)
        memory, learner, metrics = replay.step(
            cfg, env, memory, learner, always(action), Seen.update, i, k
        )
        return (memory, learner, key), metrics

    memory = replay.init(cfg, env, key) if memory is None else memory
    times = start + jnp.arange(iterations, dtype=jnp.int32)
    (memory, learner, _), metrics = jax.lax.scan(one, (memory, learner, key), times)
    return memory, learner, metrics


KEY = jax.random.key(0)


@pytest.mark.parametrize("ratio", slow_of([0.05, 1 / 3, 1, 1.25, 4], 1, 4))
def test_updates_are_counted_by_the_environments_steps(ratio):
    cfg = Config(updates_per_step=ratio)
    _, (_, count), metrics = go(cfg, DISCRETE, Seen.init(cfg), KEY, 20)
    assert int(count) == int(ratio * 20 * 6 + 1e-9)
    each = [int(updates.in_iteration(cfg, jnp.int32(i))) for i in range(20)]
    assert sum(each) == int(count)
    assert max(each) - min(each) <= 1
    # Means over an iteration's updates; no data where there are none.
    first = np.cumsum([0, *each[:-1]])
    expected = [f + (n - 1) / 2 if n else np.nan for f, n in zip(first, each, strict=True)]
    np.testing.assert_allclose(metrics["seen/count"], expected)


def test_nothing_is_learnt_while_warming_up():
    cfg = Config(learning_starts=20, updates_per_step=0.5, random_warmup=True)
    memory, (_, count), metrics = go(cfg, DISCRETE, Seen.init(cfg), KEY, 8)
    assert np.isnan(metrics["seen/count"]).tolist() == [True] * 3 + [False] * 5
    assert int(count) == 5 * 3
    # Actions are random until 20 transitions are stored: the first four iterations.
    actions = np.asarray(memory.buffer.data.action)
    assert set(actions[:24]) == {0, 1, 2}
    assert set(actions[24:48]) == {1}


def test_without_random_warmup_the_policy_acts():
    cfg = Config(learning_starts=20)
    memory, _, _ = go(cfg, DISCRETE, Seen.init(cfg), KEY, 8)
    assert set(np.asarray(memory.buffer.data.action)) == {1}


def test_actions_are_stored_as_the_policy_gave_them_and_stretched_for_the_environment():
    cfg = Config(random_warmup=True, learning_starts=24)
    learner = Seen.init(cfg)
    learner = learner[0]._replace(action=jnp.zeros((32, 4, 1))), learner[1]
    memory, _, _ = go(cfg, BOX, learner, KEY, 8, action=0.5)
    data = memory.buffer.data
    assert data.action.dtype == jnp.float32
    random, policy = np.asarray(data.action[:24, 0]), np.asarray(data.action[24:48, 0])
    assert random.min() < -0.5
    assert random.max() > 0.5
    assert np.abs(random).max() <= 1
    np.testing.assert_array_equal(policy, 0.5)
    np.testing.assert_allclose(data.next_obs[:, 2], 4 + 2 * data.action[:, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("n_step", "prioritized"),
    [
        (1, False),
        (3, True),
        pytest.param(3, False, marks=pytest.mark.slow),
        pytest.param(1, True, marks=pytest.mark.slow),
    ],
)
def test_nothing_crosses_an_episodes_end(n_step, prioritized):
    """Also once the buffer has wrapped: what was sampled belongs to one episode."""
    cfg = Config(n_step=n_step, prioritized=prioritized, updates_per_step=1.0)
    _, (seen, count), _ = go(cfg, DISCRETE, Seen.init(cfg, 180), KEY, 30)
    assert int(count) == 180
    b = jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), seen)
    np.testing.assert_array_equal(b.obs[:, 0], b.next_obs[:, 0])
    length = b.next_obs[:, 1] - b.obs[:, 1]
    assert set(length) == set(range(1, n_step + 1))
    begin = b.obs[:, 1]
    reward = sum((begin + 1 + k) * 0.5**k * (k < length) for k in range(n_step))
    np.testing.assert_allclose(b.reward, reward)
    over = b.discount == 0
    np.testing.assert_allclose(b.discount[~over], 0.5 ** length[~over])
    assert 0.1 < over.mean() < 0.7
    # A truncated step bootstraps from the last observation of its own episode.
    last = b.next_obs[:, 1] == 9
    assert (last & ~over).any()
    if n_step == 3:  # shorter ones end an episode, or the data
        short = (length < 3) & ~over & ~last
        assert short.mean() < 0.25


def test_priorities_follow_the_errors():
    """The TD error that `Seen` reports is the time of the step."""
    cfg = Config(prioritized=True, updates_per_step=5.0, batch_size=16)
    memory, _, _ = go(cfg, DISCRETE, Seen.init(cfg), KEY, 20)
    leaf = np.ravel(memory.priorities.sums[0])[:48]
    time = np.asarray(memory.buffer.data.obs[:, 1])
    largest = float(memory.priorities.largest)
    assert largest == pytest.approx(8)
    for p, t in zip(leaf, time, strict=True):  # learnt from, or new and as urgent as any
        assert min(abs(p - (t + prioritized.EPS) ** 0.5), abs(p - largest**0.5)) < 1e-4
    assert (np.abs(leaf - (time + prioritized.EPS) ** 0.5) < 1e-4).mean() > 0.8


def test_importance_weights_rise_to_their_full_exponent():
    cfg = Config(prioritized=True)
    memory, _, _ = go(cfg, DISCRETE, Seen.init(cfg), KEY, 10)
    for iteration, beta in ((0, 0.4), (50, 0.7), (100, 1.0), (10_000, 1.0)):
        index, b = replay.sample(cfg, memory.buffer, memory.priorities, jnp.int32(iteration), KEY)
        leaf = np.ravel(memory.priorities.sums[0]).astype(float)
        w = (48 * leaf / leaf.sum())[np.asarray(index)] ** -beta
        np.testing.assert_allclose(b.weight, w / w.max(), rtol=1e-4)


@pytest.mark.parametrize("on", [pytest.param(False, marks=pytest.mark.slow), True])
def test_lanes_of_a_vmap_are_on_their_own(on):
    """One lane is warm, the other is not; one updates in this iteration, the other does not."""
    cfg = Config(learning_starts=12, updates_per_step=0.25, prioritized=on)
    fresh, warm = (go(cfg, DISCRETE, Seen.init(cfg), KEY, n)[:2] for n in (0, 3))
    for start in (jnp.array([0, 0]), jnp.array([0, 1]), jnp.array([3, 5])):
        memory, learner = jax.tree.map(lambda *x: jnp.stack(x), fresh, warm)
        keys = jax.random.split(KEY, 2)

        def one(memory, learner, key, start):
            return go(cfg, DISCRETE, learner, key, 1, start=start, memory=memory)

        lanes = jax.jit(jax.vmap(one))(memory, learner, keys, start)
        for i, (memory, learner) in enumerate((fresh, warm)):
            own = one(memory, learner, keys[i], start[i])
            for x, y in zip(jax.tree.leaves(lanes), jax.tree.leaves(own), strict=True):
                np.testing.assert_allclose(x[i], y, rtol=1e-6)


def test_noise_is_carried_on_and_begins_anew_with_an_episode():
    cfg = Config(num_steps=40, buffer_size=80, updates_per_step=0.1)

    def policy(obs, noise, key):
        return jnp.minimum(noise, 2), noise + 1

    memory = replay.init(cfg, DISCRETE, KEY, jnp.zeros(2, jnp.int32))
    memory, _, _ = replay.step(
        cfg, DISCRETE, memory, Seen.init(cfg), policy, Seen.update, jnp.int32(0), KEY
    )
    data = memory.buffer.data
    np.testing.assert_array_equal(data.action, np.minimum(data.obs[:, 1], 2))
    np.testing.assert_array_equal(memory.carry, memory.env.inner.time)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"buffer_size": 5}, r"Config buffer_size=5: allowed is an integer >= .* = 6"),
        ({"buffer_size": 49, "n_step": 2}, r"buffer_size=49: .* a multiple of num_envs=2"),
        ({"learning_starts": 49}, r"learning_starts=49: allowed is an integer <= buffer_size=48"),
        ({"updates_per_step": 1e-6}, r"updates_per_step=1e-06: allowed is .* at least 1 update"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        replay.init(Config(**fields), DISCRETE, KEY)


def test_progress_needs_the_length_of_the_run():
    with pytest.raises(ValueError, match="total_steps=None"):
        replay.progress(Config(total_steps=None), jnp.int32(0))
