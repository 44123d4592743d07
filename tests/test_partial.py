"""Environments of which a part is seen behave as the whole ones do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core import env as E
from jaxpg.envs import registry


@pytest.mark.optimised  # or sines are rounded otherwise in another program
@pytest.mark.parametrize(
    ("name", "whole", "keep", "size"),
    [
        ("CartPolePositions-jaxpg", "CartPole-v1", [0, 2], 2),
        ("PendulumPositions-jaxpg", "Pendulum-v1", [0, 1], 1),
    ],
)
def test_a_part_is_the_whole_s(name, whole, keep, size):
    """Step by step under the same keys, across resets: the last observation of an episode too."""

    def play(env):
        # In a program of its own: that of gymnax's `reset` may be here from a test before, and
        # less optimised.
        state = jax.jit(lambda key: E.reset(env, key, 3))(jax.random.key(0))

        def act(obs, carry, key):
            action = jax.random.bernoulli(key, 0.5, (3,)).astype(jnp.int32)
            return (action if size == 2 else action[:, None] * 1.0), carry, ()

        rollout = jax.jit(lambda s, k: E.rollout(env, act, s, (), k, 12))
        return rollout(state, jax.random.key(1))[2]

    part = play(jaxpg.make(name, max_steps_in_episode=5))
    full = play(jaxpg.make(whole, max_steps_in_episode=5))
    np.testing.assert_array_equal(part.obs, full.obs[..., jnp.array(keep)])
    np.testing.assert_array_equal(part.next_obs, full.next_obs[..., jnp.array(keep)])
    assert part.truncated.any()
    for field in ("reward", "terminated", "truncated", "action"):
        np.testing.assert_array_equal(getattr(part, field), getattr(full, field))


def test_its_parameters_are_the_whole_s():
    env = jaxpg.make("CartPolePositions-jaxpg", masspole=0.3)
    assert float(env.params.total_mass) == pytest.approx(1.3)
    recipe = registry.to_dict(env)
    again = jaxpg.make(recipe.pop("name"), **recipe)
    assert again.params == env.params
    assert again.core is env.core
    space = env.core.observation_space(env.params)
    assert space.shape == (2,)
    np.testing.assert_allclose(space.high, [4.8, 2 * env.params.theta_threshold_radians])
