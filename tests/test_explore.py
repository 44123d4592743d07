"""Exploration noise against its moments, and the adaptive scale against its fixed point."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.ops import explore

KEY = jax.random.key(0)


def test_gaussian_noise_has_its_deviation_and_stays_in_the_range():
    noisy = explore.gaussian(KEY, jnp.zeros((20_000, 2)), 0.2)
    assert float(noisy.std()) == pytest.approx(0.2, rel=0.02)
    assert float(noisy.mean()) == pytest.approx(0, abs=0.005)
    edge = explore.gaussian(KEY, jnp.ones((1000, 1)), 0.2)
    assert float(edge.max()) == 1
    assert float(edge.min()) < 1


def test_clipped_noise_is_what_numpy_says():
    action = jnp.linspace(-1, 1, 500)[:, None]
    noise = 0.7 * np.asarray(jax.random.normal(KEY, action.shape))
    expected = np.clip(np.asarray(action) + np.clip(noise, -0.5, 0.5), -1, 1)
    np.testing.assert_allclose(explore.gaussian(KEY, action, 0.7, 0.5), expected, atol=1e-6)
    assert np.abs(noise).max() > 0.5


@pytest.mark.parametrize(("theta", "sigma"), [(0.15, 0.2), (0.5, 0.1), (1.0, 0.3)])
def test_ornstein_uhlenbeck_moments(theta, sigma):
    """Stationary variance sigma^2 / (1 - (1 - theta)^2), correlation (1 - theta)^k over k steps."""

    def advance(noise, key):
        noise = explore.ornstein_uhlenbeck(key, noise, theta, sigma)
        return noise, noise

    _, path = jax.lax.scan(advance, jnp.zeros(2000), jax.random.split(KEY, 60))
    late = np.asarray(path[40:], np.float64)
    assert late.mean() == pytest.approx(0, abs=0.02)
    variance = sigma**2 / (1 - (1 - theta) ** 2)
    assert late.var() == pytest.approx(variance, rel=0.05)
    for k in (1, 3):
        correlation = (late[k:] * late[:-k]).mean() / late.var()
        assert correlation == pytest.approx((1 - theta) ** k, abs=0.03)
    assert float(path[0].std()) == pytest.approx(sigma, rel=0.05), "the first step starts at 0"


def test_a_direction_is_drawn_once_an_episode():
    params = {"w": jnp.ones((3, 50)), "b": jnp.ones(50)}
    noise = explore.init_perturbation(params, 2)
    first = explore.begin_episodes(jax.random.key(1), noise)
    assert first.drawn.all()
    leaves = np.concatenate(
        [np.asarray(x).reshape(2, -1) for x in jax.tree.leaves(first.direction)], 1
    )
    assert leaves.std() == pytest.approx(1, rel=0.15)
    assert np.abs(np.corrcoef(leaves)[0, 1]) < 0.3, "environments have directions of their own"
    assert not np.array_equal(leaves[:, :50], leaves[:, 50:100]), "and so have parameters"

    again = explore.begin_episodes(jax.random.key(2), first)
    jax.tree.map(np.testing.assert_array_equal, again, first)
    ended = jax.tree.map(lambda x: x.at[0].set(jnp.zeros_like(x[0])), first)  # as `rollout` does
    new = explore.begin_episodes(jax.random.key(3), ended)
    assert new.drawn.all()
    assert (new.direction["w"][0] != first.direction["w"][0]).all()
    np.testing.assert_array_equal(new.direction["w"][1], first.direction["w"][1])


def test_perturbing_moves_every_parameter_by_scale_times_direction():
    params = {"w": jnp.arange(6.0).reshape(2, 3), "b": jnp.zeros(3)}
    direction = explore.standard_normal(KEY, params)
    moved = explore.perturb(params, direction, 0.5)
    jax.tree.map(
        lambda m, p, d: np.testing.assert_allclose(m, np.asarray(p) + 0.5 * np.asarray(d)),
        moved, params, direction,
    )  # fmt: skip


def test_distance_is_a_root_mean_square():
    a, b = np.random.default_rng(0).normal(size=(2, 40, 3))
    expected = np.sqrt(np.mean([np.mean((a[:, i] - b[:, i]) ** 2) for i in range(3)]))
    assert float(explore.action_distance(jnp.array(a), jnp.array(b))) == pytest.approx(expected)


def test_the_scale_finds_the_distance_that_is_asked_for():
    """Actions move by 3 times the scale: the scale settles at a third of the target."""
    scale = jnp.float32(5.0)
    for _ in range(800):
        scale = explore.adapt_scale(scale, 3 * scale, 0.3)
    assert float(scale) == pytest.approx(0.1, rel=0.011)
    assert explore.adapt_scale(jnp.float32(1), 0.2, 0.2) > 1
    assert explore.adapt_scale(jnp.float32(1), 0.21, 0.2) < 1
    for distance, bound in ((1.0, 1e-6), (0.0, 1e2)):
        scale = jnp.float32(bound)
        assert float(explore.adapt_scale(scale, distance, 0.5)) == pytest.approx(bound, rel=1e-6)
