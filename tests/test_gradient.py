"""The estimators against exact answers: enumeration of a small MDP, and known values."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.agents import a2c, reinforce
from jaxpg.core.types import Transition
from jaxpg.nets.actor_critic import actor_critic
from tests.conftest import slow_of
from tests.tabular import Chain, Constant, make

ACTIONS = np.array(list(itertools.product((0, 1), repeat=3)))  # every trajectory [8, 3]


def trajectories():
    """All eight trajectories of the chain as the columns of one rollout [T=3, N=8]."""
    sums = np.cumsum(ACTIONS, 1) - ACTIONS
    times = np.arange(3)
    obs = np.eye(9, dtype=np.float32)[(3 * times + sums).clip(max=8)].transpose(1, 0, 2)
    following = np.eye(9, dtype=np.float32)[(3 * (times + 1) + sums + ACTIONS).clip(max=8)]
    reward = np.asarray(Chain.rewards)[times, sums, ACTIONS].T
    terminated = np.zeros((3, 8), bool)
    terminated[-1] = True
    columns = obs, ACTIONS.T, reward, terminated, np.zeros_like(terminated)
    return Transition(*map(jnp.asarray, (*columns, following.transpose(1, 0, 2))), {})


def probabilities(params, cfg, env, t):
    """Of every trajectory [8]; and its discounted return."""
    net, pi = actor_critic(cfg, env)
    out = net.apply(params, t.obs, method="policy")
    return jnp.exp(pi.log_prob(out, t.action).sum(0))


def exact_gradient(params, cfg, env, t):
    returns = (cfg.gamma ** jnp.arange(3)[:, None] * t.reward).sum(0)
    return jax.jit(jax.grad(lambda p: (probabilities(p, cfg, env, t) * returns).sum()))(params)


@pytest.fixture(scope="module", autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("weight", ["reward_to_go", "total_return"])
@pytest.mark.parametrize("baseline", ["none", "constant", "value"])
def test_reinforce_expects_the_gradient_of_the_return(weight, baseline):
    """Over every trajectory, weighted by its probability, with the factor gamma^t."""
    t, env = trajectories(), make(Chain())
    cfg = reinforce.Config(
        num_steps=3, num_envs=1, hidden=(4,), weight=weight, baseline="none",
        normalize=False, discount_states=True, gamma=0.9,
    )  # fmt: skip
    params = jax.tree.map(
        lambda x: jnp.asarray(x, float) + 0.3,
        actor_critic(cfg, env)[0].init(jax.random.key(1), env.example_obs, method="policy"),
    )
    rng = np.random.default_rng(0)
    value = {"none": 0.0, "constant": 2.5, "value": rng.normal(size=9)}[baseline]
    value = jnp.broadcast_to(value, (9,))
    value = jnp.einsum("tno,o->tn", t.obs, value)  # of the state, so that it cannot see the action

    @jax.jit
    def of_one(i):
        one = jax.tree.map(lambda x: x[:, i, None], t)
        w, counts = reinforce.weights(cfg, one, value[:, i, None], jnp.zeros((3, 1)))
        batch = reinforce.Batch(one.obs, one.action, w, counts, jnp.ones((), int))
        return jax.grad(lambda p: -reinforce.loss(p, cfg, env, batch, jax.random.key(0))[0])(params)

    p = probabilities(params, cfg, env, t)
    grads = [of_one(i) for i in range(8)]
    expected = jax.tree.map(lambda *g: sum(pi * x for pi, x in zip(p, g, strict=True)), *grads)
    exact = exact_gradient(params, cfg, env, t)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(exact), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert max(jnp.abs(x).max() for x in jax.tree.leaves(exact)) > 0.01


def test_a2c_expects_the_gradient_of_the_return_undiscounted():
    """At gamma = lambda = 1 the advantage is the reward to go less a baseline."""
    t, env = trajectories(), make(Chain())
    cfg = a2c.Config(gamma=1.0, gae_lambda=1.0, entropy_coef=0.0, hidden=(4,))
    net, _ = actor_critic(cfg, env)
    params = jax.tree.map(
        lambda x: jnp.asarray(x, float) + 0.3, net.init(jax.random.key(1), env.example_obs)
    )
    p = probabilities(params, cfg, env, t)

    @jax.jit
    def of_one(i):
        one = jax.tree.map(lambda x: x[:, i, None], t)
        seen, key = a2c.Seen(one.action, ()), jax.random.key(0)
        loss = lambda q: a2c.loss(q, cfg, env, one, seen, key)[1]["loss/policy"]  # noqa: E731
        return jax.grad(lambda q: -3 * loss(q))(params)

    grads = [of_one(i) for i in range(8)]
    expected = jax.tree.map(lambda *g: sum(pi * x for pi, x in zip(p, g, strict=True)), *grads)
    exact = exact_gradient(params, cfg, env, t)
    for name in ("actor", "actor_torso"):
        a, b = expected["params"][name], exact["params"][name]
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)


VALUES = {
    "reinforce": {"num_envs": 1, "num_steps": 16, "critic_updates": 4, "hidden": ()},
    "a2c": {"num_envs": 1, "num_steps": 12, "hidden": (), "max_grad_norm": 100.0},
    "ppo": {
        "num_envs": 1, "num_steps": 12, "minibatches": 1, "hidden": (),
        "learning_rate_schedule": "constant",
        "clip_value": False, "learning_rate": 0.05, "max_grad_norm": 100.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", slow_of(VALUES, "a2c"))  # as PPO
@pytest.mark.parametrize("terminates", [False, True])
def test_truncation_bootstraps_and_termination_does_not(name, terminates):
    """Reward 1, cut every 8 steps: V = 1 / (1 - gamma) if truncated, else the finite sums."""
    gamma, agent, env = 0.9, jaxpg.agents.get(name), make(Constant(terminates))
    cfg = agent.Config(gamma=gamma, **VALUES[name])
    if hasattr(cfg, "critic_learning_rate"):
        cfg = jaxpg.core.config.replace(cfg, critic_learning_rate=0.05)
    train = jax.jit(partial(jaxpg.train, agent, total_steps=1200 * agent.steps_per_iter(cfg)))
    state, _ = train(cfg, env, jax.random.key(0))
    net, _ = actor_critic(cfg, env)
    params = state.params if hasattr(state, "params") else state.critic
    value = float(net.apply(params, jnp.ones(1), method="value"))
    if not terminates:
        answer = 1 / (1 - gamma)
    elif name == "reinforce":  # the mean return to go over an episode: one state for all times
        answer = np.mean([(1 - gamma**k) / (1 - gamma) for k in range(1, 9)])
    else:
        answer = _lambda_fixed_point(gamma, float(cfg.gae_lambda))
    assert value == pytest.approx(answer, rel=0.02)


def _lambda_fixed_point(gamma, lam):
    """V = mean over a rollout of the lambda-return with one V for all states, from its definition.

    Rollouts of 12 steps begin at step 0 or 4 of an episode of 8, in turn.
    """
    coefficients = []
    for begin in (0, 4):
        ends = [(begin + t) % 8 == 7 for t in range(12)]
        for t in range(12):
            constant, slope, weight = 0.0, 0.0, 1.0  # target = constant + slope * V
            for k in range(t, 12):
                constant += weight
                if ends[k]:
                    break
                last = k == 11
                slope += weight * gamma * (1.0 if last else 1 - lam)
                weight *= gamma * lam
            coefficients.append((constant, slope))
    constant, slope = np.mean(coefficients, 0)
    return constant / (1 - slope)
