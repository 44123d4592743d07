"""Running scales of observations and rewards in agents, against NumPy over what was collected."""

import contextlib
import dataclasses
import functools
import importlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import jaxpg
from jaxpg import agents
from jaxpg.core import env as E
from jaxpg.core.metrics import merge_metrics
from jaxpg.core.train import initial_state, iterate, with_horizon
from jaxpg.loops import replay
from jaxpg.ops import normalize
from jaxpg.replay import uniform
from tests.conftest import CONTINUOUS, SCALED, TINY, short_env, slow_of
from tests.test_contract import learnt as of_policy
from tests.test_contract import same_bytes

REPLAY = ("dqn", "ddpg", "td3", "sac", "sac_discrete")
NAMES = (*REPLAY, "a3c", "impala", "reinforce")
# They keep their scales as discrete SAC does, and IMPALA as A3C.
LIKE_OTHERS = ("dqn", "ddpg", "td3", "sac", "impala")
ITERATIONS, KEY = 12, jax.random.key(0)
# `normalize` standardises REINFORCE's weights: a unit of rewards would not show in its policy.
OWN = {name: {"buffer_size": 64} for name in REPLAY} | {"reinforce": {"normalize": False}}
# A bias before batch norm has a gradient of rounding errors alone, which Adam makes steps of.
OWN["ddpg"] |= {"batch_norm": False}
OFF = dict.fromkeys(SCALED, False)


@struct.dataclass
class Params:
    inner: Any
    reward: jax.Array  # [] factor of the rewards
    gain: jax.Array  # [*obs] factor of the observations,
    offset: jax.Array  # [*obs] and what is added to them
    max_steps_in_episode: int = struct.field(pytree_node=False)


class Units:
    """An environment that speaks in other units of reward and observation."""

    name = "Units"

    def __init__(self, env):
        self.inner, d = env.core, env.example_obs.shape
        self.default_params = Params(
            env.params, jnp.ones(()), jnp.ones(d), jnp.zeros(d), env.params.max_steps_in_episode
        )

    def reset(self, key, params):
        obs, state = self.inner.reset(key, params.inner)
        return params.gain * obs + params.offset, state

    def step(self, key, state, action, params):
        obs, state, reward, *ends, info = self.inner.step(key, state, action, params.inner)
        final = params.gain * info["final_observation"] + params.offset
        obs, reward = params.gain * obs + params.offset, params.reward * reward
        return obs, state, reward, *ends, info | {"final_observation": final}

    def action_space(self, params):
        return self.inner.action_space(params.inner)

    def observation_space(self, params):
        return self.inner.observation_space(params.inner)


@contextlib.contextmanager
def spying():
    """Rollouts that are traced here tell among their metrics what they met."""
    rollout, merge = E.rollout, merge_metrics

    def telling(*args):
        state, carry, t, own, metrics = rollout(*args)
        ended = t.terminated | t.truncated
        seen = {"seen/obs": t.obs, "seen/reward": t.reward, "seen/ended": ended}
        return state, carry, t, own, metrics | seen

    def merging(metrics):
        return merge(metrics) | {k: m for k, m in metrics.items() if k.startswith("seen/")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(E, "rollout", telling)
        for file in ("jaxpg.agents.a3c", "jaxpg.loops.tabular"):
            patch.setattr(importlib.import_module(file), "merge_metrics", merging)
        yield


@functools.cache
def world(name):
    """An agent, its config with both fields on, and its environment in its own units."""
    agent = agents.get(name)
    cfg = agent.Config(**TINY[name] | OWN.get(name, {}) | SCALED)
    core = Units(short_env(agent, cfg))
    total = ITERATIONS * agent.steps_per_iter(cfg)
    return agent, with_horizon(cfg, total), E.Env(core.default_params, core)


@functools.cache
def programs(name, on):
    """A run's initial_state(env) and its iterations go(env, state)."""
    agent, cfg, env = world(name)
    cfg = cfg if on else dataclasses.replace(cfg, **OFF)

    def compiled(f, *args):
        return jax.jit(f).lower(*args).compile({"xla_backend_optimization_level": 0})

    with spying():
        begin = compiled(lambda env: initial_state(agent, cfg, env, KEY), env)
        go = compiled(
            lambda env, state: iterate(agent, cfg, env, state, ITERATIONS), env, begin(env)
        )
    return begin, go


@functools.cache
def trained(name):
    """State and metrics [ITERATIONS, ...] of a run with both fields on."""
    (begin, go), env = programs(name, True), world(name)[-1]
    return jax.device_get(go(env, begin(env)))


def learnt(state):
    return (of_policy(state), getattr(state, "critic", ()))


def scales(state):
    """Where a state keeps its statistics."""
    return getattr(state, "replay", state)


def with_scales(state, **fields):
    if hasattr(state, "replay"):
        return state._replace(replay=state.replay._replace(**fields))
    return state._replace(**fields)


def without(cfg, state):
    """The config and the state of an agent that normalises nothing."""
    return dataclasses.replace(cfg, **OFF), with_scales(state, obs_stats=(), reward_scale=())


def by_time(x, name):
    """What was met, [ITERATIONS, T, environments, ...]."""
    if name == "a3c":  # [ITERATIONS, W, T, N, ...]
        x = np.moveaxis(x, 1, 2)
        x = x.reshape(*x.shape[:2], -1, *x.shape[4:])
    return np.asarray(x, np.float64)


@pytest.mark.parametrize("name", slow_of(NAMES, *LIKE_OTHERS))
def test_statistics_are_those_of_what_was_collected(name):
    _, cfg, _ = world(name)
    state, metrics = trained(name)
    obs, reward = (by_time(metrics[f"seen/{x}"], name) for x in ("obs", "reward"))
    ended, gamma = by_time(metrics["seen/ended"], name), cfg.gamma
    stats, scale = scales(state).obs_stats, scales(state).reward_scale
    flat = obs.reshape(-1, obs.shape[-1])
    assert stats.count == len(flat) == scale.stats.count
    np.testing.assert_allclose(stats.mean, flat.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(normalize.std(stats), flat.std(0), rtol=1e-4)

    returns, seen = np.zeros(reward.shape[2]), []
    for i, t in np.ndindex(reward.shape[:2]):
        if name == "reinforce" and t == 0:  # every iteration begins new episodes
            returns = returns * 0
        returns = gamma * returns + reward[i, t]
        seen.append(returns)
        returns = returns * (ended[i, t] == 0)
    np.testing.assert_allclose(normalize.std(scale.stats), np.std(seen), rtol=1e-4)
    if name != "reinforce":
        np.testing.assert_allclose(np.ravel(scale.returns), returns, rtol=1e-4)
    if name in REPLAY:  # raw
        rows = len(flat)
        np.testing.assert_array_equal(state.replay.buffer.data.obs[:rows], np.float32(flat))
        np.testing.assert_array_equal(
            state.replay.buffer.data.reward[:rows], np.float32(reward.ravel())
        )


STANDING = [
    name if name in ("a3c", "npg", "dqn") else pytest.param(name, marks=pytest.mark.slow)
    for name in (*NAMES, "a2c", "npg", "ppo", "trpo")
]


@pytest.mark.parametrize("name", STANDING)
def test_the_scale_of_observations_stands_after_the_steps_that_it_is_from(name):
    agent, cfg, env = world(name)
    each = agent.steps_per_iter(cfg)
    cfg = dataclasses.replace(cfg, normalize_steps=each + 1.0)
    begin, go = (
        jax.jit(f, compiler_options={"xla_backend_optimization_level": 0})
        for f in (lambda: initial_state(agent, cfg, env, KEY), lambda s: agent.step(cfg, env, s)[0])
    )
    states = [begin()]
    for _ in range(4):
        states.append(go(states[-1]))
    stats = [scales(state).obs_stats for state in states]
    counts = [float(x.count) for x in stats]
    assert counts[:2] == [0, each]
    assert each + 1 <= counts[2] <= 2 * each, "the rollout that reaches it is taken in whole"
    assert largest(stats[1].mean, stats[2].mean) > 0
    same_bytes(stats[2], stats[3])
    same_bytes(stats[2], stats[4])


@functools.partial(jax.jit, static_argnames=("agent", "greedy"))
def act(agent, cfg, env, state, obs, greedy):
    return agent.act(cfg, env, state, obs, (), KEY, greedy)[0]


@pytest.mark.parametrize("name", slow_of(NAMES, *LIKE_OTHERS))
def test_act_whitens_by_the_frozen_statistics(name):
    agent, cfg, env = world(name)
    state, metrics = trained(name)
    obs = metrics["seen/obs"].reshape(-1, metrics["seen/obs"].shape[-1])[-16:]
    obs = np.concatenate([obs, 1000 * obs[:2]])  # which is clipped
    stats = scales(state).obs_stats
    white = (obs - stats.mean) / stats.std
    assert (np.abs(white) > 10).any()
    bare = without(cfg, state)
    for greedy in (True, False):
        found = act(agent, cfg, env, state, obs, greedy)
        expected = act(agent, bare[0], env, bare[1], np.clip(white, -10, 10), greedy)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        if name in CONTINUOUS:
            assert not np.allclose(found, act(agent, bare[0], env, bare[1], obs, greedy))


def test_evaluation_whitens_and_leaves_the_state_alone():
    """An agent without normalisation is as good where the environment whitens for it."""
    agent, cfg, env = world("sac_discrete")
    state, _ = trained("sac_discrete")
    stats = scales(state).obs_stats
    before = jax.tree.map(jnp.copy, state)
    long = short_env(agent, dataclasses.replace(cfg, num_steps=60))
    params = dataclasses.replace(env.params, inner=long.params)
    env = dataclasses.replace(env, params=params)
    found = jaxpg.evaluate(agent, cfg, env, state, KEY, episodes=16, greedy=False)
    same_bytes(before, state)
    std = stats.std
    params = dataclasses.replace(params, gain=1 / std, offset=-stats.mean / std)
    white = dataclasses.replace(env, params=params)
    bare = without(cfg, state)
    expected = jaxpg.evaluate(agent, bare[0], white, bare[1], KEY, episodes=16, greedy=False)
    np.testing.assert_array_equal(found, expected)
    assert len(set(np.asarray(found))) > 1


PRIOR = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)


def learnt_in(name, on, reward=1.0, gain=1.0, offset=0.0):
    """What a run learns in these units, from statistics in them of the same observations, and how
    far it went."""
    (begin, go), env = programs(name, on), world(name)[-1]
    d = len(env.params.gain)
    params = dataclasses.replace(
        env.params, reward=jnp.float32(reward),
        gain=jnp.full(d, gain, jnp.float32), offset=jnp.full(d, offset, jnp.float32),
    )  # fmt: skip
    env = dataclasses.replace(env, params=params)
    first = begin(env)
    if on:
        prior = jnp.asarray(gain * PRIOR[:, :d] + offset)
        stats = normalize.update_stats(scales(first).obs_stats, prior)
        first = with_scales(first, obs_stats=stats)
    first, last = learnt(first), learnt(go(env, first)[0])
    return last, largest(first, last)


def largest(a, b):
    apart = jax.tree.map(lambda x, y: np.abs(np.float64(x) - y).max(), a, b)
    return max(jax.tree.leaves(apart))


UNITS = {"reward": {"reward": 1000.0}, "obs": {"gain": 30.0, "offset": -7.0}}


@pytest.mark.parametrize("name", slow_of(NAMES, *LIKE_OTHERS))
def test_units_do_not_matter(name):
    plain, way = learnt_in(name, True)
    for units in UNITS.values():
        other, _ = learnt_in(name, True, **units)
        assert largest(plain, other) < 1e-3 * way


@pytest.mark.parametrize("name", slow_of(["sac_discrete", "reinforce"], "reinforce"))
def test_without_normalisation_units_matter(name):
    plain, way = learnt_in(name, False)
    for units in UNITS.values():
        other, _ = learnt_in(name, False, **units)
        assert largest(plain, other) > 1e-2 * way


def test_rewards_are_scaled_and_clipped_one_by_one_before_they_are_summed():
    cfg = jaxpg.dqn.Config(num_envs=2, n_step=3, batch_size=64, gamma=0.5)
    reward = np.float32([1, -2, 3, 50, -5, 6, 7, -80, 9, 10])  # of two environments in turn
    obs, ended = np.arange(10.0)[:, None] * [1, 2], np.arange(10) == 5
    row = replay.Row(obs, np.zeros(10, int), reward, ended, ended & False, obs + 100, {}, ())
    buffer = uniform.init(jax.tree.map(lambda x: jnp.asarray(x[0]), row), 12)
    buffer = uniform.add(buffer, jax.tree.map(jnp.asarray, row))
    stats = normalize.RunningStats(jnp.float32(4), jnp.array([3.0, 5]), jnp.array([2.0, 3]), ())
    of_rewards = normalize.RunningStats(jnp.float32(2), jnp.float32(1), jnp.float32(4), ())
    scale = normalize.RewardScale(of_rewards, jnp.zeros(2), jnp.zeros(2))
    sample = jax.jit(functools.partial(replay.sample, cfg))
    index, b = jax.device_get(sample(buffer, (), jnp.int32(0), KEY, stats, scale))
    scaled = np.clip(reward / 4, -10, 10)
    assert set(np.asarray(index)) == set(range(10))
    for i, x, r, y in zip(index, b.obs, b.reward, b.next_obs, strict=True):
        steps = [j for j in (i, i + 2, i + 4) if j < 10]
        steps = steps[: steps.index(5) + 1] if 5 in steps else steps
        np.testing.assert_allclose(r, sum(scaled[j] * 0.5**k for k, j in enumerate(steps)))
        np.testing.assert_allclose(x, np.clip((obs[i] - [3, 5]) / [2, 3], -10, 10), rtol=1e-6)
        np.testing.assert_allclose(y, np.clip((obs[steps[-1]] + 100 - [3, 5]) / [2, 3], -10, 10))


@pytest.mark.slow
def test_a_run_folder_and_a_policy_keep_the_statistics(tmp_path):
    agent, cfg, _ = world("sac_discrete")
    env, out = short_env(agent, cfg), tmp_path / "run"
    steps = 6 * agent.steps_per_iter(cfg)
    made = jaxpg.run(
        agent, cfg, env, KEY, total_steps=steps, chunk=3, out=out, evaluations=0, checkpoints=1
    )
    memory, loaded = made.state.replay, jaxpg.load(out).state.replay
    assert memory.obs_stats.count == steps == memory.reward_scale.stats.count
    same_bytes((memory.obs_stats, memory.reward_scale), (loaded.obs_stats, loaded.reward_scale))
    policy = jaxpg.Policy.load(out)
    obs = np.asarray(memory.buffer.data.obs[:steps])
    np.testing.assert_array_equal(policy(obs), act(agent, cfg, env, made.state, obs, True))
    kept = sorted(x.shape for x in policy.weights)
    used = made.state.learner.params.actor, memory.obs_stats.mean, memory.obs_stats.std
    assert kept == sorted(x.shape for x in jax.tree.leaves(used))
