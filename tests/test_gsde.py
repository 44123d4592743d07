"""State-dependent noise: its density against the definition, how long it is held, what learns."""

import dataclasses
import functools
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from scipy import stats

import jaxpg
from jaxpg.core import env as E
from jaxpg.core.choices import GSDE
from jaxpg.core.run import run
from jaxpg.nets import heads, noise
from jaxpg.nets.actor_critic import actor_critic, empty_carry
from tests.conftest import TINY, slow_of
from tests.test_contract import same_bytes

pytestmark = pytest.mark.defaults

KEY = random.key(0)
F, D = 4, 2
AGENTS = ("ppo", "a2c", "npg", "trpo", "sac")


def state_noise(every=None, gradient=False, features=F):
    """The module and parameters of it that differ in every entry."""
    net = noise.StateNoise(D, 0.0, every, gradient)
    log_sigma = random.uniform(random.key(1), (features, D), minval=-1.5, maxval=0.5)
    return net, {"params": {"log_sigma": log_sigma}}


def of(name, **fields):
    """An agent, its tiny config with the head, and Pendulum with episodes of 5 steps."""
    head = {"head": "tanh_gsde" if name == "sac" else "gsde"}
    env = jaxpg.make("Pendulum-v1", max_steps_in_episode=5)
    return getattr(jaxpg, name), getattr(jaxpg, name).Config(**TINY[name] | head | fields), env


# The density.


def test_the_deviation_is_that_over_all_matrices():
    """theta ~ N(0, sigma^2) drawn by NumPy, and the closed form."""
    net, params = state_noise()
    z = random.normal(random.key(2), (3, F))
    given: Any = net.apply(params, z, ())
    log_std, held = given
    assert (held.age == 0).all()  # nobody asked for noise
    sigma = np.exp(np.asarray(params["params"]["log_sigma"], float))
    variance = np.square(np.asarray(z, float)) @ np.square(sigma) + 1e-6
    np.testing.assert_allclose(np.exp(2 * log_std), variance, rtol=1e-5)
    theta = sigma * np.random.default_rng(0).normal(size=(200_000, F, D))
    drawn = np.einsum("sf,nfd->nsd", np.asarray(z, float), theta)
    np.testing.assert_allclose(drawn.mean(0), 0, atol=5 * np.sqrt(variance.max() / 200_000))
    np.testing.assert_allclose(drawn.var(0), variance, rtol=0.02)


def test_held_noise_has_the_density_that_the_head_reports():
    """In 20,000 environments in the same two states, of which neighbours get like noise."""
    net, params = state_noise()
    states = jnp.stack([jnp.array([0.5, -1.0, 0.3, 0.8]), jnp.array([0.6, -0.9, 0.3, -0.1])])

    @jax.jit
    def both(key):
        many = jnp.broadcast_to(states[:, None], (2, 20_000, F))
        out, held = net.apply(params, many[0], (), rngs={"noise": key})
        again, _ = net.apply(params, many[1], held, rngs={"noise": random.key(9)})
        return jnp.stack([out, again])

    log_std, unit = jnp.split(both(KEY), 2, -1)
    for s in range(2):
        for d in range(D):
            assert stats.kstest(unit[s, :, d], "norm").pvalue > 1e-3
        assert abs(np.corrcoef(unit[s].T)[0, 1]) < 0.03  # dimensions are independent
    sigma = np.exp(np.asarray(params["params"]["log_sigma"], float))
    x, y = np.asarray(states, float)
    expected = (np.square(sigma) * (x * y)[:, None]).sum(0)  # covariance of the two
    found = (unit * jnp.exp(log_std)).prod(0).mean(0)
    np.testing.assert_allclose(found, expected, atol=0.02)
    # A draw is the mean and that noise; its density is the normal one, or of its tanh.
    mean = jnp.array([0.3, -0.2])
    out = jnp.concatenate([jnp.broadcast_to(mean, unit[0].shape), log_std[0], unit[0]], -1)[:50]
    for name in GSDE:
        pi = heads.make(name, two_dimensions())
        draw, log_prob = pi.sample(out, KEY)
        spread = np.exp(np.asarray(log_std[0, :50], float))
        np.testing.assert_allclose(draw, mean + spread * unit[0, :50], rtol=1e-5)
        normal = stats.norm.logpdf(draw, mean, spread)
        squash = name.startswith("tanh")
        width = np.log(1 - np.tanh(np.asarray(draw, float)) ** 2) if squash else 0
        np.testing.assert_allclose(log_prob, (normal - width).sum(-1), atol=2e-4)
        np.testing.assert_allclose(pi.log_prob(out, draw), log_prob, atol=1e-5)
        np.testing.assert_array_equal(pi.mode(out)[0], mean)


def two_dimensions():
    from gymnax.environments import spaces

    from tests.tabular import Odd, make

    return make(Odd(actions=spaces.Box(-1.0, 1.0, (D,))))


@pytest.mark.parametrize("name", GSDE)
def test_entropy_and_divergence_are_those_of_the_normal_density(name):
    """With the noise among the outputs and without it."""
    pi = heads.make(name, two_dimensions())
    out, other = (random.normal(random.key(i), (3 * D,)) for i in (3, 4))
    (m, s, _), (n, r, _) = (np.split(np.asarray(x, float), 3) for x in (out, other))
    kl = r - s + (np.exp(2 * s) + (m - n) ** 2) / (2 * np.exp(2 * r)) - 0.5
    for x, y in [(out, other), (out, other[: 2 * D]), (out[: 2 * D], other)]:
        assert float(pi.kl(x, y, KEY)) == pytest.approx(kl.sum(), abs=1e-4)
    entropy = (0.5 * np.log(2 * np.pi * np.e) + s).sum()
    if name == "tanh_gsde":  # and the mean logarithm of its derivative
        z = m + np.exp(s) * np.random.default_rng(0).normal(size=(400_000, D))
        entropy += (2 * (np.log(2) - np.logaddexp(z, -z))).sum(-1).mean()
    assert float(pi.entropy(out, KEY)) == pytest.approx(entropy, abs=0.01)
    assert float(pi.entropy(out[: 2 * D], KEY)) == float(pi.entropy(out, KEY))


@pytest.mark.parametrize("gradient", [False, True])
def test_slopes_of_the_deviation(gradient):
    """d log std_i / d log sigma_ji = sigma_ji^2 z_j^2 / variance_i; and in z where it is asked."""
    net, params = state_noise(gradient=gradient)
    z = random.normal(random.key(5), (F,))
    by_sigma, by_z = jax.jacobian(lambda p, z: net.apply(p, z, ())[0], (0, 1))(params, z)
    square = np.exp(2 * np.asarray(params["params"]["log_sigma"], float))
    x = np.asarray(z, float)
    variance = x**2 @ square + 1e-6
    expected = square * (x**2)[:, None] / variance
    found = np.asarray(by_sigma["params"]["log_sigma"])  # [D, F, D]
    for i in range(D):
        np.testing.assert_allclose(found[i][:, i], expected[:, i], rtol=1e-4)
        assert (found[i][:, 1 - i] == 0).all()
    np.testing.assert_allclose(by_z, gradient * (square * x[:, None] / variance).T, rtol=1e-4)


def test_features_of_zero_leave_everything_finite():
    net, params = state_noise(gradient=True)

    def go(params, z):
        out, _ = net.apply(params, z, (), rngs={"noise": KEY})
        return out.sum()

    value, slopes = jax.value_and_grad(go, (0, 1))(params, jnp.zeros((1, F)))
    for x in jax.tree.leaves((value, slopes)):
        assert np.isfinite(x).all()


# How long it is held.


@pytest.mark.parametrize("every", [None, 3])
def test_noise_is_one_function_of_the_state_until_it_is_drawn_anew(every):
    """With one feature z the noise over z is the matrix itself: the same for `noise_every` steps
    of an episode of 5, and never again, nor in another environment."""
    _, cfg, env = of("ppo", hidden=(1,), noise_every=every, noise_log_std=0.5)
    net, pi = actor_critic(cfg, env)
    params = net.init(KEY, env.example_obs)
    state = E.reset(env, random.key(1), 3)

    def policy(obs, carry, key):
        out, _, after = net.apply(params, obs, carry, rngs=noise.exploring(cfg, key))
        z = net.apply(params, obs, method=lambda net, obs: net.actor_torso(obs))
        draw, _ = pi.sample(out, key)
        return pi.action(draw), after, (draw - pi.mode(out)) / z

    go = jax.jit(
        lambda key: E.rollout(env, policy, state, empty_carry(net, params, state.obs), key, 20)
    )
    _, _, t, theta, _ = go(random.key(2))
    assert t.truncated.sum() == 12
    theta = np.asarray(theta)[..., 0]  # [20, 3]
    period = np.arange(20) // 5 * 2 + (np.arange(20) % 5 >= 3) * (every is not None)
    periods = np.unique(period)
    assert len(periods) == (4 if every is None else 8)
    each = np.array([theta[period == p][0] for p in periods])
    for p, first in zip(periods, each, strict=True):
        np.testing.assert_allclose(theta[period == p] - first, 0, atol=2e-3 * np.abs(first).max())
    assert len(np.unique(each.round(3))) == each.size


@pytest.mark.parametrize("name", slow_of(["ppo", "sac"], "ppo"))
def test_a_sampled_policy_holds_its_noise_and_a_greedy_one_has_none(name):
    """`act` from () on, as evaluations and exported policies call it."""
    agent, cfg, env = of(name, noise_log_std=0.0, noise_every=4)
    state = agent.init(cfg, env, KEY)
    obs = jnp.tile(jnp.array([[0.5, 0.2, 0.3]]), (2, 1))
    act = jax.jit(agent.act, static_argnames="greedy")

    def actions(greedy):
        carry, found = (), []
        for t in range(8):
            action, carry = act(cfg, env, state, obs, carry, random.key(t), greedy=greedy)
            found.append(np.asarray(action)[:, 0])
        return np.array(found)

    drawn = actions(False)
    assert (drawn[:4] == drawn[0]).all()
    assert (drawn[4:] == drawn[4]).all()
    assert len(np.unique(drawn)) == 4  # two periods of two environments
    assert len(np.unique(actions(True))) == 1
    returns = jaxpg.evaluate(agent, cfg, env, state, KEY, episodes=3, greedy=False)
    assert np.isfinite(returns).all()


def test_a_long_episode_does_not_count_its_steps_without_end():
    held = noise.Held(jnp.ones((2, 2), jnp.uint32), jnp.array([0, 1], jnp.int32))
    once = noise.redraw(held, None, KEY)
    np.testing.assert_array_equal(once.age, [1, 1])
    np.testing.assert_array_equal(once.words[1], held.words[1])
    assert (once.words[0] != held.words[0]).any()
    many = held._replace(age=jnp.array([6, 7], jnp.int32))
    np.testing.assert_array_equal(noise.redraw(many, 7, KEY).age, [7, 1])


# Agents.


def test_learning_sees_the_density_of_collection():
    """Of single steps, in any order: the ratio of the policies is 1 before the first update."""
    _, cfg, env = of("ppo", noise_every=2)
    net, pi = actor_critic(cfg, env)
    params = net.init(KEY, env.example_obs)
    state = E.reset(env, random.key(1), 4)

    def policy(obs, carry, key):
        out, _, after = net.apply(params, obs, carry, rngs=noise.exploring(cfg, key))
        draw, log_prob = pi.sample(out, key)
        return pi.action(draw), after, (draw, log_prob, carry)

    begin = empty_carry(net, params, state.obs)
    _, _, t, (draw, log_prob, carry), _ = E.rollout(env, policy, state, begin, KEY, 6)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[::-1], (t.obs, carry, draw))
    out, *_ = net.apply(params, flat[0], flat[1], jnp.zeros(24, bool))
    np.testing.assert_allclose(
        pi.log_prob(out, flat[2]), log_prob.reshape(-1)[::-1], rtol=1e-5, atol=1e-5
    )


@functools.cache
def trained(name, seeds=0):
    agent, cfg, env = of(name, noise_every=3)
    key = random.split(KEY, seeds) if seeds else KEY
    steps = 9 * agent.steps_per_iter(cfg)
    return run(agent, cfg, env, key, total_steps=steps, chunk=4)


def log_sigma(state):
    state = getattr(state, "learner", state)
    params = state.params if hasattr(state, "params") else state.actor
    return getattr(params, "actor", params)["params"]["actor_noise"]["log_sigma"]


@pytest.mark.parametrize("name", slow_of(AGENTS, *AGENTS[:-1]))  # the first twin is SAC
def test_agents_learn_the_deviation_and_resume_to_the_byte(name):
    whole, agent = trained(name), getattr(jaxpg, name)
    cfg, env, total = whole.cfg, whole.env, whole.env_steps
    assert all(np.isfinite(m[-1]) for k, m in whole.metrics.items() if "episode" not in k)
    moved = log_sigma(whole.state) - cfg.noise_log_std
    assert np.isfinite(moved).all()
    assert (np.abs(moved) > 0).all()
    part = run(agent, cfg, env, KEY, total_steps=total, chunk=4, callbacks=[lambda event: True])
    assert part.iteration == 4
    rest = run(
        agent, cfg, env, KEY, total_steps=total, chunk=4, state=part.state, iteration=part.iteration
    )
    same_bytes(rest.state, whole.state)


@pytest.mark.parametrize("name", slow_of(("ppo", "trpo", "sac"), "trpo", "sac"))
def test_seeds_are_rows_with_noise_of_their_own(name):
    many, agent = trained(name, seeds=2), getattr(jaxpg, name)
    one = run(
        agent, many.cfg, many.env, random.split(KEY, 2)[1], total_steps=many.env_steps, chunk=4
    )
    carry = lambda state: getattr(state, "replay", state).carry[1]  # noqa: E731
    same_bytes(jax.tree.map(lambda x: x[1], carry(many.state)), carry(one.state))
    words = np.asarray(carry(many.state).words).reshape(-1, 2)
    assert len(np.unique(words, axis=0)) == len(words) == 4


def test_exported_policies_hold_their_noise(tmp_path):
    """From the run and from a file: three steps with one matrix, then another. ONNX is greedy."""
    policy = jaxpg.Policy.of(trained("ppo"))
    policy.export(tmp_path / "file", platforms=["cpu"])
    from_file = jaxpg.Policy.from_file(tmp_path / "file")
    obs, carry, other, actions = np.full((2, 3), 0.3, np.float32), None, None, []
    for t in range(4):
        action, carry = policy(obs, carry, key=random.key(t))
        again, other = from_file(obs, other, key=random.key(t))
        np.testing.assert_array_equal(again, action)
        actions.append(action[:, 0])
    assert (np.array(actions[:3]) == actions[0]).all()
    assert len(np.unique(actions)) == 4
    greedy, _ = policy(obs)
    if find_spec("onnx") and find_spec("onnxruntime"):
        import onnxruntime

        policy.export_onnx(tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        fed = [np.zeros((2, *x["shape"]), x["dtype"]) for x in policy.about["carry"]]
        names = [x.name for x in session.get_inputs()]
        found = session.run(None, dict(zip(names, [obs, *fed], strict=True)))[0]
        np.testing.assert_allclose(found, greedy, atol=1e-5)


@pytest.mark.parametrize(("name", "shared"), [("ppo", False), ("a2c", True)])
def test_a_memory_and_held_noise_stand_side_by_side(name, shared):
    agent, cfg, env = of(name, memory="gru", memory_size=3, shared=shared, total_steps=100.0)
    state = jax.eval_shape(lambda key: agent.init(cfg, env, key), KEY)
    after, _ = jax.eval_shape(lambda s: agent.step(cfg, env, s), state)
    shapes = functools.partial(jax.tree.map, lambda x: (x.shape, x.dtype))
    assert shapes(after) == shapes(state)
    memory, held = state.carry
    assert shapes(jax.tree.leaves(memory)) == [((2, 3), np.float32)] * (1 if shared else 2)
    assert shapes(tuple(held)) == (((2, 2), np.uint32), ((2,), np.int32))


def test_first_deviations_can_be_a_batch():
    """`noise_log_std` is a leaf."""
    agent, cfg, env = of("ppo")

    def first(x):
        return log_sigma(agent.init(dataclasses.replace(cfg, noise_log_std=x), env, KEY))

    found = jax.jit(jax.vmap(first))(jnp.array([-3.0, 0.5]))
    np.testing.assert_array_equal(found, np.broadcast_to([[[-3.0]], [[0.5]]], (2, 4, 1)))


def test_what_does_not_fit_is_refused_by_name():
    agent, cfg, env = of("ppo")
    with pytest.raises(ValueError, match="head='gsde' on CartPole-v1, whose actions are discrete"):
        agent.init(cfg, jaxpg.make("CartPole-v1"), KEY)
    for wrong in ({"noise_every": 0}, {"noise_log_std": 3.0}, {"noise_log_std": float("nan")}):
        ((name, value),) = wrong.items()
        with pytest.raises(ValueError, match=f"ppo.Config {name}={value}: allowed is"):
            agent.init(dataclasses.replace(cfg, **wrong), env, KEY)
    for name, head in {"reinforce": "gsde", "cem": "gsde", "sac": "gsde"}.items():
        other = getattr(jaxpg, name)
        with pytest.raises(ValueError, match=f"{name}.Config head='gsde': .*allowed is one of"):
            other.init(other.Config(**TINY[name] | {"head": head}), env, KEY)

    @jaxpg.config
    class Own:
        head: str = "gsde"
        temperature: float = 1.0
        shared: bool = False

    with pytest.raises(ValueError, match="has no"):
        actor_critic(Own(), env)
