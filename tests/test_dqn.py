"""DQN against NumPy and against fixed points that are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.agents import dqn
from jaxpg.loops.replay import Batch
from tests.tabular import Constant, make

ENV = make(Constant(True))
SMALL = {"hidden": (3,), "num_envs": 2, "buffer_size": 16, "batch_size": 4, "learning_starts": 2}


def begin(**fields):
    cfg = dqn.Config(**SMALL | {"total_steps": 1000.0} | fields)
    return cfg, jax.jit(functools.partial(dqn.init, cfg, ENV))(jax.random.key(0))


def other(params, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), params)


def batch(seed=0, size=12):
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.normal(size=(2, size, 1))
    reward, weight = rng.normal(size=size), rng.random(size)
    discount = 0.9 ** rng.integers(1, 4, size) * (rng.random(size) < 0.7)
    b = Batch(obs, rng.integers(0, 2, size), reward, discount, next_obs, weight, {})
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.int32 if x.dtype == int else jnp.float32), b)


def np_q(params, obs):
    """The network with one hidden layer, in float64; dueling if it has a value stream."""
    p = jax.tree.map(lambda x: np.asarray(x, float), params["params"])
    dense = lambda layer, x: x @ layer["kernel"] + layer["bias"]  # noqa: E731
    x = np.maximum(dense(p["MLP_0"]["Dense_0"], np.asarray(obs, float)), 0)
    q = dense(p["q"], x)
    return q - q.mean(-1, keepdims=True) + dense(p["value"], x) if "value" in p else q


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("kind", ["squared", "huber"])
def test_errors_and_loss_match_numpy(double, dueling, kind):
    cfg, state = begin(double=double, dueling=dueling, loss=kind)
    online, target = (other(state.learner.params, seed) for seed in (1, 2))
    b = batch()
    total, (error, info) = dqn.loss(online, cfg, ENV, target, b)

    rows, next_q = np.arange(12), np_q(target, b.next_obs)
    best = (np_q(online, b.next_obs) if double else next_q).argmax(-1)
    assert (best != next_q.argmax(-1)).any() == double  # the two differ somewhere
    y = np.asarray(b.reward) + np.asarray(b.discount) * next_q[rows, best]
    value = np_q(online, b.obs)[rows, np.asarray(b.action)]
    np.testing.assert_allclose(error, value - y, rtol=1e-4, atol=1e-5)
    size = 0.5 * (value - y) ** 2
    if kind == "huber":
        size = np.where(abs(value - y) > 1, abs(value - y) - 0.5, size)
    assert float(total) == pytest.approx(float((size * b.weight).mean()), rel=1e-4)
    assert float(info["loss/q"]) == float(total)
    assert float(info["value/q"]) == pytest.approx(value.mean(), rel=1e-4)


def test_no_gradient_flows_into_the_target():
    """That of a squared error is the error times the gradient of Q(s, a): by differences."""
    cfg, state = begin(double=True)
    params, b = other(state.learner.params, 1), batch()
    grads = jax.grad(lambda p: dqn.loss(p, cfg, ENV, params, b)[0])(params)
    leaves, structure = jax.tree.flatten(params)
    _, (error, _) = dqn.loss(params, cfg, ENV, params, b)
    weight = np.asarray(b.weight) * np.asarray(error, float) / 12
    for i, leaf in enumerate(leaves):

        def value(h, i=i, leaf=leaf):
            moved = structure.unflatten([*leaves[:i], leaf + h, *leaves[i + 1 :]])
            return np_q(moved, b.obs)[np.arange(12), np.asarray(b.action)]

        slope = (weight * (value(1e-3) - value(-1e-3)) / 2e-3).sum()
        assert float(jax.tree.leaves(grads)[i].sum()) == pytest.approx(slope, abs=2e-3)


@pytest.mark.parametrize(("period", "tau"), [(3, 1.0), (1, 0.25), (2, 0.5)])
def test_target_network_moves_when_it_is_due(period, tau):
    cfg, state = begin(target_period=period, tau=tau)
    learner = state.learner
    move = jax.jit(functools.partial(dqn.update, cfg, ENV))
    for n in range(1, 7):
        new, *_ = move(learner, batch(n))
        share = tau if n % period == 0 else 0
        expected = jax.tree.map(
            lambda t, p, s=share: t + s * (p - t), learner.target, new.params
        )  # fmt: skip
        for x, y in zip(jax.tree.leaves(new.target), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)
        assert int(new.updates) == n
        learner = new
    if tau == 1:
        first = jax.tree.leaves(learner.target)[0]
        np.testing.assert_array_equal(first, jax.tree.leaves(learner.params)[0])


def test_epsilon_falls_over_its_fraction_of_the_run():
    cfg, state = begin(exploration_fraction=0.4, epsilon_start=0.9, epsilon_end=0.1)
    step = jax.jit(functools.partial(dqn.step, cfg, ENV))
    for iteration, epsilon in ((0, 0.9), (100, 0.5), (200, 0.1), (500, 0.1), (900, 0.1)):
        new, metrics = step(state._replace(iteration=jnp.int32(iteration)))
        assert float(metrics["policy/epsilon"]) == pytest.approx(epsilon, abs=1e-6)
        assert float(new.epsilon) == float(metrics["policy/epsilon"])


def test_exploration_takes_any_action_with_probability_epsilon():
    q = jnp.tile(jnp.array([0.0, 3.0, 1.0, 2.0]), (40_000, 1))
    action = np.asarray(dqn.explore(q, 0.4, jax.random.key(0)))
    counts = np.bincount(action, minlength=4) / 40_000
    np.testing.assert_allclose(counts, [0.1, 0.7, 0.1, 0.1], atol=0.01)
    assert (dqn.explore(q, 0.0, jax.random.key(1)) == 1).all()


def test_act_is_greedy_or_explores_as_it_did_last():
    cfg, state = begin()
    state, obs = state._replace(epsilon=jnp.float32(0.5)), jnp.ones((4000, 1))
    greedy, _ = dqn.act(cfg, ENV, state, obs, (), jax.random.key(0), True)
    best = np_q(state.learner.params, np.ones((1, 1))).argmax()
    assert (greedy == best).all()
    sampled, _ = dqn.act(cfg, ENV, state, obs, (), jax.random.key(0), False)
    assert float((sampled == best).mean()) == pytest.approx(0.75, abs=0.03)


OTHER = {"dueling": True, "double": False, "prioritized": True, "tau": 0.2, "target_period": 2}


@pytest.mark.parametrize(
    ("fields", "terminates"),
    [
        *(({}, False), ({"n_step": 3}, True), (OTHER, True)),
        pytest.param({"n_step": 3}, False, marks=pytest.mark.slow),
        pytest.param({}, True, marks=pytest.mark.slow),
        pytest.param(OTHER, False, marks=pytest.mark.slow),
    ],
)
def test_truncation_bootstraps_and_termination_does_not(fields, terminates):
    """Reward 1, cut every 8 steps, one state: V = 1 / (1 - gamma) if truncated; else the mean of
    its targets, of which one in eight ends the sum at k = 1 .. n steps."""
    gamma, env = 0.9, make(Constant(terminates))
    cfg = dqn.Config(
        num_envs=1, num_steps=8, hidden=(), buffer_size=8192, batch_size=32, learning_starts=8,
        gamma=gamma, learning_rate=0.02, learning_rate_schedule="linear", updates_per_step=1.0,
        target_period=20, max_grad_norm=1e3, priority_exponent=0.0, epsilon_end=1.0,
    )  # fmt: skip
    cfg = jaxpg.core.config.replace(cfg, **fields)
    train = jax.jit(functools.partial(jaxpg.train, jaxpg.dqn, total_steps=10_000))
    state, _ = train(cfg, env, jax.random.key(0))
    q = dqn.discrete_q(cfg, env, cfg.dueling).apply(state.learner.params, jnp.ones((1, 1)))
    n = cfg.n_step
    sums = [(1 - gamma**k) / (1 - gamma) for k in [*range(1, n + 1), *[n] * (8 - n)]]
    slope = gamma**n * (8 - n) / 8 if terminates else np.mean(
        [gamma**k for k in [*range(1, n + 1), *[n] * (8 - n)]]
    )  # fmt: skip
    np.testing.assert_allclose(q, np.mean(sums) / (1 - slope), rtol=0.03)
    if not terminates:
        np.testing.assert_allclose(np.mean(sums) / (1 - slope), 1 / (1 - gamma))


def test_continuous_actions_are_refused():
    with pytest.raises(ValueError, match=r"dqn.Config on Pendulum-v1, whose actions are contin"):
        dqn.init(dqn.Config(), jaxpg.make("Pendulum-v1"), jax.random.key(0))
