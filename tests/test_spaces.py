"""A policy's actions in the units of the space: every bound holds, every integer has its share."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments.spaces import Box

from jaxpg.core import env as E
from jaxpg.core import spaces
from jaxpg.core.choices import HEADS_OF
from jaxpg.core.observations import random_actions
from jaxpg.nets import heads
from tests.conftest import slow_of
from tests.tabular import Odd, make

INF, KEY = np.inf, jax.random.key(0)
MIXED = Box(np.array([0, -INF, -1, -INF]), np.array([INF, 2, 3, INF]), (4,))
BOXES = {
    "one bound each": Box(jnp.array([0.0, -INF]), jnp.array([INF, 2.0]), (2,)),
    "all four kinds": MIXED,
    "far from zero": Box(np.array([5.0, -INF]), np.array([INF, -3.0]), (2,)),
    "gymnax's infinity": Box(np.array([0.0, -3.4e38]), np.array([3.4e38, 2.0]), (2,)),
    "a number for all": Box(-1.0, INF, (2, 2)),
}
TODAY = {
    "both bounds": Box(-2.0, 2.0, (3,)),
    "bounds of their own": Box(np.array([-1.0, 0.0, 2.0]), np.array([1.0, 5.0, 2.5]), (3,)),
    "no bounds": Box(-INF, INF, (3,)),
    "some without": Box(np.array([-1.0, -INF, 0.1]), np.array([1.0, INF, 0.7]), (3,)),
}
INTEGERS = {
    "about zero": Box(-2, 2, (1,), jnp.int32),
    "a bit": Box(0, 1, (1,), jnp.int32),
    "a byte": Box(0, 255, (1,), jnp.uint8),
    "of their own": Box(np.array([-3, 7]), np.array([-1, 9]), (2,), jnp.int32),
}


def bounds(space):
    return (np.broadcast_to(np.asarray(x, float), space.shape) for x in (space.low, space.high))


def holds(space, action):
    low, high = bounds(space)
    return ((action >= low) & (action <= high)).all()


@pytest.mark.parametrize("name", BOXES)
def test_every_bound_holds_and_is_reached(name):
    """Where one is missing a unit is a unit of the space."""
    space = BOXES[name]
    size = int(np.prod(space.shape))
    x = jnp.linspace(-4, 4, 81)[:, None] * jnp.ones(size)
    action = np.asarray(spaces.stretch(space, x)).reshape(81, size)
    assert action.shape[1:] == (size,)
    assert holds(space, action.reshape(81, *space.shape))
    for i, (low, high) in enumerate(zip(*(b.ravel() for b in bounds(space)), strict=True)):
        below, above = abs(low) < 1e30, abs(high) < 1e30
        assert not below or action[0, i] == low
        assert not above or action[-1, i] == np.float32(high)
        if below != above:
            grows = np.diff(action[:, i])
            np.testing.assert_allclose(grows[30:50], 0.1, atol=1e-5)


@pytest.mark.parametrize("name", TODAY)
def test_boxes_with_both_bounds_or_none_are_as_they_were(name):
    """To the bit, by the formula of before."""
    space = TODAY[name]
    x = jax.random.normal(KEY, (1000, 3)) * 2

    def before(action):
        low, high = jnp.asarray(space.low, float), jnp.asarray(space.high, float)
        bounded = spaces.is_bound(low) & spaces.is_bound(high)
        low, high = jnp.where(bounded, low, -1), jnp.where(bounded, high, 1)
        action = jnp.where(bounded, jnp.clip(action, -1, 1), action)
        return low + (action + 1) / 2 * (high - low)

    now = functools.partial(spaces.stretch, space)
    np.testing.assert_array_equal(jax.jit(now)(x), jax.jit(before)(x))
    np.testing.assert_array_equal(now(x), before(x))


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_have_equal_parts(name):
    space = INTEGERS[name]
    x = jnp.linspace(-1, 1, 40_001)[:, None] * jnp.ones(space.shape)
    action = np.asarray(spaces.stretch(space, x))
    assert action.dtype == space.dtype
    for i, (low, high) in enumerate(zip(*bounds(space), strict=True)):
        found, count = np.unique(action[:, i], return_counts=True)
        assert found.tolist() == list(range(int(low), int(high) + 1))
        assert np.ptp(count) <= 2
    assert holds(space, np.asarray(spaces.stretch(space, 5 * x)))


def test_integers_without_a_bound_are_as_wide_as_each_other():
    x = jnp.linspace(-6, 6, 1201)[:, None]
    nearest = spaces.stretch(Box(-INF, INF, (1,), jnp.int32), x)
    np.testing.assert_array_equal(nearest, np.floor(x + 0.5))
    least = spaces.stretch(Box(3, INF, (1,), jnp.int32), x)
    np.testing.assert_array_equal(least, np.maximum(3 + np.floor(x + 1), 3))
    most = spaces.stretch(Box(-INF, 3, (1,), jnp.int32), x)
    np.testing.assert_array_equal(most, np.minimum(3 + np.floor(x), 3))


@pytest.mark.parametrize(
    "name", slow_of([*HEADS_OF["continuous"], "deterministic"], "flow", "beta")
)
def test_actions_of_every_head_are_in_the_space(name):
    for space in (BOXES["one bound each"], BOXES["far from zero"], INTEGERS["of their own"]):
        env = make(Odd(actions=space))
        if name == "beta" and E.first_infinite_bound(env):
            continue
        pi = heads.make(name, env)
        out = 3 * jax.random.normal(KEY, (500, pi.outputs + pi.free_outputs))
        for draw in (pi.sample(out, KEY)[0], pi.mode(out)):
            action = np.asarray(pi.action(draw))
            assert holds(space, action)
            assert (np.ptp(action, 0) > 1).all()
            if action.dtype == np.int32:
                assert [len(np.unique(a)) for a in action.T] == [3, 3]


def test_random_actions_have_every_integer():
    env = make(Odd(actions=INTEGERS["of their own"]))
    x = random_actions(KEY, env.action_space, jnp.zeros((9000, 2)), None)
    _, count = np.unique(np.asarray(E.to_space(env, x))[:, 0], return_counts=True)
    np.testing.assert_allclose(count, 3000, atol=200)
