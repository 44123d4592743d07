"""Agents and the host loop under JAX's own checkers: reuse of keys, NaN."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg.loops.options import option_metrics
from tests.conftest import INSTALLED, TINY, short_env

QUICK = ("q_learning", "sac_discrete")
SLOW = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in INSTALLED]


@pytest.fixture(params=SLOW)
def tiny_agent(request):
    agent = getattr(jaxpg, request.param)
    cfg = agent.Config(**TINY[agent.name])
    return agent, cfg, short_env(agent, cfg)


@pytest.fixture
def debug_nans():
    """The flag is no part of what JAX remembers programs by."""
    jax.clear_caches()
    with jax.debug_nans(True):
        yield
    jax.clear_caches()


def test_no_key_is_used_twice(tiny_agent):
    """Of players with parameters of their own, which are a `vmap`, the checker cannot judge either
    (see below)."""
    agent, cfg, env = tiny_agent
    if agent.name == "mappo":
        cfg = dataclasses.replace(cfg, share_parameters=True)
    total = 2 * agent.steps_per_iter(cfg)
    with jax.debug_key_reuse(True):
        jax.eval_shape(lambda key: jaxpg.train(agent, cfg, env, key, total), jax.random.key(0))


def test_no_key_is_used_twice_around_the_chunks(tmp_path):
    """Of several seeds the checker cannot judge: it takes the transposed keys of a `scan` under
    `vmap` for used ones."""
    env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(num_envs=2, num_steps=4)
    asked = {"evaluations": 2, "episodes": 2, "checkpoints": 2}
    stop = [lambda event: event.iteration == 2]
    with jax.debug_key_reuse(True):
        jaxpg.run(
            jaxpg.q_learning, cfg, env, jax.random.key(0), total_steps=32, chunk=1,
            out=tmp_path / "run", callbacks=stop, **asked,
        )  # fmt: skip
        assert jaxpg.resume(tmp_path / "run").stopped == "done"
        assert jaxpg.load(tmp_path / "run").iteration == 4


def test_no_data_is_no_error_to_the_checker_of_nans(tiny_agent, debug_nans):
    """With two environments and two to eight steps, no episode ends in the first iteration of most
    agents, and no update is made."""
    agent, cfg, env = tiny_agent
    total = 3 * agent.steps_per_iter(cfg)
    jax.jit(lambda key: jaxpg.train(agent, cfg, env, key, total))(jax.random.key(0))


@pytest.mark.slow
def test_a_cost_and_an_option_of_no_episode_are_no_error_to_the_checker_of_nans(debug_nans):
    """Episodes are longer than the run, and options than a rollout."""
    constrained = jaxpg.ppo_lagrangian.Config(
        **TINY["ppo_lagrangian"] | {"cost_limit": 1.0, "num_envs": 1, "num_steps": 4}
    )
    cliff = jaxpg.make("CliffCost-jaxpg")
    jax.jit(lambda key: jaxpg.train(jaxpg.ppo_lagrangian, constrained, cliff, key, 8))(
        jax.random.key(0)
    )
    never = np.zeros((4, 1), bool)
    found, _ = option_metrics(jax.numpy.zeros((4, 1), int), never, never, np.zeros(1, int), 2)
    assert found["options/length"] < -1e38


def test_a_run_says_no_data_by_nan_under_the_checker_too(debug_nans):
    env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(num_envs=1, num_steps=2)

    def metrics():
        key = jax.random.key(0)
        return jaxpg.run(jaxpg.q_learning, cfg, env, key, total_steps=8).metrics

    checked = metrics()
    assert np.isnan(checked["episode/return"][0])
    jax.clear_caches()
    with jax.debug_nans(False):
        expected = metrics()
    for name in expected:
        np.testing.assert_array_equal(checked[name], expected[name], strict=True)


@pytest.mark.slow
def test_lanes_that_stand_still_are_no_error_to_the_checker_of_nans(debug_nans):
    """A sweep ends its seeds at a target, and measures them no more."""
    points = jaxpg.sweep.grid(learning_rate=[0.1, 0.2])
    env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(num_envs=1, num_steps=2)
    found = jaxpg.sweep.run(
        jaxpg.q_learning, cfg, env, jax.random.key(0), points,
        total_steps=16, seeds=1, target=-1e9, evaluations=4, episodes=1,
    )  # fmt: skip
    assert set(found.scores["ended"]) == {"target"}


@pytest.mark.parametrize("name", ["cem", "es"])
def test_no_key_is_used_twice_where_slices_are_filled_up(name):
    """Of a population that fills no whole number of slices the last candidate lives twice."""
    agent = getattr(jaxpg, name)
    cfg = agent.Config(**TINY[name] | {"common_random_numbers": False, "slice_size": 4})
    env = short_env(agent, cfg)
    with jax.debug_key_reuse(True):
        jax.eval_shape(lambda key: jaxpg.train(agent, cfg, env, key, 1), jax.random.key(0))


@pytest.mark.slow
def test_a_nan_that_is_learnt_is_an_error_to_the_checker_of_nans(debug_nans):
    cfg = jaxpg.reinforce.Config(**TINY["reinforce"] | {"learning_rate": 1e38})
    env = short_env(jaxpg.reinforce, cfg)
    total = 6 * jaxpg.reinforce.steps_per_iter(cfg)
    with pytest.raises(FloatingPointError):
        jaxpg.run(jaxpg.reinforce, cfg, env, jax.random.key(0), total_steps=total)
