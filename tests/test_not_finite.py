"""NaN and infinity are named, not taken for an answer: by searches, by tables, by policies; and
what the metrics of an agent of one's own may be."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

import jaxpg
from jaxpg.core.metrics import require_metrics
from jaxpg.core.run import Event, run
from jaxpg.experiment.callbacks.guards import LOST, NonFiniteError, nan_guard
from jaxpg.loops import population
from tests import tabular
from tests.conftest import INSTALLED, TINY

KEY = jax.random.key(0)
LOCAL = ("hill_climbing", "steepest_ascent", "simulated_annealing", "adaptive_noise")
SEARCHES = [n for n in (*LOCAL, "cem", "es", "ars", "evosax") if n in INSTALLED]
QUICK = ("cem", "hill_climbing")  # of each kind one; the others are slow for their compilation


class Broken(tabular.Constant):
    """Constant, whose reward and whose observation after the first step are these numbers."""

    def __init__(self, reward=1.0, obs=1.0, terminates=False):
        super().__init__(terminates)
        self.reward, self.obs = reward, obs

    def step_env(self, key, state, action, params):
        _, state, _, ended, info = super().step_env(key, state, action, params)
        return jnp.full(1, self.obs), state, jnp.float32(self.reward), ended, info

    def observation_space(self, params):
        return spaces.Box(-2, 2, (1,))


# Searches.


def search(name):
    fields = {k: x for k, x in TINY[name].items() if k != "normalize_obs"}
    return jaxpg.agents.get(name), jaxpg.agents.get(name).Config(**fields)


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in SEARCHES]
)
@pytest.mark.parametrize("iterations", [2, 20])
def test_a_search_of_which_no_return_is_finite_is_ended(name, iterations):
    (agent, cfg), env = search(name), tabular.make(Broken(reward=jnp.nan))
    steps = iterations * agent.steps_per_iter(cfg)
    with pytest.raises(NonFiniteError, match=r"return of every candidate .* iterations \d+-\d+"):
        run(agent, cfg, env, KEY, total_steps=steps, chunk=20, callbacks=[nan_guard()])


def looked_at(name, values, sizes, num_iters=100):
    """What the guard says to a search whose metric has these values, cut into chunks."""
    guard, done = nan_guard(), 0
    for size in sizes:
        metric = jnp.asarray(values, float)[..., done : done + size]
        done += size
        state = {"params": jnp.ones((*metric.shape[:-1], 2))}
        guard.on_chunk(Event(done, num_iters, done, {name: metric}, state, 0.0))


INF, UNSCORED = -np.inf, float(np.finfo(np.float32).min)


@pytest.mark.parametrize("sizes", [(30,), (7, 7, 7, 9), (1,) * 30])
@pytest.mark.parametrize(("name", "lost"), [("best", INF), ("score", UNSCORED)])
def test_bad_luck_is_no_end_but_a_stretch_of_it_is(name, lost, sizes):
    name = f"population/{name}"
    looked_at(name, ([lost] * (LOST - 1) + [1.0]) * 3, sizes)
    with pytest.raises(NonFiniteError, match="every candidate"):
        looked_at(name, [1.0] * 5 + [lost] * LOST + [1.0] * 15, sizes)
    both = [[1.0] * 30, [1.0] * 5 + [lost] * LOST + [1.0] * 15]
    with pytest.raises(NonFiniteError, match="every candidate is not finite in seed 1; "):
        looked_at(name, both, sizes)


def test_a_short_run_is_lost_as_a_whole():
    looked_at("population/best", [INF, 1.0, INF], (3,), num_iters=3)
    with pytest.raises(NonFiniteError, match="iterations 1-3"):
        looked_at("population/best", [INF] * 3, (3,), num_iters=3)


def test_a_climber_with_a_score_is_not_lost():
    guard = nan_guard()
    metrics = {"population/best": jnp.full(20, INF), "population/score": jnp.ones(20)}
    guard.on_chunk(Event(20, 100, 20, metrics, {"params": jnp.ones(2)}, 0.0))


def test_episodes_of_a_lost_candidate_are_no_data():
    """A mean that is not there has no count beside it."""
    _, cfg = search("cem")
    for reward, count in ((jnp.nan, 0), (jnp.inf, 0), (1.0, 6)):
        env = tabular.make(Broken(reward=reward))
        some = jnp.zeros((3, len(population.initial_params(cfg, env, KEY))))
        *_, metrics = population.fitness(cfg, env, some, (), KEY)
        assert metrics["episode/count"] == count
        assert bool(np.isnan(metrics["episode/return"])) is (count == 0)


# Tables.


def after_a_step(name, core):
    agent = jaxpg.agents.get(name)
    cfg = agent.Config(num_envs=2, num_steps=4, bins=(3,), low=(-1.0,), high=(1.0,))
    env = tabular.make(core)
    return jax.jit(agent.step)(cfg, env, agent.init(cfg, env, KEY))


@pytest.mark.parametrize(
    ("name", "obs"),
    [
        ("q_learning", jnp.nan), ("q_learning", jnp.inf), ("q_learning", -jnp.inf),
        ("sarsa", jnp.nan), ("expected_sarsa", jnp.nan),
    ],
)  # fmt: skip
def test_a_table_has_no_row_for_what_is_not_finite(name, obs):
    state, metrics = after_a_step(name, Broken(obs=obs))
    assert not np.isfinite(state.params).all()
    event = Event(1, 1, 8, jax.tree.map(lambda x: x[None], metrics), state, 0.0)
    with pytest.raises(NonFiniteError, match="params"):
        nan_guard().on_chunk(event)


def test_a_table_has_rows_for_what_is_far_outside():
    state, _ = after_a_step("q_learning", Broken(obs=1e30))
    assert np.isfinite(state.params).all()


# Policies.

OBS = np.ones(2, np.float32)


def policy(weight):
    """One that multiplies an observation of two numbers."""
    about = {"observation": {"": {"shape": [2], "dtype": "float32"}}, "states": None, "carry": []}
    act = lambda weights, obs, carry, words: (obs[0] * weights[0], [])  # noqa: E731
    return jaxpg.Policy(about, [jnp.float32(weight)], act)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_policy_names_what_is_not_finite(bad):
    np.testing.assert_array_equal(policy(2.0)(OBS), [2.0, 2.0])
    with pytest.raises(ValueError, match=r"obs=.*: allowed are finite numbers"):
        policy(2.0)(np.array([1.0, bad]))
    with pytest.raises(ValueError, match=r"the policy's answer=.*: allowed are finite numbers"):
        policy(bad)(OBS)


def test_a_policy_in_a_file_does_too(tmp_path):
    agent, cfg, env = jaxpg.q_learning, jaxpg.q_learning.Config(), jaxpg.make("Cliff-jaxpg")
    result = jaxpg.run(agent, cfg, env, KEY, total_steps=100)
    jaxpg.Policy.of(result).export(tmp_path / "policy")
    again = jaxpg.Policy.from_file(tmp_path / "policy")
    assert int(again(36)) in range(4)
    with pytest.raises(ValueError, match=r"obs=.*: allowed are finite numbers"):
        again(np.full(48, np.nan))
    lost = result._replace(state=result.state._replace(params=result.state.params * jnp.nan))
    with pytest.raises(ValueError, match=r"policy of q_learning, seed 0=.*finite"):
        jaxpg.Policy.of(lost)


# Metrics of an agent of one's own.


def test_truths_are_written_as_numbers_and_read_as_truths(tmp_path):
    base, env = jaxpg.q_learning, jaxpg.make("Cliff-jaxpg")

    def step(cfg, env, state):
        state, metrics = base.step(cfg, env, state)
        return state, metrics | {
            "update/odd": state.iteration % 2 == 1,
            "loss/half": jnp.bfloat16(2),
        }

    agent, cfg, out = base._replace(step=step), base.Config(), tmp_path / "run"
    result = jaxpg.run(agent, cfg, env, KEY, total_steps=400, out=out, evaluations=0, log=["jsonl"])
    rows = (out / "metrics.csv").read_text().splitlines()
    column = rows[0].split(",").index("update/odd")
    assert [row.split(",")[column] for row in rows[1:]] == ["1", "0", "1", "0"]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["update/odd"] for line in lines] == [1, 0, 1, 0]
    again = jaxpg.load(out, agent=agent)
    assert again.metrics["update/odd"].dtype == bool
    for name, values in result.metrics.items():
        np.testing.assert_array_equal(again.metrics[name], values)


@pytest.mark.parametrize("name", ["loss", "loss/policy", "a b", "θ/x", "#", "seeds", "eval"])
def test_names_that_a_table_can_have(name):
    require_metrics({name: jax.ShapeDtypeStruct((), jnp.float32)})
