"""Environments on the host: gymnasium's, through callbacks, against gymnasium itself step by step;
and what cannot hold there."""

import csv
import dataclasses
import functools
import json
import logging
import socket
import subprocess
import sys
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.cli import common, main
from jaxpg.core import env as E
from jaxpg.core.episodes import release
from jaxpg.core.single import HostError, is_batched
from jaxpg.envs import suites
from jaxpg.envs.suites.host import instances
from jaxpg.envs.suites.host.core import State
from jaxpg.nets.networks import CNN
from tests.conftest import slow_of
from tests.test_suites import TINY as SMALL
from tests.test_suites import train_and_resume

KEY = jax.random.key(0)
STEPS, LANES = 1250, 8  # 10,000 steps
TINY = jaxpg.ppo.Config(num_envs=2, num_steps=8, hidden=(4,), minibatches=2)


@pytest.fixture(autouse=True)
def no_instances():
    instances.close_all()
    yield
    instances.close_all()


def random_policy(env):
    """Uniform actions, of a Box up to a little beyond its bounds."""

    def policy(obs, carry, key):
        n = jax.tree.leaves(obs)[0].shape[0]
        if env.discrete:
            return jax.random.randint(key, (n,), 0, env.action_space.n), carry, ()
        action = jax.random.uniform(key, (n, E.action_size(env)), float, -1.2, 1.2)
        return E.to_space(env, action), carry, ()

    return policy


@functools.partial(jax.jit, static_argnums=3)
def play(env, state, key, steps=STEPS):
    return E.rollout(env, random_policy(env), state, (), key, steps)


def seeds_of(key, count):
    """Seeds of the lanes, as docs/suites.md says them."""
    return [int(jax.random.bits(k)) >> 1 for k in jax.random.split(key, count)]


def by_hand(make, seed, actions, obs_of=lambda x: x):
    """One environment of gymnasium's, stepped by hand: obs, reward, ends, true successors [T]."""
    env = make()
    obs, _ = env.reset(seed=seed)
    rows = []
    for action in actions:
        final, reward, terminated, truncated, _ = env.step(action)
        rows.append((obs_of(obs), reward, terminated, truncated, obs_of(final)))
        obs = env.reset()[0] if terminated or truncated else final
    return [np.array(x) for x in zip(*rows, strict=True)]


CASES = {  # parameters, and which ends random episodes have
    "CartPole-v1": ({"max_steps_in_episode": 25}, "both"),
    "MountainCar-v0": ({"max_steps_in_episode": 60}, "truncated"),
    "Pendulum-v1": ({}, "truncated"),
    "FrozenLake-v1": ({"max_steps_in_episode": 6, "map_name": "4x4"}, "both"),  # integers are seen
    "Blackjack-v1": ({"natural": True}, "terminated"),  # a Tuple
    "LunarLander-v3": ({"continuous": True, "max_steps_in_episode": 100}, "both"),
}


@pytest.mark.parametrize("name", slow_of(CASES, "FrozenLake-v1", "MountainCar-v0", "Blackjack-v1"))
def test_steps_are_gymnasiums_own(name):
    """Observations, rewards, ends, the true successor at each end, and returns, of 10,000 steps."""
    params, ends = CASES[name]
    if name == "LunarLander-v3":
        pytest.importorskip("Box2D")
    env = jaxpg.make(f"gymnasium/{name}", **params)
    k_reset, k_rollout = jax.random.split(KEY)
    _, _, t, _, metrics = play(env, E.reset(env, k_reset, LANES), k_rollout)
    own = dict(params)
    limit = own.pop("max_steps_in_episode", None) or env.params.max_steps_in_episode

    def as_seen(obs):
        if hasattr(env.core.made.obs, "n"):
            return np.eye(env.core.made.obs.n, dtype=np.float32)[obs]
        if isinstance(obs, tuple):
            parts = zip(env.core.made.obs, obs, strict=True)
            return np.concatenate([np.eye(space.n)[x] for space, x in parts])
        return obs

    flat = lambda x: np.concatenate(jax.tree.leaves(x), -1) if isinstance(x, tuple) else x  # noqa: E731
    returns = []
    for i, seed in enumerate(seeds_of(k_reset, LANES)):
        actions = np.asarray(t.action[:, i])
        make = lambda: gymnasium.make(name, max_episode_steps=limit, **own)  # noqa: E731
        obs, reward, terminated, truncated, final = by_hand(make, seed, actions, as_seen)
        np.testing.assert_array_equal(flat(t.obs)[:, i], np.float32(obs))
        np.testing.assert_array_equal(flat(t.next_obs)[:, i], np.float32(final))
        np.testing.assert_array_equal(t.reward[:, i], np.float32(reward))
        np.testing.assert_array_equal(t.terminated[:, i], terminated)
        np.testing.assert_array_equal(t.truncated[:, i], truncated)
        last = np.flatnonzero(terminated | truncated)
        returns += [x.sum() for x in np.split(reward, last + 1)[:-1]]
    assert t.reward.size == 10_000
    assert t.terminated.any() == (ends != "truncated")
    assert t.truncated.any() == (ends != "terminated")
    assert metrics["episode/count"] == len(returns)
    np.testing.assert_allclose(metrics["episode/return"], np.mean(returns), rtol=1e-4)


class Oddities(gymnasium.Env):
    """Integers that begin elsewhere than at 0, pictures, and parts with names."""

    observation_space = gymnasium.spaces.Dict(
        {
            "picture": gymnasium.spaces.Box(0, 255, (2, 3), np.uint8),
            "frames": gymnasium.spaces.Box(0, 255, (2, 4, 5), np.uint8),
            "colours": gymnasium.spaces.Box(0, 255, (4, 5, 2), np.uint8),
            "which": gymnasium.spaces.Discrete(3, start=-1),
            "several": gymnasium.spaces.MultiDiscrete([2, 3], start=[1, 5]),
            "flags": gymnasium.spaces.MultiBinary(2),
        }
    )
    action_space = gymnasium.spaces.MultiDiscrete([2, 3], start=[4, -2])

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return self._look(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return self._look(), float(np.dot([1, 10], action - [4, -2])), False, False, {}

    def _look(self):
        rng = self.np_random
        return {
            "picture": rng.integers(0, 256, (2, 3), np.uint8),
            "frames": rng.integers(0, 256, (2, 4, 5), np.uint8),
            "colours": rng.integers(0, 256, (4, 5, 2), np.uint8),
            "which": rng.integers(-1, 2),
            "several": np.array([rng.integers(1, 3), rng.integers(5, 8)]),
            "flags": rng.integers(0, 2, 2).astype(np.int8),
        }


class Words(gymnasium.Env):
    observation_space = gymnasium.spaces.Text(3)
    action_space = gymnasium.spaces.Discrete(2)


@pytest.fixture
def oddities():
    gymnasium.register("Oddities-v0", Oddities, max_episode_steps=7)
    gymnasium.register("Words-v0", Words)
    yield
    del gymnasium.registry["Oddities-v0"], gymnasium.registry["Words-v0"]


def test_spaces_begin_at_0_and_keep_their_parts(oddities):
    """And the channels of a picture come last."""
    env = jaxpg.make("gymnasium/Oddities-v0")
    state = E.reset(env, KEY, 2)
    action = jnp.array([[0, 2], [1, 0]])
    _, t = E.step(env, state, action, KEY)
    np.testing.assert_array_equal(t.reward, [20, 1])
    for i, seed in enumerate(seeds_of(KEY, 2)):
        own = Oddities().reset(seed=seed)[0]
        seen = jax.tree.map(lambda x, i=i: np.asarray(x[i]), t.obs)
        np.testing.assert_array_equal(seen["picture"], own["picture"])
        np.testing.assert_array_equal(seen["colours"], own["colours"])
        np.testing.assert_array_equal(seen["frames"], np.stack([*own["frames"]], -1))
        np.testing.assert_array_equal(seen["which"], np.eye(3)[own["which"] + 1])
        np.testing.assert_array_equal(seen["several"], own["several"] - [1, 5])
        np.testing.assert_array_equal(seen["flags"], own["flags"])


def test_a_space_without_a_counterpart_is_refused(oddities):
    with pytest.raises(ValueError, match=r"Words-v0 observation space Text.*: allowed are Box"):
        jaxpg.make("gymnasium/Words-v0")


def leaves(tree):
    """Numbers of a tree, but for the handles of instances, which no two resets share."""
    is_state = lambda x: isinstance(x, State)  # noqa: E731
    tree = jax.tree.map(
        lambda x: x.replace(handle=()) if is_state(x) else x, tree, is_leaf=is_state
    )
    words = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    return [np.asarray(words(x)) for x in jax.tree.leaves(tree)]


def same(one, other):
    return all(map(np.array_equal, leaves(one), leaves(other)))


@pytest.mark.slow
def test_a_key_decides_a_run_and_seeds_one_after_the_other_are_single_runs():
    """Bits: twice from one key; chunks; evaluation between them; two seeds."""
    env, keys = jaxpg.make("gymnasium/CartPole-v1"), jax.random.split(KEY, 2)
    kept = {"total_steps": 64, "evaluations": 2, "episodes": 2}
    both = jaxpg.run(jaxpg.ppo, TINY, env, keys, **kept)
    assert len(both.evaluations["greedy"]) == 2
    first = jaxpg.run(jaxpg.ppo, TINY, env, keys[0], **kept)
    again = jaxpg.run(jaxpg.ppo, TINY, env, keys[0], total_steps=64, chunk=1)
    assert same(first.state, again.state)
    assert same(first.state.env, jax.tree.map(lambda x: x[0], both.state).env)
    np.testing.assert_array_equal(both.evaluations["greedy"][0], first.evaluations["greedy"])
    assert not same(first.state.env, jax.tree.map(lambda x: x[1], both.state).env)


def test_instances_are_reused_and_bounded(monkeypatch):
    monkeypatch.setattr(instances, "MOST", 3)
    env, closed = jaxpg.make("gymnasium/CartPole-v1"), []
    step = jax.jit(lambda state: E.step(env, state, jnp.zeros(2, int), KEY)[0])
    states = [E.reset(env, jax.random.key(i), 2) for i in range(3)]
    assert instances.count() == (3, 0)
    for instance in instances._used.values():
        close = instance.batch.close
        instance.batch.close = lambda close=close: (closed.append(1), close())
    release(env, states[2])
    jax.effects_barrier()
    assert instances.count() == (2, 1)
    E.reset(env, jax.random.key(9), 2)  # the free one
    assert instances.count() == (3, 0)
    assert not closed
    states[0] = step(states[0])
    E.reset(env, jax.random.key(10), 2)  # in the place of the second, which waited the longest
    assert instances.count() == (3, 0)
    assert len(closed) == 1
    step(states[0])
    with pytest.raises(jax.errors.JaxRuntimeError, match="not on this host any more"):
        jax.block_until_ready(step(states[1]))


def test_a_state_is_stepped_once(caplog):
    caplog.set_level(logging.CRITICAL)
    env = jaxpg.make("gymnasium/CartPole-v1")
    state = E.reset(env, KEY, 2)
    step = jax.jit(lambda state: E.step(env, state, jnp.zeros(2, int), KEY)[0])
    after = step(step(state))
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"of step 0, .* are at 2: they cannot"):
        jax.block_until_ready(step(state))
    assert step(after).episode_length[0] == 3  # an error harms no other state


def test_environments_that_were_reset_together_are_stepped_together():
    env, state = jaxpg.make("gymnasium/CartPole-v1"), None
    state = jax.eval_shape(lambda key: E.reset(env, key, 2), KEY)
    said = r"gymnasium/CartPole-v1: 1 environments are stepped, of 2 that were reset together"
    with pytest.raises(ValueError, match=said):
        jax.eval_shape(
            lambda state: E.step(env, jax.tree.map(lambda x: x[:1], state), jnp.zeros(1, int), KEY),
            state,
        )
    cfg = jaxpg.a3c.Config(num_workers=2, lag=1, num_envs=2, num_steps=4, hidden=(4,))
    with pytest.raises(ValueError, match=r"2 environments are stepped, of 4 .*workers of a3c"):
        jaxpg.run(jaxpg.a3c, cfg, env, KEY, total_steps=32)
    assert instances.count() == (0, 0)  # nothing was run


def test_equal_keys_are_environments_of_their_own():
    """Equal seeds, and neither moves the other."""
    env = jaxpg.make("gymnasium/CartPole-v1")
    step = jax.jit(lambda state, i: E.step(env, state, jnp.full(2, i, int), KEY))
    one, two = (E.reset(env, KEY, 2) for _ in range(2))
    assert one.inner.handle[0] != two.inner.handle[0]
    assert same(one, two)
    for i in range(3):
        one, a = step(one, i % 2)
    for i in range(3):
        two, b = step(two, i % 2)
        assert same(a.obs, b.obs) == (i == 2)
    assert instances.count() == (2, 0)


def test_a_state_of_another_process_is_known():
    """By its first seed: there handles are the same numbers."""
    env, states = jaxpg.make("gymnasium/CartPole-v1"), []
    for key in jax.random.split(KEY, 2):
        states.append(E.reset(env, key, 2))
    foreign = states[0].inner.replace(handle=states[1].inner.handle)
    stale = states[0]._replace(inner=foreign)
    with pytest.raises(jax.errors.JaxRuntimeError, match="not on this host any more"):
        jax.block_until_ready(E.step(env, stale, jnp.zeros(2, int), KEY))


def test_evaluations_leave_nothing():
    env = jaxpg.make("gymnasium/CartPole-v1")
    state = jaxpg.ppo.init(TINY, env, KEY)
    one, two = (jaxpg.evaluate(jaxpg.ppo, TINY, env, state, KEY, episodes=3) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    jax.effects_barrier()
    assert instances.count() == (1, 1)  # that of the state


def test_what_cannot_be_is_refused_before_anything_compiles():
    env = jaxpg.make("gymnasium/CartPole-v1")
    keys = jax.random.split(KEY, 2)
    train = lambda key: jaxpg.train(jaxpg.ppo, TINY, env, key, total_steps=32)  # noqa: E731
    said = "gymnasium/CartPole-v1 is on the host, where jax.vmap cannot copy it: allowed are"
    with pytest.raises(ValueError, match=said):
        jax.jit(jax.vmap(train))(keys)
    state = E.reset(env, KEY, 2)
    with pytest.raises(ValueError, match=said):
        jax.vmap(lambda a: E.step(env, state, a, KEY)[0])(jnp.zeros((2, 2), int))
    with pytest.raises(ValueError, match=said):
        jaxpg.run(jaxpg.cem, jaxpg.cem.Config(population=4, elites=2), env, KEY, total_steps=10)
    with pytest.raises(ValueError, match="data_parallel=True: allowed is False"):
        jaxpg.run(jaxpg.ppo, TINY, env, KEY, total_steps=32, data_parallel=True)
    with pytest.raises(ValueError, match="wrappers: allowed are none, for it is on the host"):
        jaxpg.make("gymnasium/CartPole-v1", wrappers=[("frame_stack", 2)])
    with pytest.raises(ValueError, match=r"on the host.*env_checker"):
        jaxpg.check_env(env)


@pytest.mark.slow
def test_points_of_a_sweep_are_single_runs():
    """One after the other, in two parts; what ruins itself stands still, and is not stepped."""
    env, rates = jaxpg.make("gymnasium/CartPole-v1"), [1e-3, 1e-2, 1e30]
    points, kept = jaxpg.sweep.grid(learning_rate=rates), {"total_steps": 64, "evaluations": 1}
    asked = {"seeds": 2, "episodes": 2, "chunk": 1, "lanes": 4, **kept}
    table = jaxpg.sweep.run(jaxpg.ppo, TINY, env, KEY, points, **asked).table
    for i, key in enumerate(jax.random.split(KEY, 2)):
        for config, rate in enumerate(rates[:2]):
            cfg = dataclasses.replace(TINY, learning_rate=rate)
            one = jaxpg.run(jaxpg.ppo, cfg, env, key, chunk=1, **kept, episodes=2)
            rows = table[(table["config"] == config) & (table["seed"] == i)]
            for name in ("loss/policy", "episode/count", "policy/entropy"):
                np.testing.assert_allclose(rows[name], one.metrics[name], rtol=1e-5)
    counts = table["config"].value_counts()
    assert (counts[0], counts[1], counts.get(2, 0)) == (8, 8, 0)


@pytest.mark.slow
def test_a_seed_that_has_reached_its_target_is_not_stepped():
    """The others go on."""
    env = jaxpg.make("gymnasium/CartPole-v1")
    points = jaxpg.sweep.grid(learning_rate=[1e-3, 3e-2])
    asked = {"seeds": 2, "evaluations": 8, "episodes": 2, "target": 10.0, "chunk": 1}
    table = jaxpg.sweep.run(jaxpg.ppo, TINY, env, KEY, points, total_steps=256, **asked).table
    lengths = table.groupby(["config", "seed"])["iteration"].max()
    assert len(lengths) == 4
    assert lengths.min() < 16


@pytest.mark.slow
def test_a_tuning_is_whole(tmp_path):
    env = jaxpg.make("gymnasium/CartPole-v1")
    space = {"learning_rate": [1e-3, 1e-2], "hidden": [(4,)]}
    few = {"seeds": 2, "held_out": 3, "rounds": 2, "keep": 2, "programs": 1, "finalists": 1}
    asked = {"minutes": None, "budget_steps": 1000, "space": space, "episodes": 8, **few}
    first, again = (
        jaxpg.tune(jaxpg.ppo, TINY, env, KEY, total_steps=64, out=tmp_path / name, **asked)
        for name in "ab"
    )
    assert first.over
    assert first.config == again.config
    np.testing.assert_array_equal(first.before, again.before)
    for one, other in zip(first.rounds, again.rounds, strict=True):
        assert one.scores.equals(other.scores)


def test_more_seeds_than_the_host_keeps_are_refused():
    env = jaxpg.make("gymnasium/CartPole-v1")
    keys = jax.random.split(KEY, env.core.most_seeds + 1)
    with pytest.raises(
        ValueError, match=r"61 seeds: allowed are at most 60 in a process, for gymn"
    ):
        jaxpg.run(jaxpg.ppo, TINY, env, keys, total_steps=32)
    assert instances.count() == (0, 0)


class Faulty(gymnasium.Env):
    """Does what `fault` says, at the third step or in the reset after that."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    fault: str  # set by a test: all share their programs
    steps = 0

    def reset(self, seed=None, options=None):
        if self.fault == "reset" and self.steps:
            raise RuntimeError("the motor is cold")
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.steps += 1
        obs, reward = np.zeros(3, np.float32), 1.0
        if self.steps > 2:
            if self.fault == "step":
                raise KeyError("joint 7")
            obs = np.zeros(2, np.float32) if self.fault == "shape" else obs
            obs = np.full(3, np.nan, np.float32) if self.fault == "observation" else obs
            reward = {"none": None, "nan": np.nan, "text": "high"}.get(self.fault, reward)
        return obs, reward, self.steps > 2, False, {}


FAULTS = {
    "reset": "its step failed on the host: RuntimeError: the motor is cold",  # in the one that ends
    "step": "its step failed on the host: KeyError: 'joint 7'",
    "shape": "its step failed on the host: ValueError: .*shape",
    "observation": "observation of environment 0 is nan: allowed are finite numbers",
    "nan": "reward of environment 0 is nan: allowed are finite numbers",
    "none": "reward of environment 0 is nan: allowed are finite numbers .*None",
    "text": "its step failed on the host: ValueError: could not convert string to float: 'high'",
}


@pytest.fixture
def faulty():
    gymnasium.register("Faulty-v0", Faulty)
    yield
    del gymnasium.registry["Faulty-v0"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_an_environment_is_one_sentence(fault, faulty, caplog):
    """Of ours, with the cause; and nothing of it is logged beside that."""
    env, Faulty.fault = jaxpg.make("gymnasium/Faulty-v0"), fault
    said = f"^gymnasium/Faulty-v0: {FAULTS[fault]}"
    with pytest.raises(HostError, match=said) as caught:
        jaxpg.run(jaxpg.ppo, TINY, env, KEY, total_steps=32)
    assert "\n" not in str(caught.value)
    assert "callback failed" not in caplog.text
    if fault in ("step", "reset"):
        kind = {"step": KeyError, "reset": RuntimeError}[fault]
        assert isinstance(caught.value.__cause__, kind)
    fine = jaxpg.make("gymnasium/CartPole-v1")
    jaxpg.run(jaxpg.ppo, TINY, fine, KEY, total_steps=32)  # nothing is left of it


def test_a_fault_in_an_evaluation_or_in_train_is_one_sentence(faulty):
    env, Faulty.fault = jaxpg.make("gymnasium/Faulty-v0"), "step"
    state = jaxpg.ppo.init(TINY, env, KEY)
    with pytest.raises(HostError, match=r"gymnasium/Faulty-v0: its step failed .*joint 7"):
        jaxpg.evaluate(jaxpg.ppo, TINY, env, state, KEY, episodes=2)
    with pytest.raises(HostError, match=r"gymnasium/Faulty-v0: its step failed .*joint 7"):
        jaxpg.train(jaxpg.ppo, TINY, env, KEY, total_steps=32)


def test_the_command_says_a_fault(faulty, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common, "set_up", lambda *_: None)
    tiny = "--config.num-envs 2 --config.num-steps 8 --config.hidden 4 --config.minibatches 2"
    asked = f"{tiny} --evaluations 0 --total-steps 32"
    assert main(["train", "ppo", "gymnasium/Faulty-v0", *asked.split()]) == 2
    said = capsys.readouterr().err
    assert "error: gymnasium/Faulty-v0: its step failed on the host: KeyError: 'joint 7'" in said
    assert "Traceback" not in said


def test_what_gymnasium_has_no_more_has_no_name():
    listed = suites.names("gymnasium")
    assert {"gymnasium/CartPole-v1", "gymnasium/Ant-v5"} <= {*listed}
    assert not {"gymnasium/Ant-v2", "gymnasium/GymV21Environment-v0"} & {*listed}


def test_names_and_arguments():
    with pytest.raises(ValueError, match=r"environment 'gymnasium/CartPole-v2': did you mean"):
        jaxpg.make("gymnasium/CartPole-v2")
    with pytest.raises(ValueError, match=r"parameter 'sutton_barto': did you mean"):
        jaxpg.make("gymnasium/CartPole-v1", sutton_barto=True)
    with pytest.raises(ValueError, match="sutton_barto_reward=3: allowed is True or False"):
        jaxpg.make("gymnasium/CartPole-v1", sutton_barto_reward=3)
    with pytest.raises(ValueError, match=r"max_steps_in_episode=0: allowed is an integer >= 1"):
        jaxpg.make("gymnasium/CartPole-v1", max_steps_in_episode=0)
    env = jaxpg.make("gymnasium/CartPole-v1")
    for limit in (0, 2.5):
        params = dataclasses.replace(env.params, max_steps_in_episode=limit)
        wrong = dataclasses.replace(env, params=params)
        with pytest.raises(ValueError, match=rf"max_steps_in_episode={limit}: allowed is an int"):
            jaxpg.run(jaxpg.ppo, TINY, wrong, KEY, total_steps=32)
    assert instances.count() == (0, 0)
    assert (env.params.max_steps_in_episode, is_batched(env.core)) == (500, True)
    assert env.core is jaxpg.make("gymnasium/CartPole-v1", max_steps_in_episode=9).core


def test_the_command_trains_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(common, "set_up", lambda *_: None)
    tiny = "--config.num-envs 2 --config.num-steps 8 --config.hidden 4 --config.minibatches 2"
    asked = f"{tiny} --evaluations 1 --episodes 2 --param max_steps_in_episode=30 --total-steps 32"
    assert main(["train", "ppo", "gymnasium/CartPole-v1", *asked.split(), "--seeds", "2"]) == 0
    folder = Path("runs", "ppo-gymnasium-CartPole-v1")
    assert main(["resume", str(folder), "--total-steps", "64"]) == 0
    assert "episodes begin anew" in capsys.readouterr().err
    told = json.loads((folder / "run.json").read_text())
    assert told["environment"] == {"max_steps_in_episode": 30, "name": "gymnasium/CartPole-v1"}
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["seed"], row["iteration"]) for row in rows[-2:]] == [("0", "4"), ("1", "4")]
    assert all(np.isfinite(float(row["loss/policy"])) for row in rows)
    assert main(["eval", str(folder), "--episodes", "2"]) == 0


@pytest.mark.slow
def test_processes_step_alike():
    one, two = (jaxpg.make("gymnasium/Pendulum-v1", processes=x) for x in (False, True))
    state, other = (E.reset(env, KEY, 2) for env in (one, two))
    for i in range(210):
        action = jnp.full((2, 1), 0.01 * i)
        (state, t), (other, u) = (
            E.step(e, s, action, KEY) for e, s in ((one, state), (two, other))
        )
        assert same(t, u)


ENVPOOL = {  # parameters, and environments and steps of each
    "CartPole-v1": ({"max_steps_in_episode": 25}, (STEPS, LANES)),
    "Breakout-v5": ({"max_steps_in_episode": 40, "episodic_life": True}, (120, 8)),  # pictures
}


@pytest.mark.parametrize("name", ENVPOOL)
def test_envpool_steps_are_its_own(name):
    """Its reset comes one step late, and that step is no transition of ours. Returns are those that
    its own steps sum up to."""
    envpool = pytest.importorskip("envpool")
    params, size = ENVPOOL[name]
    env = jaxpg.make(f"envpool/{name}", num_threads=1, **params)
    k_reset, k_rollout = jax.random.split(KEY)
    _, _, t, _, metrics = play(env, E.reset(env, k_reset, size[1]), k_rollout, size[0])
    settings = {"num_threads": 1, "num_envs": 1, **params}
    settings["max_episode_steps"] = settings.pop("max_steps_in_episode")
    see = lambda x: np.moveaxis(x[0], 0, -1) if x.ndim == 4 else x[0]  # noqa: E731
    returns = []
    for i, seed in enumerate(seeds_of(k_reset, size[1])):
        own = envpool.make_gymnasium(name, seed=[seed], **settings)
        (obs, _), late, summed = own.reset(), False, 0.0
        for k, action in enumerate(np.asarray(t.action[:, i]).astype(np.int32)):
            if late:  # this step resets, whatever the action is
                obs, reward, *_ = own.step(np.zeros(1, np.int32))
                assert reward == 0
            np.testing.assert_array_equal(t.obs[k, i], see(obs))
            obs, reward, terminated, truncated, _ = own.step(action[None])
            np.testing.assert_array_equal(t.next_obs[k, i], see(obs))
            ours = t.reward[k, i], t.terminated[k, i], t.truncated[k, i]
            assert ours == (reward[0], terminated[0], truncated[0])
            summed, late = summed + float(reward[0]), bool(terminated[0] or truncated[0])
            if late:
                returns.append(summed)
                summed = 0.0
        own.close()
    assert t.terminated.any()
    assert t.truncated.any()
    assert t.reward.any()
    assert metrics["episode/count"] == len(returns)
    np.testing.assert_allclose(metrics["episode/return"], np.mean(returns), rtol=1e-5)


def test_envpool_trains_by_the_command_and_in_python(tmp_path, monkeypatch):
    """The same, but for the episodes that a resumed run begins anew."""
    pytest.importorskip("envpool")
    name = "envpool/CartPole-v1"
    resumed = train_and_resume(name, monkeypatch, tmp_path)
    env = jaxpg.make(name, max_steps_in_episode=6)
    whole = jaxpg.run(jaxpg.ppo, jaxpg.preset("ppo", name, **SMALL), env, KEY, total_steps=64)
    assert (resumed.env, resumed.iteration) == (env, whole.iteration)
    ours, theirs = (x.metrics["loss/policy"] for x in (resumed, whole))
    np.testing.assert_array_equal(ours[:2], theirs[:2])
    assert not np.array_equal(ours[2:], theirs[2:])
    assert np.nanmax(whole.metrics["episode/length"]) == 6


def test_envpool_trains_on_pictures():
    """Atari's: bytes [4, 84, 84] of the suite, [84, 84, 4] of convolutions, whose weights move."""
    pytest.importorskip("envpool")
    env = jaxpg.make("envpool/Pong-v5", num_threads=1)
    assert env.obs_shapes == ((84, 84, 4),)
    cfg = jaxpg.ppo.Config(**SMALL | {"net": CNN, "shared": True, "num_epochs": 1})
    begun = jaxpg.ppo.init(cfg, env, KEY)
    result = jaxpg.run(jaxpg.ppo, cfg, env, KEY, total_steps=32)
    kernels = [
        [x for x in jax.tree.leaves(state.params) if x.shape == (8 * 8 * 4, 32)]
        for state in (begun, result.state)
    ]
    assert len(kernels[0]) == 1
    assert not np.array_equal(kernels[0][0], kernels[1][0])
    assert np.isfinite(result.metrics["loss/policy"]).all()


@pytest.mark.slow
def test_seeds_in_two_processes_are_those_in_one(tmp_path):
    """One run folder, whose rows are the same: each process steps the environments of its seeds."""
    tiny = "--config.num-envs 2 --config.num-steps 8 --config.hidden 4 --config.minibatches 2"
    asked = f"train ppo gymnasium/CartPole-v1 --seeds 4 {tiny} --total-steps 64 --evaluations 0"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    job = f"--out two --coordinator localhost:{port} --processes 2 --process"
    lines = [f"{asked} {job} 0", f"{asked} {job} 1", f"{asked} --out one"]
    started = [
        subprocess.Popen([sys.executable, "-m", "jaxpg", *line.split()], cwd=tmp_path)
        for line in lines
    ]
    assert [process.wait(300) for process in started] == [0, 0, 0]
    tables = []
    for folders in (["one"], ["two/process-0", "two/process-1"]):
        rows = []
        for folder in folders:
            with (tmp_path / folder / "metrics.csv").open() as file:
                rows += csv.DictReader(file)
        kept = ("seed", "iteration", "episode/count", "episode/length")
        tables.append(sorted(tuple(row[name] for name in kept) for row in rows))
    assert len(tables[0]) == 16
    assert tables[0] == tables[1]
