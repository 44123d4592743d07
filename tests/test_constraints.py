"""Limits on costs: the step of CPO against a solver, the multiplier, sums, exact optima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import jaxpg
from jaxpg.envs.tabular import cost_model, model
from jaxpg.ops import constraints
from jaxpg.ops import dynamic_programming as dp
from jaxpg.ops.constraints import BORDER, FREE, RECOVER
from jaxpg.ops.occupancy import solve_constrained

H, G, B = np.array([[2, 0.5], [0.5, 1]]), np.array([1.0, 2]), np.array([1, 0.5])


def cpo_step(H, g, b, violation, max_kl=0.01, recovery=1.0):
    """The step [n] and its case, in x64."""
    x, y = np.linalg.solve(H, g), np.linalg.solve(H, b)
    with jax.enable_x64(True):
        products = constraints.Products(*map(jnp.asarray, (g @ x, g @ y, b @ y)))
        by_g, by_b, case = constraints.solve_cpo(
            products, jnp.asarray(float(violation)), max_kl, recovery
        )
        return np.asarray(by_g) * x + np.asarray(by_b) * y, int(case)


@pytest.mark.parametrize(
    ("violation", "step", "case"),
    [
        (-1, (0, 0.1414214), FREE),
        (-0.05, (-0.025, 0.15), BORDER),
        (0.05, (-0.1, 0.1), BORDER),
        (0.5, -np.sqrt(0.02 / (B @ np.linalg.solve(H, B))) * np.linalg.solve(H, B), RECOVER),
        (-np.inf, (0, 0.1414214), FREE),
    ],
)
def test_the_step_in_cases_worked_by_hand(violation, step, case):
    found = cpo_step(H, G, B, violation)
    np.testing.assert_allclose(found[0], step, atol=1e-6)
    assert found[1] == case


def slsqp(H, g, b, violation, max_kl):
    """The same problem by a general solver, in coordinates where the trust region is a ball."""
    L = np.linalg.cholesky(H)
    g_, b_ = np.linalg.solve(L, g), np.linalg.solve(L, b)
    region = {
        "type": "ineq",
        "fun": lambda y: 100 * (max_kl - y @ y / 2),
        "jac": lambda y: -100 * y,
    }
    limit = {"type": "ineq", "fun": lambda y: -violation - b_ @ y, "jac": lambda y: -b_}
    found = minimize(
        lambda y: -g_ @ y, np.zeros(len(g)), jac=lambda y: -g_, method="SLSQP",
        constraints=[region, limit], options={"ftol": 1e-15, "maxiter": 1000},
    )  # fmt: skip
    return np.linalg.solve(L.T, found.x)


def test_the_step_is_that_of_a_general_solver():
    rng, met = np.random.default_rng(0), np.zeros(3, int)
    while met[[BORDER, FREE]].min() < 60 or met.sum() < 200:
        n = rng.integers(2, 6)
        root, g, b = rng.normal(size=(n, n)), rng.normal(size=n), rng.normal(size=n)
        H = root @ root.T + 0.1 * np.eye(n)
        reach = np.sqrt(0.02 * b @ np.linalg.solve(H, b))  # what the trust region does to the cost
        violation = 0.0 if met.sum() % 10 == 0 else rng.uniform(-1.5, 1.5) * reach
        step, case = cpo_step(H, g, b, violation)
        met[case] += 1
        if case == RECOVER:
            assert violation > reach
            np.testing.assert_allclose(violation + b @ step, violation - reach, rtol=1e-9)
        else:
            np.testing.assert_allclose(step, slsqp(H, g, b, violation, 0.01), atol=1e-6)
    assert met[RECOVER] > 20


def test_a_recovery_that_takes_a_part_of_the_fall_is_the_best_one_that_does():
    rng, free = np.random.default_rng(1), 0
    for recovery in (0.3, 0.7, 0.9) * 20:
        n = rng.integers(2, 6)
        root, g, b = rng.normal(size=(n, n)), rng.normal(size=n), rng.normal(size=n)
        H = root @ root.T + 0.1 * np.eye(n)
        reach = np.sqrt(0.02 * b @ np.linalg.solve(H, b))
        step, case = cpo_step(H, g, b, 3 * reach, recovery=recovery)
        assert case == RECOVER
        np.testing.assert_allclose(step, slsqp(H, g, b, recovery * reach, 0.01), atol=1e-6)
        free += b @ step < -recovery * reach * (1 + 1e-6)  # the return asks for more of it
        within, _ = cpo_step(H, g, b, 0.5 * reach, recovery=recovery)  # no recovery: no matter
        np.testing.assert_array_equal(within, cpo_step(H, g, b, 0.5 * reach)[0])
    assert free > 3


@pytest.mark.parametrize("violation", [-0.5, 0.0, 0.5])
@pytest.mark.parametrize(
    ("g", "b"), [(G, 0 * B), (G, 2 * G), (G, -2 * G), (0 * G, B), (0 * G, 0 * B)]
)
def test_the_step_is_finite_where_gradients_vanish_or_are_parallel(g, b, violation):
    step, _ = cpo_step(H, g, b, violation)
    assert np.isfinite(step).all()
    assert step @ H @ step / 2 <= 0.01 * (1 + 1e-6)
    before, after = max(violation, 0), violation + b @ step
    assert after <= before + 1e-9


def test_a_controller_is_its_definition():
    rng, limit, gains = np.random.default_rng(0), 0.4, (0.7, 0.3, 0.2)
    state, integral, before = constraints.init_multiplier(), 0.0, 0.0
    for cost in rng.random(20):
        state, found = constraints.control(state, jnp.asarray(cost, float), limit, *gains)
        integral = max(integral + cost - limit, 0)
        wanted = 0.7 * (cost - limit) + 0.3 * integral + 0.2 * max(cost - before, 0)
        before = cost
        np.testing.assert_allclose(found, max(wanted, 0), rtol=1e-5, atol=1e-6)


def test_no_data_moves_no_multiplier():
    state, weight = constraints.control(constraints.init_multiplier(2.0), jnp.nan, 0.1, 1.0, 0.5, 9)
    assert (float(state.integral), float(weight)) == (2, 1)


def bandit(kp, ki, steps=2000, rate=0.5):
    """Probabilities of the dear arm under exact policy gradients and a limit of 0.3."""

    def step(loop, _):
        logit, state = loop
        p = jax.nn.sigmoid(logit)
        state, weight = constraints.control(state, p, 0.3, kp, ki, 0.0)
        return (logit + rate * p * (1 - p) * (1 - weight), state), (p, weight)

    begin = jnp.zeros(()), constraints.init_multiplier()
    return jax.lax.scan(step, begin, None, steps)[1]


def test_an_integral_alone_swings_for_ever_and_the_proportional_part_settles_it():
    p, _ = bandit(0.0, 0.05)
    assert p[-500:].min() < 0.1
    assert p[-500:].max() > 0.6
    for kp in (1.0, 5.0):
        p, weight = bandit(kp, 0.05)
        np.testing.assert_allclose(p[-100:], 0.3, atol=1e-3)
        np.testing.assert_allclose(weight[-100:], 1, atol=2e-3)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_sums_of_episodes_are_those_of_a_loop(gamma):
    rng, T, N = np.random.default_rng(0), 12, 3
    cost, ended = rng.random((2 * T, N)), rng.random((2 * T, N)) < 0.25
    running, found = constraints.init_running(N), []
    for part in (slice(0, T), slice(T, None)):  # an episode goes on over the border
        running, sums = constraints.sum_costs(
            running, jnp.asarray(cost[part], float), jnp.asarray(ended[part]), gamma
        )
        found.append(sums)
    found = jax.tree.map(lambda *x: np.concatenate(x), *found)
    for n in range(N):
        total = length = t = 0
        for row in range(2 * T):
            total, length = total + gamma**t * cost[row, n], length + gamma**t
            np.testing.assert_allclose(found.cost[row, n], total, rtol=1e-5)
            np.testing.assert_allclose(found.length[row, n], length, rtol=1e-5)
            np.testing.assert_allclose(found.discount[row, n], gamma**t, rtol=1e-5)
            t += 1
            if ended[row, n]:
                total = length = t = 0


def solved(name, gamma, limit, **params):
    env = jaxpg.make(name, **params)
    m, C = model(env), cost_model(env)
    arrays = [np.asarray(x) for x in (m.P, m.R, C, m.start)]
    return solve_constrained(*arrays, gamma, limit), m, C


@pytest.mark.parametrize(
    ("slip", "limit", "value", "cost"),
    [(0.1, np.inf, -11.79449, 0.1369), (0.1, 0.1, -11.79814, 0.1), (0.2, 0.1, -13.46703, 0.1)],
)
def test_optima_of_the_cliff(slip, limit, value, cost):
    found, m, C = solved("CliffCost-jaxpg", 0.95, limit, slip=slip)
    np.testing.assert_allclose([found.value, found.cost], [value, cost], atol=1e-4)
    for x, wanted in ((m.R, value), (C, cost)):  # and the policy earns what the program says
        earned = dp.policy_evaluation(m.P, x, jnp.asarray(found.policy, float), 0.95) @ m.start
        np.testing.assert_allclose(earned, wanted, rtol=1e-3)
    mixed = ((found.policy > 1e-6) & (found.policy < 1 - 1e-6)).any(1) & (found.policy.max(1) > 0.5)
    assert mixed.sum() <= 1  # of the states that are visited


@pytest.mark.parametrize("name", ["CostBandit-jaxpg", "FrozenLakeCost-jaxpg", "Hazards-jaxpg"])
def test_the_multiplier_is_the_slope_of_the_frontier(name):
    free, _, _ = solved(name, 0.99, np.inf)
    limits = np.array([0.4, 0.401]) * free.cost
    (one, *_), (two, *_) = (solved(name, 0.99, limit) for limit in limits)
    slope = (two.value - one.value) / (limits[1] - limits[0])
    np.testing.assert_allclose(one.multiplier, slope, rtol=1e-4)
    assert one.multiplier > 0 == free.multiplier


def test_a_limit_that_no_policy_keeps_is_refused():
    one = np.ones((1, 1))
    with pytest.raises(ValueError, match=r"limit=0.5: no policy keeps it"):
        solve_constrained(np.zeros((1, 1, 1)), one, one, np.ones(1), 0.9, 0.5)


def test_costs_of_a_grid_are_on_what_hurts():
    """Walked by hand: into the cliff and back to the start, beside it, into a hole and the end."""
    env = jaxpg.make("CliffCost-jaxpg")
    _, state = env.core.reset(jax.random.key(0), env.params)
    moves = [(1, 1.0), (0, 0.0), (1, 0.0), (2, 1.0)]  # right falls, up, right, down falls
    for action, cost in moves:
        _, state, _, terminated, _, info = env.core.step(
            jax.random.key(1), state, action, env.params
        )
        assert (float(info["cost"]), bool(terminated)) == (cost, False)
    lake = jaxpg.make("FrozenLakeCost-jaxpg", slip=0.0)
    _, state = lake.core.reset(jax.random.key(0), lake.params)
    for action, cost in [(1, 0.0), (2, 1.0)]:
        _, state, _, terminated, _, info = lake.core.step(
            jax.random.key(1), state, action, lake.params
        )
        assert (float(info["cost"]), bool(terminated)) == (cost, cost == 1)
    with pytest.raises(ValueError, match="Cliff-jaxpg has no table of costs"):
        cost_model(jaxpg.make("Cliff-jaxpg"))
