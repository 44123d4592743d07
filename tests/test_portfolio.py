"""Portfolio choice against Merton, Kelly and simulations; what is not allowed is named."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxpg
from jaxpg.core import env as E
from jaxpg.core.parallel.lanes import take_lane
from jaxpg.envs import registry
from jaxpg.envs.finance import portfolio as pf

NAME = "Portfolio-jaxpg"
TWO = {"assets": 2, "drift": [0.08, 0.05], "volatility": [0.25, 0.2], "correlation": 0.3}


def make(**params):
    return jaxpg.make(NAME, **params)


@functools.partial(jax.jit, static_argnames=("episodes", "policy"))
def play(env, key, episodes, policy):
    """The transitions [T, episodes] of whole episodes; policy(obs, env) -> action."""
    begin = E.reset(env, key, episodes)
    act = lambda obs, carry, key: (policy(obs, env), carry, ())  # noqa: E731
    return E.rollout(env, act, begin, (), jax.random.fold_in(key, 1), STEPS)[2]


STEPS = 12


def hold(*w):
    return lambda obs, env: jnp.broadcast_to(jnp.array(w), (len(obs), len(w)))


# Closed forms.


def test_merton_and_kelly():
    np.testing.assert_allclose(pf.merton(make()), 1.5, rtol=1e-6)
    np.testing.assert_allclose(pf.growth(make(), jnp.array([1.5])), 0.065, rtol=1e-6)
    np.testing.assert_allclose(pf.merton(make(utility="crra", risk_aversion=3.0)), 0.5, rtol=1e-6)
    env, sigma = make(**TWO), np.diag([0.25, 0.2])
    C = sigma @ [[1, 0.3], [0.3, 1]] @ sigma
    w = np.linalg.solve(C, [0.06, 0.03])
    np.testing.assert_allclose(pf.merton(env), w, rtol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda w: pf.growth(env, w))(jnp.array(w)), 0, atol=1e-6)
    np.testing.assert_allclose(pf.kelly(0.6), 0.2, rtol=1e-6)
    np.testing.assert_allclose(pf.kelly([0.4, 0.5], odds=[1.0, 2.0]), [0, 0.25], rtol=1e-6)


@pytest.mark.parametrize(("p", "odds"), [(0.6, 1.0), (0.5, 2.0), (0.55, 0.9)])
def test_a_bet_as_data_has_kelly_s_weight(p, odds):
    """Twenty rows, a share p of which pays the odds; cash pays nothing."""
    wins = round(20 * p)
    core = pf.Portfolio(data=[odds] * wins + [-1.0] * (20 - wins))
    env = jaxpg.Env(core.default_params.replace(rate=0.0), core)
    np.testing.assert_allclose(pf.best_weights(env), pf.kelly(p, odds), atol=1e-4)


def test_a_constant_mix_grows_as_it_should():
    """Weekly, over a quarter: within three standard errors, and the small terms of dt."""
    for params, w in [({}, (1.5,)), (TWO, (0.9, 0.4))]:
        env = make(horizon=STEPS / 52, num_steps=STEPS, **params)
        returns = np.asarray(play(env, jax.random.key(0), 50_000, hold(*w)).reward.sum(0))
        expected = pf.growth(env, jnp.array(w)) * env.params.horizon
        sem = returns.std() / len(returns) ** 0.5
        assert abs(returns.mean() - expected) < 3 * sem
        # Less noise, the same mean, with an error so small that dt shows.
        quiet = play(
            registry.with_params(env, price_noise=0.0), jax.random.key(1), 50_000, hold(*w)
        )
        quiet = np.asarray(quiet.reward.sum(0))
        assert quiet.std() < returns.std() / 5
        np.testing.assert_allclose(quiet.mean(), expected, atol=3 * quiet.std() / 220 + 2e-4)


# Accounting.


def wealth_by_hand(actions, held, prices, params):
    """[T, B] from weights, prices' growth [T, B, n] and cost, in NumPy."""
    w, h, x = (np.asarray(a, float) for a in (actions, held, prices))
    cash = np.exp(params.rate * params.horizon / params.num_steps)
    paid = 1 - params.cost * np.abs(w - h).sum(-1)
    return paid * ((w * x).sum(-1) + (1 - w.sum(-1)) * cash)


def wandering(obs, env):
    """Weights that change at every step."""
    n = env.core.assets
    return jnp.abs(jnp.sin(40 * obs[:, n : n + 1] + jnp.arange(n)))


@pytest.mark.parametrize("weights", pf.BOUNDS)
def test_wealth_is_what_the_accounts_say(weights):
    env = make(assets=3, cost=0.01, returns=1, weights=weights, correlation=0.5)
    t = play(env, jax.random.key(0), 64, wandering)
    mean, std = env.core.moments(env.params)
    prices = 1 + t.next_obs[..., 5:] * std + mean
    w = jax.vmap(jax.vmap(lambda a: env.core.allowed(env.params, a)))(t.action)
    factor = wealth_by_hand(w, t.obs[..., :3], prices, env.params)
    np.testing.assert_allclose(t.reward, np.log(factor), atol=2e-6)
    np.testing.assert_allclose(t.next_obs[..., 4], np.log(factor).cumsum(0), atol=1e-5)
    if weights == "simplex":
        assert (w.sum(-1) <= 1 + 1e-6).all()
    # What prices made of the weights: nothing is traded if the agent asks for just that.
    growth = (w * prices).sum(-1) + (1 - w.sum(-1)) * np.exp(0.02 / 12)
    np.testing.assert_allclose(t.next_obs[..., :3], w * prices / growth[..., None], atol=1e-5)


def test_increments_of_utility_sum_to_the_utility_of_the_end():
    for a in (0.5, 1.0, 4.0):
        env = make(utility="crra", risk_aversion=a, assets=2)
        t = play(env, jax.random.key(0), 64, wandering)
        W = np.exp(np.asarray(t.next_obs[-1, :, 3], float))
        utility = np.log(W) if a == 1 else (W ** (1 - a) - 1) / (1 - a)
        np.testing.assert_allclose(t.reward.sum(0), utility, atol=1e-5)
    env = make(utility="mean_variance", risk_aversion=3.0)
    t = play(env, jax.random.key(0), 64, hold(0.7))
    excess = np.exp(np.diff(np.asarray(t.next_obs[..., 2]), axis=0, prepend=0))
    excess -= np.exp(0.02 / 12)
    np.testing.assert_allclose(t.reward, excess - 1.5 * excess**2, atol=1e-6)


def test_prices_have_the_moments_and_the_correlation():
    env = make(returns=1, **TWO)
    x = np.asarray(play(env, jax.random.key(0), 20_000, hold(0.0, 0.0)).next_obs[..., 4:])
    np.testing.assert_allclose(x.mean((0, 1)), 0, atol=0.01)
    np.testing.assert_allclose(x.std((0, 1)), 1, atol=0.01)
    np.testing.assert_allclose(np.corrcoef(x.reshape(-1, 2).T)[0, 1], 0.3, atol=0.01)


def test_data_are_drawn_with_their_frequencies(tmp_path):
    rows = np.random.default_rng(0).normal(0.01, 0.05, (50, 2))
    file = tmp_path / "returns.csv"
    np.savetxt(file, rows, delimiter=",", header="stocks,bonds", comments="")
    named = make(data=str(file), returns=1, weights="simplex")
    core = pf.Portfolio(data=rows, returns=1, weights="simplex")
    for env in (named, jaxpg.Env(core.default_params, core)):
        t = play(env, jax.random.key(0), 500, hold(1.0, 0.0))
        drawn = t.next_obs[..., 4:].reshape(-1, 2) * rows.std(0) + rows.mean(0)
        off = np.abs(np.asarray(drawn)[:, None] - rows).max(-1)
        assert (off.min(1) < 1e-6).all()
        counts = np.bincount(off.argmin(1), minlength=50)
        expected = len(drawn) / 50
        assert ((counts - expected) ** 2 / expected).sum() < 85  # chi-squared, 49 degrees: 0.1 %
        np.testing.assert_allclose(t.reward, np.log1p(drawn[:, 0].reshape(12, -1)), atol=1e-6)
    again = registry.make(**registry.to_dict(named))
    np.testing.assert_allclose(again.core.data, rows)


bad = st.one_of(st.floats(width=32), st.sampled_from([0.0, 2.0, -1.0]))


@functools.cache
def stepper(weights):
    env = make(assets=3, weights=weights, min_weight=-1.0, max_leverage=1.5, cost=0.1)

    @jax.jit
    def once(action, key):
        state = env.core.reset_env(key, env.params)[1]
        out = env.core.step_env(key, state, action, env.params)
        return env.core.allowed(env.params, action), out[1].wealth, out[2]

    return once


@pytest.mark.parametrize("weights", pf.BOUNDS)
@settings(max_examples=100, deadline=None)
@given(st.lists(bad, min_size=3, max_size=3), st.integers(0, 50))
def test_weights_keep_their_bounds_whatever_the_actions(weights, action, seed):
    w, *numbers = stepper(weights)(jnp.array(action, float), jax.random.key(seed))
    assert np.isfinite(numbers).all()
    if weights == "simplex":
        assert (np.asarray(w) >= 0).all()
        assert w.sum() <= 1 + 1e-6
    else:
        assert np.abs(w).sum() <= 1.5 + 1e-6
        assert (np.asarray(w) >= -1).all()


def test_ruin_ends_the_episode():
    core = pf.Portfolio(data=[-0.9, -0.9])
    env = jaxpg.Env(core.default_params, core)
    t = play(env, jax.random.key(0), 2, hold(2.0))
    assert t.terminated.all()
    assert np.isfinite(t.reward).all()
    np.testing.assert_allclose(t.reward, np.log(pf.RUIN), rtol=1e-6)


ERRORS = {
    "NaN": ({"drift": float("nan")}, "drift=nan: allowed is a finite number"),
    "negative volatility": ({"volatility": -0.1}, "volatility=-0.1: allowed is a number >= 0"),
    "no periods": ({"num_steps": 0}, "num_steps=0: allowed is a number >= 1"),
    "utility": ({"utility": "logg"}, "utility 'logg': did you mean 'log'"),
    "weights": ({"weights": "free"}, "weights 'free'"),
    "no file": ({"data": "nowhere.csv"}, "data='nowhere.csv': allowed is the path"),
    "no assets": ({"assets": 0}, "assets=0: allowed is an integer >= 1"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_parameters_are_named(case):
    params, words = ERRORS[case]
    with pytest.raises(ValueError, match=words):
        make(**params)


def test_bad_data_and_weights_are_named(tmp_path):
    for data, words in [
        ([[0.1, np.nan]], "row 0 has what is not a finite number"),
        ([0.1, -1.5], "the least is -1.5"),
        (np.zeros((2, 2, 2)), "of shape"),
    ]:
        with pytest.raises(ValueError, match=words):
            pf.Portfolio(data=data)
    for content in (b"a,b\n0.1,0.2\n0.1\n", b"a,b\n0.1,\xff\n"):
        (tmp_path / "odd.csv").write_bytes(content)
        with pytest.raises(
            ValueError, match=r"data='.*odd\.csv': .*; allowed is a CSV file of num"
        ):
            make(data=str(tmp_path / "odd.csv"))
    (tmp_path / "gap.csv").write_text("a,b\n0.1,0.2\n0.1,\n")
    with pytest.raises(ValueError, match="row 1"):
        make(data=str(tmp_path / "gap.csv"))
    with pytest.raises(ValueError, match=r"drift of shape \(3,\): .* each of 2 assets"):
        _ = make(assets=2, drift=[0.1, 0.2, 0.3]).example_obs
    for weights, words in [
        ((0.5, 0.2), "their sum is 0.7, allowed is 1"),
        ((0.5, 0.2, 0.3), "allowed are 2 numbers"),
        ((float("nan"), 1.0), "their sum is nan"),
    ]:
        cfg = pf.Config(weights=weights)
        with pytest.raises(ValueError, match=words):
            jaxpg.evaluate(pf.constant, cfg, make(), (), jax.random.key(0))


# Learning.

SETS = [{}, {"env.drift": 0.06, "env.volatility": 0.25}, {"env.drift": 0.12, "env.volatility": 0.3}]
SEARCH = {"population": 32, "elites": 8, "episodes": 512, "num_steps": STEPS}


def learnt(env, points, iterations):
    """For each point: its environment, and the transitions of the policy that CEM found."""
    cfgs, envs = jaxpg.sweep.batch(jaxpg.cem.Config(**SEARCH), env, points)
    total = iterations * 32 * 512 * STEPS
    train = jax.vmap(lambda *own: jaxpg.train(jaxpg.cem, *own, total)[0])
    states = jax.jit(train)(cfgs, envs, jax.random.split(jax.random.key(0), len(points)))

    @jax.jit
    def watch(cfg, env, state):
        def act(obs, carry, key):
            return *jaxpg.cem.act(cfg, env, state, obs, carry, key, True), ()

        begin = E.reset(env, jax.random.key(1), 64)
        return E.rollout(env, act, begin, (), jax.random.key(2), STEPS)[2]

    ours = [take_lane((cfgs, envs, states), i) for i in range(len(points))]
    return [(own[1], watch(*own)) for own in ours]


@pytest.mark.slow
@pytest.mark.defaults  # learns for longer than it compiles
def test_cem_finds_merton_s_weights():
    for env, t in learnt(make(price_noise=0.0, horizon=0.25), SETS, 40):
        np.testing.assert_allclose(t.action.mean(), pf.merton(env)[0], rtol=0.05)


@pytest.mark.slow  # its quick twin is that of costs
@pytest.mark.defaults  # learns for longer than it compiles
def test_cem_finds_merton_s_weights_of_two_assets():
    env = make(price_noise=0.0, horizon=0.25, min_weight=-1.0, max_leverage=3.0, **TWO)
    [(env, t)] = learnt(env, [{}], 40)
    np.testing.assert_allclose(t.action.mean((0, 1)), pf.merton(env), rtol=0.05)


@pytest.mark.slow
@pytest.mark.defaults  # learns for longer than it compiles
def test_costs_make_it_trade_less():
    env = make(price_noise=0.0, volatility=0.35, max_weight=1.0)
    free, dear = (
        float(jnp.abs(t.action - t.obs[..., :1])[1:].mean())
        for _, t in learnt(env, [{}, {"env.cost": 0.01}], 40)
    )
    assert dear < free / 2
