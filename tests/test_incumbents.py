"""Searches with an incumbent that whiten observations, on an environment whose own are known: each
episode is the same four of them, whatever the actions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import environment, spaces

from jaxpg import agents
from jaxpg.core.train import initial_state
from jaxpg.loops import population
from jaxpg.ops import normalize
from tests import tabular
from tests.conftest import slow_of

KEY = jax.random.key(0)
LOCAL = ("hill_climbing", "steepest_ascent", "simulated_annealing", "adaptive_noise")
SEEN = np.array([[100 + t, 0.001 * t] for t in range(4)], np.float32)
AIM = np.array([-1.5, -0.5, 0.5, 1.5], np.float32)  # as the second dimension goes


class Scales(environment.Environment):
    """Four steps; the reward is minus the squared distance of the action from AIM."""

    name = "Scales"
    default_params = tabular.Params(4)

    def reset_env(self, key, params):
        return jnp.asarray(SEEN[0]), tabular.State(jnp.zeros((), jnp.int32))

    def step_env(self, key, state, action, params):
        reward = -jnp.square(action[0] - jnp.asarray(AIM)[state.time])
        state = tabular.State(state.time + 1)
        return jnp.asarray(SEEN)[state.time % 4], state, reward, state.time >= 4, {}

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (1,))

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (2,))


ENV = tabular.make(Scales())


@functools.cache
def journey(name, iterations=60, **fields):
    """The config, all states but the first one, and the metrics of a run."""
    agent = agents.get(name)
    cfg = agent.Config(**{"episodes": 2, "hidden": (), "total_steps": 1e9} | fields)

    def body(state, _):
        state, metrics = agent.step(cfg, ENV, state)
        return state, (state._replace(key=()), metrics)

    run = jax.jit(lambda state: jax.lax.scan(body, state, None, iterations)[1])
    return cfg, *jax.device_get(run(initial_state(agent, cfg, ENV, KEY)))


def acting(states):
    """The parameters that act, and what they came with."""
    if hasattr(states, "best"):
        return states.best, states.best_score
    return states.params, states.score


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("name", slow_of(LOCAL, *LOCAL[1:3]))
def test_what_acts_is_what_was_scored(name, again):
    """Played through the statistics that the state keeps beside it, it earns its score."""
    cfg, states, _ = journey(name, normalize_obs=True, reevaluate=again)
    params, score = acting(states)

    def earns(params, stats):
        return population.fitness(cfg, ENV, params[None], stats, KEY)[0][0]

    found = jax.jit(jax.vmap(earns))(params, states.acting_stats)
    np.testing.assert_allclose(found, score, rtol=2e-4)
    moved = np.abs(np.diff(params, axis=0)).max(-1) > 0
    assert 2 < moved.sum() < 58
    if not again:  # through the newest statistics another policy would act, at first
        other = jax.jit(jax.vmap(earns))(params, states.obs_stats)
        assert not np.allclose(other[:1], score[:1], rtol=1e-2)


@pytest.mark.parametrize("name", LOCAL)
def test_statistics_are_those_of_all_that_was_met(name):
    _, states, metrics = journey(name, normalize_obs=True)
    lived = np.cumsum(metrics["population/env_steps"])
    np.testing.assert_array_equal(states.obs_stats.count, lived)
    np.testing.assert_allclose(states.obs_stats.mean, len(lived) * [SEEN.mean(0)], rtol=1e-5)
    np.testing.assert_allclose(states.obs_stats.std, len(lived) * [SEEN.std(0)], rtol=1e-4)


@pytest.mark.parametrize("name", LOCAL)
def test_act_whitens_by_the_statistics_of_the_score(name):
    agent = agents.get(name)
    cfg, states, _ = journey(name, normalize_obs=True)
    last = jax.tree.map(lambda x: jnp.asarray(x[-1]), states)
    other = normalize.update_stats(last.obs_stats, jnp.full((50, 2), 7.0))
    last, obs = last._replace(obs_stats=other), jnp.asarray(SEEN)
    white = (SEEN - SEEN.mean(0)) / SEEN.std(0)
    bare = last._replace(obs_stats=(), acting_stats=())
    found, _ = agent.act(cfg, ENV, last, obs, (), KEY, True)
    expected, _ = agent.act(cfg, ENV, bare, jnp.asarray(white, jnp.float32), (), KEY, True)
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3)
    assert not np.allclose(found, agent.act(cfg, ENV, bare, obs, (), KEY, True)[0], rtol=0.1)


@pytest.mark.parametrize("name", slow_of(LOCAL, *LOCAL[1:3]))
def test_a_dimension_of_small_numbers_is_learnt_from_only_if_it_is_scaled(name):
    best = {}
    for on in (True, False):
        _, states, _ = journey(name, 150, normalize_obs=on)
        best[on] = acting(states)[1][-1]
    assert best[True] > -2.5
    assert best[False] < -4.5  # a constant action earns -5


@pytest.mark.parametrize("name", LOCAL)
def test_without_it_a_state_has_no_statistics(name):
    _, states, _ = journey(name, 150, normalize_obs=False)
    assert states.obs_stats == states.acting_stats == ()
