"""The dynamics of classic control are gymnasium's, from states at random."""

import dataclasses

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg

PI, STATES = np.pi, 1000
# Fields of our state, the range of each, and the range of a continuous action or the choices.
CASES = {
    "CartPole-v1": (
        {"x": (-2.4, 2.4), "x_dot": (-3, 3), "theta": (-0.2, 0.2), "theta_dot": (-3, 3)},
        2,
    ),
    "Acrobot-v1": (
        {
            "joint_angle1": (-PI, PI), "joint_angle2": (-PI, PI),
            "velocity_1": (-4 * PI, 4 * PI), "velocity_2": (-9 * PI, 9 * PI),
        },
        3,
    ),
    "MountainCar-v0": ({"position": (-1.2, 0.6), "velocity": (-0.07, 0.07)}, 3),
    "MountainCarContinuous-v0": ({"position": (-1.2, 0.6), "velocity": (-0.07, 0.07)}, 1.5),
    "Pendulum-v1": ({"theta": (-PI, PI), "theta_dot": (-8, 8)}, 3.0),
}  # fmt: skip


def drawn(name):
    """States [STATES, fields] and actions; a third of the cars are at the left wall or the goal."""
    ranges, actions = CASES[name]
    rng = np.random.default_rng(0)
    states = np.stack([rng.uniform(*r, STATES) for r in ranges.values()], -1)
    if "position" in ranges:
        states[::6, 0] = rng.uniform(-1.2, -1.15, len(states[::6]))
        states[3::6, 0] = rng.uniform(0.44, 0.6, len(states[3::6]))
        states = states.astype(np.float32).astype(float)  # as gymnasium keeps a car
    if isinstance(actions, int):
        return states, rng.integers(actions, size=STATES)
    return states, rng.uniform(-actions, actions, (STATES, 1)).astype(np.float32)


def theirs(name, states, actions):
    """Next states, rewards and terminations of gymnasium, one after the other."""
    env = gymnasium.make(name).unwrapped
    env.reset(seed=0)
    found = []
    for state, action in zip(states, actions, strict=True):
        env.state, env.steps_beyond_terminated = state, None
        _, reward, terminated, _, _ = env.step(action)
        found.append((np.array(env.state, float), reward, terminated))
    return [np.array(x) for x in zip(*found, strict=True)]


def ours(name, states, actions):
    env = jaxpg.make(name)
    fields = dict(zip(CASES[name][0], jnp.asarray(states).T, strict=True))
    key = jax.random.key(0)

    def step(fields, action):
        _, state = env.core.reset(key, env.params)
        state = dataclasses.replace(state, **fields)
        _, after, reward, terminated, _ = env.core.step_env(key, state, action, env.params)
        return jnp.stack([getattr(after, field) for field in CASES[name][0]]), reward, terminated

    return jax.jit(jax.vmap(step))(fields, actions)


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_that_of_gymnasium(name):
    states, actions = drawn(name)
    expected = theirs(name, states, actions)
    with jax.enable_x64(True):
        found = ours(name, states, actions)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)
    if "MountainCar" in name:
        at_the_wall = (expected[0][:, 0] < -1.199999) & (expected[0][:, 1] == 0)
        assert at_the_wall.sum() > 20


def test_a_car_loses_its_speed_at_the_wall():
    found = ours("MountainCarContinuous-v0", np.array([[-1.19, -0.05]]), np.zeros((1, 1)))
    np.testing.assert_allclose(found[0], [[-1.2, 0]], atol=1e-6)
    beyond = ours("MountainCarContinuous-v0", np.array([[0.55, -0.03]]), np.zeros((1, 1)))
    assert beyond[0][0, 1] < 0  # and not behind the goal
    assert not beyond[2][0]


@pytest.mark.parametrize("name", CASES)
def test_time_limits_are_those_of_gymnasium(name):
    limit = gymnasium.spec(name).max_episode_steps
    assert jaxpg.make(name).params.max_steps_in_episode == limit
