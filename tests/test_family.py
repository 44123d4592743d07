"""Where two algorithms of the family are the same one, they give the same numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxpg
from jaxpg.agents import a2c, a3c, impala, ppo
from jaxpg.core import env as E
from jaxpg.loops import lag
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.ops import importance, losses
from jaxpg.ops.returns import gae, n_step_return
from tests.conftest import slow_of

NET = {"hidden": (4,), "num_envs": 3, "num_steps": 6}
ENVS = ("CartPole-v1", "Pendulum-v1")


def collected(env, cfg, params):
    """A rollout with ends of episodes in it, and what every agent's loss asks of it."""
    net, pi = actor_critic(cfg, env)

    def act(obs, carry, key):
        out = net.apply(params, obs, method="policy")
        draw, log_prob = pi.sample(out, key)
        return pi.action(draw), (), ppo.Seen(draw, log_prob, out, ())

    k_env, k_rollout = jax.random.split(jax.random.key(1))
    play = jax.jit(lambda k: E.rollout(env, act, E.reset(env, k_env, 3), (), k, 6))
    _, _, t, seen, _ = play(k_rollout)
    assert (t.terminated | t.truncated).any()
    return t, seen


@functools.cache
def played(name):
    """An environment, a config of A2C, parameters, what was collected, and values of its
    observations and of the next ones."""
    env, cfg = short(name), a2c.Config(**NET, gae_lambda=0.9, entropy_coef=0.03)
    net, _ = actor_critic(cfg, env)
    params = jax.jit(net.init)(jax.random.key(0), env.example_obs)
    t, seen = collected(env, cfg, params)
    value = jax.jit(functools.partial(net.apply, method="value"))
    return env, cfg, params, t, seen, value(params, t.obs), value(params, t.next_obs)


def assert_close(a, b, atol=1e-6):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=atol)


def short(name):
    return jaxpg.make(name, max_steps_in_episode=4)


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        pytest.param(name, x, marks=[pytest.mark.slow] * (name == "Pendulum-v1"))
        for name in ENVS for x in ("clip", "kl", "lagrangian")
    ],
)  # fmt: skip
def test_ppo_at_ratio_one_has_the_gradient_of_a2c(name, objective):
    env, cfg, params, t, seen, value, next_value = played(name)
    advantage = gae(t.reward, value, next_value, t.terminated, t.truncated, 0.99, 0.9)
    same = ppo.Config(
        **NET, gae_lambda=0.9, entropy_coef=0.03, value_coef=1.0, normalize_advantage=False,
        objective=objective, target_kl=0.01, clip_value=False,
    )  # fmt: skip
    batch = ppo.Batch(
        t.obs, start=None, **seen._asdict(),
        value=value, advantage=advantage, target=advantage + value,
    )  # fmt: skip
    key = jax.random.key(1)  # of heads without closed forms: not of this one
    ours = jax.jit(jax.grad(lambda p: ppo.loss(p, same, env, batch, 3.0, key)[0]))(params)
    theirs = jax.jit(jax.grad(lambda p: a2c.loss(p, cfg, env, t, seen, key)[0]))(params)
    assert max(jnp.abs(x).max() for x in jax.tree.leaves(theirs)) > 1e-2
    scale = optax.global_norm(theirs)
    assert_close(optax.tree.scale(1 / scale, ours), optax.tree.scale(1 / scale, theirs))


@pytest.mark.parametrize("name", ENVS)
def test_vtrace_at_ratio_one_is_the_n_step_return(name):
    _, _, _, t, _, value, next_value = played(name)
    ends = t.terminated, t.truncated
    target, advantage = importance.vtrace(
        jnp.zeros_like(value), t.reward, value, next_value, *ends, 0.99
    )
    n_step = n_step_return(t.reward, next_value, *ends, 0.99, n=6)
    np.testing.assert_allclose(target, n_step, atol=1e-5)
    np.testing.assert_allclose(advantage, n_step - value, atol=1e-5)


def train(agent, env, iterations=3, **fields):
    cfg = agent.Config(**NET, gamma=0.9, entropy_coef=0.02, critic_learning_rate=4e-3, **fields)
    go = functools.partial(jaxpg.train, agent, total_steps=iterations * agent.steps_per_iter(cfg))
    return jax.jit(go)(cfg, env, jax.random.key(3))


@pytest.mark.parametrize("name", slow_of(ENVS, "Pendulum-v1"))
def test_a3c_and_impala_without_a_lag_are_a2c(name):
    """Three whole iterations: the same keys, episodes, gradients and parameters."""
    env = short(name)
    state, metrics = train(jaxpg.a2c, env, gae_lambda=1.0)
    for agent, fields in ((jaxpg.a3c, {"num_workers": 1}), (jaxpg.impala, {})):
        same, its_metrics = train(agent, env, lag=0, **fields)
        assert_close(state.params, same.params)
        assert_close(state.opt_state, same.opt_state, 1e-5)
        for key, m in metrics.items():
            np.testing.assert_allclose(its_metrics[key], m, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("workers", "delay"),
    [(3, 2), *(pytest.param(*x, marks=pytest.mark.slow) for x in [(1, 1), (1, 5), (3, 5)])],
)
def test_a3c_applies_gradients_of_lag_updates_ago_in_turn(delay, workers):
    """Against the same run written as a Python loop over updates."""
    env = short("CartPole-v1")
    cfg = a3c.Config(**NET, num_workers=workers, lag=delay, learning_rate=0.1)
    state = a3c.init(cfg, env, jax.random.key(3))
    net, pi = actor_critic(cfg, env)
    opt, versions, key = a3c.optimizers.actor_critic(cfg), [state.params], state.key
    opt_state = state.opt_state
    envs = [jax.tree.map(lambda x, w=w: x[w], state.env) for w in range(workers)]

    @jax.jit
    def update(copy, params, opt_state, env_state, key):
        def act(obs, carry, key):
            draw, _ = pi.sample(net.apply(copy, obs, method="policy"), key)
            return pi.action(draw), (), a2c.Seen(draw, ())

        env_state, _, t, seen, _ = E.rollout(env, act, env_state, (), key, cfg.num_steps)
        own = a2c.Config(**NET, gae_lambda=1.0)
        # exact: no key used
        grads, _ = jax.grad(a2c.loss, has_aux=True)(copy, own, env, t, seen, key)
        updates, opt_state = opt.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, env_state

    step = jax.jit(functools.partial(a3c.step, cfg, env))
    for _ in range(3):
        state, _ = step(state)
        for w in range(workers):
            key, k_rollout = jax.random.split(key)
            copy = versions[max(len(versions) - 1 - delay, 0)]
            params, opt_state, envs[w] = update(copy, versions[-1], opt_state, envs[w], k_rollout)
            versions.append(params)
    assert_close(state.params, versions[-1], 1e-5)
    assert len(versions) == 3 * workers + 1
    assert jax.tree.leaves(state.history)[0].shape[0] == delay


def test_impala_acts_with_the_parameters_of_lag_iterations_ago():
    """With a critic that does not learn, the ratio's mean KL is zero until the policy has moved."""
    env = short("CartPole-v1")
    cfg = impala.Config(**NET, lag=2, learning_rate=0.1)
    state = impala.init(cfg, env, jax.random.key(3))
    step = jax.jit(functools.partial(impala.step, cfg, env))
    versions = [state.params]
    for _ in range(4):
        behaviour = versions[max(len(versions) - 3, 0)]
        assert_close(lag.oldest(state.history, state.params), behaviour, 0)
        state, metrics = step(state)
        assert (metrics["policy/lag_kl"] > 1e-6) == (len(versions) > 1)
        assert 0 < metrics["policy/effective_samples"] <= 1 + 1e-6
        versions.append(state.params)


@pytest.mark.slow
def test_impala_without_correction_ignores_the_ratios():
    env = short("CartPole-v1")
    cfg = impala.Config(**NET)
    net, _ = actor_critic(cfg, env)
    mu, params = (net.init(jax.random.key(k), env.example_obs) for k in (0, 1))
    params = jax.tree.map(lambda x: 3 * x, params)
    t, seen = collected(env, cfg, mu)
    key = jax.random.key(1)
    grad = jax.grad(lambda p, cfg: impala.loss(p, cfg, env, t, seen, key)[0])
    plain = jaxpg.core.config.replace(cfg, correction="none")
    same = a2c.Config(**NET, gae_lambda=1.0, entropy_coef=0.01)
    on_policy = jax.grad(lambda p: a2c.loss(p, same, env, t, seen, key)[0])(params)
    assert_close(grad(params, plain), on_policy, 1e-5)
    gap = optax.global_norm(optax.tree.sub(grad(params, cfg), on_policy))
    assert gap > 0.01 * optax.global_norm(on_policy)


def test_the_multiplier_rises_while_the_constraint_is_broken_and_never_below_zero():
    up = losses.dual_ascent(jnp.float32(1.0), 0.5, 0.1)
    assert float(up) == pytest.approx(1.05)
    assert float(losses.dual_ascent(jnp.float32(0.01), -1.0, 0.1)) == 0.0


def test_dual_ascent_finds_the_multiplier_of_the_constrained_bandit():
    """r = c = (1, 0), cost at most 0.3: pi(1) = 0.3 and multiplier 1. The policy that is best at
    each multiplier, smoothed by a little entropy tau, gives the dual's gradient."""
    tau, multiplier = 0.05, jnp.zeros(())
    for _ in range(4000):
        p = jax.nn.sigmoid((1 - multiplier) / tau)
        multiplier = losses.dual_ascent(multiplier, p - 0.3, 0.01)
    assert float(p) == pytest.approx(0.3, abs=1e-3)
    assert float(multiplier) == pytest.approx(1 - tau * np.log(0.3 / 0.7), abs=1e-3)


@pytest.mark.slow
@pytest.mark.defaults  # learns for longer than it compiles
def test_ppo_s_multiplier_brings_the_divergence_to_its_target():
    """In the mean of four seeds. Without a constraint updates go about four times as far."""
    env, keys = jaxpg.make("CartPole-v1"), jax.random.split(jax.random.key(0), 4)
    cfg = ppo.Config(
        hidden=(8,), num_envs=8, num_steps=32, minibatches=1, num_epochs=8, learning_rate=5e-3,
        learning_rate_schedule="constant", objective="lagrangian", target_kl=5e-4,
        dual_learning_rate=0.3,
    )  # fmt: skip
    train = functools.partial(jaxpg.train, jaxpg.ppo, total_steps=256 * 400)
    train = jax.jit(jax.vmap(train, (None, None, 0)))
    _, m = train(cfg, env, keys)
    assert m["policy/approx_kl"][:, -100:].mean() == pytest.approx(5e-4, rel=0.15)
    assert m["policy/kl_penalty"].min() >= 0
    _, free = train(
        jaxpg.core.config.replace(cfg, dual_learning_rate=0.0, target_kl=1e6), env, keys
    )
    assert (free["policy/kl_penalty"] == 1).all()  # no dual step: the multiplier stays
    assert free["policy/approx_kl"][:, -100:].mean() > 1e-3
