"""Fresh states drawn ahead are those that gymnax's own `step` would have drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.core import env as E
from jaxpg.core import resets
from jaxpg.core.episodes import play_until_ended
from jaxpg.core.gymnax_import import has_own_step
from jaxpg.envs import registry
from tests.conftest import slow_of

KEY = jax.random.key(0)
ENVS = {
    "CartPole-v1": {"max_steps_in_episode": 7},
    "Pendulum-v1": {"max_steps_in_episode": 5},
    "Catch-bsuite": {},
    "UmbrellaChain-bsuite": {"chain_length": 3},
    "CartPolePositions-jaxpg": {"max_steps_in_episode": 6},
    "DeepSea-bsuite": {},  # whose `step` is its own
}


def episodes(env, key):
    """20 steps of 3 environments under a policy that guesses."""

    def policy(obs, carry, key):
        shape = (3, *env.action_space.shape)
        if env.discrete:
            return jax.random.randint(key, shape, 0, env.action_space.n), carry, ()
        return jax.random.normal(key, shape), carry, ()

    return E.rollout(env, policy, E.reset(env, key, 3), (), key, 20)


@pytest.mark.parametrize("name", slow_of(ENVS, "UmbrellaChain-bsuite", "Pendulum-v1"))
def test_resets_drawn_ahead_change_nothing(name, monkeypatch):
    env = registry.make(name, **ENVS[name])
    ahead = jax.jit(episodes)(env, KEY)
    monkeypatch.setattr(resets, "LARGE", -1)  # now every step goes through gymnax's `step`
    alone = jax.jit(lambda *args: episodes(*args))(env, KEY)
    assert ahead[4]["episode/count"] > 3
    jax.tree.map(np.testing.assert_array_equal, ahead, alone)


def test_what_is_drawn_ahead_is_not_drawn_at_every_step(monkeypatch):
    def loop():
        jaxpr = jax.make_jaxpr(lambda *args: episodes(*args))(registry.make("CartPole-v1"), KEY)
        (scan,) = [e for e in jaxpr.eqns if e.primitive.name == "scan" and e.params["length"] == 20]
        return str(scan.params["jaxpr"])

    assert "uniform" not in loop()
    monkeypatch.setattr(resets, "LARGE", -1)
    assert "uniform" in loop()


def test_episodes_begin_as_resets_do():
    """Uniform in [-0.05, 0.05], each time anew."""
    env = registry.make("CartPole-v1", max_steps_in_episode=2)

    def policy(obs, carry, key):
        return jnp.zeros(64, jnp.int32), carry, ()

    _, _, t, _, _ = E.rollout(env, policy, E.reset(env, KEY, 64), (), KEY, 20)
    first = np.asarray(t.obs[2::2]).reshape(-1, 4)  # after every second step
    assert len(np.unique(first[:, 0])) == len(first)
    assert np.abs(first).max() <= 0.05
    np.testing.assert_allclose(first.mean(0), 0, atol=0.004)
    np.testing.assert_allclose(first.std(0), 0.1 / 12**0.5, atol=0.002)


@pytest.mark.parametrize("name", ENVS)
def test_a_step_before_the_reset_is_the_very_step(name):
    """Its transition to the bit, and the state that the reset replaces."""
    env = registry.make(name, **ENVS[name])
    state = jax.jit(episodes)(env, KEY)[0]
    action = jnp.zeros((3, *env.action_space.shape), jnp.int32 if env.discrete else float)
    for i in range(8):
        key = jax.random.key(i)
        after, t = jax.jit(E.step)(env, state, action, key)
        stopped, same = jax.jit(E.step_before_reset)(env, state, action, key)
        jax.tree.map(np.testing.assert_array_equal, t, same)
        if not has_own_step(env.core):
            jax.tree.map(np.testing.assert_array_equal, stopped.obs, t.next_obs)
        state = after


def test_play_ends_with_the_last_first_episode():
    """Environment i ends at its step i + 1, and again and again."""
    i = jnp.arange(3)

    def advance(step, alive, lived):
        return lived + alive, (step + 1) % (i + 1) == 0

    lived, ended = play_until_ended(advance, jnp.zeros(3, jnp.int32), (3,), 10)
    assert lived.tolist() == [1, 2, 3]
    assert ended.all()
    lived, ended = play_until_ended(advance, jnp.zeros(3, jnp.int32), (3,), 2)
    assert lived.tolist() == [1, 2, 2]
    assert ended.tolist() == [True, True, False]
