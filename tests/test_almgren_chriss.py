"""Liquidation: simulated costs against the paper's formulas, its numbers, and all that sells."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxpg
from jaxpg.core.parallel.lanes import take_lane
from jaxpg.envs.finance import almgren_chriss as ac
from jaxpg.envs.finance import baselines as eb
from jaxpg.envs.registry import to_dict, with_params
from tests.conftest import slow_of

NAME, PATHS = "AlmgrenChriss-jaxpg", 100_000


@pytest.fixture(scope="module", autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def make(**params):
    return jaxpg.make(NAME, **params)


def random_parameters(seed):
    rng = np.random.default_rng(seed)
    n, shares, price = int(rng.integers(3, 12)), 10 ** rng.uniform(3, 7), rng.uniform(5, 200)
    horizon, sigma = rng.uniform(0.5, 10), price * rng.uniform(0.005, 0.03)
    rate = shares / horizon
    return {
        "num_trades": n, "shares": shares, "price": price, "horizon": horizon, "volatility": sigma,
        "fixed_cost": price * rng.uniform(0, 2e-3),
        "permanent_impact": price * rng.uniform(0, 0.02) / shares,
        "temporary_impact": price * rng.uniform(0.005, 0.02) / rate,
        "risk_aversion": 10 ** rng.uniform(-1, 1) / (sigma * shares * horizon**0.5),
    }  # fmt: skip


SETS = {
    "paper": {},
    "random 1": random_parameters(1),
    "random 2": random_parameters(2),
    "temporary alone": {"permanent_impact": 0.0, "fixed_cost": 0.0},
    "permanent alone": {"temporary_impact": 0.0, "fixed_cost": 0.0},
}


def simulate(env, x, paths=PATHS, seed=0):
    """States [N + 1, paths, ...] and rewards [N, paths] under a schedule [N + 1, M]."""
    keys = jax.random.split(jax.random.key(seed), paths)
    states, rewards, ended = jax.tree.map(np.asarray, many(env, jnp.asarray(x), keys))
    assert (ended.sum(0) == 1).all()
    assert ended[-1].all()
    return states, rewards


@jax.jit
def many(env, x, keys):
    def one(key):
        k_first, key = jax.random.split(key)
        _, first = env.core.reset_env(k_first, env.params)

        def step(state, inputs):
            action, key = inputs
            _, new, reward, ended, _ = env.core.step_env(key, state, action, env.params)
            return new, (new, reward, ended)

        sold = (x[:-1] - x[1:]) / jnp.where(x[:-1] > 0, x[:-1], 1)
        _, (states, *rest) = jax.lax.scan(step, first, (sold, jax.random.split(key, len(sold))))
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, states), *rest

    return jax.vmap(one, out_axes=1)(keys)


def shortfall(env, states, impact=None):
    """X S_0 less what the sales brought [paths], from the paper's definition."""
    p = env.params
    tau = p.horizon / p.num_trades
    q = states.inventory * np.asarray(p.shares)
    n = q[:-1] - q[1:]
    h = (
        p.fixed_cost + p.temporary_impact * n / tau
        if impact is None
        else impact(n / tau, np.arange(len(n))[:, None, None])
    )
    brought = (n * (states.price[:-1] - h)).sum((0, 2))
    return (q[0] * states.price[0]).sum(-1) - brought


moments = jax.jit(lambda env, x: (eb.cost(env, x), eb.variance(env, x)))


def agrees(sample, mean, variance):
    """Within three standard errors, of the mean and of the variance."""
    off = sample - sample.mean()
    sem, sev = sample.std() / len(sample) ** 0.5, (off**2).std() / len(sample) ** 0.5
    assert abs(sample.mean() - mean) < 3 * sem
    assert abs((off**2).mean() - variance) < 3 * sev


# The paper.


def test_the_paper_s_numbers():
    env = make()
    x = eb.trajectory(env)
    expected = [1e6, 541955.55, 289854.22, 147897.49, 62141.80, 0]
    np.testing.assert_allclose(x[:, 0], expected, atol=0.01)
    np.testing.assert_allclose(eb.kappa(env), 0.607076, atol=1e-6)
    np.testing.assert_allclose(eb.half_life(env), 1 / 0.607076, rtol=1e-5)
    for schedule, cost, variance in [
        (x, 911_226.99, 3.641286e11),
        (eb.equal_slices(env), 662_500, 1.083e12),
        (eb.at_once(env), 2_562_500, 0),
    ]:
        np.testing.assert_allclose(eb.cost(env, schedule), cost, atol=0.01)
        np.testing.assert_allclose(eb.variance(env, schedule), variance, rtol=1e-6)
    np.testing.assert_allclose(eb.utility(env, x), 1_275_355.56, atol=0.01)


@pytest.mark.parametrize("case", slow_of(SETS, "random 2"))
@pytest.mark.parametrize("schedule", ["trajectory", "equal_slices"])
def test_simulated_costs_have_the_mean_and_variance_of_the_formulas(case, schedule):
    env = make(**SETS[case])
    # Without temporary impact the best schedule is all at once: the paper's is more of a test.
    x = getattr(eb, schedule)(make() if case == "permanent alone" else env)
    states, rewards = simulate(env, x)
    costs = shortfall(env, states)
    mean, variance = map(float, moments(env, x))
    agrees(costs, mean, variance)
    # To the last digits, path by path: the return is minus the shortfall and the penalty.
    penalty = env.params.risk_aversion * variance
    np.testing.assert_allclose(
        -rewards.sum(0) * ac.unit(env), costs + penalty, rtol=1e-8, atol=1e-9 * ac.unit(env)
    )


def test_without_the_price_noise_every_path_costs_its_expectation():
    env = make(price_noise=0.0, **SETS["random 1"])
    x = eb.trajectory(env)
    _, rewards = simulate(env, x, paths=2)
    np.testing.assert_allclose(-rewards.sum(0) * ac.unit(env), eb.utility(env, x), rtol=1e-10)


@pytest.mark.parametrize("seed", slow_of(range(4), 2, 3))
def test_the_closed_form_is_the_best_schedule(seed):
    env = make(**random_parameters(seed))
    x, found = eb.trajectory(env), eb.optimal(env)
    np.testing.assert_allclose(found, x, atol=2e-4 * env.params.shares)
    assert eb.utility(env, x) <= eb.utility(env, found) * (1 + 1e-9)
    rng = np.random.default_rng(seed)
    for _ in range(20):
        other = np.sort(rng.random((len(x) - 2, 1)), 0)[::-1] * env.params.shares
        other = np.concatenate([x[:1], other, x[-1:]])
        assert eb.utility(env, other) > eb.utility(env, x)


def test_the_frontier_has_the_slope_minus_lambda():
    """E + lambda V is smallest there, so that dE / dV = -lambda."""
    aversion = np.geomspace(1e-7, 1e-5, 400)
    cost, variance = map(np.asarray, eb.frontier(make(), aversion))
    middle = np.sqrt(aversion[1:] * aversion[:-1])
    np.testing.assert_allclose(np.diff(cost) / np.diff(variance), -middle, rtol=1e-4)


def test_extreme_urgencies():
    for aversion, schedule in [(0.0, eb.equal_slices), (1e8, eb.at_once)]:
        env = make(risk_aversion=aversion)
        np.testing.assert_allclose(eb.trajectory(env), schedule(env), atol=1)
    env = make(temporary_impact=0.0)
    np.testing.assert_allclose(eb.trajectory(env), eb.at_once(env))
    env = make(horizon=500.0, num_trades=50_000, permanent_impact=0.0)
    x, day = np.asarray(eb.trajectory(env))[:, 0], 100
    np.testing.assert_allclose(x[int(eb.half_life(env)[0] * day)], x[0] / np.e, rtol=2 / day)


# What the paper does not have.


def test_square_root_impact_and_volumes():
    curve = [2.0, 1.0, 0.5, 1.0, 2.5]
    env = make(impact_power=0.5, volume=curve, risk_aversion=0.0)
    v = np.array(curve)[:, None, None] / np.mean(curve)
    usual, p = 1e6 / 5, env.params

    def impact(speed, k):
        return p.fixed_cost + p.temporary_impact * usual * np.sqrt(speed / (usual * v[k[:, 0, 0]]))

    x = eb.trajectory(make())
    states, rewards = simulate(env, x)
    costs = shortfall(env, states, impact)
    agrees(costs, eb.cost(env, x), eb.variance(env, x))
    np.testing.assert_allclose(-rewards.sum(0) * ac.unit(env), costs, rtol=1e-8)
    # At the speed of equal slices in a flat market every power has the same impact.
    powers = [make(impact_power=p) for p in (0.5, 1.0, 1.5)]
    np.testing.assert_allclose([eb.cost(e, eb.equal_slices(e)) for e in powers], 662_500)


def test_to_follow_the_volume_is_best_without_risk_and_permanent_impact():
    for power in (0.5, 1.0):
        env = make(
            volume=[3.0, 1.0, 2.0], risk_aversion=0.0, permanent_impact=0.0, impact_power=power
        )
        np.testing.assert_allclose(eb.optimal(env), eb.with_volume(env), atol=100)
    flat = make(volume=7.0)
    np.testing.assert_allclose(eb.with_volume(flat), eb.equal_slices(flat), atol=1e-6)


def test_stochastic_volatility_keeps_the_mean_of_the_variance():
    env = make(vol_of_vol=0.4, vol_reversion=0.5, risk_aversion=0.0)
    x = eb.equal_slices(env)
    states, _ = simulate(env, x)
    agrees(shortfall(env, states), eb.cost(env, x), eb.variance(env, x))
    y = states.log_volatility
    np.testing.assert_allclose(y.std(-1), 0.4, rtol=0.02)  # stationary
    together = [np.corrcoef(a, b)[0, 1] for a, b in itertools.pairwise(y)]
    np.testing.assert_allclose(together, np.exp(-0.5), atol=0.02)


@pytest.mark.parametrize("correlation", slow_of([-0.4, 0.7], 0.7))
def test_correlated_assets(correlation):
    own = {"shares": [1e6, 5e5, 2e5], "volatility": [0.95, 0.3, 1.2], "price": [50.0, 20.0, 90.0]}
    env = make(assets=3, correlation=correlation, risk_aversion=1e-6, **own)
    x = eb.equal_slices(env)
    states, rewards = simulate(env, x)
    C = np.full((3, 3), correlation)
    np.fill_diagonal(C, 1)
    C *= np.outer(own["volatility"], own["volatility"])
    V = np.einsum("ki,ij,kj->", x[1:], C, x[1:])  # tau is 1
    np.testing.assert_allclose(eb.variance(env, x), V)
    costs = shortfall(env, states)
    agrees(costs, eb.cost(env, x), V)
    np.testing.assert_allclose(-rewards.sum(0) * ac.unit(env), costs + 1e-6 * V, rtol=1e-8)
    shocks = np.diff(states.price, axis=0) + 2.5e-7 * (x[:-1] - x[1:])[:, None]
    np.testing.assert_allclose(np.cov(shocks.reshape(-1, 3).T), C, atol=0.01)
    assert eb.utility(env, eb.optimal(env)) < eb.utility(env, x)


def test_assets_that_do_not_move_together_are_sold_one_by_one():
    both = make(assets=2, volatility=[0.95, 0.3], shares=[1e6, 2e6])
    x = eb.trajectory(both)
    for i, (sigma, shares) in enumerate([(0.95, 1e6), (0.3, 2e6)]):
        alone = eb.trajectory(make(volatility=sigma, shares=shares))
        np.testing.assert_allclose(x[:, i : i + 1], alone)
    np.testing.assert_allclose(eb.optimal(both), x, atol=500)


def test_log_returns_are_of_unit_variance_and_newest_first():
    env = make(returns=2, permanent_impact=0.0)
    states, _ = simulate(env, eb.equal_slices(env))
    np.testing.assert_allclose(states.returns[2:, ..., 0].std(1), 1, rtol=0.1)
    np.testing.assert_array_equal(states.returns[2:, :, 1], states.returns[1:-1, :, 0])
    log = np.diff(np.log(states.price), axis=0) / (0.95 / 50)
    np.testing.assert_allclose(states.returns[1:, :, 0], log, atol=1e-9)
    assert env.example_obs.shape == (1 + 3 + 2,)


# Whatever is done.


@functools.cache
def sells(fraction_of):
    env = make(assets=2, returns=1, num_trades=6, fraction_of=fraction_of, vol_of_vol=0.5)

    @jax.jit
    def play(actions, key):
        def step(state, inputs):
            action, key = inputs
            _, new, reward, ended, _ = env.core.step_env(key, state, action, env.params)
            return new, (new.inventory, reward, ended)

        first = env.core.reset_env(key, env.params)[1]
        return jax.lax.scan(step, first, (actions, jax.random.split(key, 6)))[1]

    return play


extremes = st.one_of(st.floats(), st.floats(0, 1), st.sampled_from([0.0, 1.0, 1e-30]))


@pytest.mark.parametrize("fraction_of", ac.FRACTIONS)
@settings(max_examples=100, deadline=None)
@given(st.lists(extremes, min_size=12, max_size=12), st.integers(0, 100))
def test_all_that_is_held_is_sold_whatever_the_actions(fraction_of, actions, seed):
    actions = jnp.array(actions).reshape(6, 2)
    left, reward, ended = map(np.asarray, sells(fraction_of)(actions, jax.random.key(seed)))
    sold = -np.diff(left, axis=0, prepend=1.0)
    assert (left >= 0).all()
    assert (sold >= 0).all()
    assert (left[-1] == 0).all()
    np.testing.assert_allclose(sold.sum(0), 1, rtol=1e-12)
    assert np.isfinite(reward).all()
    assert ended.tolist() == [False] * 5 + [True]


ERRORS = {
    "NaN": ({"volatility": float("nan")}, "volatility=nan: allowed is a finite number"),
    "negative volatility": ({"volatility": -0.1}, "volatility=-0.1: allowed is a number >= 0"),
    "no trades": ({"num_trades": 0}, "num_trades=0: allowed is a number >= 1"),
    "no time": ({"horizon": 0.0}, "horizon=0.0"),
    "no shares": ({"shares": [1e6, 0.0], "assets": 2}, "shares="),
    "negative aversion": ({"risk_aversion": -1e-6}, "risk_aversion=-1e-06"),
    "too contrary": ({"assets": 3, "correlation": -0.6}, "correlation=-0.6: .* >= -0.5"),
    "half an asset": ({"assets": 0.5}, "assets=0.5: allowed is an integer"),
    "fraction of what": ({"fraction_of": "all"}, "fraction_of='all': allowed is one of"),
    "a typo": ({"volatilty": 1.0}, "did you mean 'volatility'"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_bad_parameters_are_named(case):
    params, words = ERRORS[case]
    with pytest.raises(ValueError, match=words):
        make(**params)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"num_trades": 2.5}, "num_trades=2.5: allowed is an integer"),
        ({"volatility": [1.0, 2.0]}, r"volatility of shape \(2,\): .* each of 1 assets"),
    ],
)
def test_bad_parameters_are_named_before_anything_compiles(params, words):
    with pytest.raises(ValueError, match=words):
        _ = make(**params).example_obs


def test_the_closed_form_refuses_what_it_does_not_hold_for():
    for params, words in [
        ({"impact_power": 0.5}, "impact_power=0.5: allowed is 1; see `optimal`"),
        ({"assets": 2, "correlation": 0.5}, "correlation=0.5: allowed is 0"),
        ({"volume": [1.0, 2.0]}, r"volume of shape \(2,\)"),
    ]:
        with pytest.raises(ValueError, match=words):
            eb.trajectory(make(**params))


# Policies.


POLICIES = {
    "twap": (eb.twap, {}, "initial", eb.equal_slices),
    "vwap": (eb.vwap, {"volume": [2.0, 1.0, 3.0]}, "remaining", eb.with_volume),
    "almgren_chriss": (eb.almgren_chriss, {}, "initial", eb.trajectory),
}


@pytest.mark.parametrize("case", POLICIES)
def test_schedules_as_policies_reach_their_utility(case):
    agent, params, fraction_of, schedule = POLICIES[case]
    env = make(price_noise=0.0, num_trades=7, fraction_of=fraction_of, **params)
    got = jaxpg.evaluate(agent, agent.Config(), env, (), jax.random.key(0), episodes=2)
    expected = -eb.utility(env, schedule(env)) / ac.unit(env)
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_parameters_are_leaves():
    """One program for many markets, and for a policy with a risk aversion of its own."""
    points = [{f"env.{k}": v for k, v in SETS[c].items()} for c in ("random 1", "random 2")]
    cfg, env = jaxpg.sweep.batch(eb.Config(risk_aversion=1e-7), make(price_noise=0.0), points)

    def play(cfg, env):
        return jaxpg.evaluate(eb.almgren_chriss, cfg, env, (), jax.random.key(0), episodes=2)

    for i, lane in enumerate(jax.jit(jax.vmap(play))(cfg, env)):
        this = take_lane(env, i)
        x = eb.trajectory(with_params(this, risk_aversion=1e-7))
        np.testing.assert_allclose(lane, -eb.utility(this, x) / ac.unit(this), rtol=1e-9)
    assert jaxpg.make(**to_dict(make(assets=2, price=[1.0, 2.0]))).core.assets == 2


@pytest.mark.slow  # its quick twin is the best schedule of the closed form
@pytest.mark.defaults  # learns for longer than it compiles
def test_cem_finds_the_best_utility_for_four_risk_aversions_in_one_program():
    """From the noisy shortfall itself."""
    aversions, total = [0.0, 1e-7, 1e-6, 1e-5], 60 * 32 * 64 * 5
    cfg = jaxpg.cem.Config(population=32, elites=6, episodes=64, num_steps=5, hidden=(8,))
    with jax.enable_x64(False):
        points = [{"env.risk_aversion": x} for x in aversions]
        cfgs, envs = jaxpg.sweep.batch(cfg, make(), points)
        train = jax.vmap(lambda *own: jaxpg.train(jaxpg.cem, *own, total)[0])
        states = jax.jit(train)(cfgs, envs, jax.random.split(jax.random.key(0), 4))
        for i, x in enumerate(aversions):
            env, state = make(risk_aversion=x, price_noise=0.0), take_lane(states, i)
            got = jaxpg.evaluate(jaxpg.cem, take_lane(cfgs, i), env, state, jax.random.key(1), 2)
            best = eb.utility(env, eb.trajectory(env)) / ac.unit(env)
            assert -got.mean() < 1.05 * best
