"""Costs of agents that learn from a replay buffer, against loops and closed forms; and what a run
says of its costs: regret, evaluations and pictures."""

import csv
import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core.metrics import nan_for_no_data
from jaxpg.experiment import figures
from jaxpg.experiment.analysis import costs
from jaxpg.experiment.figures import learning_curve
from jaxpg.loops import replay_costs
from jaxpg.loops.replay import Batch
from tests.conftest import TINY

pytestmark = pytest.mark.defaults

KEY = jax.random.key(0)
POINT, BANDIT = "PointHazards-jaxpg", "CostBandit-jaxpg"


def begin(**values):
    cfg = jaxpg.sac_discrete.Config(cost_limit=2.0, learning_starts=10, tau=0.5, **values)
    return cfg, replay_costs.init_costs(cfg, jaxpg.make(BANDIT), (jnp.ones(()), 2 * jnp.ones(())))


def test_the_multiplier_follows_the_mean_of_the_last_episodes():
    """Nothing moves before the agent learns, or where no episode ended."""
    gains = {"multiplier_p": 0.5, "multiplier_i": 0.1, "multiplier_d": 0.2}
    cfg, state = begin(**gains)
    rng = np.random.default_rng(0)
    count = rng.choice([0, 0, 1, 3], 40)
    cost = np.where(count > 0, rng.uniform(0, 6, 40), np.nan)
    mean = seen = integral = before = weight = 0.0
    control = jax.jit(lambda old, m, size: _control(cfg, old, m, size))
    for i in range(40):
        learns = i >= 5
        metrics = {"episode/count": jnp.asarray(count[i]), "episode/cost": jnp.asarray(cost[i])}
        state, found = control(state, metrics, jnp.asarray(10 if learns else 9))
        if learns and count[i]:
            seen = min(seen + count[i], replay_costs.EPISODES)
            mean += min(count[i], replay_costs.EPISODES) / seen * (cost[i] - mean)
            integral = max(integral + count[i] * (mean - 2), 0)
            weight = max(0.5 * (mean - 2) + 0.1 * integral + 0.2 * max(mean - before, 0), 0)
            before = mean
        np.testing.assert_allclose(found["cost/multiplier"], weight, rtol=1e-4, atol=1e-5)
        known = nan_for_no_data({"c": np.asarray(found["cost/episode"])})["c"]
        np.testing.assert_allclose(known, mean if seen else np.nan, rtol=1e-5)
    assert weight > 0


def _control(cfg, costs_now, metrics, size):
    learner = _Learner(costs_now)
    stored = SimpleNamespace(buffer=SimpleNamespace(size=size))
    learner, found = replay_costs.control_costs(cfg, learner, metrics, stored)
    return learner.costs, found


class _Learner:
    def __init__(self, costs_now):
        self.costs = costs_now

    def _replace(self, costs):
        return _Learner(costs)


def test_the_critics_regress_on_the_cost_and_the_cost_to_come():
    """Two constants, plain descent: each goes to y by the rate, and a termination ends the sum."""
    cfg, state = begin(optimizer="sgd", critic_learning_rate=0.1, cost_gamma=0.5)
    cost, discount = jnp.array([1.0, 0.0]), jnp.array([0.9, 0.0])
    none = jnp.zeros(2)
    b = Batch(none, none, none, discount, none, none, {"cost": cost})
    y = np.array([1 + 0.5 * 3, 0.0])
    new, loss = replay_costs.learn_costs(
        cfg, state, b, lambda critic: jnp.stack(critic)[:, None] + jnp.zeros(2), jnp.full(2, 3.0)
    )
    error = np.array([[1.0], [2.0]]) - y
    np.testing.assert_allclose(loss, 0.5 * (error**2).mean(1).sum(), rtol=1e-6)
    expected = np.array([1, 2]) - 0.1 * error.mean(1)
    np.testing.assert_allclose(new.critic, expected, rtol=1e-6)
    np.testing.assert_allclose(new.target, (expected + np.array([1, 2])) / 2, rtol=1e-6)


def test_the_lagrangian_takes_the_greater_cost_critic():
    """Of sac_discrete by hand: sum pi (alpha log pi - min Q + lambda max Q_C) / (1 + lambda)."""
    from jaxpg.agents import sac_discrete as module

    env = jaxpg.make(BANDIT)
    cfg = jaxpg.sac_discrete.Config(cost_limit=1.0, hidden=(), learn_alpha=False, alpha=0.3)
    learner = jaxpg.sac_discrete.init(cfg, env, KEY).learner
    obs = env.example_obs[None]
    prices = learner.costs._replace(weight=jnp.array(2.0))
    prices = prices._replace(critic=tuple(jax.tree.map(jnp.sin, learner.params.critic)))
    found, _ = module.policy_loss(cfg, env, learner.params, obs, prices)
    log_prob = np.asarray(module.log_pi(cfg, env, learner.params.actor, obs))
    q = np.asarray(module.both(cfg, env, learner.params.critic, obs)).min(0)
    dear = np.asarray(module.both(cfg, env, prices.critic, obs)).max(0)
    each = (0.3 * log_prob - q + 2 * dear) / 3
    np.testing.assert_allclose(found, (np.exp(log_prob) * each).sum(), rtol=1e-5)


@pytest.mark.parametrize("name", ["sac", "sac_discrete"])
def test_a_limit_asks_for_costs_and_none_is_off(name):
    agent = getattr(jaxpg, name)
    plain = jaxpg.make("Pendulum-v1" if name == "sac" else "CartPole-v1")
    init = functools.partial(jax.eval_shape, agent.init)
    limited = agent.Config(cost_limit=1.0, **TINY[name])
    with pytest.raises(ValueError, match=rf"{name}\.Config cost_limit: .* allowed here is one 'co"):
        init(limited, plain, KEY)
    dear = jaxpg.make(POINT if name == "sac" else BANDIT)
    assert init(agent.Config(**TINY[name]), dear, KEY).learner.costs == ()
    assert init(limited, dear, KEY).learner.costs.weight.shape == ()


@pytest.mark.slow
@pytest.mark.parametrize("head", ["auto", "tanh_gsde"])
def test_sac_learns_costs_with_every_kind_of_head(head):
    """And with a value network and dropout."""
    env = jaxpg.make(POINT, max_steps_in_episode=10)
    value = {"value_network": True, "dropout": 0.1} if head == "auto" else {}
    cfg = jaxpg.sac.Config(
        cost_limit=0.0,
        num_envs=2,
        learning_starts=16,
        batch_size=8,
        hidden=(8,),
        head=head,
        **value,
    )
    train = jax.jit(lambda key: jaxpg.train(jaxpg.sac, cfg, env, key, 200))
    state, metrics = train(KEY)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.learner.params))
    assert metrics["cost/multiplier"][-1] > 0
    assert np.nanmax(metrics["loss/cost_value"]) > 0


@pytest.mark.slow
def test_a_bandit_keeps_its_limit():
    """The best policy under a limit of 0.3 draws the dear arm with probability 0.3."""
    cfg = jaxpg.sac_discrete.Config(
        cost_limit=0.3, num_envs=8, learning_starts=64, hidden=(), learning_rate=0.01,
        critic_learning_rate=0.03, learn_alpha=False, alpha=0.1, multiplier_p=0.0,
        multiplier_d=0.0, multiplier_i=0.005,
    )  # fmt: skip
    train = jax.jit(
        lambda key: jaxpg.train(jaxpg.sac_discrete, cfg, jaxpg.make(BANDIT), key, 30_000)
    )
    _, metrics = train(KEY)
    np.testing.assert_allclose(metrics["episode/cost"][-1500:].mean(), 0.3, atol=0.04)


# What a run says of its costs.


def test_regret_is_the_sum_beyond_the_limit():
    rng = np.random.default_rng(0)
    count = rng.integers(0, 3, (2, 20))
    cost = np.where(count > 0, rng.uniform(0, 5, (2, 20)), np.nan)
    metrics = {"episode/cost": cost, "episode/count": count}
    expected = [
        sum(n * max(c - 2, 0) for c, n in zip(*x, strict=True) if n)
        for x in zip(cost, count, strict=True)
    ]
    np.testing.assert_allclose(costs.cost_regret(metrics, 2.0), expected)
    np.testing.assert_allclose(costs.beyond_limit(metrics, 2.0).sum(1), expected)
    assert costs.has_costs(metrics)
    assert not costs.has_costs({"episode/cost": np.full(3, np.nan)})
    said = costs.describe_costs(metrics, 2.0)
    assert said.endswith(
        f"{np.mean(expected):,.0f} over {count.sum(1).mean():,.0f} episodes of a seed"
    )
    with pytest.raises(ValueError, match="metrics without episode/cost"):
        costs.cost_regret({"episode/return": cost}, 1.0)
    with pytest.raises(ValueError, match="of several costs, episode/cost_0: allowed is one"):
        costs.cost_regret({"episode/cost_0": cost}, 1.0)
    for limit in (-1.0, np.nan, (1.0, 2.0)):
        with pytest.raises(ValueError, match=r"limit=.*: allowed is a (finite )?number"):
            costs.cost_regret(metrics, limit)
    assert costs.limit_of({"cost_limit": 3.0}) == 3.0
    assert costs.limit_of({"cost_limit": 3.0, "cost_unit": "discounted"}) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    env = jaxpg.make("CartPoleCost-jaxpg", max_steps_in_episode=20)
    cfg = jaxpg.ppo_lagrangian.Config(cost_limit=2.0, num_envs=4, num_steps=16, hidden=(4,))
    asked = {"total_steps": 256, "evaluations": 2, "episodes": 4, "out": out}
    return out, jaxpg.run(jaxpg.ppo_lagrangian, cfg, env, KEY, **asked)


def test_evaluations_keep_the_sums_of_signals(folder):
    """They are of the same episodes: `evaluate` with the same key gives them."""
    out, result = folder
    rows = list(csv.DictReader((out / "evaluations.csv").open()))
    names = {"greedy", "greedy_std", "greedy_cost", "sampled", "sampled_std", "sampled_cost"}
    assert names <= set(rows[0])
    np.testing.assert_allclose(
        [float(x["sampled_cost"]) for x in rows], result.evaluations["sampled_cost"], rtol=1e-6
    )
    from jaxpg.experiment.callbacks.evaluation import _EVALUATION

    key = jax.random.fold_in(jax.random.fold_in(KEY, _EVALUATION), result.iteration)
    asked = jaxpg.ppo_lagrangian, result.cfg, result.env, result.state, jax.random.split(key)[1]
    sums = jaxpg.evaluate(*asked, episodes=4, greedy=False, signal="cost")
    np.testing.assert_allclose(float(rows[-1]["sampled_cost"]), sums.mean(), rtol=1e-5)


def test_a_folder_that_was_begun_without_signals_goes_on_without(tmp_path):
    from jaxpg.experiment.callbacks.evaluation import EvaluationHistory, _as_before

    (tmp_path / "a.csv").write_text("seed,greedy,sampled\n")
    found = _as_before(tmp_path / "a.csv", ["seed", "greedy", "greedy_cost"], [("0", "1", "2")])
    assert found == (["seed", "greedy"], [("0", "1")])
    kept = EvaluationHistory({"iteration": np.ones(1), "greedy": np.zeros(1)})
    metrics = {"eval/greedy": np.float32(3), "eval/greedy_cost": np.float32(2)}
    kept.add(SimpleNamespace(iteration=2, env_steps=4, metrics=metrics))
    assert {name: x.tolist() for name, x in kept.found.items()} == {
        "iteration": [1, 2], "greedy": [0, 3],
    }  # fmt: skip


def test_pictures_have_panels_of_costs(folder):
    """With the limit as a line; a run without costs has none."""
    out, _ = folder
    figure = learning_curve.curves([out])
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "return (last 20 episodes)", "cost (last 20 episodes)",
    ]  # fmt: skip
    limit = [line for line in figure.axes[1].get_lines() if line.get_linestyle() == "--"]
    assert list(limit[0].get_ydata()) == [2, 2]


@pytest.mark.slow
def test_reports_have_panels_of_costs_and_name_the_limit(folder):
    out, _ = folder
    panels = [axes.get_title(loc="left") for axes in figures.training_report(out).axes]
    assert {"Cost of an episode", "Cost regret"} <= set(panels)
    page = jaxpg.report([out], out.parent / "page.html").read_text()
    assert "; cost " in page
    assert "(limit 2), beyond the limit in all" in page
