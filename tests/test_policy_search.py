"""The black-box agents against closed forms: a bandit whose return is a known function."""

import dataclasses
import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import environment, spaces
from scipy.stats import rankdata

import jaxpg
from jaxpg.agents import ars, cem, es
from jaxpg.loops import population
from tests import tabular
from tests.conftest import INSTALLED, slow_of

KEY = jax.random.key(0)
GOAL = np.array([0.5, -1.0])
LOCAL = ("hill_climbing", "steepest_ascent", "simulated_annealing", "adaptive_noise")
SEARCHES = [n for n in (*LOCAL, "cem", "es", "ars", "evosax") if n in INSTALLED]


class Target(environment.Environment):
    """One step: the reward is minus the squared distance of the action from the goal, and NaN
    where the first action is beyond `edge`."""

    name = "Target"
    default_params = tabular.Params(1)

    def __init__(self, edge: float = 1e9):
        self.edge = edge

    def reset_env(self, key, params):
        return jnp.zeros(1), tabular.State(jnp.zeros((), jnp.int32))

    def step_env(self, key, state, action, params):
        reward = -jnp.square(action - jnp.asarray(GOAL)).sum()
        reward = jnp.where(action[0] > self.edge, jnp.nan, reward)
        return jnp.zeros(1), tabular.State(state.time + 1), reward, state.time >= 0, {}

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (2,))

    def observation_space(self, params):
        return spaces.Box(-jnp.inf, jnp.inf, (1,))


TARGET = tabular.make(Target())


def setup(name, **fields):
    agent = jaxpg.agents.get(name)
    own = {"normalize_obs": False} if name == "ars" else {}
    return agent, agent.Config(**{"episodes": 1, "num_steps": 1, "hidden": (), **own} | fields)


@functools.partial(jax.jit, static_argnums=(0, 1))
def walk(agent, iterations, cfg, env):
    """The last state of a run, and all states and metrics before it."""

    def body(state, _):
        new, metrics = agent.step(cfg, env, state)
        return new, (state, metrics)

    state = jaxpg.core.train.initial_state(agent, cfg, env, KEY)
    return jax.lax.scan(body, state, None, iterations)


@functools.cache
def journey(name, iterations=40, env=TARGET, **fields):
    """All states and metrics of a run on the target."""
    agent, cfg = setup(name, **fields)
    cfg = dataclasses.replace(cfg, total_steps=1e9) if hasattr(cfg, "total_steps") else cfg
    last, (states, metrics) = walk(agent, iterations, cfg, env)
    drop = lambda s: s._replace(key=None)  # noqa: E731
    whole = jax.tree.map(lambda x, y: np.append(x, y[None], 0), drop(states), drop(last))
    return whole, jax.tree.map(np.asarray, metrics)


def value(env, cfg, params):
    """The return of parameters [..., D]: no noise, and the actions are two of them."""
    act = lambda w: population.act(cfg, env, w, (), jnp.zeros((1, 1)), (), KEY, True)[0][0]  # noqa: E731
    flat = jnp.asarray(params).reshape(-1, np.shape(params)[-1])
    return -np.square(np.asarray(jax.vmap(act)(flat)) - GOAL).sum(-1).reshape(params.shape[:-1])


LENGTHS = dict.fromkeys((*LOCAL[:1], *LOCAL[2:]), 150)  # of runs to the optimum


@pytest.mark.parametrize("name", SEARCHES)
def test_every_search_comes_near_the_optimum(name):
    fields = {"learning_rate": 0.1} if name == "ars" else {}
    states, _ = journey(name, LENGTHS.get(name, 60), **fields)
    _, cfg = setup(name)
    acting = states.best if name == "simulated_annealing" else states.params
    reached = value(TARGET, cfg, acting)
    assert reached[0] < -1
    assert reached[-1] > -0.1, reached[-1]


# Two challenge their incumbents as hill climbing does.
@pytest.mark.parametrize("name", slow_of(SEARCHES, "steepest_ascent", "adaptive_noise"))
def test_what_is_not_finite_poisons_nothing(name):
    """The whole neighbourhood of the goal is NaN, and half of all candidates are."""
    fields = {"learning_rate": 0.1} if name == "ars" else {}
    states, metrics = journey(name, 40, tabular.make(Target(edge=0.0)), **fields)
    later = jax.tree.map(lambda x: x[1:], states)  # evosax has met nothing at the start
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(later) if x.dtype.kind == "f")
    _, cfg = setup(name)
    acting = states.best if name == "simulated_annealing" else states.params
    assert value(TARGET, cfg, acting)[-1] > value(TARGET, cfg, acting)[0]
    assert np.isfinite(metrics["population/mean"]).any()


@pytest.mark.parametrize("name", LOCAL)
def test_an_enormous_step_is_survived(name):
    """Candidates of infinite parameters are never taken in."""
    fields = {"scale": 3e38, "sigma": 1.0} if name == "simulated_annealing" else {"sigma": 3e38}
    states, _ = journey(name, LENGTHS.get(name, 60), **fields)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(states) if x.dtype.kind == "f")


@pytest.mark.parametrize("name", ["hill_climbing", "steepest_ascent", "adaptive_noise"])
def test_climbers_move_exactly_when_it_is_no_worse(name):
    states, metrics = journey(name, reevaluate=False)
    _, cfg = setup(name)
    scores = value(TARGET, cfg, states.params)
    moved = (states.params[1:] != states.params[:-1]).any(-1)
    np.testing.assert_array_equal(moved, metrics["update/accepted"] == 1)
    np.testing.assert_array_equal(moved[1:], metrics["population/best"][1:] >= scores[1:-1])
    np.testing.assert_allclose(metrics["population/score"], scores[1:], rtol=1e-5)
    assert moved[0]
    assert 2 < moved.sum() < 38


def test_steepest_ascent_takes_the_best_neighbour():
    states, metrics = journey("steepest_ascent", reevaluate=False)
    _, cfg = setup("steepest_ascent")
    moved, after = metrics["update/accepted"] == 1, value(TARGET, cfg, states.params)[1:]
    np.testing.assert_allclose(after[moved], metrics["population/best"][moved], rtol=1e-5)


def test_the_radius_shrinks_on_success_and_widens_on_failure():
    states, metrics = journey("adaptive_noise", min_scale=0.3, max_scale=2.0)
    scale, accepted = states.scale, metrics["update/accepted"] == 1
    expected = np.clip(scale[:-1] * np.where(accepted, 0.7, 1.2), 0.3, 2.0)
    np.testing.assert_allclose(scale[1:], expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["population/sigma"], 0.1 * scale[:-1], rtol=1e-6)
    assert scale[0] == 1
    assert {0.3, 2.0} <= set(scale.round(4).tolist()) or len(set(scale.tolist())) > 3


def test_annealing_accepts_as_metropolis_does():
    """From one state with many keys: the frequency is the mean of min(1, exp((f' - f) / T))."""
    agent, cfg = setup("simulated_annealing", initial_temperature=2.0, cooling=0.5, sigma=0.4)
    state = jaxpg.core.train.initial_state(agent, cfg, TARGET, KEY)
    state = state._replace(score=jnp.float32(-1.0), iteration=jnp.int32(1))
    step = jax.jit(jax.vmap(lambda k: agent.step(cfg, TARGET, state._replace(key=k))))
    _, metrics = step(jax.random.split(jax.random.key(1), 20_000))
    np.testing.assert_allclose(metrics["population/temperature"], 1.0)
    chance = np.minimum(1, np.exp(metrics["population/best"] - -1.0)).astype(float)
    assert 0.2 < chance.mean() < 0.8
    error = np.sqrt(chance.mean() / 20_000)
    assert metrics["update/accepted"].mean() == pytest.approx(chance.mean(), abs=4 * error)


def test_annealing_keeps_the_best_and_its_walk_keeps_its_scale():
    hot = journey("simulated_annealing", 400, initial_temperature=1e9, cooling=1.0, scale=2.0)
    states, metrics = hot
    best = np.maximum.accumulate(metrics["population/best"])
    np.testing.assert_allclose(states.best_score[1:], best, rtol=1e-6)
    _, cfg = setup("simulated_annealing")
    np.testing.assert_allclose(value(TARGET, cfg, states.best)[1:], best, rtol=1e-4)
    assert metrics["update/accepted"].all()
    assert 1.5 < states.params[50:].std() < 2.5


def test_annealing_without_heat_is_a_climber():
    states, metrics = journey("simulated_annealing", initial_temperature=0.0)
    assert (np.diff(states.score) >= 0).all()
    assert 0 < metrics["update/accepted"].mean() < 1


def test_elite_has_the_mean_and_variance_of_the_best():
    rng = np.random.default_rng(0)
    x, f = rng.normal(size=(12, 3)), rng.normal(size=12)
    f[[0, 5]] = -np.inf
    x[0] = np.nan
    mean, var, count = cem.fit(jnp.asarray(x), jnp.asarray(f), 4)
    best = x[np.argsort(-f)[:4]]
    np.testing.assert_allclose(mean, best.mean(0), rtol=1e-5)
    np.testing.assert_allclose(var, best.var(0), rtol=1e-4)
    assert count == 4
    mean, var, count = cem.fit(jnp.asarray(x), jnp.asarray(f), 12)  # two do not belong to it
    np.testing.assert_allclose(mean, x[np.isfinite(f)].mean(0), rtol=1e-5)
    np.testing.assert_allclose(var, x[np.isfinite(f)].var(0), rtol=1e-4)
    assert count == 10


def test_extra_noise_of_cem_falls_to_nothing():
    """With an elite of one the spread is the extra noise alone: sigma^2 times 0.25 (1 - p)."""
    agent, cfg = setup("cem", elites=1, sigma=2.0, extra_noise=0.25, population=4)
    steps = 10 * agent.steps_per_iter(cfg)
    _, metrics = jaxpg.train(agent, cfg, TARGET, KEY, steps)
    expected = 2.0 * np.sqrt(0.25 * (1 - np.arange(10) / 10))
    np.testing.assert_allclose(metrics["population/sigma"], expected, rtol=1e-5)


@pytest.mark.parametrize("size", [5, 10])
def test_es_estimates_the_gradient_of_a_quadratic(size):
    """Within 2 % at population 4096, for as many parameters as a linear policy has on CartPole."""
    rng = np.random.default_rng(size)
    curve, centre, at = rng.normal(size=(size, size)), rng.normal(size=size), rng.normal(size=size)
    hessian = curve @ curve.T
    f = lambda w: -np.einsum("ni,ij,nj->n", w - centre, hessian, w - centre)  # noqa: E731
    exact = -2 * hessian @ (at - centre)
    for sigma in (0.05, 3.0):
        eps = np.asarray(es.directions(KEY, 2048, size), float)
        plus, minus = f(at + sigma * eps), f(at - sigma * eps)
        estimate = np.asarray(es.gradient(eps, plus, minus, sigma))
        assert np.linalg.norm(estimate - exact) < 0.02 * np.linalg.norm(exact)


def test_directions_are_orthogonal_or_gaussian():
    eps = np.asarray(es.directions(KEY, 11, 4), float)
    assert eps.shape == (11, 4)
    for block in (eps[:4], eps[4:8]):
        np.testing.assert_allclose(block @ block.T, 4 * np.eye(4), atol=1e-4)
    assert np.abs(eps[:4] - eps[4:8]).max() > 0.1
    many = jax.vmap(lambda k: es.directions(k, 6, 3))(jax.random.split(KEY, 4000))
    np.testing.assert_allclose(np.einsum("kni,knj->ij", many, many) / 24_000, np.eye(3), atol=0.03)
    np.testing.assert_allclose(many.mean((0, 1)), 0, atol=0.03)
    for plain in (es.directions(KEY, 3, 4), es.directions(KEY, 11, 4, orthogonal=False)):
        np.testing.assert_array_equal(plain, jax.random.normal(KEY, plain.shape))


def test_gradient_of_gaussian_directions_is_unbiased():
    """Of a cubic, over many estimates: that of the smoothed return, E f'(w + sigma eps)."""
    w, sigma = np.array([0.3, -0.2]), 0.5
    f = lambda x: (x**3).sum(-1)  # noqa: E731
    eps = jax.random.normal(KEY, (400_000, 2))
    estimate = es.gradient(eps, f(w + sigma * eps), f(w - sigma * eps), sigma)
    np.testing.assert_allclose(estimate, 3 * (w**2 + sigma**2), atol=0.02)


def test_ranks_are_centred_and_shared():
    rng = np.random.default_rng(1)
    for x in (rng.normal(size=9), rng.integers(0, 4, 20).astype(float), np.array([1.0, -np.inf])):
        expected = (rankdata(x) - 1) / (len(x) - 1) - 0.5
        np.testing.assert_allclose(es.centred_ranks(jnp.asarray(x)), expected, atol=1e-6)
    np.testing.assert_array_equal(es.centred_ranks(jnp.full(6, 500.0)), np.zeros(6))


def test_es_without_a_signal_only_decays():
    """All candidates are equal on this environment: the mean moves by weight decay, or not."""
    env = tabular.make(tabular.Constant(True))
    agent = jaxpg.es
    for decay in (0.0, 0.1):
        cfg = agent.Config(population=4, episodes=1, num_steps=8, hidden=(), weight_decay=decay)
        state = agent.init(cfg, env, KEY)
        new, _ = agent.step(cfg, env, state)
        assert bool((new.params == state.params).all()) is (decay == 0)
        assert (jnp.abs(new.params) <= jnp.abs(state.params) + 0.031).all()


def test_ars_update_is_the_papers():
    rng = np.random.default_rng(2)
    delta, plus, minus = rng.normal(size=(6, 3)), rng.normal(size=6) + 5, rng.normal(size=6) + 5
    top = np.argsort(-np.maximum(plus, minus))[:4]
    deviation = np.concatenate([plus[top], minus[top]]).std()
    expected = sum((plus[k] - minus[k]) * delta[k] for k in top) / (4 * deviation)
    update = ars.ascent(*map(jnp.asarray, (delta, plus, minus)), 4)
    np.testing.assert_allclose(update, expected, rtol=1e-4)
    np.testing.assert_array_equal(ars.ascent(jnp.asarray(delta), *jnp.full((2, 6), 9.1), 4), 0)


@pytest.mark.parametrize(
    ("name", "fields", "says"),
    [
        ("cem", {"elites": 65}, "cem.Config elites=65: .* <= population=64"),
        ("es", {"population": 7}, "es.Config population=7: .* even"),
        ("ars", {"top_directions": 17}, "ars.Config top_directions=17: .* <= directions=16"),
        ("simulated_annealing", {"sigma": 1.5}, "sigma=1.5.*<= 1"),
        ("adaptive_noise", {"widen": 0.5}, "widen=0.5.*>= 1"),
        ("steepest_ascent", {"num_steps": 7}, "steepest_ascent.Config num_steps=7: .* >= 500"),
    ],
)
def test_bad_fields(name, fields, says):
    agent = jaxpg.agents.get(name)
    with pytest.raises(ValueError, match=says):
        agent.init(agent.Config(**fields), jaxpg.make("CartPole-v1"), KEY)


def test_evosax_is_asked_for_in_one_line(monkeypatch):
    agent = jaxpg.agents.get("evosax")
    for name in [n for n in sys.modules if n.split(".")[0] == "evosax"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "evosax", None)
    with pytest.raises(
        ValueError, match=r"^the agent evosax needs: pip install 'jaxpg\[evosax\]'$"
    ):
        agent.init(agent.Config(), jaxpg.make("CartPole-v1"), KEY)


@pytest.mark.skipif("evosax" not in INSTALLED, reason="evosax is an extra")
class TestEvosax:
    def test_unknown_strategy(self):
        agent = jaxpg.evosax
        with pytest.raises(ValueError, match="strategy 'CMAES': did you mean 'CMA_ES'"):
            agent.init(agent.Config(strategy="CMAES"), jaxpg.make("CartPole-v1"), KEY)
        odd = agent.Config(strategy="PGPE", population=7)
        with pytest.raises(ValueError, match=r"population=7: .*even"):
            agent.init(odd, jaxpg.make("CartPole-v1"), KEY)

    @pytest.mark.parametrize("strategy", ["SNES", "PSO"])
    def test_other_kinds_of_strategy(self, strategy):
        """One that keeps a distribution and one that keeps a population."""
        states, _ = journey("evosax", strategy=strategy)
        _, cfg = setup("evosax")
        assert value(TARGET, cfg, states.params)[-1] > -0.1
