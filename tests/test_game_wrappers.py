"""Wrappers leave each player of a game its row, its rewards and its end, or refuse the game."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces

import jaxpg
from jaxpg.core import env as E
from jaxpg.core import games
from jaxpg.envs.wrappers import recipe
from tests.small_games import Matrix

KEY = jax.random.key(0)
PURSUIT, PRISONERS = "Pursuit-jaxpg", "MatrixGame-jaxpg"
ARGUMENTS = {
    "frame_stack": {"num": 2},
    "action_repeat": {"num": 3},
    "sticky_actions": {},
    "time_limit": {"time_limit": 5},
    "clip_reward": {},
    "scale_reward": {"reward_scale": 0.5},
    "randomized": {"catch_reward": (0.5, 2.0)},
    "levels": {"catch_reward": [0.5, 2.0]},
}


def prisoners(rounds=4, **kwargs):
    return jaxpg.make(PRISONERS, game="prisoners", rounds=rounds, **kwargs)


def wrap(kind, env):
    return getattr(jaxpg, kind)(env, **ARGUMENTS[kind])


@pytest.mark.parametrize("kind", recipe.OF_ROWS)
def test_a_wrapped_game_has_its_players(kind):
    plain = jaxpg.make(PURSUIT)
    env = jaxpg.time_limit(wrap(kind, plain), 7) if kind != "time_limit" else wrap(kind, plain)
    assert (env.core.players, env.core.groups) == (5, {"hunters": 3, "prey": 2})
    found = [(group.name, group.first, group.size) for group in games.groups(env)]
    assert found == [("hunters", 0, 3), ("prey", 3, 2)]
    cfg = jaxpg.ippo.Config(num_envs=2)
    state = jax.eval_shape(functools.partial(jaxpg.ippo.init, cfg, env), KEY)
    assert set(state.learners) == {"hunters", "prey"}
    assert {f"return_{i}" for i in range(5)} <= set(state.env.episode_signals)


def test_what_is_no_game_has_no_players():
    env = jaxpg.time_limit(jaxpg.make("CartPole-v1"), 7)
    assert not games.is_game(env.core)
    assert not hasattr(jaxpg.time_limit(prisoners(), 2).core, "groups")


@pytest.mark.parametrize("kind", sorted(set(recipe.ROOMS) - set(recipe.OF_ROWS)))
@pytest.mark.parametrize("name", [PURSUIT, "Spread-jaxpg"])
def test_wrappers_that_mix_players_are_refused(name, kind):
    needed = {"resize_observation": {"shape": (2, 2)}, "shielded": {"project": max}}
    arguments = {**needed, "residual": {"base": abs}}.get(kind, {})
    told = rf"^{kind} of {name}, a game of \d players: allowed are frame_stack, action_repeat, "
    with pytest.raises(ValueError, match=told):
        getattr(jaxpg, kind)(jaxpg.make(name), **arguments)
    with pytest.raises(ValueError, match=told):
        jaxpg.make(name, wrappers=[(kind, arguments)])


class Numbers(Matrix):
    """Observations [P], without an axis to stack along."""

    name = "Numbers"

    def observation_space(self, params):
        return spaces.Box(0, 1, (2,))


def test_frames_are_not_stacked_along_players():
    core = Numbers(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match=r"frame_stack of Numbers, .* of shape \(2,\): allowed is"):
        jaxpg.frame_stack(jaxpg.Env(core.default_params, core), 2)


def test_frames_of_a_player_are_its_own():
    plain = jaxpg.make(PURSUIT)
    env = jaxpg.frame_stack(plain, 2)
    old, state = env.core.reset_env(KEY, env.params)
    first, inner = plain.core.reset_env(KEY, plain.params)
    for kind in plain.core.groups:
        np.testing.assert_array_equal(old[kind], np.concatenate([first[kind]] * 2, 1))
    action = jnp.array([1, 2, 3, 4, 1])
    new, *_ = env.core.step_env(KEY, state, action, env.params)
    second, *_ = plain.core.step_env(KEY, inner, action, plain.params)
    for kind in plain.core.groups:
        np.testing.assert_array_equal(new[kind], np.concatenate([first[kind], second[kind]], 1))
    space = env.core.observation_space(env.params).spaces
    assert {kind: space[kind].shape for kind in space} == {k: x.shape for k, x in new.items()}


def test_repeated_steps_sum_rewards_and_tell_who_was_there_and_who_left():
    """Beside steps of the game itself, made one by one."""
    plain, num, many = jaxpg.make(PURSUIT, size=3, max_steps_in_episode=5), 3, 64
    env = jaxpg.action_repeat(plain, num)
    core, keys = plain.core, jax.random.split(KEY, many)
    step = jax.jit(jax.vmap(env.core.step_env, (0, 0, 0, None)))
    once = jax.jit(jax.vmap(core.step_env, (0, 0, 0, None)))
    _, state = jax.vmap(env.core.reset_env, (0, None))(keys, env.params)
    inner, running = state.inner, np.ones(many, bool)
    left_in_between = 0
    for turn in range(2):
        action = jax.random.randint(jax.random.fold_in(KEY, turn), (many, 5), 0, 5)
        _, state, reward, _, info = step(keys, state, action, env.params)
        rewards, alive, leaves = np.zeros((many, 5)), None, np.zeros((many, 5), bool)
        going = running.copy()
        for i in range(num):
            _, inner, _, terminated, one = once(keys, inner, action, plain.params)
            rewards += np.where(going[:, None], one["rewards"], 0)
            alive = one["alive"] if alive is None else alive
            now = going[:, None] & np.asarray(one["leaves"])
            left_in_between += now.any(1).sum() if i < num - 1 else 0
            leaves |= now
            going &= ~np.asarray(terminated | (inner.time >= 5))
        kept = running  # of an episode that had ended before nothing is asked
        np.testing.assert_allclose(info["rewards"][kept], rewards[kept], atol=1e-6)
        np.testing.assert_allclose(reward[kept], rewards[kept].mean(1), atol=1e-6)
        np.testing.assert_array_equal(info["alive"][kept], np.asarray(alive)[kept])
        np.testing.assert_array_equal(info["leaves"][kept], leaves[kept])
        running = going
    assert left_in_between > 10
    assert not np.asarray(alive)[kept].all()


def test_each_player_s_rewards_are_changed_and_their_mean_is_the_reward():
    action = jnp.array([0, 1])  # pays -3 and 0

    def rewards(env):
        _, state = env.core.reset_env(KEY, env.params)
        *_, reward, _, info = env.core.step_env(KEY, state, action, env.params)
        return [float(reward), *map(float, info["rewards"])]

    assert rewards(prisoners()) == [-1.5, -3, 0]
    assert rewards(jaxpg.clip_reward(prisoners())) == [-0.5, -1, 0]  # of the mean it were -1
    assert rewards(jaxpg.scale_reward(prisoners(), 0.5)) == [-0.75, -1.5, 0]
    scripted = prisoners(opponent=[[0.0, 1.0]])
    assert rewards(jaxpg.clip_reward(scripted, -2.0, 2.0)) == [-2, -2, 0]  # one learns


def test_actions_stick_for_each_player_alone():
    env = jaxpg.sticky_actions(prisoners(rounds=2000, opponent=None), 0.25)
    chosen = jax.random.bernoulli(KEY, 0.5, (2000, 2)).astype(jnp.int32)

    def step(state, x):
        action, key = x
        _, state, _, _, info = env.core.step_env(key, state, action, env.params)
        return state, info["actions"]

    _, state = env.core.reset_env(KEY, env.params)
    done = np.asarray(jax.lax.scan(step, state, (chosen, jax.random.split(KEY, 2000)))[1])
    before, asked, done = done[:-1], np.asarray(chosen)[1:], done[1:]
    assert ((done == asked) | (done == before)).all()
    differ = (asked != before).all(1)  # where a player's sticking shows, of both
    stuck = (done == before)[differ]
    margin = 4 * np.sqrt(0.25 * 0.75 / differ.sum())
    assert abs(stuck.mean(0) - 0.25).max() < margin
    assert abs(np.corrcoef(stuck.T)[0, 1]) < 4 / np.sqrt(differ.sum())


def test_a_time_limit_truncates_a_game_and_nobody_leaves():
    env = jaxpg.time_limit(prisoners(rounds=10), 3)
    policy = lambda obs, carry, key: (jnp.zeros((2, 2), jnp.int32), carry, ())  # noqa: E731
    *_, t, _, metrics = E.rollout(env, policy, E.reset(env, KEY, 2), (), KEY, 6)
    np.testing.assert_array_equal(t.truncated[:, 0], [0, 0, 1, 0, 0, 1])
    assert not t.terminated.any()
    assert metrics["episode/return_0"] == metrics["episode/return_1"] == -3
