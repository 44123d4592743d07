"""A population's fitness against episodes that are played one by one."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import environment, spaces

import jaxpg
from jaxpg.agents import cem, steepest_ascent
from jaxpg.core import env as E
from jaxpg.loops import population
from jaxpg.ops import normalize
from tests import tabular

KEY = jax.random.key(3)
CARTPOLE = jaxpg.make("CartPole-v1", max_steps_in_episode=40)


def config(**fields):
    return cem.Config(**{"episodes": 3, "num_steps": 40, "hidden": ()} | fields)


def candidates(cfg, env, count=5, sigma=1.0):
    params = population.initial_params(cfg, env, jax.random.key(1))
    return population.neighbours(params, sigma, jax.random.key(2), count)


fitness = jax.jit(population.fitness)


def player(cfg, env, stats):
    """A function that plays a candidate's episodes step by step, with auto-resets: it returns
    their returns, their lengths and the observations."""
    act = jax.jit(lambda w, obs, k: population.act(cfg, env, w, stats, obs, (), k, False)[0])
    step = jax.jit(lambda state, action, key: E.step(env, state, action, key))

    def play(params, key):
        state = E.reset(env, jax.random.fold_in(key, 0), cfg.episodes)
        returns, lengths = np.zeros(cfg.episodes), np.zeros(cfg.episodes, int)
        alive, seen = np.ones(cfg.episodes, bool), []
        for time in range(cfg.num_steps):
            k_policy, k_env = jax.random.split(jax.random.fold_in(key, time + 1))
            seen.append(np.asarray(state.obs)[alive])
            state, t = step(state, act(params, state.obs, k_policy), k_env)
            returns, lengths = returns + np.asarray(t.reward) * alive, lengths + alive
            alive &= ~np.asarray(t.terminated | t.truncated)
        return returns, lengths, np.concatenate(seen)

    return play


@pytest.mark.parametrize(
    ("env", "fields"),
    [
        (CARTPOLE, {}),
        (CARTPOLE, {"greedy": False, "common_random_numbers": False}),
        (CARTPOLE, {"hidden": (4,), "slice_size": 2}),
        pytest.param(
            jaxpg.make("Pendulum-v1", max_steps_in_episode=9),
            {"greedy": False},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["linear", "sampled", "mlp in slices", "continuous"],
)
def test_fitness_is_the_mean_return_of_first_episodes(env, fields):
    cfg = config(**fields)
    some = candidates(cfg, env)
    stats = normalize.update_stats(
        normalize.init_stats(env.example_obs),
        jax.random.normal(KEY, (50, *env.example_obs.shape)) * 0.5 + 0.2,
    )
    value, merged, metrics = fitness(cfg, env, some, stats, KEY)
    keys = [KEY] * 5 if cfg.common_random_numbers else jax.random.split(KEY, 5)
    played = list(map(player(cfg, env, stats), some, keys))
    returns, lengths = (np.stack(x) for x in list(zip(*played, strict=True))[:2])
    np.testing.assert_allclose(value, returns.mean(-1), rtol=1e-4)
    assert len(set(np.asarray(value).tolist())) > 2  # they do differ
    assert metrics["episode/return"] == pytest.approx(returns.mean(), rel=1e-4)
    assert metrics["episode/length"] == pytest.approx(lengths.mean())
    assert metrics["episode/count"] == returns.size
    assert metrics["population/env_steps"] == lengths.sum()
    assert metrics["population/best"] == pytest.approx(returns.mean(-1).max(), rel=1e-4)
    assert metrics["population/mean"] == pytest.approx(returns.mean(), rel=1e-4)

    seen = np.concatenate([p[2] for p in played]).astype(float)
    n = float(stats.count) + len(seen)
    mean = (float(stats.count) * np.asarray(stats.mean) + seen.sum(0)) / n
    assert float(merged.count) == n
    np.testing.assert_allclose(merged.mean, mean, rtol=1e-3, atol=1e-4)
    square = float(stats.count) * (np.square(stats.std) + np.square(stats.mean))
    variance = (square + (seen**2).sum(0)) / n - mean**2
    np.testing.assert_allclose(normalize.std(merged), np.sqrt(variance), rtol=1e-3)


def test_rewards_after_the_first_end_do_not_count():
    for terminates in (True, False):
        env = tabular.make(tabular.Constant(terminates))
        cfg = config()
        value, _, metrics = fitness(cfg, env, candidates(cfg, env), (), KEY)
        np.testing.assert_array_equal(value, np.full(5, 8.0))
        assert metrics["episode/length"] == 8


def test_an_environment_with_a_step_of_its_own_is_stepped_by_it():
    class Bonus(tabular.Constant):
        def step(self, key, state, action, params):
            obs, state, reward, *rest = super().step(key, state, action, params)
            return obs, state, reward + 1, *rest

    cfg, env = config(), tabular.make(Bonus(True))
    value, *_ = fitness(cfg, env, candidates(cfg, env), (), KEY)
    np.testing.assert_array_equal(value, np.full(5, 16.0))


def test_slices_change_nothing():
    stats = normalize.init_stats(CARTPOLE.example_obs)
    for own in ({}, {"common_random_numbers": False}):
        cfg = config(**own)
        some = candidates(cfg, CARTPOLE, 7)
        whole = fitness(cfg, CARTPOLE, some, stats, KEY)
        for size in (3,) if own else (1, 3, 100):
            cut = dataclasses.replace(cfg, slice_size=size)
            parts = fitness(cut, CARTPOLE, some, stats, KEY)
            for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.slow  # its quick twin is that of slices
def test_devices_change_nothing():
    """Two devices are given to a process of its own; so are seeds that are spread already."""
    code = """
import jaxpg; jaxpg.use_all_cores(2)
import jax, numpy as np
from jaxpg.core.parallel.seeds import seed_mesh
env = jaxpg.make("CartPole-v1", max_steps_in_episode=40)
def train(devices, key, chunk=None):
    cfg = jaxpg.cem.Config(
        population=9, elites=3, episodes=2, num_steps=40, normalize_obs=True, devices=devices,
        slice_size=2)
    return jaxpg.run(jaxpg.cem, cfg, env, key, total_steps=4 * 9 * 2 * 40, chunk=chunk)
for key in (jax.random.key(0), jax.random.split(jax.random.key(0), 2)):
    one, two = train(1, key), train(2, key, chunk=2)
    for name in one.metrics:
        np.testing.assert_allclose(one.metrics[name], two.metrics[name], rtol=1e-4)
    np.testing.assert_allclose(one.state.params, two.state.params, rtol=1e-3, atol=1e-5)
    assert len(two.state.params.devices()) == 2
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


class Brittle(environment.Environment):
    """One step; the reward is the first of two actions, and NaN or infinite if that is negative."""

    name = "Brittle"
    default_params = tabular.Params(1)

    def reset_env(self, key, params):
        return jnp.ones(2), tabular.State(jnp.zeros((), jnp.int32))

    def step_env(self, key, state, action, params):
        bad = jnp.where(action[1] < 0, jnp.nan, jnp.inf)
        reward = jnp.where(action[0] < 0, bad, action[0])
        obs = jnp.where(action[0] < 0, jnp.nan, jnp.ones(2))
        return obs, tabular.State(state.time + 1), reward, state.time >= 0, {}

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (2,))

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (2,))


def test_what_is_not_finite_is_the_worst():
    cfg, env = config(num_steps=1), tabular.make(Brittle())
    some = candidates(cfg, env, 16).at[0].set(jnp.nan).at[1].set(jnp.inf)
    stats = normalize.init_stats(env.example_obs)
    value, stats, metrics = fitness(cfg, env, some, stats, KEY)
    action, _ = jax.vmap(
        lambda w: population.act(cfg, env, w, (), env.example_obs + 1, (), KEY, True)
    )(some)
    expected = np.where(action[:, 0] >= 0, action[:, 0], -np.inf)
    expected[:2] = -np.inf
    assert 2 < np.isinf(expected).sum() < 14
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    fine = expected[np.isfinite(expected)]
    assert metrics["population/mean"] == pytest.approx(fine.mean(), rel=1e-4)
    assert metrics["population/best"] == pytest.approx(fine.max(), rel=1e-4)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(stats))
    np.testing.assert_allclose(
        population.bounded(value), np.where(np.isfinite(expected), expected, fine.min()), rtol=1e-5
    )
    np.testing.assert_array_equal(population.bounded(jnp.full(3, -jnp.inf)), np.zeros(3))


def test_statistics_leave_out_a_candidate_whose_observations_are_not_finite():
    seen = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 5.0]])
    old = normalize.update_stats(normalize.init_stats(jnp.zeros(2)), jnp.asarray(seen[:2]))
    mean = jnp.array([[jnp.nan, 0], seen[2:].mean(0)])
    std = jnp.array([[1.0, 1], seen[2:].std(0)])
    new = population.merge_stats(old, normalize.RunningStats(jnp.full(2, 2.0), mean, std, ()))
    assert float(new.count) == 4
    np.testing.assert_allclose(new.mean, seen.mean(0), rtol=1e-6)
    np.testing.assert_allclose(new.std, seen.std(0), rtol=1e-6)


def test_a_greedy_search_stays_greedy():
    """Asked for samples, a policy that was searched by its mode gives that; another one draws."""
    env = jaxpg.make("Pendulum-v1")
    for greedy in (True, False):
        cfg = config(greedy=greedy, num_steps=200)
        w = candidates(cfg, env, 1)[0]
        mode, _ = population.act(cfg, env, w, (), jnp.ones((64, 3)), (), KEY, True)
        drawn, _ = population.act(cfg, env, w, (), jnp.ones((64, 3)), (), KEY, False)
        assert bool((mode == drawn).all()) is greedy


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"num_steps": 39}, r"cem.Config num_steps=39: .* >= 40, the longest episode of CartPole"),
        ({"devices": 99}, "devices=99: .* <= "),
        ({"devices": 0}, "devices=0.*>= 1"),
        ({"slice_size": 0}, "slice_size=0.*>= 1"),
        ({"episodes": 0}, "episodes=0.*>= 1"),
    ],
)
def test_bad_fields(fields, says):
    with pytest.raises(ValueError, match=says):
        population.initial_params(config(**fields), CARTPOLE, KEY)


def test_common_random_numbers_give_equals_the_same_fitness():
    for common in (True, False):
        cfg = config(common_random_numbers=common)
        same = jnp.repeat(candidates(cfg, CARTPOLE, 1), 6, 0)
        value, *_ = fitness(cfg, CARTPOLE, same, (), KEY)
        assert (len(set(np.asarray(value).tolist())) == 1) is common


def test_an_incumbent_plays_again_only_if_asked():
    env = CARTPOLE
    for again in (True, False):
        cfg = steepest_ascent.Config(episodes=3, num_steps=40, reevaluate=again)
        w, challengers = candidates(cfg, env, 1)[0], candidates(cfg, env, 3)
        score, value, stats, _ = population.challenge(
            cfg, env, w, jnp.float32(-7), challengers, (), KEY
        )
        assert stats == ()
        expected, *_ = population.fitness(cfg, env, jnp.stack([w, *challengers]), (), KEY)
        assert score == (expected[0] if again else -7)
        np.testing.assert_array_equal(value, expected[1:])
