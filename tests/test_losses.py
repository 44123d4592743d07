"""Losses by cases worked out by hand, and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxpg.ops import losses

LOGITS = jnp.array([0.3, -0.2, 0.5])
ACTIONS = np.array([0, 1, 2, 2, 0])
ADVANTAGE = np.float32([1, -2, 0.5, 3, -0.7])


def log_prob(logits):
    return jax.nn.log_softmax(logits)[ACTIONS]


def test_policy_gradient_is_the_exact_gradient_in_expectation():
    """Three arms worth q under a uniform softmax: d J / d logits = pi (q - pi . q)."""
    logits, q = jnp.zeros(3), jnp.array([1.0, 0.0, 0.5])
    exact = jax.grad(lambda logits: jax.nn.softmax(logits) @ q)(logits)
    np.testing.assert_allclose(exact, [1 / 6, -1 / 6, 0], atol=1e-7)

    @jax.jit
    def estimate(action):
        def loss(logits):
            return losses.policy_gradient(jax.nn.log_softmax(logits)[action], q[action])

        return -jax.grad(loss)(logits)

    expected = sum(jax.nn.softmax(logits)[a] * estimate(a) for a in range(3))
    np.testing.assert_allclose(expected, exact, atol=1e-7)


@pytest.mark.parametrize("shape", [(5,), (1, 5), (5, 1)])
def test_means_are_over_a_batch_of_any_shape(shape):
    x, y = jnp.arange(5.0).reshape(shape), ADVANTAGE.reshape(shape)
    np.testing.assert_allclose(losses.policy_gradient(x, y), -(x * y).mean(), rtol=1e-6)
    np.testing.assert_allclose(losses.value(x, y), ((x - y) ** 2).mean() / 2, rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.policy_gradient, losses.value, losses.explained_variance])
def test_a_mask_is_as_if_the_rest_were_not_there(loss):
    x, mask = np.float32([3, 1, -1, 0.5, 9]), np.array([1, 0, 1, 1, 0], bool)
    loss = jax.jit(jax.value_and_grad(loss))
    value, grad = loss(x, ADVANTAGE, mask)
    alone, alone_grad = loss(x[mask], ADVANTAGE[mask])
    np.testing.assert_allclose(value, alone, rtol=1e-6)
    np.testing.assert_allclose(grad[mask], alone_grad, rtol=1e-5)
    np.testing.assert_array_equal(grad[~mask], 0)

    empty, empty_grad = loss(x, ADVANTAGE, np.zeros(5, bool))
    assert empty == 0
    np.testing.assert_array_equal(empty_grad, 0)


@pytest.mark.parametrize(
    ("loss", "extra"),
    [
        (losses.policy_gradient, ()),
        (lambda log_ratio, a: losses.ppo_clip(log_ratio, a, 0.2), ()),
        (lambda log_ratio, a, kl: losses.ppo_penalty(log_ratio, a, kl, 1.0), (ADVANTAGE,)),
        (losses.value, ()),
        (lambda value, target, old: losses.clipped_value(value, old, target, 0.2), (ADVANTAGE,)),
    ],
)
def test_no_gradient_flows_into_the_advantage_or_the_target(loss, extra):
    """The second argument; the first one must get some."""
    grads = jax.grad(loss, (0, 1))(jnp.array([0.1, 0.0, -0.1, 0.05, 0.3]), ADVANTAGE, *extra)
    assert jnp.abs(grads[0]).max() > 0
    np.testing.assert_array_equal(grads[1], 0)


@pytest.mark.parametrize(
    ("loss", "arguments"),
    [
        (losses.policy_gradient, 2),
        (lambda *x: losses.ppo_clip(*x, 0.2), 2),
        (lambda *x: losses.ppo_penalty(*x, 0.2), 3),
        (losses.value, 2),
        (lambda *x: losses.clipped_value(*x, 0.2), 3),
    ],
)
def test_shapes_are_asserted_at_the_door(loss, arguments):
    """The classic: a critic's [B, 1] against a target's [B] broadcasts to [B, B]."""
    for i in range(arguments):
        with pytest.raises(AssertionError):
            loss(*(jnp.zeros((4, 1) if i == j else 4) for j in range(arguments)))


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        # inside the clip range: the surrogate itself; d ratio / d log_ratio = ratio
        (1.1, 2.0, -2.2, -2.2),
        (0.9, 2.0, -1.8, -1.8),
        (1.1, -2.0, 2.2, 2.2),
        (0.9, -2.0, 1.8, 1.8),
        # already moved far enough the right way: flat
        (1.5, 2.0, -2.4, 0.0),
        (0.5, -2.0, 1.6, 0.0),
        # moved the wrong way: the clip does not hide it
        (0.5, 2.0, -1.0, -1.0),
        (1.5, -2.0, 3.0, 3.0),
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_ppo_clip_by_cases(ratio, advantage, loss, slope):
    """clip_eps = 0.2. The sample stands in a batch with a neutral one, so means are halves."""
    log_ratio = jnp.log(jnp.array([ratio, 1.0]))
    value, grad = jax.value_and_grad(losses.ppo_clip)(log_ratio, jnp.array([advantage, 0.0]), 0.2)
    np.testing.assert_allclose(2 * value, loss, rtol=1e-6)
    np.testing.assert_allclose(2 * grad, [slope, 0], rtol=1e-6)


def test_ppo_at_ratio_one_is_the_policy_gradient():
    old = log_prob(LOGITS)
    expected = jax.grad(lambda p: losses.policy_gradient(log_prob(p), ADVANTAGE))(LOGITS)
    for surrogate in (
        lambda p: losses.ppo_clip(log_prob(p) - old, ADVANTAGE, 0.2),
        lambda p: losses.ppo_penalty(log_prob(p) - old, ADVANTAGE, jnp.zeros(5), 1.0),
    ):
        np.testing.assert_allclose(jax.grad(surrogate)(LOGITS), expected, rtol=1e-5, atol=1e-7)


def test_ppo_penalty():
    """-mean(ratio A) + beta mean(kl), and the gradient flows through the KL."""
    log_ratio = jnp.log(jnp.array([2.0, 0.5]))
    args = jnp.array([3.0, -4.0]), jnp.array([0.1, 0.3]), 5.0
    np.testing.assert_allclose(losses.ppo_penalty(log_ratio, *args), -2 + 1, rtol=1e-6)
    to_ratio, to_kl = jax.grad(losses.ppo_penalty, (0, 2))(log_ratio, *args)
    np.testing.assert_allclose(to_ratio, [-3, 1], rtol=1e-6)
    np.testing.assert_allclose(to_kl, [2.5, 2.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("beta", "kl", "expected"),
    [
        (1.0, 0.0, 0.5),
        (1.0, 0.0199, 0.5),  # target / 1.5 = 0.02
        (1.0, 0.0201, 1.0),
        (1.0, 0.03, 1.0),
        (1.0, 0.0449, 1.0),  # 1.5 target = 0.045
        (1.0, 0.0451, 2.0),
        (1.0, 9.0, 2.0),
        (1.5e-4, 0.0, 1e-4),
        (9e3, 9.0, 1e4),
        (1e4, 0.03, 1e4),
    ],
)
def test_adapt_penalty(beta, kl, expected):
    np.testing.assert_allclose(losses.adapt_penalty(beta, kl, 0.03), expected, rtol=1e-6)


def test_adapt_penalty_recovers_from_a_long_quiet_spell():
    """Unbounded halving would end in a denormal that no doubling undoes in time."""
    beta = jnp.ones(())
    for _ in range(200):
        beta = losses.adapt_penalty(beta, 0.0, 0.01)
    for _ in range(14):
        beta = losses.adapt_penalty(beta, 1.0, 0.01)
    assert beta > 1


@pytest.mark.parametrize(
    ("value", "target", "loss", "slope"),
    [
        (0.1, 1.0, 0.405, -0.9),  # within 0.5 of the old value, 0: the plain error
        (2.0, 3.0, 3.125, 0.0),  # moved too far towards the target: the clipped error, flat
        (2.0, 0.0, 2.0, 2.0),  # overshot it: the plain error is the worse one
        (-2.0, -3.0, 3.125, 0.0),
        (-2.0, 0.0, 2.0, -2.0),
    ],
)
def test_clipped_value_is_the_worse_of_two_errors(value, target, loss, slope):
    # The neutral second entry makes the means halves.
    args = jnp.zeros(2), jnp.array([target, 0.0]), 0.5
    got, grad = jax.value_and_grad(losses.clipped_value)(jnp.array([value, 0.0]), *args)
    np.testing.assert_allclose(2 * got, loss, rtol=1e-6)
    np.testing.assert_allclose(2 * grad, [slope, 0], rtol=1e-6)


def test_clipped_value_never_understates_the_error():
    value, old, target = np.random.default_rng(0).normal(size=(3, 200)).astype(np.float32)
    errors = (value - target) ** 2, (np.clip(value, old - 0.3, old + 0.3) - target) ** 2
    got = losses.clipped_value(jnp.array(value), old, target, 0.3)
    np.testing.assert_allclose(got, np.maximum(*errors).mean() / 2, rtol=1e-5)


def test_approx_kl_is_never_negative():
    """Not by rounding either, for ratios that differ from 1 in the last bits."""
    small = np.float32(np.logspace(-10, 1.5, 2000))
    log_ratio = np.concatenate([small, -small, [0]])
    kl = np.array(jax.jit(jax.vmap(losses.approx_kl))(log_ratio))
    assert (kl >= 0).all()
    assert kl[-1] == 0
    visible = np.abs(log_ratio) > 1e-3
    np.testing.assert_allclose(kl[visible], (np.expm1(log_ratio) - log_ratio)[visible], rtol=1e-3)


def test_approx_kl_is_the_kl_in_expectation():
    """Actions in the proportions of pi_old make the mean the expectation under pi_old."""
    old, new = np.array([0.5, 0.25, 0.25]), np.array([0.2, 0.7, 0.1])
    exact = (old * np.log(old / new)).sum()
    actions = np.array([0, 0, 1, 2])
    got = losses.approx_kl(jnp.array(np.log(new / old)[actions]))
    np.testing.assert_allclose(got, exact, rtol=1e-5)


@pytest.mark.parametrize(
    ("value", "target", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0], 1.0),
        ([6.0, 7.0, 8.0, 9.0], [1.0, 2.0, 3.0, 4.0], 1.0),  # blind to a constant bias
        ([5.0] * 4, [1.0, 2.0, 3.0, 4.0], 0.0),
        ([1.0, 1.0, 2.0, 2.0], [0.0, 2.0, 1.0, 3.0], 0.2),  # Var 1 left of 1.25
        ([-1.0, -2.0, -3.0, -4.0], [1.0, 2.0, 3.0, 4.0], -3.0),
    ],
)
def test_explained_variance(value, target, expected):
    got = losses.explained_variance(jnp.array(value), jnp.array(target))
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("constant", [0.0, 0.1, -3.3, 1000.1, 1e6, 16777217.0])
def test_a_constant_target_has_no_variance_to_explain(constant):
    """Zero, also where the mean of seven equal numbers rounds away from them."""
    assert losses.explained_variance(jnp.arange(7.0), jnp.full(7, constant)) == 0
