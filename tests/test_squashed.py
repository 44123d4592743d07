"""Densities of squashed Gaussians: whole, exact, and finite wherever a draw can lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.agents import sac
from jaxpg.nets import heads

HEAD = "tanh_gaussian_state_std"


def head(name=HEAD):
    """Of one dimension by its environment; the functions take any number."""
    return heads.make(name, jaxpg.make("Pendulum-v1"))


@pytest.mark.parametrize("mean", [-3.0, 0.0, 0.4, 8.0])
@pytest.mark.parametrize("log_std", [-4.0, -1.0, 0.0, 2.0])
def test_density_over_actions_integrates_to_one(mean, log_std):
    """Over a = tanh(x) in (-1, 1), by the trapezoid rule; da = dx / cosh(x)^2."""
    std = np.exp(log_std)
    x = mean + std * np.linspace(-9, 9, 4001)
    log_prob = head().log_prob(jnp.array([mean, log_std]), jnp.asarray(x, jnp.float32)[:, None])
    log_width = -2 * (np.logaddexp(x, -x) - np.log(2))
    density = np.exp(np.asarray(log_prob, np.float64) + log_width)
    assert np.trapezoid(density, x) == pytest.approx(1, abs=1e-3)


def test_density_in_units_of_the_action_itself():
    """Where tanh does not saturate, the sum can run over equal steps of the action."""
    a = np.linspace(-1, 1, 20_003)[1:-1]
    draw = jnp.asarray(np.arctanh(a), jnp.float32)[:, None]
    density = np.exp(head().log_prob(jnp.array([0.3, -0.7]), draw))
    assert density.sum() * (a[1] - a[0]) == pytest.approx(1, abs=1e-3)


def test_log_determinant_is_that_of_the_jacobian():
    with jax.enable_x64(True):
        plain, squashed = head("gaussian_state_std"), head()
        out = jnp.array([0.2, -1.0, 0.5, -0.3, 0.1, 0.7])  # three means, three log-stds
        for size in (0.0, 0.3, 2.0, 6.0):
            draw = size * jnp.array([1.0, -0.6, 0.2])
            _, expected = jnp.linalg.slogdet(jax.jacfwd(jnp.tanh)(draw))
            found = plain.log_prob(out, draw) - squashed.log_prob(out, draw)
            assert draw.dtype == jnp.float64
            assert float(found) == pytest.approx(float(expected), abs=1e-5)
        draw = jnp.array([30.0, -40.0, 50.0])  # beyond float64's tanh: 2 log 2 - 2 |x| each
        found = plain.log_prob(out, draw) - squashed.log_prob(out, draw)
        assert float(found) == pytest.approx(6 * np.log(2) - 240, abs=1e-5)


def test_nothing_is_nan_or_infinite_up_to_50():
    pi = head()
    grid = jnp.linspace(-50, 50, 101)
    draw, mean, log_std = jnp.meshgrid(grid, grid[::10], jnp.array([-30.0, -5, 0, 2, 10]))
    out = jnp.stack([mean, log_std], -1).reshape(-1, 2)
    both = jax.vmap(jax.value_and_grad(pi.log_prob, (0, 1)))(out, draw.reshape(-1, 1))
    for x in jax.tree.leaves(both):
        assert np.isfinite(x).all()

    def through_the_draw(out, key):  # as the policy's loss sees it
        draw, log_prob = pi.sample(out, key)
        return log_prob + jnp.tanh(draw).sum()

    keys = jax.random.split(jax.random.key(0), len(out))
    for x in jax.tree.leaves(jax.vmap(jax.value_and_grad(through_the_draw))(out, keys)):
        assert np.isfinite(x).all()


def log_det(x):
    """log(1 - tanh(x)^2), in float64."""
    x = np.abs(x)
    return 2 * (np.log(2) - x - np.log1p(np.exp(-2 * x)))


def fine_entropy(mean, log_std):
    """The entropy of tanh of N(mean, std^2), and its slopes in both, by 40,001 equal steps."""
    z, h = np.linspace(-12, 12, 40_001, retstep=True)
    weight = h * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    std = np.exp(log_std)
    x = mean + std * z
    slope = weight * -2 * np.tanh(x)
    value = 0.5 * np.log(2 * np.pi * np.e) + log_std + (weight * log_det(x)).sum()
    return value, slope.sum(), 1 + std * (slope * z).sum()


LOW, HIGH = heads.LOG_STD_RANGE
LOG_STDS = [LOW, -9.0, -3.0, -1.0, 0.0, 0.09, 0.1, 0.3, 0.7, 1.1, 1.6, 1.9, HIGH - 1e-3]


@pytest.mark.parametrize("name", ["tanh_gaussian", HEAD])
def test_entropy_is_that_of_a_fine_integral(name):
    """With its slopes, over the range of deviations: few nodes miss the kink of a wide one."""
    mean, log_std = np.meshgrid([0.0, 0.3, -1.0, 2.0, 5.0, -12.0], LOG_STDS)
    out = np.stack([mean, log_std], -1).reshape(-1, 2).astype(np.float32)
    entropy = jax.jit(
        jax.vmap(jax.value_and_grad(lambda out: head(name).entropy(out, jax.random.key(0))))
    )
    value, slope = entropy(out)
    expected = np.array([fine_entropy(*x) for x in out.astype(float)])
    np.testing.assert_allclose(value, expected[:, 0], atol=1e-4)
    inside = out[:, 1] > LOW  # at its end the clip halves the slope
    np.testing.assert_allclose(slope[inside], expected[inside, 1:], atol=1e-4)


@pytest.mark.slow
def test_entropy_of_a_vector_is_the_sum_over_dimensions():
    """Wide ones and narrow ones side by side; and it is finite far out."""
    mean, log_std = [0.5, -2.0, 1.0], [-1.0, 1.5, 0.5]
    pi = heads.make(HEAD, jaxpg.make("Pendulum-v1"))
    found = pi.entropy(jnp.array(mean + log_std), jax.random.key(0))
    expected = sum(fine_entropy(*x)[0] for x in zip(mean, log_std, strict=True))
    assert float(found) == pytest.approx(expected, abs=1e-4)
    far = jnp.array([[m, s] for m in (-1e6, 0.0, 1e6) for s in (-30.0, LOW, 0.0, HIGH, 30.0)])
    for x in jax.vmap(jax.value_and_grad(lambda out: pi.entropy(out, jax.random.key(0))))(far):
        assert np.isfinite(x).all()


def test_sac_draws_actions_with_the_density_that_it_reports():
    env, cfg = jaxpg.make("Pendulum-v1"), sac.Config(hidden=(4,))
    net, pi = sac.policy(cfg, env)
    actor = net.init(jax.random.key(0), env.example_obs, method="policy")
    obs = jnp.ones((50_000, 3))
    action, log_prob, _ = sac.sample(cfg, env, actor, obs, jax.random.key(1))
    assert action.shape == (50_000, 1)
    assert jnp.abs(action).max() <= 1
    count, edges = np.histogram(action[:, 0], 20, (-1, 1))
    middle = jnp.asarray((edges[1:] + edges[:-1]) / 2)
    out = net.apply(actor, obs[:1], method="policy")[0]
    density = np.exp(pi.log_prob(out, jnp.arctanh(middle)[:, None]))
    np.testing.assert_allclose(count / 50_000 / 0.1, density, rtol=0.1, atol=0.01)
    expected = pi.log_prob(out, jnp.arctanh(action[:100]))
    np.testing.assert_allclose(log_prob[:100], expected, atol=1e-3)
