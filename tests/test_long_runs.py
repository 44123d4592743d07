"""What counts and adds up for ever: nothing stalls at 2^24 and nothing wraps at 2^31."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import environment, spaces

import jaxpg
from jaxpg.core import env as E
from jaxpg.core import sums
from jaxpg.core.run import run
from jaxpg.core.schedules import progress, scheduled
from jaxpg.experiment.callbacks.evaluation import evaluation
from jaxpg.loops import population, replay, updates
from jaxpg.ops import normalize
from tests import tabular
from tests.conftest import TABLE, TINY

KEY = jax.random.key(0)
FULL, LARGEST = 2**24, 2**31 - 1  # what float32 and int32 count up to


@pytest.mark.parametrize(
    ("start", "x", "steps"), [(FULL, 1.0, 1000), (1e6, 0.1, 20_000), (-3e7, -0.7, 5000)]
)
def test_a_sum_does_not_stall(start, x, steps):
    """Compiled in a loop, where an optimiser that reorders sums would lose the rest."""

    @jax.jit
    def loop(x):
        def body(_, loop):
            total, lost, plain = loop
            return *sums.add(total, lost, x), plain + x

        start_ = jnp.float32(start)
        return jax.lax.fori_loop(0, steps, body, (start_, jnp.float32(0), start_))

    total, lost, plain = map(float, loop(jnp.float32(x)))
    exact = float(np.float32(start)) + steps * float(np.float32(x))
    assert total + lost == pytest.approx(exact, rel=1e-10)
    assert abs(plain - exact) > 1e3 * abs(total + lost - exact)


def test_a_sum_that_is_infinite_stays_so():
    total, lost = sums.add(jnp.float32(1), jnp.float32(0), jnp.float32(-np.inf))
    assert sums.add(total, lost, jnp.float32(1))[0] == -np.inf


@pytest.mark.parametrize("seen", [FULL, 2**30])
def test_statistics_go_on_after_many_updates_of_one_value(seen):
    """Against float64: so much of mean 0 and deviation 1, then values of mean 300."""
    zero, one = jnp.zeros((1, 1)), jnp.ones((1, 1))
    stats = normalize.merge_stats(
        normalize.init_stats(jnp.zeros(1)), jnp.array([float(seen)]), zero, one
    )
    new = np.random.default_rng(0).normal(300, 1, (4000, 1)).astype(np.float32)
    step = lambda stats, x: (normalize.update_stats(stats, x[None]), None)  # noqa: E731
    stats, _ = jax.jit(lambda *args: jax.lax.scan(step, *args))(stats, new)

    n = seen + len(new)
    mean = new.sum(dtype=float) / n
    var = (seen + np.square(new, dtype=float).sum()) / n - mean**2
    assert float(stats.count) + float(stats.lost[0]) == n
    assert float(stats.mean[0]) == pytest.approx(mean, rel=1e-5)
    assert float(stats.std[0]) == pytest.approx(np.sqrt(var), rel=1e-6)


def test_a_scale_of_rewards_adds_up_returns_that_are_not_discounted():
    scale = normalize.init_reward_scale(1)._replace(returns=jnp.full(1, float(FULL)))
    ones, none = jnp.ones((50, 1)), jnp.zeros((50, 1), bool)
    scale = jax.jit(normalize.update_reward_scale)(scale, ones, none, 1.0)
    assert scale.returns == FULL + 50


class Rich(environment.Environment):
    """A first reward of 2^24, ones after it, for 40 steps; the signal `cost` is the same."""

    name, signals = "Rich", ("cost",)
    default_params = tabular.Params(40)

    def reset_env(self, key, params):
        return jnp.ones(1), tabular.State(jnp.zeros((), jnp.int32))

    def step_env(self, key, state, action, params):
        reward = jnp.where(state.time == 0, float(FULL), 1.0)
        info = {"cost": reward}
        return jnp.ones(1), tabular.State(state.time + 1), reward, state.time >= 39, info

    def is_truncated(self, state, params):
        return jnp.zeros((), bool)

    def action_space(self, params):
        return spaces.Discrete(2)

    def observation_space(self, params):
        return spaces.Box(0, 1, (1,))


RETURN = FULL + 39 + 1  # 39 more, to the nearest even number: that of float32


def test_returns_and_signals_of_rollouts():
    env = tabular.make(Rich())
    policy = lambda obs, carry, key: (jnp.zeros(2, jnp.int32), carry, ())  # noqa: E731
    start = E.reset(env, KEY, 2)
    state, _, _, _, metrics = jax.jit(lambda s: E.rollout(env, policy, s, (), KEY, 30))(start)
    np.testing.assert_array_equal(state.episode_return, FULL + 28)
    assert (metrics["episode/count"], np.isnan(metrics["episode/return"])) == (0, True)
    *_, metrics = jax.jit(lambda s: E.rollout(env, policy, s, (), KEY, 10))(state)
    assert metrics["episode/return"] == metrics["episode/cost"] == RETURN
    assert metrics["episode/length"] == 40


def test_returns_of_evaluation_and_of_a_population():
    env, cfg = tabular.make(Rich()), jaxpg.cem.Config(**TINY["cem"] | {"num_steps": 40})
    params = population.initial_params(cfg, env, KEY)
    stats = normalize.init_stats(env.example_obs)
    value, seen, metrics = population.fitness(cfg, env, params[None], stats, KEY)
    assert value[0] == metrics["episode/cost"] == RETURN
    assert seen.count == 2 * 40
    state = jaxpg.cem.init(cfg, env, KEY)
    np.testing.assert_array_equal(
        jaxpg.evaluate(jaxpg.cem, cfg, env, state, KEY, episodes=2), RETURN
    )


def test_lengths_and_visits_stay_at_the_largest_integer():
    full = jnp.full(2, LARGEST, jnp.int32)
    assert sums.one_more(full).tolist() == [LARGEST] * 2
    env = tabular.make(Rich())
    start = E.reset(env, KEY, 2)._replace(episode_length=full)
    state, _ = E.step(env, start, jnp.zeros(2, jnp.int32), KEY)
    assert state.episode_length.tolist() == [LARGEST] * 2


def at(cfg, iteration, steps=8):
    """The config's rate at an iteration, as the int32 that a state has by then."""
    now = scheduled(cfg, jnp.uint32(iteration).astype(jnp.int32), steps)
    return float(now.learning_rate)


@pytest.mark.parametrize("length", [2**31 - 8, 2**31 + 8, 2**32 - 1])
def test_schedules_go_on_at_iteration_2_31(length):
    cfg = jaxpg.ppo.Config(learning_rate=1.0, learning_rate_schedule="linear")
    cfg = dataclasses.replace(cfg, total_steps=8.0 * length)
    for iteration in (0, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1):
        expected = max(1 - iteration / length, 0)
        assert at(cfg, iteration) == pytest.approx(expected, abs=1e-6)


def test_what_else_counts_iterations_goes_on():
    wrapped = jnp.uint32(2**31 + 5).astype(jnp.int32)
    assert int(wrapped) < 0
    assert progress(wrapped, 1, 2.0**32) == pytest.approx(0.5, abs=1e-6)
    cfg = jaxpg.dqn.Config(num_envs=1, num_steps=1, updates_per_step=0.3, total_steps=2.0**32)
    assert replay.progress(cfg, wrapped) == pytest.approx(0.5, abs=1e-6)
    each = [int(updates.in_iteration(cfg, jnp.uint32(2**31 + i).astype(jnp.int32)))
            for i in range(-10, 10)]  # fmt: skip
    assert sum(each) == 6
    assert set(each) == {0, 1}


def test_a_run_passes_iteration_2_31_with_its_evaluations():
    agent, env = jaxpg.q_learning, jaxpg.make("Cliff-jaxpg")
    cfg = agent.Config(num_envs=1, num_steps=2, learning_rate_schedule="linear", decay=0.5)
    state = jax.jit(functools.partial(agent.init, cfg, env))(KEY)
    begin = 2**31 - 2
    state = state._replace(iteration=jnp.int32(begin), visits=jnp.full_like(state.visits, LARGEST))
    rates = evaluation(agent, cfg, env, KEY, every=1, episodes=2)
    result = run(
        agent, cfg, env, KEY, total_steps=2 * (begin + 4), chunk=2, callbacks=[rates],
        state=state, iteration=begin,
    )  # fmt: skip
    assert result.iteration == begin + 4
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(result.state.params))
    assert (result.state.visits == LARGEST).all()


def test_more_iterations_than_a_state_counts_are_refused():
    env, cfg = jaxpg.make("CartPole-v1"), jaxpg.q_learning.Config(**TABLE)
    with pytest.raises(ValueError, match=r"total_steps=1000+: .*<= 34359738360, 4294967295 iter"):
        jaxpg.run(jaxpg.q_learning, cfg, env, KEY, total_steps=10**12)
