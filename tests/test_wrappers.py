"""Wrappers do as gymnasium's of the same name, keep the true successor at ends, have recipes."""

import collections
import functools
import inspect
import json

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnasium import wrappers as G
from gymnax.environments import environment, spaces

import jaxpg
from jaxpg import sweep
from jaxpg.core import env as E
from jaxpg.core.observations import Masked
from jaxpg.envs import registry
from jaxpg.envs.wrappers import recipe
from jaxpg.nets.networks import CNN
from tests.conftest import TINY, slow_of

KEY = jax.random.key(0)


@struct.dataclass
class State:
    picture: jax.Array
    time: jax.Array


@struct.dataclass
class Params:
    most: int = 255
    max_steps_in_episode: int = 30


class Colours(environment.Environment):
    """Random pictures of bytes, of which each action changes the next; a cost, and a flag."""

    name, default_params, signals = "Colours", Params(), ("cost", "bright")

    def reset_env(self, key, params):
        picture = jax.random.randint(key, (6, 4, 3), 0, params.most).astype(jnp.uint8)
        return picture, State(picture, jnp.zeros((), jnp.int32))

    def step_env(self, key, state, action, params):
        picture = (state.picture * 7 + action * 31).astype(jnp.uint8)
        bright = picture[0, 0, 0] > 100
        info = {"cost": picture[0, 0, 1].astype(jnp.int32), "bright": bright}
        reward = picture[0, 0, 2] / 32.0
        return picture, State(picture, state.time + 1), reward, jnp.zeros((), bool), info

    def action_space(self, params):
        return spaces.Discrete(3)

    def observation_space(self, params):
        return spaces.Box(0, params.most, (6, 4, 3), jnp.uint8)


def colours():
    core = Colours()
    return jaxpg.Env(core.default_params, core)


# As gymnasium's, step by step.


class Shim(gymnasium.Env):
    """One environment of gymnax's for gymnasium: it steps, and does not reset by itself."""

    def __init__(self, env):
        core, self.params = env.core, env.params
        self._reset, self._step = jax.jit(core.reset_env), jax.jit(core.step_env)
        self._cut = jax.jit(core.is_truncated)
        space = core.observation_space(self.params)
        low, high = (np.broadcast_to(np.asarray(x), space.shape) for x in (space.low, space.high))
        kind = np.dtype(space.dtype)
        self.observation_space = gymnasium.spaces.Box(low.astype(kind), high.astype(kind))
        self.observation_space.dtype = kind
        self.action_space = gymnasium.spaces.Discrete(3)
        self.key = KEY

    def reset(self, *, seed=None, options=None):
        obs, self.state = self._reset(self.key, self.params)
        return np.asarray(obs), {}

    def step(self, action):
        obs, self.state, reward, ended, _ = self._step(KEY, self.state, action, self.params)
        cut = self._cut(self.state, self.params)
        return np.asarray(obs), float(reward), bool(ended), bool(cut), {}


def joined(frames):
    return np.concatenate(list(frames), -1)


GYMNASIUM = {
    "frame_stack": (3, lambda env: G.FrameStackObservation(env, 3), joined),
    "flatten_observation": ({}, G.FlattenObservation, np.asarray),
    "time_aware_observation": (
        True,
        lambda env: G.TimeAwareObservation(G.TimeLimit(env, 500), normalize_time=True),
        np.asarray,
    ),
    "action_repeat": (3, lambda env: G.RepeatAction(env, 3), np.asarray),
    "time_limit": (5, lambda env: G.TimeLimit(env, 5), np.asarray),
    "clip_reward": ((0.2, 0.9), lambda env: G.ClipReward(env, 0.2, 0.9), np.asarray),
    "scale_reward": (0.5, lambda env: G.TransformReward(env, lambda r: 0.5 * r), np.asarray),
    "grayscale_observation": ({}, lambda env: G.GrayscaleObservation(env, True), np.asarray),
}


@pytest.mark.parametrize("kind", GYMNASIUM)
def test_a_wrapper_does_as_gymnasium_s(kind):
    value, theirs, told = GYMNASIUM[kind]
    plain = colours() if "gray" in kind or "clip" in kind else jaxpg.make("CartPole-v1")
    value = (
        dict(zip(("reward_low", "reward_high"), value, strict=True)) if "clip" in kind else value
    )
    value = value if isinstance(value, dict) else {recipe.argument_names(kind)[0]: value}
    env = getattr(jaxpg, kind)(plain, **value)
    other = theirs(Shim(plain))
    reset, step = jax.jit(env.core.reset_env), jax.jit(env.core.step_env)
    cut = jax.jit(env.core.is_truncated)
    obs, state = reset(KEY, env.params)
    np.testing.assert_allclose(obs, told(other.reset()[0]), rtol=1e-6)
    ended, steps = False, 0
    while not ended:
        action = steps % 2 if steps < 4 else 1
        obs, state, reward, terminated, _ = step(KEY, state, action, env.params)
        truncated = cut(state, env.params)
        expected = other.step(action)
        close = functools.partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6)
        close(np.asarray(obs, float), told(expected[0]).astype(float))
        close(reward, expected[1])
        assert (bool(terminated), bool(truncated)) == expected[2:4]
        ended, steps = terminated | truncated, steps + 1
    assert steps == {"time_limit": 5}.get(kind, steps) > 2
    assert bool(truncated) == ("time_limit" in kind or plain.name == "Colours")


# Whole rollouts, across resets, beside the environment without the wrapper under the same keys.


def roll(env, num_steps=30, num_envs=3, params=None, seed=0):
    """Transitions [T, N] under actions that depend on the keys alone."""
    if params is not None:
        env = registry.with_params(env, **params)

    def act(obs, carry, key):
        drawn = jax.random.uniform(key, (num_envs,))
        return (
            (drawn > 0.5).astype(jnp.int32) if env.discrete else drawn[:, None] * 2 - 1,
            carry,
            (),
        )

    def go(env, key):
        state = E.reset(env, key, num_envs)
        return E.rollout(env, act, state, (), jax.random.fold_in(key, 1), num_steps)

    state, _, t, _, metrics = jax.jit(go)(env, jax.random.key(seed))
    return t, state, metrics


def ended(t):
    return np.asarray(t.terminated | t.truncated)


def stacked(t, num):
    """Frames [T, N, num * D] before and after each step, by a queue of each environment."""
    obs, after, end = np.asarray(t.obs), np.asarray(t.next_obs), ended(t)
    before, then = [], []
    for lane in range(obs.shape[1]):
        queue = None
        for i in range(len(obs)):
            if queue is None or end[i - 1, lane]:
                queue = collections.deque([obs[i, lane]] * num, num)
            before.append(joined(queue))
            queue.append(after[i, lane])
            then.append(joined(queue))
    shape = obs.shape[1], obs.shape[0], -1
    return (np.reshape(x, shape).swapaxes(0, 1) for x in (before, then))


@pytest.mark.parametrize("name", ["CartPole-v1", "CartPolePositions-jaxpg"])
def test_frames_begin_anew_with_each_episode_and_end_with_its_last(name):
    """Also around an environment that resets itself."""
    plain = jaxpg.make(name)
    t, _, _ = roll(plain, 60)
    s, state, _ = roll(jaxpg.frame_stack(plain, 3), 60)
    before, after = stacked(t, 3)
    assert ended(t).sum() >= 3
    np.testing.assert_array_equal(s.obs, before)
    np.testing.assert_array_equal(s.next_obs, after)
    for field in ("reward", "terminated", "truncated", "action"):
        np.testing.assert_array_equal(getattr(s, field), getattr(t, field))
    d = plain.example_obs.shape[-1]
    np.testing.assert_array_equal(state.obs.shape, (3, 3 * d))


@pytest.mark.parametrize("name", ["CartPole-v1", "CartPolePositions-jaxpg"])
def test_a_time_limit_truncates(name):
    """It is what a lower `max_steps_in_episode` is, to the bit, where that is gymnax's step."""
    plain = jaxpg.make(name)
    t, _, metrics = roll(jaxpg.time_limit(plain, 7), 40)
    assert t.truncated.any()
    assert not (t.terminated & t.truncated).any()
    lengths = np.diff(np.flatnonzero(ended(t)[:, 0]), prepend=-1)
    assert lengths.max() == 7
    ends = np.asarray(t.truncated)[:-1]
    assert not np.isclose(np.asarray(t.next_obs)[:-1][ends], np.asarray(t.obs)[1:][ends]).all()
    if name == "CartPole-v1":
        s, _, other = roll(plain, 40, params={"max_steps_in_episode": 7})
        for field in ("obs", "next_obs", "reward", "terminated"):
            np.testing.assert_array_equal(getattr(s, field), getattr(t, field))
        np.testing.assert_array_equal(s.truncated & ~s.terminated, t.truncated)
        assert metrics == other


def test_rewards_are_clipped_and_scaled_and_nothing_else_changes():
    plain = jaxpg.make("Pendulum-v1", max_steps_in_episode=9)
    t, _, _ = roll(plain)
    clipped = jaxpg.clip_reward(plain, -2.0, -0.5)
    c, _, _ = roll(clipped)
    s, _, _ = roll(jaxpg.scale_reward(clipped, 0.1))
    assert (t.reward < -2).any()
    np.testing.assert_array_equal(c.reward, np.clip(t.reward, -2.0, -0.5))
    np.testing.assert_allclose(s.reward, np.clip(t.reward, -2.0, -0.5) * np.float32(0.1), rtol=1e-6)
    np.testing.assert_array_equal(s.next_obs, t.next_obs)
    np.testing.assert_array_equal(s.truncated, t.truncated)


def test_the_time_is_that_of_the_episode():
    plain = jaxpg.make("CartPole-v1")
    t, _, _ = roll(jaxpg.time_aware_observation(jaxpg.time_limit(plain, 8)), 40)
    clock = np.zeros(3)
    for i in range(40):
        np.testing.assert_allclose(t.obs[i, :, -1], clock / 8, rtol=1e-6)
        np.testing.assert_allclose(t.next_obs[i, :, -1], (clock + 1) / 8, rtol=1e-6)
        clock = np.where(ended(t)[i], 0, clock + 1)
    assert t.truncated.any()
    env = jaxpg.time_aware_observation(jaxpg.make("Breakout-MinAtar"), normalize=False)
    t, _, _ = roll(env, 5)
    assert t.obs["obs"].shape == (5, 3, 10, 10, 4)
    np.testing.assert_array_equal(t.next_obs["time"][:, 0, 0], range(1, 6))


def test_the_time_s_limit_is_in_steps_of_the_agent_and_may_be_swept():
    env = jaxpg.time_aware_observation(jaxpg.action_repeat(jaxpg.make("CartPole-v1"), 4))
    assert env.params.max_steps_in_episode == 125
    _, state = env.core.reset(KEY, env.params)

    def time(limit):
        params = registry.with_params(env, max_steps_in_episode=limit).params
        return env.core.step_env(KEY, state, 0, params)[0][-1]

    np.testing.assert_allclose(jax.vmap(time)(jnp.array([40, 42])), [0.1, 1 / 11], rtol=1e-6)


# Actions.


def by_hand(env, num_steps, keys, action, repeats):
    """One episode of repeated actions, step by step in the core."""
    core, step = env.core, jax.jit(env.core.step_env)
    obs, state = core.reset_env(KEY, env.params)
    found = []
    for i in range(num_steps):
        total, costs = 0.0, 0.0
        for key in jax.random.split(keys[i], repeats):
            obs, state, reward, terminated, info = step(key, state, action(i), env.params)
            truncated = core.is_truncated(state, env.params)
            total, costs = total + float(reward), costs + float(info.get("cost", 0))
            if terminated or truncated:
                break
        found.append((obs, total, bool(terminated), bool(truncated), costs))
        if terminated or truncated:
            break
    return found


@pytest.mark.parametrize("env", [colours(), jaxpg.make("CartPole-v1")], ids=["signals", "dynamics"])
def test_a_repeated_action_stops_at_an_end_and_sums_up(env):
    wrapped, keys = jaxpg.action_repeat(env, 4), jax.random.split(jax.random.key(3), 20)
    step = jax.jit(wrapped.core.step_env)
    expected = by_hand(env, 20, keys, lambda i: 1, 4)
    _, state = wrapped.core.reset_env(KEY, wrapped.params)
    for i, (obs, total, terminated, truncated, costs) in enumerate(expected):
        now, state, reward, over, info = step(keys[i], state, 1, wrapped.params)
        np.testing.assert_allclose(np.asarray(now, float), np.asarray(obs, float), atol=1e-5)
        np.testing.assert_allclose(reward, total, rtol=1e-5)
        assert (bool(over), bool(state.truncated)) == (terminated, truncated)
        if "cost" in info:
            np.testing.assert_allclose(info["cost"], costs)
            assert info["bright"].dtype == bool
    assert terminated or truncated
    assert total < 4 or env.name == "Colours"  # it did not go on beyond the end


def test_a_repeated_action_of_what_resets_itself_stays_in_its_episode():
    whole = jaxpg.action_repeat(jaxpg.make("CartPole-v1"), 3)
    part = jaxpg.action_repeat(jaxpg.make("CartPolePositions-jaxpg"), 3)
    step, plain = jax.jit(part.core.step), jax.jit(whole.core.step_env)
    obs, state = part.core.reset(KEY, part.params)
    _, other = whole.core.reset_env(KEY, whole.params)
    for key in jax.random.split(KEY, 10):
        obs, state, reward, terminated, _, info = step(key, state, 1, part.params)
        now, other, expected, over, _ = plain(key, other, 1, whole.params)
        np.testing.assert_allclose(info["final_observation"], now[jnp.array([0, 2])], rtol=1e-5)
        np.testing.assert_array_equal((reward, terminated), (expected, over))
        if terminated:
            assert abs(obs).max() <= 0.05  # the first of the next
            assert abs(now).max() > 0.2
            return
    raise AssertionError("no end")


def executed(env, probability, num_steps, num_envs=2, seed=0):
    """Actions that were chosen and executed, [T, N], and the ends, by a core that tells them."""
    env = jaxpg.sticky_actions(env, probability)

    def one(state, key):
        k_act, k_step = jax.random.split(key)
        action = jax.random.randint(k_act, (num_envs,), 0, 2)
        state, t = E.step(env, state, action, k_step)
        return state, (action, state.inner.memory[0], t.terminated | t.truncated)

    state = E.reset(env, jax.random.key(seed), num_envs)
    keys = jax.random.split(jax.random.key(seed + 1), num_steps)
    return map(np.asarray, jax.jit(lambda s, k: jax.lax.scan(one, s, k))(state, keys)[1])


def test_a_sticky_action_is_the_one_that_was_executed_before():
    chosen, done, end = executed(jaxpg.make("CartPole-v1"), 0.25, 4000)
    first = np.roll(end, 1, 0)
    first[0] = True
    inside = ~(first | end)  # at an end the memory is that of the next episode
    before = np.roll(done, 1, 0)
    assert ((done == chosen) | (done == before))[inside].all()
    differ = inside & (chosen != before)
    stuck = (done == before)[differ].mean()
    assert abs(stuck - 0.25) < 4 * np.sqrt(0.25 * 0.75 / differ.sum())
    assert (done == chosen)[first & ~end].all()  # an episode's first is its own
    lanes = (done == before) & differ
    assert abs(np.corrcoef(lanes[:, 0], lanes[:, 1])[0, 1]) < 0.1  # each with draws of its own


def test_sticky_actions_draw_with_a_key_of_their_own():
    """Without any that stick, all else is as without the wrapper; the environment's draws, too."""
    env = jaxpg.make("CartPole-v1")
    t, _, _ = roll(env)
    s, _, _ = roll(jaxpg.sticky_actions(env, 0.0))
    np.testing.assert_array_equal(s.next_obs, t.next_obs)
    always, _, _ = roll(jaxpg.sticky_actions(env, 1.0), 10)
    same = np.asarray(jnp.sign(always.next_obs[:8, :, 1] - always.obs[:8, :, 1]))
    assert (same == same[:1]).all()  # the first action pushes for the whole episode


# Images and vectors.


def test_resized_pixels_are_means_of_the_area_that_they_cover():
    env = jaxpg.resize_observation(colours(), (3, 2))
    picture = np.asarray(colours().core.reset_env(KEY, Params())[0], float)
    obs = env.core.reset_env(KEY, env.params)[0]
    assert obs.dtype == jnp.uint8
    blocks = picture.reshape(3, 2, 2, 2, 3).mean((1, 3))
    np.testing.assert_array_equal(obs, np.round(blocks))
    odd = jaxpg.resize_observation(jaxpg.make("Breakout-MinAtar"), (4, 7))
    before = np.asarray(roll(jaxpg.make("Breakout-MinAtar"), 5)[0].obs)
    fine = before.repeat(4, 2).repeat(7, 3).reshape(5, 3, 4, 10, 7, 10, 4).mean((3, 5))
    np.testing.assert_allclose(roll(odd, 5)[0].obs, fine, atol=1e-6)


class Several(Colours):
    """Observations of several kinds, and a mask of actions."""

    name, signals = "Several", ()

    def reset_env(self, key, params):
        _, state = super().reset_env(key, params)
        return self.look(state), state

    def step_env(self, key, state, action, params):
        _, state, reward, terminated, _ = super().step_env(key, state, action, params)
        return self.look(state), state, reward, terminated, {}

    def look(self, state):
        mask = jnp.arange(3) <= state.time
        parts = state.picture[0, 0, 0] % 4, state.picture[0, 0].astype(float)
        whole = {"b": parts[0].astype(jnp.int32), "a": (parts[1], state.time * 1.0)}
        return {**whole, "action_mask": mask}

    def observation_space(self, params):
        both = spaces.Tuple((spaces.Box(0, 255, (3,)), spaces.Box(0.0, 30.0, ())))
        return spaces.Dict({"b": spaces.Discrete(4), "a": both})


def several():
    core = Several()
    return jaxpg.Env(core.default_params, core)


def test_a_dict_is_one_vector_and_its_mask_stays():
    t, _, _ = roll(several(), 4)
    flat, _, _ = roll(jaxpg.flatten_observation(several()), 4)
    assert isinstance(flat.obs, Masked)
    obs, time = t.obs.obs["a"]
    expected = np.concatenate([obs, time[..., None], t.obs.obs["b"]], -1)
    np.testing.assert_array_equal(flat.obs.obs["obs"], expected)
    np.testing.assert_array_equal(flat.obs.mask, t.obs.mask)
    frames, _, _ = roll(jaxpg.frame_stack(several(), 2), 4)
    np.testing.assert_array_equal(frames.next_obs.mask, t.next_obs.mask)
    np.testing.assert_array_equal(frames.obs.obs["b"][1:, :, 4:], t.obs.obs["b"][1:])
    np.testing.assert_array_equal(frames.obs.obs["b"][1:, :, :4], t.obs.obs["b"][:-1])
    assert frames.obs.obs["a"][1].shape == (4, 3, 2)


# Recipes, parameters, errors.


def stay_left(obs, action):
    """A shield for CartPole."""
    return jnp.where(obs[0] > 0, 0, action)


def slow_down(obs):
    """A controller of Pendulum."""
    return -obs[2:]


def kinds():
    """Every wrapper once, with an environment that it fits."""
    c, b = jaxpg.make("CartPole-v1"), jaxpg.make("Breakout-MinAtar")
    return {
        "frame_stack": jaxpg.frame_stack(c, 2),
        "flatten_observation": jaxpg.flatten_observation(b),
        "time_aware_observation": jaxpg.time_aware_observation(c),
        "grayscale_observation": jaxpg.grayscale_observation(colours()),
        "resize_observation": jaxpg.resize_observation(b, (5, 4)),
        "action_repeat": jaxpg.action_repeat(c, 2),
        "sticky_actions": jaxpg.sticky_actions(c),
        "time_limit": jaxpg.time_limit(c, 20),
        "clip_reward": jaxpg.clip_reward(c, reward_high=0.5),
        "scale_reward": jaxpg.scale_reward(c, 2.0),
        "randomized": jaxpg.randomized(c, gravity=(8.0, 12.0)),
        "levels": jaxpg.levels(c, gravity=[8.0, 10.0, 12.0], masspole=[0.1, 0.2, 0.3]),
        "shielded": jaxpg.shielded(c, stay_left),
        "residual": jaxpg.residual(jaxpg.make("Pendulum-v1"), slow_down, 0.5),
        "noisy_observations": jaxpg.noisy_observations(c),
        "noisy_actions": jaxpg.noisy_actions(c, 0.2),
    }


def tower(plain=None):
    """Several wrappers around each other."""
    env = jaxpg.randomized(plain or jaxpg.make("CartPole-v1"), gravity=(8, 12), length=[0.4, 0.5])
    env = jaxpg.action_repeat(jaxpg.sticky_actions(env, 0.2), 2)
    env = jaxpg.time_aware_observation(jaxpg.time_limit(env, 12))
    return jaxpg.scale_reward(jaxpg.clip_reward(jaxpg.frame_stack(env, 3)), 0.5)


def test_every_wrapper_is_listed():
    assert set(kinds()) == set(recipe.ROOMS)
    assert set(recipe.ROOMS) <= set(jaxpg.__all__)
    for kind in set(recipe.ROOMS) - {"randomized", "levels"}:
        known = inspect.signature(getattr(jaxpg, kind)).parameters
        assert [*known][1:] == recipe.argument_names(kind)
        assert (
            recipe.ARGUMENTS.get(kind, {}).items()
            <= {k: x.default for k, x in known.items()}.items()
        )


def through_json(env):
    return registry.from_dict(json.loads(json.dumps(registry.to_dict(env))))


@pytest.mark.parametrize("kind", [kind for kind in recipe.ROOMS if "gray" not in kind])
def test_a_wrapped_environment_comes_back(kind):
    env = kinds()[kind]
    again = through_json(env)
    assert again == env
    assert again.core is env.core
    assert hash(again) == hash(env)
    assert registry.with_params(again, max_steps_in_episode=9).core is env.core
    assert env.name in ("CartPole-v1", "Breakout-MinAtar", "Pendulum-v1")  # whose presets it has


def test_make_takes_wrappers_by_name():
    env = jaxpg.make(
        "CartPole-v1",
        wrappers=["flatten_observation", ("frame_stack", 3), ["scale_reward", {"reward_scale": 2}]],
        gravity=5.0,
    )
    like = jaxpg.make("CartPole-v1", gravity=5.0)
    like = jaxpg.frame_stack(jaxpg.flatten_observation(like), 3)
    assert env == jaxpg.scale_reward(like, 2)
    assert jaxpg.make("CartPole-v1", wrappers=[]) == jaxpg.make("CartPole-v1")
    told = {"gravity": {"low": 8, "high": 12}, "masspole": [0.1, 0.2]}
    drawn = jaxpg.make("CartPole-v1", wrappers=[("randomized", told)])
    plain = jaxpg.make("CartPole-v1")
    assert drawn == jaxpg.randomized(plain, gravity=(8, 12), masspole=[0.1, 0.2])
    assert through_json(tower()) == tower()


def test_parameters_of_all_layers_are_leaves():
    env = tower()
    now = registry.with_params(env, gravity_high=20.0, reward_scale=3.0, time_limit=5, masscart=2.0)
    assert now.core is env.core
    assert jax.tree.structure(now) == jax.tree.structure(env)
    assert (now.params.gravity_high, now.params.masscart) == (20, 2)
    assert now.params.total_mass == pytest.approx(2.1)
    assert now.params.max_steps_in_episode == 5
    points = sweep.grid({"env.reward_scale": [1.0, 2.0], "env.masscart": [0.5, 1.0]})
    _, envs = sweep.batch(jaxpg.ppo.Config(), env, points)

    def first_reward(env):
        return E.step(env, E.reset(env, KEY, 2), jnp.zeros(2, jnp.int32), KEY)[1].reward

    np.testing.assert_array_equal(jax.vmap(first_reward)(envs)[:, 0], [1, 1, 2, 2])


REFUSED = {
    "no number": (lambda c: jaxpg.frame_stack(c, 0), "frame_stack num=0: allowed is an integer"),
    "half a step": (lambda c: jaxpg.time_limit(c, 2.5), "time_limit=2.5: allowed is an integer"),
    "no step": (lambda c: jaxpg.time_limit(c, 0), "time_limit=0: allowed is a number >= 1"),
    "no chance": (lambda c: jaxpg.sticky_actions(c, 1.5), "sticky_probability=1.5: allowed is a n"),
    "bounds": (lambda c: jaxpg.clip_reward(c, 2, 1), "reward_low=2: allowed is a number <= rew"),
    "NaN": (lambda c: jaxpg.scale_reward(c, np.nan), "reward_scale=nan: allowed is a finite"),
    "no image": (lambda c: jaxpg.resize_observation(c, (2, 2)), "allowed are images"),
    "no colours": (
        lambda c: jaxpg.grayscale_observation(jaxpg.make("Breakout-MinAtar")),
        r"shape \(10, 10, 4\): allowed are images \[H, W, 3\]",
    ),
    "a shape": (
        lambda c: jaxpg.resize_observation(jaxpg.make("Breakout-MinAtar"), (2, 0)),
        "resize_observation shape=0: allowed is an integer >= 1",
    ),
    "twice": (lambda c: jaxpg.time_limit(jaxpg.time_limit(c, 3), 2), "a parameter 'time_limit' al"),
    "no env": (lambda c: jaxpg.frame_stack(c.core), "allowed is what jaxpg.make gives"),
    "masked": (lambda c: jaxpg.sticky_actions(several()), "whose actions are not always legal"),
    "masked too": (lambda c: jaxpg.action_repeat(several(), 2), "not always legal"),
    "a name": (lambda c: jaxpg.make(c.name, wrappers=["framestack"]), "frame_stack"),
    "an argument": (
        lambda c: jaxpg.make(c.name, wrappers=[("frame_stack", {"n": 3})]),
        "argument of frame_stack",
    ),
    "no list": (lambda c: jaxpg.make(c.name, wrappers="frame_stack"), "allowed is a list of names"),
    "both": (
        lambda c: jaxpg.make(c.name, wrappers=[("scale_reward", 2)], reward_scale=3),
        "reward_scale is given twice",
    ),
    "later": (lambda c: registry.with_params(c, wrappers=[]), "parameter 'wrappers'"),
    "no limit": (
        lambda c: jaxpg.time_aware_observation(jaxpg.Env((), Endless())),
        "which has no max_steps_in_episode: allowed is normalize=False",
    ),
}


class Endless(Colours):
    name, default_params = "Endless", ()

    def observation_space(self, params):
        return spaces.Box(0, 255, (6, 4, 3), jnp.uint8)


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    make, words = REFUSED[case]
    with pytest.raises(ValueError, match=words) as error:
        make(jaxpg.make("CartPole-v1"))
    assert "\n" not in str(error.value)


# The contract, and training.


@pytest.mark.parametrize("kind", slow_of([*recipe.ROOMS], *(set(recipe.ROOMS) - {"time_limit"})))
def test_it_keeps_the_contract(kind):
    jaxpg.check_env(kinds()[kind])


@pytest.mark.parametrize("kind", slow_of(["tower", *recipe.ROOMS], *recipe.ROOMS))
def test_ppo_trains_through_it(kind):
    env = tower() if kind == "tower" else kinds()[kind]
    cfg = jaxpg.ppo.Config(**TINY["ppo"] | ({"net": CNN} if "resize" in kind else {}))
    train = jax.jit(functools.partial(jaxpg.train, jaxpg.ppo, total_steps=3 * 8))
    state, metrics = train(cfg, env, KEY)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
    assert np.isfinite(metrics["loss/value"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("plain", ["CartPole-v1", "CartPolePositions-jaxpg"])
def test_many_wrappers_keep_the_contract(plain):
    jaxpg.check_env(tower(jaxpg.make(plain)))


def test_a_folder_gives_the_wrapped_environment_again(tmp_path):
    env, cfg = kinds()["frame_stack"], jaxpg.a2c.Config(num_envs=2, num_steps=4, hidden=(4,))
    jaxpg.run(jaxpg.a2c, cfg, env, KEY, out=tmp_path / "a", total_steps=8, evaluations=0)
    found = jaxpg.load(tmp_path / "a")
    assert found.env == env
    assert found.env.core is env.core


@pytest.mark.slow
def test_a_folder_of_many_wrappers_is_resumed_exported_and_drawn(tmp_path):
    env, cfg = tower(), jaxpg.ppo.Config(**TINY["ppo"])
    settings = {"total_steps": 48, "chunk": 2, "checkpoints": 2, "evaluations": 0}
    stop = [lambda event: True]
    jaxpg.run(jaxpg.ppo, cfg, env, KEY, out=tmp_path / "a", callbacks=stop, **settings)
    assert jaxpg.load(tmp_path / "a").env == env
    done = jaxpg.resume(tmp_path / "a")
    assert done.env.core is env.core
    whole = jaxpg.run(jaxpg.ppo, cfg, env, KEY, **settings)
    jax.tree.map(np.testing.assert_array_equal, done.state.params, whole.state.params)
    policy = jaxpg.Policy.load(tmp_path / "a")
    assert policy(np.zeros(env.example_obs.shape, np.float32)).shape == ()
    told = jaxpg.render(tmp_path / "a", tmp_path / "a.gif", max_steps=5)  # CartPole's own scene
    assert told.frames >= 2
