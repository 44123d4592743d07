"""MuJoCo Playground: the adapter against Playground's own code, step by step.

As `test_suites.py` has it for the other suites; without Playground all is skipped.
"""

import functools

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg.cli import main
from jaxpg.envs import registry
from tests.test_suites import LANES, STEPS, TINY, Own, alike, play, replay, train_and_resume

playground = pytest.importorskip("mujoco_playground")

from mujoco_playground._src import mjx_env  # noqa: E402
from mujoco_playground._src.wrapper import wrap_for_brax_training  # noqa: E402

NAME, LIMIT = "playground/CartpoleBalance", 20
KEY = jax.random.key(0)
DOWNLOADED = mjx_env.MENAGERIE_PATH.exists()


def own():
    """Playground's own environment, on the physics that needs no GPU, and its own wrapper."""
    env = playground.registry.load("CartpoleBalance", config_overrides={"impl": "jax"})

    def reset(key):
        state = env.reset(key)
        return state, state.obs

    def step(state, action, key):
        state = env.step(state.replace(info=state.info | {"rng": key}), action)
        return state, state.obs, state.reward, state.done == 1

    def wrapped(first, actions):
        """Of all lanes at once, from the same first states: its reset splits keys."""
        limited = wrap_for_brax_training(env, episode_length=LIMIT)
        state = limited.reset(jax.random.key_data(first))
        inner = jax.vmap(env.reset)(first)
        state = state.replace(data=inner.data, obs=inner.obs)

        def body(state, action):
            state = limited.step(state, action)
            return state, (state.reward, state.done == 1)

        return jax.lax.scan(body, state, actions)[1]

    return Own(reset, step, wrapped)


@pytest.fixture(scope="module")
def played():
    """A rollout, and the same by Playground's own code."""
    env, theirs = jaxpg.make(NAME, max_steps_in_episode=LIMIT), own()
    t, metrics, first, keys = jax.jit(functools.partial(play, (STEPS, LANES)))(env, KEY)
    replayed = jax.jit(functools.partial(replay, theirs, LIMIT, None))(first, keys, t.action)
    wrapped = jax.jit(theirs.wrapped)(first, t.action)
    return t, metrics, replayed, wrapped


def test_steps_are_the_suites_own(played):
    """Observations, rewards, ends, and the true successor at each end, over 10,240 steps. Nothing
    terminates in it; its time limit truncates."""
    t, metrics, (obs, reward, terminated, truncated, final), _ = played
    np.testing.assert_array_equal(t.terminated, terminated)
    np.testing.assert_array_equal(t.truncated, truncated)
    np.testing.assert_allclose(t.reward, reward, rtol=1e-5, atol=1e-6)
    alike(t.obs, obs)
    alike(t.next_obs, final)
    assert truncated.sum() == STEPS * LANES / LIMIT
    assert not terminated.any()
    assert metrics["episode/count"] == truncated.sum()
    assert np.ptp(reward) > 0.1


def test_returns_are_those_of_the_suites_own_wrapper(played):
    """Of every lane's first episode; it plays the same first state again and again."""
    t, _, _, (rewards, ends) = played
    np.testing.assert_array_equal(ends[:LIMIT], t.truncated[:LIMIT])
    ours, theirs = (np.sum(x[:LIMIT], 0) for x in (t.reward, rewards))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_the_time_limit_is_that_of_the_config():
    assert jaxpg.make(NAME).params.max_steps_in_episode == 1000
    env = jaxpg.make(NAME, episode_length=50, ctrl_dt=0.02)
    assert env.params.max_steps_in_episode == 50
    assert env.core.inner.n_substeps == 2
    with pytest.raises(ValueError, match="parameter 'episode_lenght': did you mean 'episode_len"):
        jaxpg.make(NAME, episode_lenght=50)


def test_the_command_lists_names_that_need_no_download(capsys):
    assert main(["list", "--suite", "playground"]) == 0
    listed = capsys.readouterr().out.split()
    suite = {f"playground/{name}" for name in playground.dm_control_suite.ALL_ENVS}
    assert NAME in suite
    assert suite < {*listed} if DOWNLOADED else suite == {*listed}
    assert all(map(registry.is_registered, listed))


def test_a_run_by_the_command_that_was_resumed_is_one_in_python(tmp_path, monkeypatch):
    """To the bit: the command stops after half of it and goes on."""
    resumed = train_and_resume(NAME, monkeypatch, tmp_path)
    env = jaxpg.make(NAME, max_steps_in_episode=6)
    cfg = jaxpg.preset("ppo", NAME, **TINY)
    whole = jaxpg.run(jaxpg.ppo, cfg, env, KEY, total_steps=64)
    assert (resumed.env, resumed.iteration) == (env, whole.iteration)
    for a, b in zip(jax.tree.leaves(resumed.state), jax.tree.leaves(whole.state), strict=True):
        np.testing.assert_array_equal(*map(as_numbers, (a, b)))
    np.testing.assert_array_equal(resumed.metrics["loss/policy"], whole.metrics["loss/policy"])
    assert np.nanmax(whole.metrics["episode/length"]) == 6


def as_numbers(x):
    return jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def test_the_contract_holds():
    jaxpg.check_env(NAME)
