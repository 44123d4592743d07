"""Agents of whole episodes take the environment's own limit, and wait no longer than they last."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg import agents
from jaxpg.core.train import episode_limit, episode_steps
from jaxpg.envs import registry
from tests import tabular
from tests.conftest import TINY, slow_of
from tests.test_contract import same_bytes

pytestmark = pytest.mark.defaults

KEY = jax.random.key(0)
SEARCHES = (
    "hill_climbing", "steepest_ascent", "simulated_annealing", "adaptive_noise", "cem", "es", "ars",
)  # fmt: skip
WHOLE = ("reinforce", *SEARCHES)
LONG = (  # the environments of which num_steps=500 is refused
    "MountainCarContinuous-v0", "Asterix-MinAtar", "Breakout-MinAtar", "Freeway-MinAtar",
    "Seaquest-MinAtar", "SpaceInvaders-MinAtar", "Catch-bsuite", "MemoryChain-bsuite", "Pong-misc",
    "GridWorld-jaxpg", "Cliff-jaxpg", "ShortCorridor-jaxpg", "FourRooms-jaxpg", "CliffCost-jaxpg",
)  # fmt: skip
QUICK = ("MountainCarContinuous-v0", "Catch-bsuite", "GaussianBandit-misc")
NAMES = registry.names()


def tiny(name, **fields):
    """A small config that leaves the length of episodes to the environment."""
    return agents.get(name).Config(**TINY[name] | {"num_steps": None} | fields)


def test_which_environments_have_long_episodes():
    assert {name for name in NAMES if episode_limit(jaxpg.make(name)) > 500} == {*LONG}


@pytest.mark.parametrize("env_name", slow_of(NAMES, *(x for x in NAMES if x not in QUICK)))
def test_every_environment_is_taken_by_all_that_play_whole_episodes(env_name):
    """Each agent is traced, as `run` does before it compiles."""
    env = jaxpg.make(env_name)
    for name in WHOLE:
        agent, cfg = agents.get(name), tiny(name, total_steps=1e6)

        def one(key, agent=agent, cfg=cfg):
            return agent.step(cfg, env, agent.init(cfg, env, key))

        _, metrics = jax.eval_shape(one, KEY)
        assert metrics["episode/return"].shape == ()
        if env_name in LONG:
            short = tiny(name, num_steps=500)
            with pytest.raises(ValueError, match=f"num_steps=500: .* >= {episode_limit(env)}, the"):
                agent.init(short, env, KEY)


def test_none_is_the_limit_of_the_environment():
    long, short = jaxpg.make("Catch-bsuite"), jaxpg.make("Pendulum-v1")
    cut = jaxpg.make("Catch-bsuite", max_steps_in_episode=7)
    cem, reinforce = tiny("cem"), tiny("reinforce")
    assert [episode_steps(cem, env) for env in (long, short, cut)] == [1000, 200, 7]
    assert [episode_steps(reinforce, env) for env in (long, short, cut)] == [1000, 500, 500]
    assert episode_steps(tiny("cem", num_steps=30), long) == 30
    lanes = jaxpg.make("Catch-bsuite", max_steps_in_episode=np.array([9, 30, 20]))
    assert episode_steps(cem, lanes) == 30


class Endless(tabular.Constant):
    """It says nothing of a limit."""

    default_params = ()


def test_none_is_500_where_there_is_no_limit():
    endless = tabular.make(Endless(True))
    assert episode_limit(endless) == 0
    assert episode_steps(tiny("cem"), endless) == 500 == episode_steps(tiny("cem"))


def test_where_it_is_traced_it_is_the_usual_one():
    seen = []
    count = lambda env: seen.append(episode_steps(tiny("cem"), env)) or jnp.zeros(())  # noqa: E731
    jax.eval_shape(count, jaxpg.make("Catch-bsuite", max_steps_in_episode=7))
    assert seen == [1000]


def test_what_stores_all_steps_is_not_asked_for_a_million_by_none():
    env = jaxpg.make("Catch-bsuite", max_steps_in_episode=1_000_000)
    says = "reinforce.Config num_steps=None: allowed is an integer >= 1000000, .* of Catch-bsuite"
    with pytest.raises(ValueError, match=says):
        jaxpg.run(jaxpg.reinforce, tiny("reinforce"), env, KEY, total_steps=100)
    jax.eval_shape(
        functools.partial(jaxpg.reinforce.init, tiny("reinforce", num_steps=1_000_000), env), KEY
    )


def test_a_limit_of_a_million_costs_nothing():
    """The same numbers, to the byte, as with the least limit that cuts no episode: and in time."""
    found = []
    for limit in (9, 1_000_000):
        env = jaxpg.make("Catch-bsuite", max_steps_in_episode=limit)
        cfg, agent = tiny("cem", episodes=3), jaxpg.cem
        result = jaxpg.run(agent, cfg, env, KEY, total_steps=3 * 5 * 3 * limit)
        assert result.iteration == 3
        assert result.cfg.num_steps == limit
        assert result.env_steps == 3 * 5 * 3 * limit
        np.testing.assert_array_equal(result.metrics["population/env_steps"], 5 * 3 * 9)
        found.append((result.state, result.metrics))
    same_bytes(*found)


@pytest.mark.parametrize("name", slow_of(("reinforce", "hill_climbing"), "hill_climbing"))
def test_a_folder_has_the_number(name, tmp_path):
    """It trains, and goes on: with all episodes whole, and the steps that were asked for."""
    agent, env, out = agents.get(name), jaxpg.make("Catch-bsuite"), tmp_path / "run"
    per = 2 * 1000 * (1 + getattr(tiny(name), "reevaluate", 0))
    made = jaxpg.run(
        agent, tiny(name), env, KEY, total_steps=2 * per, out=out, evaluations=0, checkpoints=1
    )
    assert (made.iteration, made.env_steps, made.cfg.num_steps) == (2, 2 * per, 1000)
    count = {"reinforce": 2 * (1000 // 9), "hill_climbing": 4}[name]
    np.testing.assert_array_equal(made.metrics["episode/count"], count)
    loaded = jaxpg.load(out)
    assert loaded.cfg == made.cfg
    more = jaxpg.resume(out, total_steps=3 * per)
    assert (more.iteration, more.env_steps) == (3, 3 * per)
    jitted = jax.jit(functools.partial(jaxpg.train, agent, total_steps=3 * per))
    same_bytes(more.state, jitted(tiny(name), env, KEY)[0])


@pytest.mark.slow  # its quick twin is a run with a limit of its own, above
def test_points_of_a_sweep_have_their_own_limits():
    points = jaxpg.sweep.grid({"env.max_steps_in_episode": [9, 2000]})
    found = jaxpg.sweep.run(
        jaxpg.cem, tiny("cem"), jaxpg.make("Catch-bsuite"), KEY, points, total_steps=5 * 2 * 2000,
        seeds=1, episodes=2,
    )  # fmt: skip
    steps = found.table.groupby("env.max_steps_in_episode")["env_steps"]
    assert dict(steps.min()) == {9: 5 * 2 * 9, 2000: 5 * 2 * 2000}  # of one iteration
