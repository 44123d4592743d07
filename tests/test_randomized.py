"""Parameters are drawn anew for each episode, as their ranges say, and stay as long as it lasts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces
from scipy import stats

import jaxpg
from jaxpg.core import env as E
from jaxpg.envs import registry
from tests.conftest import TINY

KEY = jax.random.key(0)


@struct.dataclass
class State:
    time: jax.Array


@struct.dataclass
class Params:
    """Of all kinds that can be drawn, and one that cannot."""

    size: float = 1.0
    count: int = 3
    flag: bool = False
    pair: np.ndarray = struct.field(default_factory=lambda: np.array([1.0, 2.0]))
    mode: str = struct.field(pytree_node=False, default="easy")
    max_steps_in_episode: int = 4


class Shown(environment.Environment):
    """An environment whose observations are its parameters, and whose reward is one of them."""

    name, default_params = "Shown", Params()
    limits = {"size": (0.0, 10.0)}  # noqa: RUF012

    def reset_env(self, key, params):
        return self.look(params), State(jnp.zeros((), jnp.int32))

    def step_env(self, key, state, action, params):
        reward = params.size * action[0]
        state = State(state.time + 1)
        return self.look(params), state, reward, jnp.zeros((), bool), {}

    def look(self, params):
        parts = params.size, params.count, params.flag, params.pair[0], params.pair[1]
        return jnp.stack([jnp.asarray(x, float) for x in parts])

    def action_space(self, params):
        return spaces.Box(-params.size, params.size, (1,))

    def observation_space(self, params):
        return spaces.Box(-10 * params.size, 10 * params.size, (5,))


def shown(**params):
    return jaxpg.Env(Params(**params), Shown())


def first_obs(env, count, seed=0):
    return np.asarray(jax.jit(lambda env, k: E.reset(env, k, count).obs)(env, jax.random.key(seed)))


def roll(env, num_steps, num_envs=4):
    def act(obs, carry, key):
        return (
            jnp.ones((num_envs, *env.action_space.shape), int if env.discrete else float),
            carry,
            (),
        )

    def go(env, key):
        return E.rollout(env, act, E.reset(env, key, num_envs), (), key, num_steps)

    state, _, t, *_ = jax.jit(go)(env, KEY)
    return t, state


def test_draws_are_uniform_of_each_kind():
    env = jaxpg.randomized(
        shown(), size=(2.0, 6.0), count=(1, 4), flag=[True, False], pair=(0.0, np.array([1.0, 5.0]))
    )
    obs = first_obs(env, 4000)
    assert stats.kstest(obs[:, 0], stats.uniform(2, 4).cdf).pvalue > 0.01
    for i, values in ((1, range(1, 5)), (2, range(2))):
        found, counts = np.unique(obs[:, i], return_counts=True)
        assert found.tolist() == list(values)
        assert stats.chisquare(counts).pvalue > 0.01
    assert stats.kstest(obs[:, 3], stats.uniform(0, 1).cdf).pvalue > 0.01
    assert stats.kstest(obs[:, 4], stats.uniform(0, 5).cdf).pvalue > 0.01
    assert abs(np.corrcoef(obs.T) - np.eye(5)).max() < 0.06  # each for itself


def test_a_choice_is_one_of_the_list():
    env = jaxpg.randomized(shown(), pair=[np.array([0.0, 1.0]), np.array([5.0, 7.0])], size=[3, 4])
    rows, counts = np.unique(first_obs(env, 1000)[:, [0, 3, 4]], axis=0, return_counts=True)
    assert rows.tolist() == [[3, 0, 1], [3, 5, 7], [4, 0, 1], [4, 5, 7]]
    assert stats.chisquare(counts).pvalue > 0.01


def test_they_stay_within_an_episode_and_are_new_in_the_next():
    env = jaxpg.randomized(shown(), size=(1.0, 9.0))
    t, _ = roll(env, 24)
    np.testing.assert_array_equal(t.next_obs[..., 0], t.obs[..., 0])  # of an end too
    np.testing.assert_array_equal(t.reward, t.obs[..., 0])
    episodes = np.asarray(t.obs[..., 0]).reshape(6, 4, 4)  # of 4 steps each
    assert (episodes == episodes[:, :1]).all()
    assert len(np.unique(episodes)) == 24
    assert (np.asarray(t.truncated) == (np.arange(24) % 4 == 3)[:, None]).all()
    assert stats.kstest(episodes[:, 0].ravel(), stats.uniform(1, 8).cdf).pvalue > 0.01


@pytest.mark.parametrize("name", ["CartPole-v1", "CartPolePositions-jaxpg", "CartPoleCost-jaxpg"])
def test_an_episode_is_one_of_the_plain_environment_with_these_parameters(name):
    """What follows from a drawn mass is drawn with it; also around what resets itself."""
    plain = jaxpg.make(name, masscart=1.5)
    env = jaxpg.randomized(plain, gravity=(1.0, 30.0), masspole=[0.1, 0.5, 2.0])
    key, action = KEY, jnp.ones(5, jnp.int32)
    state = E.reset(env, key, 5)
    drawn = jax.tree.map(np.asarray, state.inner.memory)
    assert len(np.unique(drawn["gravity"])) == 5
    step = jax.jit(functools.partial(E.step, action=action))
    inner = state.inner.inner
    for i in range(6):
        state, t = step(env, state, key=jax.random.key(i))
        for lane in range(5):
            values = {name: float(x[lane]) for name, x in drawn.items()}
            one = registry.with_params(plain, **values)
            assert one.params.total_mass == pytest.approx(1.5 + values["masspole"])
            before = jax.tree.map(lambda x, lane=lane: x[lane], inner)
            obs = _true_successor(one, before)
            np.testing.assert_allclose(t.next_obs[lane], obs, rtol=1e-4, atol=1e-6)
        assert not (t.terminated | t.truncated).any()
        inner = state.inner.inner


@jax.jit
def _true_successor(env, state):
    return env.core.step(KEY, state, 1, env.params)[-1]["final_observation"]


def test_after_an_end_of_what_resets_itself_they_are_new():
    env = jaxpg.randomized(jaxpg.make("CartPolePositions-jaxpg"), gravity=(1.0, 30.0))
    state = E.reset(env, KEY, 3)
    step = jax.jit(lambda s, k: E.step(env, s, jnp.ones(3, jnp.int32), k))
    before, changed = np.asarray(state.inner.memory["gravity"]), 0
    for i in range(25):
        state, t = step(state, jax.random.key(i))
        now, end = np.asarray(state.inner.memory["gravity"]), np.asarray(t.terminated)
        np.testing.assert_array_equal(now != before, end)
        assert (abs(np.asarray(state.obs)[end]) <= 0.05).all()
        before, changed = now, changed + end.sum()
    assert changed >= 3


def test_spaces_have_all_that_can_be_drawn_in_them():
    env = jaxpg.randomized(shown(size=0.5), size=(1.0, 3.0), pair=[np.zeros(2), np.ones(2)])
    space = env.action_space
    np.testing.assert_array_equal((space.low, space.high), (-3, 3))
    wide = env.core.observation_space(env.params)
    np.testing.assert_array_equal((wide.low, wide.high), (-30, 30))


def test_a_time_limit_that_is_drawn_has_the_longest():
    env = jaxpg.randomized(shown(), max_steps_in_episode=(2, 6))
    assert env.params.max_steps_in_episode == 6
    t, _ = roll(env, 200, 2)
    lengths = np.diff(np.flatnonzero(np.asarray(t.truncated)[:, 0]))
    assert set(lengths) == {2, 3, 4, 5, 6}
    late = jaxpg.time_aware_observation(env)
    np.testing.assert_allclose(roll(late, 2, 2)[0].next_obs[:, 0, -1], [1 / 6, 2 / 6], rtol=1e-6)


def test_ranges_may_be_swept_and_seeds_side_by_side():
    env = jaxpg.randomized(jaxpg.make("CartPole-v1"), gravity=(8.0, 12.0))

    def drawn(high, key):
        other = registry.with_params(env, gravity_high=high)
        return E.reset(other, key, 50).inner.memory["gravity"]

    highs, keys = jnp.array([9.0, 20.0]), jax.random.split(KEY, 3)
    found = jax.jit(jax.vmap(jax.vmap(drawn, (None, 0)), (0, None)))(highs, keys)
    assert found.shape == (2, 3, 50)
    assert found.min() >= 8
    np.testing.assert_allclose(found.max((1, 2)), highs, rtol=0.03)
    assert len(np.unique(found[1])) == 150


def test_a_policy_is_evaluated_with_fixed_parameters():
    """In the plain environment, which has the same observations and actions."""
    plain = jaxpg.make("CartPole-v1", max_steps_in_episode=20)
    env, cfg = jaxpg.randomized(plain, gravity=(8, 12)), jaxpg.ppo.Config(**TINY["ppo"])
    state, _ = jax.jit(functools.partial(jaxpg.train, jaxpg.ppo, total_steps=16))(cfg, env, KEY)
    returns = jaxpg.evaluate(jaxpg.ppo, cfg, plain, state, KEY, episodes=4)
    assert np.isfinite(returns).all()


REFUSED = {
    "a name": ({"gravty": (8, 12)}, "gravity"),
    "all names": ({"colour": (8, 12)}, "to draw 'colour': Of the 11 that are allowed the nearest"),
    "a lone number": (
        {"gravity": 9.8},
        r"gravity=9.8: allowed is a range \(low, high\), or a list",
    ),
    "three numbers": ({"gravity": (1, 2, 3)}, "allowed is a range"),
    "an empty list": ({"gravity": []}, "at least one"),
    "the wrong way": ({"gravity": (12, 8)}, "gravity_low=12, gravity_high=8: allowed is a range"),
    "infinity": ({"gravity": (8, np.inf)}, "gravity_high=inf: allowed is a finite number"),
    "text": ({"gravity": ("a", "b")}, "gravity_low='a': allowed is a finite number"),
    "half a step": ({"max_steps_in_episode": (1.5, 3)}, "allowed is an integer"),
    "no step": ({"max_steps_in_episode": (0, 3)}, "allowed is a number >= 1"),
    "nothing": ({}, "allowed is at least one parameter"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_range_is_refused(case):
    ranges, words = REFUSED[case]
    with pytest.raises(ValueError, match=words) as error:
        jaxpg.randomized(jaxpg.make("CartPole-v1"), **ranges)
    assert "\n" not in str(error.value)


def test_what_cannot_be_drawn_is_refused():
    for ranges, words in (
        ({"mode": ["easy", "hard"]}, "mode"),
        ({"flag": (0, 1)}, "allowed is a list of values and no range"),
        ({"size": (-1.0, 2.0)}, "size_low=-1.0: allowed is a number >= 0.0 and <= 10.0"),
        ({"pair": (np.zeros(3), 1.0)}, "of numbers or arrays"),
        ({"pair": [1.0, 2.0]}, r"a list of values of shape \(2,\)"),
    ):
        with pytest.raises(ValueError, match=words):
            jaxpg.randomized(shown(), **ranges)
    env = jaxpg.randomized(jaxpg.make("CartPole-v1"), gravity=(8, 12))
    with pytest.raises(ValueError, match="gravity_low"):  # it has given way
        registry.with_params(env, gravity=9.0)
    with pytest.raises(ValueError, match=r"gravity_low=13\.0, gravity_high=12: allowed"):
        registry.with_params(env, gravity_low=13.0)
    with pytest.raises(ValueError, match="gravity"):
        jaxpg.randomized(env, gravity=(1, 2))
