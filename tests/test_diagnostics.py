"""Diagnostics against enumeration of a small MDP, plain NumPy, and hand-computed numbers."""

import dataclasses
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg import agents
from jaxpg.agents import ppo, reinforce
from jaxpg.core.plan import begin_run
from jaxpg.core.run import Callback, run
from jaxpg.experiment import diagnostics
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.ops import normalize
from tests.conftest import ACTOR_CRITIC, INSTALLED, TINY, slow_of
from tests.tabular import Chain, Constant, make
from tests.test_contract import same_bytes
from tests.test_gradient import exact_gradient, probabilities, trajectories

UNBIASED = ("total return", "reward-to-go", "reward-to-go, value baseline", "3-step", "GAE 1")
TABLE = np.random.default_rng(0).normal(size=9)  # a wrong value of every state

CHAIN, TERMINATING, TRUNCATING = make(Chain()), make(Constant(True)), make(Constant(False))
PAIRS = np.stack(np.meshgrid(range(8), range(8)), -1).reshape(64, 2)  # of trajectories


@pytest.fixture
def double():
    with jax.enable_x64(True):
        yield


def plain(name):
    """An agent's tiny config, without the memory that diagnostics refuse."""
    return {k: v for k, v in TINY[name].items() if k != "memory"}


def state_of(agent, cfg, env, seed=0):
    """A state with arbitrary numbers for what is learnt, and nothing else; compiles nothing."""
    shapes = jax.eval_shape(partial(agent.init, cfg, env), jax.random.key(0))
    rng = np.random.default_rng(seed)

    def leaf(x):
        return jnp.asarray(rng.normal(size=x.shape), float)

    networks = {
        f: jax.tree.map(leaf, getattr(shapes, f, ())) for f in ("params", "actor", "critic")
    }
    scales = {
        f: jax.tree.map(lambda x: jnp.abs(leaf(x)) + 1, getattr(shapes, f, ()))
        for f in ("obs_stats", "reward_scale")
    }
    return shapes._replace(**{f: (networks | scales).get(f, ()) for f in shapes._fields})


def chain():
    """The chain, an agent on it without a critic, and all eight trajectories."""
    env = CHAIN
    cfg = reinforce.Config(num_steps=3, num_envs=1, hidden=(4,), baseline="none", gamma=1.0)
    t = trajectories()
    known = {name: x for name, x in t._asdict().items() if name in diagnostics.Episodes._fields}
    t = diagnostics.Episodes(**known, draw=t.action, mask=jnp.ones((3, 8), bool))
    return cfg, env, state_of(jaxpg.reinforce, cfg, env), t


def ragged(t):
    """The trajectories, cut to 1, 3, 2, 1, 3, ... steps: the mask is false after them."""
    mask = jnp.arange(3)[:, None] < jnp.array([1, 3, 2, 1, 3, 2, 1, 3])
    last = mask & ~jnp.concatenate([mask[1:], jnp.zeros((1, 8), bool)])
    return t._replace(terminated=last, mask=mask)


def flat(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def scores(cfg, env, actor, t):
    """grad log pi of every step by itself, [T, E, P]."""
    net, pi = actor_critic(cfg, env)
    of_steps = jax.jacrev(lambda a: pi.log_prob(net.apply(a, t.obs, method="policy"), t.draw))(
        actor
    )
    shape = t.reward.shape
    return np.concatenate([x.reshape(*shape, -1) for x in jax.tree.leaves(of_steps)], -1)


def moments(g, reference):
    """What GradientStats claims, of gradients [E, P], by its definition."""
    count, variance = len(g), np.trace(np.cov(g.T))
    cross = sum(np.cov(a, b)[0, 1] for a, b in zip(g.T, reference.T, strict=True))

    def signal(x):
        return x.mean(0) @ x.mean(0) - np.trace(np.cov(x.T)) / count

    product = g.mean(0) @ reference.mean(0) - cross / count
    both = signal(g) * signal(reference)
    cosine = product / np.sqrt(both) if signal(g) > 0 and signal(reference) > 0 else np.nan
    return variance, signal(g) / variance, np.linalg.norm(g.mean(0)), cosine


# Estimators.


@pytest.mark.optimised  # to the last bits
@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_estimators_expect_the_exact_gradient(gamma, double):
    """Over every trajectory, weighted by its probability; with gamma^t where gamma is not 1."""
    cfg, env, state, t = chain()
    cfg = dataclasses.replace(cfg, gamma=gamma)
    weights = diagnostics.gradient_estimators(
        cfg, env, state, t, value=lambda obs: obs @ TABLE, n=(1, 3), lambdas=(0.0, 1.0),
        discount_states=gamma < 1,
    )  # fmt: skip
    p = np.asarray(probabilities(state.actor, cfg, env, t))
    exact = flat(exact_gradient(state.actor, cfg, env, t))
    score = scores(cfg, env, state.actor, t)
    expected = {n: np.einsum("e,te,tep->p", p, w, score) for n, w in weights.items()}
    for name in UNBIASED:
        np.testing.assert_allclose(expected[name], exact, atol=1e-10, err_msg=name)
    assert np.linalg.norm(exact) > 0.1
    for name in ("1-step", "GAE 0"):  # they believe the table
        assert np.abs(expected[name] - exact).max() > 0.1, name


def test_the_mean_baseline_is_unbiased_at_every_size_of_batch(double):
    """Over all pairs of trajectories: were the own return in the mean, this would be half."""
    cfg, env, state, t = chain()
    p = np.asarray(probabilities(state.actor, cfg, env, t))
    score, name = scores(cfg, env, state.actor, t), "reward-to-go, mean baseline"

    @jax.jit
    @jax.vmap
    def weights(pair):
        batch = jax.tree.map(lambda x: x[:, pair], t)
        return diagnostics.gradient_estimators(cfg, env, state, batch)[name]

    w = weights(PAIRS)
    total = np.einsum("k,ktn,tknp->p", p[PAIRS].prod(1), w, score[:, PAIRS]) / 2
    np.testing.assert_allclose(total, flat(exact_gradient(state.actor, cfg, env, t)), atol=1e-10)


def test_mean_baseline_of_ragged_episodes():
    """The mean over the other episodes' steps, not over all of the table."""
    cfg, env, state, t = chain()
    t, mask = ragged(t), ragged(t).mask
    w = diagnostics.gradient_estimators(cfg, env, state, t, gamma=0.9)
    for e in range(8):
        length = int(mask[:, e].sum())
        assert np.all(w["reward-to-go"][length:, e] == 0)
        others = [
            sum(0.9 ** (k - s) * t.reward[k, j] for k in range(s, int(mask[:, j].sum())))
            for j in range(8) if j != e for s in range(int(mask[:, j].sum()))
        ]  # fmt: skip
        baseline = w["reward-to-go"] - w["reward-to-go, mean baseline"]
        np.testing.assert_allclose(baseline[:length, e], np.mean(others), rtol=1e-5)


def test_total_return_has_exactly_the_variance_of_the_needless_scores(double):
    """Reward at the first step only, the same for all: the expected gradient is 0, scores of
    different steps are uncorrelated, so the variance is the sum of E |score|^2 over the steps."""
    cfg, env, state, t = chain()
    t = t._replace(reward=jnp.zeros_like(t.reward).at[0].set(5.0))
    p = np.asarray(probabilities(state.actor, cfg, env, t))
    score = scores(cfg, env, state.actor, t)
    weights = diagnostics.gradient_estimators(cfg, env, state, t)
    second = {n: np.einsum("te,tep->ep", w, score) for n, w in weights.items()}
    variance = {n: p @ (g**2).sum(-1) for n, g in second.items()}
    of_steps = 25 * np.einsum("e,tep->t", p, score**2)
    assert variance["total return"] == pytest.approx(of_steps.sum())
    assert variance["reward-to-go"] == pytest.approx(of_steps[0])
    assert of_steps.min() > 0.1


def test_truncation_bootstraps_an_advantage_but_not_a_baseline():
    cfg, env, state = reinforce.Config(num_steps=8, hidden=()), TRUNCATING, None
    state = state_of(jaxpg.reinforce, cfg, env)
    t = diagnostics.collect(cfg, env, state, jax.random.key(1), episodes=2, num_steps=20)
    value = lambda obs: 7 * obs[..., 0]  # noqa: E731
    w = diagnostics.gradient_estimators(cfg, env, state, t, value=value, gamma=1.0)
    left = np.r_[np.arange(8, 0, -1), np.zeros(12)][:, None]  # the first episode, then the mask
    inside = left > 0
    np.testing.assert_allclose(w["reward-to-go"], left * inside * [1, 1])
    np.testing.assert_allclose(w["total return"], 8 * inside * [1, 1])
    np.testing.assert_allclose(w["reward-to-go, value baseline"], (left - 7) * inside * [1, 1])
    np.testing.assert_allclose(w["GAE 1"], left * inside * [1, 1])  # + V(end) - V
    np.testing.assert_allclose(w["GAE 0"], inside * [1, 1])
    np.testing.assert_allclose(w["10-step"], left * inside * [1, 1])


@pytest.mark.parametrize(
    ("moves", "weights", "answer"),
    [
        ((1, 0, 0), (1, 1, 1), -2),  # reward at the end: total return and rewards-to-go
        ((1, 0, 1), (2, 1, 1), 4),  # rewards (1, 0, 1), to go
        ((1, 0, 1), (2, 2, 2), 4),  # their total
        ((1, 1, 0), (3, 1, 0), 8),
    ],
)
def test_by_hand_a_coin_whose_bias_is_the_parameter(moves, weights, answer):
    """theta = 1/2: the score of a move is 1 / theta = 2, of staying -1 / (1 - theta) = -2."""

    def log_prob(theta):
        return jnp.log(jnp.where(jnp.array(moves) == 1, theta, 1 - theta))

    g = diagnostics.episode_gradients(log_prob, jnp.float32(0.5), jnp.array([weights]))
    assert g.tolist() == [[answer]]


# Statistics.


def test_stats_are_what_numpy_says(double):
    """Ragged episodes, a shared torso; each gradient is built from single steps."""
    env, t = CHAIN, ragged(chain()[-1])
    cfg = ppo.Config(hidden=(4,), gamma=0.97, shared=True)
    state, lengths = state_of(jaxpg.ppo, cfg, env), np.asarray(t.mask.sum(0))
    weights = diagnostics.gradient_estimators(cfg, env, state, t, lambdas=(0.9, 1.0))
    reference = "reward-to-go, value baseline"
    stats = diagnostics.gradient_stats(cfg, env, state, t, weights, reference)
    assert list(stats) == list(weights)  # in their order

    actor = {"params": {k: v for k, v in state.params["params"].items() if k != "critic"}}
    score = scores(cfg, env, actor, t)
    grads = {
        name: np.stack([w[:n, e] @ score[:n, e] for e, n in enumerate(lengths)])
        for name, w in {n: np.asarray(w) for n, w in weights.items()}.items()
    }
    for name, g in grads.items():
        expected = moments(g, grads[reference])
        np.testing.assert_allclose(stats[name], expected, rtol=1e-6, err_msg=name)
    assert sum(np.isfinite(s.cosine) for s in stats.values()) > 3


def test_signal_and_variance_are_unbiased(double):
    """Over all pairs of trajectories they expect the exact ||E g||^2 and trace."""
    cfg, env, state, t = chain()
    p = np.asarray(probabilities(state.actor, cfg, env, t))
    exact = flat(exact_gradient(state.actor, cfg, env, t))
    w = diagnostics.gradient_estimators(cfg, env, state, t)["reward-to-go"]
    score = scores(cfg, env, state.actor, t)
    trace = p @ (np.einsum("te,tep->ep", w, score) ** 2).sum(-1) - exact @ exact

    @jax.jit
    @jax.vmap
    def stats(pair):
        batch, own = jax.tree.map(lambda x: x[:, pair], (t, {"reward-to-go": w}))
        return diagnostics.gradient_stats(cfg, env, state, batch, own)["reward-to-go"]

    found, p = stats(PAIRS), p[PAIRS].prod(1)
    assert p @ found.variance == pytest.approx(trace)
    assert p @ (found.norm**2 - found.variance / 2) == pytest.approx(exact @ exact)
    varies = found.variance > 1e-9  # not two times the same trajectory
    snr = found.norm**2 / found.variance - 1 / 2
    np.testing.assert_allclose(found.snr[varies], snr[varies], rtol=1e-9)


# Episodes and critics.


def test_collect_takes_the_first_episode_of_each_environment():
    env = jaxpg.make("CartPole-v1", max_steps_in_episode=30)
    cfg = ppo.Config(hidden=(4,))
    state = state_of(jaxpg.ppo, cfg, env)
    t = diagnostics.collect(cfg, env, state, jax.random.key(1), episodes=12)
    ended, mask = np.asarray(t.terminated | t.truncated), np.asarray(t.mask)
    assert ended.shape == (30, 12)
    assert ended.sum() > 12  # others began after the first ones
    for e in range(12):
        end = np.flatnonzero(ended[:, e])[0]
        assert mask[:, e].tolist() == [s <= end for s in range(30)]
    assert np.array_equal(t.action, t.draw)
    assert 0.2 < t.action.mean() < 0.8


def test_collect_needs_an_end():
    env = CHAIN
    env = dataclasses.replace(env, params=dataclasses.make_dataclass("None_", [])())
    cfg, env_with = ppo.Config(hidden=()), CHAIN
    state = state_of(jaxpg.ppo, cfg, env_with)
    with pytest.raises(ValueError, match="num_steps=None: Chain has no max_steps_in_episode"):
        diagnostics.collect(cfg, env, state, jax.random.key(1))


def test_fitted_value_is_the_mean_return_of_each_state():
    cfg, env, _, t = chain()
    cfg = dataclasses.replace(cfg, hidden=())
    value = diagnostics.fit_value(cfg, env, t, jax.random.key(0), gamma=0.9)
    to_go = np.zeros((3, 8))
    for s in range(3):
        to_go[s] = sum(0.9 ** (k - s) * np.asarray(t.reward)[k] for k in range(s, 3))
    where = np.asarray(t.obs).argmax(-1)
    for cell in np.unique(where):
        obs = jax.nn.one_hot(cell, 9)
        assert value(obs) == pytest.approx(to_go[where == cell].mean(), abs=0.1), cell
    explained = diagnostics.explained_variance(cfg, env, None, t, gamma=0.9, value=value)
    fitted = np.array([to_go[where == c].mean() for c in where.ravel()]).reshape(3, 8)
    assert explained == pytest.approx(1 - np.var(to_go - fitted) / np.var(to_go), abs=0.01)


def test_fitted_value_leaves_the_masked_steps_out():
    """Steps after the end are another episode's, cut off by the data: their returns are small."""
    env, cfg = TERMINATING, reinforce.Config(num_steps=8, hidden=())
    state = state_of(jaxpg.reinforce, cfg, env)
    t = diagnostics.collect(cfg, env, state, jax.random.key(1), episodes=8, num_steps=10)
    value = diagnostics.fit_value(cfg, env, t, jax.random.key(2), gamma=1.0, updates=200)
    assert value(jnp.ones(1)) == pytest.approx(np.mean(range(1, 9)), abs=0.1)


def test_a_critic_of_scaled_rewards_is_brought_back_to_their_units():
    env = jaxpg.make("CartPole-v1", max_steps_in_episode=8)
    cfg = ppo.Config(**TINY["ppo"])
    scale = normalize.RunningStats(jnp.float32(10), jnp.float32(1), jnp.float32(3), ())
    state = state_of(jaxpg.ppo, cfg, env)
    state = state._replace(reward_scale=normalize.RewardScale(scale, jnp.zeros(2), jnp.zeros(2)))
    obs = jax.random.normal(jax.random.key(1), (5, 4))
    net, _ = actor_critic(cfg, env)
    seen = (obs - state.obs_stats.mean) / state.obs_stats.std
    found = diagnostics.parts(cfg, env, state).value(obs)
    np.testing.assert_allclose(found, 3 * net.apply(state.params, seen, method="value"), rtol=1e-4)


# Policies.


def test_divergence_and_entropy_are_their_sums(double):
    cfg, env, old, t = chain()
    cfg = dataclasses.replace(cfg, temperature=1.7)
    new = old._replace(
        actor=jax.tree.map(lambda x: x + jnp.arange(x.size).reshape(x.shape) / 9, old.actor)
    )
    net, _ = actor_critic(cfg, env)

    def table(state):
        logits = np.asarray(net.apply(state.actor, t.obs, method="policy")) / 1.7
        return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)

    p, q, mask = table(old), table(new), np.arange(24).reshape(3, 8) % 3 == 0
    kl, entropy = (p * np.log(p / q)).sum(-1), -(p * np.log(p)).sum(-1)
    assert diagnostics.policy_kl(cfg, env, old, new, t.obs) == pytest.approx(kl.mean())
    masked = diagnostics.policy_kl(cfg, env, old, new, t.obs, mask)
    assert masked == pytest.approx(kl[mask].mean())
    assert kl.mean() > 1e-3
    assert diagnostics.policy_kl(cfg, env, old, old, t.obs) == 0
    assert diagnostics.policy_entropy(cfg, env, old, t.obs, mask) == pytest.approx(
        entropy[mask].mean()
    )
    size = diagnostics.update_size(cfg, env, old, new)
    a, b = flat(old.actor), flat(new.actor)
    assert size.norm == pytest.approx(np.linalg.norm(b - a))
    assert size.relative == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a))


def test_a_new_scale_of_observations_is_a_new_policy():
    env = jaxpg.make("CartPole-v1", max_steps_in_episode=8)
    cfg = ppo.Config(**TINY["ppo"])
    old = state_of(jaxpg.ppo, cfg, env)
    obs = jax.random.normal(jax.random.key(1), (20, 4))
    new = old._replace(obs_stats=normalize.update_stats(old.obs_stats, 3 * obs))
    assert diagnostics.policy_kl(cfg, env, old, new, obs) > 1e-8
    assert diagnostics.update_size(cfg, env, old, new).norm == 0


# Agents.


@pytest.mark.parametrize("name", slow_of(ACTOR_CRITIC, "cpo", "ppo_lagrangian"))
def test_the_policy_found_is_the_one_that_acts(name):
    agent, env = agents.get(name), jaxpg.make("Pendulum-v1", max_steps_in_episode=8)
    cfg = agent.Config(**plain(name))
    state = state_of(agent, cfg, env, 1)
    pi, actor, policy, _ = diagnostics.parts(cfg, env, state)
    obs = 3 * jax.random.normal(jax.random.key(1), (64, 3))
    expected, _ = agent.act(cfg, env, state, obs, (), jax.random.key(2), True)
    np.testing.assert_allclose(pi.action(pi.mode(policy(actor, obs))), expected, rtol=1e-5)
    assert len(np.unique(pi.mode(policy(actor, obs)))) > 10
    assert not any("critic" in jax.tree_util.keystr(path)
                   for path, _ in jax.tree_util.tree_leaves_with_path(actor))  # fmt: skip


@pytest.mark.parametrize("name", slow_of(ACTOR_CRITIC, "cpo", "ppo_lagrangian"))
def test_every_agent_can_be_diagnosed(name):
    agent, env = agents.get(name), CHAIN
    cfg = agent.Config(**plain(name))
    old, new = (state_of(agent, cfg, env, seed) for seed in (0, 1))

    def diagnose(old, new, key):
        t = diagnostics.collect(cfg, env, new, key, episodes=4)
        weights = diagnostics.gradient_estimators(cfg, env, new, t, lambdas=(0.9,))
        return diagnostics.gradient_stats(cfg, env, new, t, weights), {
            "kl": diagnostics.policy_kl(cfg, env, old, new, t.obs),
            "entropy": diagnostics.policy_entropy(cfg, env, new, t.obs),
            "update": diagnostics.update_size(cfg, env, old, new).norm,
            "explained": diagnostics.explained_variance(cfg, env, new, t),
        }

    stats, moved = jax.eval_shape(diagnose, old, new, jax.random.key(3))
    assert len(stats) == 6  # it has a critic
    assert {x.shape for x in jax.tree.leaves((stats, moved))} == {()}
    if name not in ("npg", "ppo"):  # of those with an actor alone, and with both in one
        return
    stats, moved = jax.jit(diagnose)(old, new, jax.random.key(3))
    assert all(s.variance > 0 and np.isfinite(s.snr) for s in stats.values())
    assert moved["kl"] > 0
    assert moved["update"] > 0
    assert 0 < moved["entropy"] < np.log(2)
    assert moved["explained"] < 1


@pytest.mark.parametrize("name", sorted({*INSTALLED} - {*ACTOR_CRITIC}))
def test_other_agents_are_refused_in_words(name):
    """A new actor-critic fails here, until it stands in ACTOR_CRITIC."""
    agent = agents.get(name)
    cfg = agent.Config(**plain(name))
    with pytest.raises(ValueError, match="allowed is"):
        diagnostics.parts(cfg, CHAIN, state_of(agent, cfg, CHAIN))


class Odd(NamedTuple):
    """A state that the diagnostics cannot read."""

    mean: int


def test_what_cannot_be_diagnosed_is_said():
    cfg, env, state, t = chain()
    weights = diagnostics.gradient_estimators(cfg, env, state, t)
    assert list(weights) == ["total return", "reward-to-go", "reward-to-go, mean baseline"]
    with pytest.raises(ValueError, match=r"value=None: .* learnt no critic"):
        diagnostics.explained_variance(cfg, env, state, t)
    with pytest.raises(ValueError, match="reference 'reward to go': did you mean 'reward-to-go'"):
        diagnostics.gradient_stats(cfg, env, state, t, weights, "reward to go")
    one, w = jax.tree.map(lambda x: x[:, :1], (t, weights))
    with pytest.raises(ValueError, match="episodes=1: allowed is an integer >= 2"):
        diagnostics.gradient_stats(cfg, env, state, one, w)
    with pytest.raises(ValueError, match="episodes=0: allowed is an integer >= 1"):
        diagnostics.collect(cfg, env, state, jax.random.key(0), episodes=0)
    with pytest.raises(ValueError, match=r"state of \('mean',\): allowed is one with `params`"):
        diagnostics.parts(cfg, env, Odd(1))
    many = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    with pytest.raises(ValueError, match=r"\(2, 9, 4\).*vmap over a state of many seeds"):
        diagnostics.policy_entropy(cfg, env, many, t.obs)
    for wrong in ({"n": (3, 0)}, {"lambdas": (0.9, 1.1)}):
        with pytest.raises(ValueError, match=r"n=0: allowed|lambdas=\(0.9, 1.1\): allowed"):
            diagnostics.gradient_estimators(cfg, env, state, t, **wrong)
    wrong = {"num_envs": 0, "num_steps": 2.5, "every": 0, "episodes": 1}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"{name}={value!r}: allowed is"):
            diagnostics.probe(jaxpg.reinforce, cfg, env, jax.random.key(0), **{name: value})


# The probe: on `Constant` every observation is 1, so what it sees is known.


def watched(key, chunk=1, rate=0.1, state=None, iteration=0, probed=True, **settings):
    """A2C for four iterations under a probe; its measurements per chunk, and states with it."""
    env, agent = TERMINATING, jaxpg.a2c
    cfg = agent.Config(**{**plain("a2c"), "hidden": ()}, learning_rate=rate)
    rows, states = [], []
    keep = Callback(
        on_chunk=lambda event: states.append(jax.tree.map(jnp.copy, event.state)),
        on_metrics=lambda event: rows.append(
            {k.split("/")[1]: m for k, m in event.metrics.items() if k.startswith("diagnostics")}
        ),
    )
    probes = [diagnostics.probe(agent, cfg, env, key, **settings)] if probed else []
    total = 4 * agent.steps_per_iter(cfg)
    result = run(
        agent, cfg, env, key, total_steps=total, chunk=chunk, callbacks=[*probes, keep],
        state=state, iteration=iteration,
    )  # fmt: skip
    return rows, states, result


def test_probe_measures_from_chunk_to_chunk():
    key = jax.random.key(3)
    rows, states, result = watched(key, episodes=4, every=2)
    _, _, alone = watched(key, probed=False)
    same_bytes(result.state, alone.state)
    assert not any(name.startswith("diagnostics") for name in result.metrics)
    cfg, env = result.cfg, result.env
    states = [begin_run(jaxpg.a2c, cfg, env, key, None), *states]
    for old, new, row in zip(states, states[1:], rows, strict=False):
        kl = float(diagnostics.policy_kl(cfg, env, old, new, jnp.ones(1)))
        assert row["kl"] == pytest.approx(kl, rel=1e-3)
        assert row["kl"] > 0
        entropy = float(diagnostics.policy_entropy(cfg, env, new, jnp.ones(1)))
        assert row["entropy"] == pytest.approx(entropy)
        a, b = ([v for k, v in s.params["params"].items() if "critic" not in k] for s in (old, new))
        moved = np.linalg.norm(flat(b) - flat(a))
        assert row["update_norm"] == pytest.approx(moved, rel=1e-4)
        assert row["update_relative"] == pytest.approx(moved / np.linalg.norm(flat(a)), rel=1e-4)
    assert [("gradient_snr" in row, "gradient_variance" in row) for row in rows] == [
        (False, False), (True, True), (False, False), (True, True),
    ]  # fmt: skip
    assert rows[1]["gradient_variance"] > 0

    resumed, _, _ = watched(key, state=states[2], iteration=2)
    assert "kl" not in resumed[0]  # from where, it does not know
    assert resumed[1]["kl"] == pytest.approx(rows[3]["kl"], rel=1e-3)
    still, _, _ = watched(key, rate=0.0)
    assert [(row["kl"], row["update_norm"]) for row in still] == [(0, 0)] * 4


@pytest.mark.slow
def test_probe_of_seeds_has_a_row_each():
    keys = jax.random.split(jax.random.key(0), 2)
    both, _, _ = watched(keys, episodes=4, every=2)
    assert {m.shape for row in both for m in row.values()} == {(2,)}
    one, _, _ = watched(keys[1], episodes=4, every=2)
    for row, own in zip(both, one, strict=True):
        assert list(row) == list(own)
        for name, value in own.items():
            np.testing.assert_allclose(row[name][1], value, rtol=1e-2, atol=1e-6, err_msg=name)
    assert both[0]["kl"][0] != both[0]["kl"][1]


def test_a_memory_is_refused_by_name():
    cfg, env = jaxpg.a2c.Config(memory="gru"), jaxpg.make("CartPole-v1")
    with pytest.raises(ValueError, match=r"a2c\.Config memory='gru': allowed is 'none'"):
        diagnostics.parts(cfg, env, state_of(jaxpg.a2c, cfg, env))
