"""Agents that limit costs: what a limit does to a step, that without one they are PPO and TRPO,
learning, resuming, and what is refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core import env as E
from jaxpg.core.config import from_dict, to_dict
from jaxpg.core.parallel.lanes import stack
from jaxpg.envs.costs import cart_pole
from jaxpg.loops.costs import init_costs, learn_costs
from jaxpg.ops.constraints import penalize
from tests.conftest import TINY, slow_of

KEY = jax.random.key(0)
SMALL = {"num_envs": 64, "num_steps": 8, "hidden": (), "critic_learning_rate": 0.03}
LEARNS = {
    "ppo_lagrangian": SMALL
    | {"learning_rate": 0.03, "multiplier_p": 2.0, "multiplier_i": 0.2, "entropy_coef": 0.0},
    "trpo": SMALL | {"multiplier_p": 2.0, "multiplier_i": 0.2, "max_kl": 0.005},
    "cpo": SMALL,
}
AGENTS = tuple(LEARNS)


def numbers(x):
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def gae_by_loop(cost, value, next_value, terminated, ended, gamma, lam):
    found = np.zeros_like(cost)
    for n in range(cost.shape[1]):
        trace = 0.0
        for t in reversed(range(len(cost))):
            after = 0 if terminated[t, n] else next_value[t, n]
            error = cost[t, n] + gamma * after - value[t, n]
            trace = error + (0 if ended[t, n] else gamma * lam * trace)
            found[t, n] = trace
    return found


@pytest.mark.parametrize("unit", ["episode", "discounted"])
def test_costs_of_a_rollout_are_those_of_a_loop(unit):
    """Advantages, the cost of an episode, and the weights of the rows, from random data."""
    rng, T, N = np.random.default_rng(0), 10, 3
    env = jaxpg.make("Hazards-jaxpg")
    cfg = jaxpg.cpo.Config(
        num_envs=N, num_steps=T, cost_limit=0.3, cost_unit=unit, cost_gamma=0.9,
        cost_gae_lambda=0.8, critic_epochs=1, critic_minibatches=1,
    )  # fmt: skip
    cost, value = rng.random((T, N)), rng.random((T, N))
    terminated, truncated = rng.random((2, T, N)) < 0.2
    truncated &= ~terminated
    ended = terminated | truncated
    obs = jnp.asarray(np.stack([value, rng.random((T, N))], -1), float)
    t = E.Transition(
        obs, jnp.zeros((T, N), int), jnp.zeros((T, N)), jnp.asarray(terminated),
        jnp.asarray(truncated), obs, {"cost": jnp.asarray(cost, float)},
    )  # fmt: skip
    state = init_costs(cfg, env, jnp.ones(()))
    state, limit, metrics = learn_costs(
        cfg, lambda scale, x: scale * x[..., 0], state, t, obs, obs, KEY
    )
    wanted = gae_by_loop(cost, value, value, terminated, ended, 0.9, 0.8)
    np.testing.assert_allclose(limit.advantage, wanted, rtol=1e-5, atol=1e-6)

    gamma, sums, lengths, weight = 0.9 if unit == "discounted" else 1.0, [], [], np.zeros((T, N))
    for n in range(N):
        total = length = i = 0
        for row in range(T):
            weight[row, n] = gamma**i
            total, length = total + gamma**i * cost[row, n], length + gamma**i
            i += 1
            if ended[row, n]:
                sums, lengths = [*sums, total], [*lengths, length]
                total = length = i = 0
    np.testing.assert_allclose(metrics["cost/episode"], np.mean(sums), rtol=1e-5)
    np.testing.assert_allclose(limit.violation, np.mean(sums) - 0.3, rtol=1e-5)
    np.testing.assert_allclose(limit.scale, np.mean(lengths) * weight / weight.mean(), rtol=1e-5)


def test_a_rollout_in_which_no_episode_ends_moves_no_multiplier():
    """Else the violation of the last that did would be counted once a rollout, for as long as it
    takes."""
    N, env = 2, jaxpg.make("Hazards-jaxpg")
    cfg = jaxpg.ppo_lagrangian.Config(
        num_envs=N, num_steps=1, cost_limit=0.5, multiplier_p=2.0, multiplier_i=1.0,
        multiplier_d=0.0, critic_epochs=1, critic_minibatches=1,
    )  # fmt: skip
    state, found = init_costs(cfg, env, jnp.ones(())), []
    for ends in (False, True, False, False, True):
        flags, obs = jnp.zeros((1, N), bool), jnp.zeros((1, N))
        t = E.Transition(
            obs, obs, obs, flags | ends, flags, obs, {"cost": jnp.ones((1, N))}
        )  # fmt: skip
        state, _, metrics = learn_costs(cfg, lambda scale, x: scale * x, state, t, obs, obs, KEY)
        found.append([float(metrics["cost/episode"]), float(metrics["cost/multiplier"])])
    # Costs of 2, then 3: violations of 1.5 and 2.5, whose sums are 1.5 and 4.
    np.testing.assert_allclose(found, [[np.nan, 0], *[[2, 4.5]] * 3, [3, 9]])


def first_steps(agent, other, cfg, key=KEY):
    """Parameters after a step of `agent` and one of `other` from its state."""
    env = jaxpg.make("CartPole-v1")
    state = other.init(cfg[1], env, key)
    fields = {x: getattr(state, x) for x in state._fields}
    own = jax.eval_shape(lambda: agent.init(cfg[0], env, key))
    begin = type(own)(**{x: fields.get(x, ()) for x in own._fields})
    return agent.step(cfg[0], env, begin)[0], other.step(cfg[1], env, state)[0]


@pytest.mark.parametrize(
    ("name", "other"),
    [("ppo_lagrangian", "ppo"), pytest.param("cpo", "trpo", marks=pytest.mark.slow)],
)
def test_without_a_limit_it_is_ppo_or_trpo(name, other):
    small = {k: v for k, v in TINY[name].items() if k != "normalize_obs"}
    shared = {k: v for k, v in small.items() if k in TINY[other]}
    one, two = getattr(jaxpg, name), getattr(jaxpg, other)
    length = {"total_steps": 8} if other == "ppo" else {}  # of its schedule
    pair = one.Config(**small, **length), two.Config(**shared, **length)
    found, wanted = first_steps(one, two, pair)
    which = "params" if name == "ppo_lagrangian" else "actor"
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=1e-6),
        getattr(found, which), getattr(wanted, which),
    )  # fmt: skip


@pytest.mark.parametrize("name", slow_of(AGENTS, "trpo", "ppo_lagrangian"))
def test_a_bandit_keeps_its_limit(name):
    """The best policy under a limit of 0.3 draws the dear arm with probability 0.3."""
    env, agent = jaxpg.make("CostBandit-jaxpg"), getattr(jaxpg, name)
    cfg = agent.Config(cost_limit=0.3, **LEARNS[name])
    train = jax.jit(lambda key: jaxpg.train(agent, cfg, env, key, 120 * 512))
    _, metrics = train(KEY)
    np.testing.assert_allclose(metrics["cost/episode"][-20:].mean(), 0.3, atol=0.03)
    np.testing.assert_allclose(metrics["episode/cost"], metrics["cost/episode"], rtol=1e-5)
    if name != "cpo":
        np.testing.assert_allclose(metrics["cost/multiplier"][-20:].mean(), 1.0, atol=0.1)


@pytest.mark.slow
def test_limits_are_lanes_of_one_program():
    env = jaxpg.make("CostBandit-jaxpg")
    cfg = jaxpg.cpo.Config(cost_limit=0.5, **LEARNS["cpo"])

    def train(limit):
        one = dataclasses.replace(cfg, cost_limit=limit)
        return jaxpg.train(jaxpg.cpo, one, env, KEY, 60 * 512)[1]["cost/episode"]

    cost = jax.jit(jax.vmap(train))(jnp.array([0.2, 0.7]))
    np.testing.assert_allclose(cost[:, -20:].mean(1), [0.2, 0.7], atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo_lagrangian", "cpo"])
def test_a_run_with_costs_is_resumed_byte_by_byte(name, tmp_path):
    env, agent = jaxpg.make("Hazards-jaxpg", max_steps_in_episode=6), getattr(jaxpg, name)
    cfg = agent.Config(cost_limit=0.5, **TINY[name])
    asked = {"total_steps": 32, "chunk": 1}
    whole = jaxpg.run(agent, cfg, env, KEY, **asked)
    stop = [lambda event: event.iteration == 2]
    jaxpg.run(agent, cfg, env, KEY, out=tmp_path / "run", callbacks=stop, **asked)
    again = jaxpg.resume(tmp_path / "run")
    for x, y in zip(jax.tree.leaves(whole.state), jax.tree.leaves(again.state), strict=True):
        np.testing.assert_array_equal(numbers(x), numbers(y), strict=True)


class TwoCosts(cart_pole.CartPoleCost):
    """Costs to the right of the middle, and for speed."""

    name = "TwoCosts"

    def step_env(self, key, state, action, params):
        obs, state, reward, terminated, info = super().step_env(key, state, action, params)
        fast = (jnp.abs(state.x_dot) > 0.1) * 1.0
        return obs, state, reward, terminated, info | {"cost": jnp.stack([info["cost"], fast])}


def two_costs(**params):
    env = jaxpg.make("CartPoleCost-jaxpg", **params)
    return jaxpg.Env(env.params, TwoCosts())


def test_several_costs_are_as_each_alone():
    """Critics, advantages and multipliers of a rollout; with the same key for the shuffling."""
    rng, T, N = np.random.default_rng(0), 8, 2
    env = two_costs()
    settings = {"num_envs": N, "num_steps": T, "critic_epochs": 1, "critic_minibatches": 1}
    settings |= {"multiplier_p": 1.0, "multiplier_i": 0.1}
    both = jaxpg.trpo.Config(cost_limit=(0.3, 2.0), **settings)
    cost, value = (jnp.asarray(rng.random(shape), float) for shape in ((T, N, 2), (T, N)))
    ended = jnp.asarray(rng.random((T, N)) < 0.3)
    no, reward = jnp.zeros((T, N), bool), jnp.zeros((T, N))
    t = E.Transition(value, reward, reward, ended, no, value, {"cost": cost})
    call = lambda cfg, state, t, key: learn_costs(  # noqa: E731
        cfg, lambda scale, x: scale * x, state, t, value, value, key
    )
    state, limit, metrics = call(both, init_costs(both, env, jnp.ones(())), t, KEY)
    rewards = jnp.asarray(rng.random((T, N)), float)
    wanted, total = rewards, 1.0
    for k, key in enumerate(jax.random.split(KEY, 2)):
        cfg = jaxpg.trpo.Config(cost_limit=both.cost_limit[k], **settings)
        begin = init_costs(cfg, jaxpg.make("CartPoleCost-jaxpg"), jnp.ones(()))
        one, alone, own = call(cfg, begin, t._replace(signals={"cost": cost[..., k]}), key)
        np.testing.assert_allclose(limit.advantage[k], alone.advantage, rtol=1e-5)
        for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(one), strict=True):
            np.testing.assert_allclose(x[k], y, rtol=1e-5)
        assert own["cost/multiplier"] == pytest.approx(float(metrics[f"cost/multiplier_{k}"]))
        wanted, total = wanted - one.weight * alone.advantage, total + one.weight
    assert total > 1
    found = penalize(rewards, limit.advantage, state.weight)
    np.testing.assert_allclose(found, wanted / total, rtol=1e-5)


@pytest.mark.parametrize("name", slow_of(["ppo_lagrangian", "trpo"], "trpo"))
def test_several_costs_are_learnt_and_kept(name, tmp_path):
    """And summed apart over episodes; the config in a folder is the same again."""
    agent, env = getattr(jaxpg, name), two_costs(max_steps_in_episode=8)
    cfg = agent.Config(cost_limit=(0.5, 3.0), **TINY[name])
    result = jaxpg.run(agent, cfg, env, KEY, total_steps=64, out=tmp_path / "a", evaluations=0)
    for k in (0, 1):
        assert np.isfinite(result.metrics[f"episode/cost_{k}"][-1])
        known = result.metrics[f"cost/episode_{k}"]
        assert np.isfinite(known[-1])
    assert result.state.costs.weight.shape == (2,)
    assert jaxpg.load(tmp_path / "a", env=env).cfg == result.cfg


def test_limits_of_several_costs_are_no_lanes():
    """In JSON, where lanes have lists too; of lanes each number of a tuple is a list."""
    cfg = jaxpg.trpo.Config(cost_limit=(1.0, 2.0))
    again = lambda cfg: from_dict(type(cfg), json.loads(json.dumps(to_dict(cfg))))  # noqa: E731
    assert again(cfg) == cfg
    other = dataclasses.replace(cfg, cost_limit=(3.0, 4.0))
    both, _ = stack([(cfg, ()), (other, ())])
    assert [x.tolist() for x in again(both).cost_limit] == [[1, 3], [2, 4]]
    one = [dataclasses.replace(cfg, cost_limit=limit) for limit in (1.0, 2.0)]
    lanes, _ = stack([(x, ()) for x in one])
    assert again(lanes).cost_limit.tolist() == [1, 2]


def test_limits_and_costs_are_as_many():
    one, two = jaxpg.make("CartPoleCost-jaxpg"), two_costs()
    for env, limit, has in ((one, (1.0, 2.0), r"\(\)"), (two, 1.0, r"\(2,\)")):
        cfg = jaxpg.trpo.Config(cost_limit=limit, **TINY["trpo"])
        with pytest.raises(ValueError, match=rf"trpo.Config cost_limit: .*of shape {has}"):
            jaxpg.trpo.init(cfg, env, KEY)
    cfg = dataclasses.replace(jaxpg.cpo.Config(**TINY["cpo"]), cost_limit=(1.0, 2.0))
    with pytest.raises(
        ValueError, match=r"cpo.Config cost_limit=\(1.0, 2.0\): allowed is a finite"
    ):
        jaxpg.cpo.init(cfg, two, KEY)


@pytest.mark.parametrize("name", AGENTS)
def test_a_limit_asks_for_costs(name):
    agent = getattr(jaxpg, name)
    cfg = agent.Config(cost_limit=1.0, **TINY[name])
    with pytest.raises(
        ValueError, match=r"CartPole.* has the signals .*: allowed here is one 'cost'"
    ):
        jaxpg.train(agent, cfg, jaxpg.make("CartPole-v1"), KEY, 16)
    wrong = dataclasses.replace(cfg, cost_limit=-1.0)
    with pytest.raises(
        ValueError, match=r"cost_limit=-1.0: allowed is a finite number .*>= 0, or None"
    ):
        jaxpg.run(agent, wrong, jaxpg.make("Hazards-jaxpg"), KEY, total_steps=16)


@pytest.mark.parametrize("name", ["ppo_lagrangian", "cpo"])
def test_costs_ask_for_a_limit(name):
    agent = getattr(jaxpg, name)
    with pytest.raises(ValueError, match=f"{name}.Config cost_limit=None: Hazards-jaxpg has costs"):
        jaxpg.train(agent, agent.Config(**TINY[name]), jaxpg.make("Hazards-jaxpg"), KEY, 16)


def test_a_cart_with_costs_moves_as_one_without():
    """With another mass, too, beside which gymnax keeps the sum; so does every other cart."""
    from jaxpg.envs import corrections, registry

    def last(name):
        env = jaxpg.make(name, masspole=1.0, length=1.0)
        _, state = env.core.reset(KEY, env.params)
        for _ in range(6):
            obs, state, *_ = env.core.step(KEY, state, 1, env.params)
        return obs

    np.testing.assert_array_equal(last("CartPoleCost-jaxpg"), last("CartPole-v1"))
    carts = {x for x in registry.names() if hasattr(jaxpg.make(x).params, "total_mass")}
    assert carts == corrections.DERIVED.keys()


def test_the_reward_of_a_circle_is_greatest_on_it():
    """Else, as by the paper's formula with a radius below 1, it would pay to walk ever further
    away."""
    env = jaxpg.make("PointHazards-jaxpg", task="circle")
    begin = env.core.reset(KEY, env.params)[1]
    radius = jnp.linspace(0.1, 3.0, 59)

    def reward(radius):
        state = begin.replace(position=jnp.array([radius, 0.0]))
        return env.core.step_env(KEY, state, jnp.array([0.0, 1.0]), env.params)[2]

    found = np.asarray(jax.vmap(reward)(radius))
    assert abs(radius[found.argmax()] - env.params.radius) < 0.05
    before, after = np.split(found, [found.argmax()])
    assert (np.diff(before) > 0).all()
    assert (np.diff(after) < 0).all()
