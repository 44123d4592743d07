"""Sellers of one stock: the equilibrium, the accounts, and learners that find it on their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core.episodes import actions
from jaxpg.envs.finance import almgren_chriss as ac
from jaxpg.envs.finance import baselines as eb
from jaxpg.envs.finance import liquidation_game as lg
from jaxpg.loops.independent import independent

NAME = "LiquidationGame-jaxpg"
CROWDED = {"permanent_impact": 2.5e-6, "risk_aversion": 0.0, "price_noise": 0.0}


def make(**params):
    return jaxpg.make(NAME, **params)


@pytest.mark.slow
def test_one_seller_alone_sells_as_almgren_and_chriss():
    with jax.enable_x64(True):
        x = eb.trajectory(jaxpg.make("AlmgrenChriss-jaxpg"))[:, 0]
        np.testing.assert_allclose(lg.nash(make(sellers=1)), x, rtol=1e-9)


@pytest.mark.parametrize(("sellers", "aversion"), [(2, 0.0), (3, 1e-6)])
@pytest.mark.slow
def test_nobody_can_better_an_equilibrium_alone_but_all_can_together(sellers, aversion):
    with jax.enable_x64(True):
        env = make(sellers=sellers, **CROWDED | {"risk_aversion": aversion})
        x = np.repeat(lg.nash(env)[:, None], sellers, 1)
        best = lg.utilities(env, jnp.asarray(x))
        rng = np.random.default_rng(0)
        for scale in (1e3, 1e4, 1e5):
            for _ in range(10):
                other = x.copy()
                other[1:-1, 0] += scale * rng.normal(size=len(x) - 2)
                assert lg.utilities(env, jnp.asarray(other))[0] > best[0]
        # A group of one mind: its speed is P times as fast, so its impact P times as large.
        p = env.params
        group = jaxpg.make(
            "AlmgrenChriss-jaxpg", risk_aversion=aversion,
            permanent_impact=sellers * p.permanent_impact,
            temporary_impact=sellers * p.temporary_impact,
        )  # fmt: skip
        both = np.repeat(np.asarray(eb.trajectory(group)), sellers, 1)
        assert (lg.utilities(env, jnp.asarray(both)) < best).all()
        assert (x[1:-1] < both[1:-1]).all()  # alone they race


def test_rewards_are_the_costs_of_the_schedules():
    env, rng = make(sellers=3, price_noise=0.0), np.random.default_rng(0)
    share = jnp.array(rng.random((5, 3, 1)), float)
    _, state = env.core.reset_env(jax.random.key(0), env.params)
    total, held = 0, [state.inventory]
    for k in range(5):
        key = jax.random.key(k)
        _, state, reward, ended, info = env.core.step_env(key, state, share[k], env.params)
        total += info["rewards"]
        held.append(state.inventory)
        np.testing.assert_allclose(reward, info["rewards"].mean(), rtol=1e-6)
    assert ended
    x = jnp.stack(held) * env.params.shares
    assert not x[-1].any()
    np.testing.assert_allclose(
        -total * ac.unit(env.core.alone, env.params), lg.utilities(env, x), rtol=1e-5
    )


def test_what_one_seller_s_noise_is_all_have():
    """Rewards with and without the shocks differ by what is held times the shock, in proportion."""
    env, quiet = make(sellers=2), make(sellers=2, price_noise=0.0)
    _, state = env.core.reset_env(jax.random.key(0), env.params)
    share = jnp.array([[0.2], [0.6]])
    args = jax.random.key(1), state, share
    rewards = [e.core.step_env(*args, e.params)[-1]["rewards"] for e in (env, quiet)]
    per_share = (rewards[0] - rewards[1]) / np.array([0.8, 0.4])
    np.testing.assert_allclose(per_share[0], per_share[1], rtol=1e-4)
    assert abs(per_share[0]) > 0.01


def schedules(learner, cfg, env, state) -> np.ndarray:
    """[N + 1, P] fractions of X."""
    sold, _ = actions(learner, cfg, env, state, jax.random.key(1), 1, True, 5)
    left = np.cumprod(1 - np.asarray(sold)[:, 0, :, 0], 0)
    left[-1] = 0
    return np.concatenate([np.ones_like(left[:1]), left])


@pytest.mark.slow
@pytest.mark.defaults  # learns for longer than it compiles
def test_independent_learners_find_the_equilibrium():
    env, learner = make(sellers=2, **CROWDED), independent(jaxpg.cem)
    cfg = jaxpg.cem.Config(population=32, elites=6, episodes=1, num_steps=5, hidden=(8,))
    state, metrics = jax.jit(
        lambda key: jaxpg.train(learner, cfg, env, key, total_steps=120 * 32 * 5)
    )(jax.random.key(0))
    x = schedules(learner, cfg, env, state)
    np.testing.assert_allclose(x, (lg.nash(env) / 1e6)[:, None] * [[1, 1]], atol=0.03)
    alone = eb.trajectory(jaxpg.make("AlmgrenChriss-jaxpg", **CROWDED))[:, 0] / 1e6
    assert (x[1:-1] < alone[1:-1, None] - 0.05).all()
    returns = jaxpg.evaluate(learner, cfg, env, state, jax.random.key(2), episodes=2)
    worst = -lg.utilities(env, x * env.params.shares).mean() / ac.unit(env.core.alone, env.params)
    np.testing.assert_allclose(returns, worst, rtol=1e-4)
    assert metrics["episode/count"][-1] == 2 * 32


@pytest.mark.slow  # its quick twins step the game by hand
def test_any_agent_can_be_a_seller():
    """PPO goes through `run`, with noise; every copy has learnt something of its own."""
    env, learner = make(sellers=3), independent(jaxpg.ppo)
    cfg = jaxpg.ppo.Config(num_envs=4, num_steps=5, minibatches=2, num_epochs=1, hidden=(4,))
    found = jaxpg.run(learner, cfg, env, jax.random.key(0), total_steps=60)
    kernels = jax.tree.leaves(found.state.params)
    assert all(len(x) == 3 for x in kernels)
    assert any(np.abs(np.asarray(x[0] - x[1])).max() > 0 for x in kernels)
    assert independent(jaxpg.ppo) is learner


def test_errors():
    with pytest.raises(ValueError, match=r"sellers=0.5: allowed is an integer"):
        make(sellers=0.5)
    with pytest.raises(ValueError, match=r"vol_of_vol=0.5: allowed"):
        make(vol_of_vol=0.5)
    with pytest.raises(ValueError, match=r"impact_power=0.5: allowed is 1"):
        lg.nash(make(impact_power=0.5))
    learner, key = independent(jaxpg.ppo), jax.random.key(0)
    with pytest.raises(ValueError, match="allowed are games"):
        learner.init(jaxpg.ppo.Config(), jaxpg.make("CartPole-v1"), key)
    with pytest.raises(ValueError, match="memory='gru'"):
        learner.init(jaxpg.ppo.Config(memory="gru"), make(), key)
