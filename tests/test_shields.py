"""Wrappers that change actions by functions and noise, and blur what is seen: against steps that
are written out, and with the names that recipes have of the functions."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core import env as E
from jaxpg.core import spaces
from jaxpg.core.names import UntrustedError
from jaxpg.envs import registry
from jaxpg.envs.wrappers import named, noise
from jaxpg.experiment.run.provenance import describe_run
from tests.conftest import slow_of
from tests.test_wrappers import roll, several

KEY = jax.random.key(0)
STEPS = 12


def stay_left(obs, action):
    return jnp.where(obs[0] > 0, 0, action)


def to_the_goal(obs):
    return obs[2:]


def back(gain, obs):
    return -gain * obs[:2]


def steps_of(env, actions):
    """Observation before each step, and what `step_env` gives, under the same keys."""
    step = jax.jit(env.core.step_env)
    obs, state = env.core.reset_env(KEY, env.params)
    for i, action in enumerate(actions):
        key = jax.random.fold_in(KEY, i)
        before, (obs, state, reward, terminated, info) = obs, step(key, state, action, env.params)
        yield key, before, obs, reward, terminated, info


def test_a_shield_executes_the_projected_action_and_counts_the_changes():
    plain = jaxpg.make("CartPole-v1")
    env = jaxpg.shielded(plain, stay_left)
    assert env.core.signals == ("shielded",)
    obs, state = plain.core.reset_env(KEY, plain.params)
    changed = 0
    for key, before, after, reward, _, info in steps_of(env, [1] * STEPS):
        np.testing.assert_array_equal(before, obs)
        safe = 0 if before[0] > 0 else 1
        obs, state, wanted, *_ = plain.core.step_env(key, state, safe, plain.params)
        np.testing.assert_allclose(after, obs, rtol=1e-6)
        assert reward == wanted
        assert info["shielded"] == (safe != 1)
        changed += safe != 1
    assert 0 < changed < STEPS


def test_a_shield_that_leaves_the_space_is_clipped_to_it():
    """Of one number, of a Box, of several choices."""
    far = lambda obs, action: action + 99  # noqa: E731
    cart = jaxpg.shielded(jaxpg.make("CartPole-v1"), far)
    plain = jaxpg.make("CartPole-v1")
    step = jax.jit(plain.core.step_env)
    _, state = plain.core.reset_env(KEY, plain.params)
    (_, _, after, *_), *_ = steps_of(cart, [0])
    np.testing.assert_allclose(
        after, step(jax.random.fold_in(KEY, 0), state, 1, plain.params)[0], rtol=1e-6
    )
    clip = spaces.clip_to
    box = jaxpg.make("Pendulum-v1").action_space
    assert clip(box, jnp.array([9.0])) == box.high
    choices = spaces.MultiDiscrete([2, 5])
    assert clip(choices, jnp.array([9, -9])).tolist() == [1, 0]


def test_the_changes_of_a_shield_are_summed_over_episodes():
    env = jaxpg.shielded(jaxpg.make("CartPole-v1", max_steps_in_episode=8), stay_left)
    t, _, metrics = roll(env, 8)
    assert t.truncated[-1].all()
    moved = (np.asarray(t.obs)[..., 0] > 0) & (np.asarray(t.action) == 1)
    np.testing.assert_array_equal(t.signals["shielded"], moved)
    np.testing.assert_allclose(metrics["episode/shielded"], moved.sum(0).mean(), rtol=1e-6)


def test_a_residual_is_added_to_the_controller_and_clipped():
    plain = jaxpg.make("PointHazards-jaxpg")
    env = jaxpg.residual(plain, to_the_goal, 0.5)
    obs, state = plain.core.reset_env(KEY, plain.params)
    actions = np.random.default_rng(0).uniform(-1, 1, (STEPS, 2)).astype(np.float32)
    for i, (key, before, after, reward, _, info) in enumerate(steps_of(env, actions)):
        action = np.clip(np.asarray(before[2:]) + 0.5 * actions[i], -1, 1)
        obs, state, wanted, _, told = plain.core.step_env(key, state, action, plain.params)
        np.testing.assert_allclose(after, obs, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(reward, wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(info["cost"], told["cost"], atol=1e-5)
    none = registry.with_params(env, residual_scale=0.0)
    alone = [x[2] for x in steps_of(none, actions)]
    np.testing.assert_allclose(alone, [x[2] for x in steps_of(none, 0 * actions)])


def test_noise_on_actions_is_what_it_says():
    """Of a Box Gaussian and clipped, of discrete ones a random action; and executed as that."""
    box, discrete = jaxpg.make("PointHazards-jaxpg"), jaxpg.make("CartPole-v1")
    keys = jax.random.split(KEY, 4000)
    push = jax.vmap(lambda key: noise._push(key, box.action_space, jnp.array([0.0, 0.95]), 0.2))
    found = np.asarray(push(keys))
    np.testing.assert_allclose(found[:, 0].std(), 0.2, rtol=0.05)
    np.testing.assert_allclose((found[:, 1] == 1).mean(), 0.4013, atol=0.03)  # P(z > 0.25)
    other = jax.vmap(lambda key: noise._replace(key, discrete.action_space, jnp.array(1), 0.3))
    np.testing.assert_allclose((np.asarray(other(keys)) == 1).mean(), 0.85, atol=0.02)
    for plain, action, change in (
        (box, np.float32([0.5, -0.5]), noise._push),
        (discrete, 1, noise._replace),
    ):
        env = jaxpg.noisy_actions(plain, 0.5)
        state = plain.core.reset_env(KEY, plain.params)[1]
        for key, _, after, *_ in steps_of(env, [action] * 4):
            k_noise, key = jax.random.split(key)
            done = change(k_noise, plain.action_space, jnp.asarray(action), 0.5)
            obs, state, *_ = plain.core.step_env(key, state, done, plain.params)
            np.testing.assert_allclose(after, obs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", slow_of(["CartPole-v1", "CartPolePositions-jaxpg"], "CartPolePositions-jaxpg")
)
def test_noise_on_observations_begins_with_the_first_and_is_kept_in_the_true_successor(name):
    """Also around an environment that resets itself."""
    plain = jaxpg.make(name, max_steps_in_episode=6)
    t, _, _ = roll(jaxpg.noisy_observations(plain, 0.3), 12, num_envs=64)
    ended = np.asarray(t.terminated | t.truncated)
    obs, after = np.asarray(t.obs), np.asarray(t.next_obs)
    np.testing.assert_array_equal(obs[1:][~ended[:-1]], after[:-1][~ended[:-1]])
    assert (obs[1:][ended[:-1]] != after[:-1][ended[:-1]]).all()
    first = np.concatenate([obs[0], obs[6]])  # without noise within 0.05 of the middle
    np.testing.assert_allclose(first.std(0), 0.3, rtol=0.25)
    assert not np.array_equal(obs[0], obs[6])


def test_noise_on_observations_is_a_leaf_for_each_entry():
    env = jaxpg.noisy_observations(jaxpg.make("CartPole-v1"), np.zeros(4))

    def first(std):
        now = registry.with_params(env, observation_noise=std)
        return jax.vmap(lambda key: now.core.reset_env(key, now.params)[0])(
            jax.random.split(KEY, 500)
        )

    stds = jnp.array([[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 2.0, 3.0]])
    none, some = jax.vmap(first)(stds).std(1)
    assert (none < 0.05).all()
    np.testing.assert_allclose(some[1:], [1, 2, 3], rtol=0.15)
    assert some[0] == none[0]
    drawn = jaxpg.randomized(jaxpg.noisy_actions(jaxpg.make("CartPole-v1")), action_noise=(0, 1))
    assert (drawn.params.action_noise_low, drawn.params.action_noise_high) == (0, 1)


def test_integers_and_masks_have_no_noise():
    """Of several parts each has its own."""
    env = jaxpg.noisy_observations(several(), 50.0)
    obs, plain = (x.core.reset_env(KEY, x.params)[0] for x in (env, several()))
    np.testing.assert_array_equal(obs["action_mask"], plain["action_mask"])
    assert obs["b"].dtype == plain["b"].dtype == jnp.int32
    vector, time = obs["a"]
    assert len(np.unique(vector - time)) == 3
    assert vector[0] != plain["a"][0][0] != time


# Names of functions.


def test_a_function_is_named_in_the_recipe_and_found_again():
    env = jaxpg.shielded(jaxpg.make("CartPole-v1", gravity=5.0), stay_left)
    told = json.loads(json.dumps(registry.to_dict(env)))
    assert told["wrappers"] == [["shielded", {"project": "tests.test_shields:stay_left"}]]
    assert registry.from_dict(told) == env
    by_name = [("shielded", "tests.test_shields:stay_left")]
    assert jaxpg.make("CartPole-v1", wrappers=by_name, gravity=5.0).core is env.core
    assert jaxpg.make("CartPole-v1", wrappers=[("shielded", stay_left)]).core is env.core
    assert registry.with_params(env, gravity=9.0).core is env.core
    part = functools.partial(back, 0.5)
    point = jaxpg.residual(jaxpg.make("PointHazards-jaxpg"), part, 0.1)
    assert registry.from_dict(json.loads(json.dumps(registry.to_dict(point)))) == point
    again = jaxpg.residual(jaxpg.make("PointHazards-jaxpg"), functools.partial(back, 0.5), 0.1)
    assert again.core is point.core


def test_a_function_without_a_name_makes_no_recipe():
    """It works, and a folder of it says that it has to be given."""
    env = jaxpg.shielded(jaxpg.make("CartPole-v1"), lambda obs, action: 1 - action)
    assert [x[-1]["shielded"] for x in steps_of(env, [0, 1])] == [1, 1]
    with pytest.raises(ValueError, match=r"was not made by jaxpg\.make: it has no recipe"):
        registry.to_dict(env)
    with pytest.raises(ValueError, match=r"project=.*a lambda has no name of its own, use def"):
        jaxpg.make("CartPole-v1", wrappers=[("shielded", lambda obs, action: action)])


def test_a_folder_imports_no_function_that_nobody_trusts(tmp_path, monkeypatch):
    (tmp_path / "own_shield.py").write_text("def project(obs, action):\n    return action\n")
    monkeypatch.syspath_prepend(tmp_path)
    told = {"name": "CartPole-v1", "wrappers": [["shielded", {"project": "own_shield:project"}]]}
    with pytest.raises(UntrustedError, match="shielded project 'own_shield:project': to import"):
        registry.from_dict(told)
    env = registry.from_dict(told, trust=True)
    assert registry.to_dict(env)["wrappers"] == told["wrappers"]
    record = describe_run(jaxpg.a2c, jaxpg.a2c.Config(), env, KEY)
    assert record["sources"]["own_shield"]["file"] == str(tmp_path / "own_shield.py")
    named._known.pop('"own_shield:project"')
    told["wrappers"] = [["shielded", {"project": "shutil:rmtree"}]]
    with pytest.raises(UntrustedError, match="to call 'shutil:rmtree' could do anything"):
        registry.from_dict(told)


REFUSED = {
    "no action": (
        lambda c: jaxpg.shielded(c, lambda obs, a: obs),
        r"it gives float32\[4\], allowed is an action of shape \(\) and dtype int32",
    ),
    "a float": (lambda c: jaxpg.shielded(c, lambda obs, a: a * 0.5), "allowed is an action of sha"),
    "one argument": (
        lambda c: jaxpg.shielded(c, lambda obs: 0),
        r"too many positional arguments; allowed is a function of \(obs, action\)",
    ),
    "two arguments": (
        lambda c: jaxpg.residual(jaxpg.make("PointHazards-jaxpg"), lambda obs, action: action),
        r"missing a required argument: 'action'; allowed is a function of \(obs\)",
    ),
    "probabilities": (
        lambda c: jaxpg.noisy_actions(c, [0.1, 0.2]),
        r"action_noise=\[0.1 0.2\]: allowed is a number$",
    ),
    "of two dimensions": (
        lambda c: jaxpg.noisy_actions(jaxpg.make("Pendulum-v1"), [0.1, 0.2]),
        r"allowed is a number, or an array for shapes \(1,\)",
    ),
    "scales": (
        lambda c: jaxpg.residual(jaxpg.make("PointHazards-jaxpg"), to_the_goal, np.ones(3)),
        r"residual_scale=\[1. 1. 1.\]: allowed is a number, or an array for shapes \(2,\)",
    ),
    "no function": (lambda c: jaxpg.shielded(c, 3), "project=3: allowed is a function"),
    "none": (lambda c: jaxpg.make(c.name, wrappers=["shielded"]), "shielded has no project"),
    "twice": (
        lambda c: jaxpg.shielded(jaxpg.shielded(c, stay_left), stay_left),
        "has a signal 'shielded' already",
    ),
    "no Box": (lambda c: jaxpg.residual(c, to_the_goal), "allowed is a Box of floats"),
    "a probability": (lambda c: jaxpg.noisy_actions(c, 1.5), "action_noise=1.5: allowed is a num"),
    "negative": (lambda c: jaxpg.noisy_observations(c, -1.0), "observation_noise=-1.0: allowed is"),
    "entries": (
        lambda c: jaxpg.noisy_observations(c, np.ones(3)),
        r"allowed is .* shapes \(4,",
    ),
    "no floats": (
        lambda c: jaxpg.noisy_observations(jaxpg.make("Cliff-jaxpg")),
        "which observes Discrete",
    ),
    "masked": (lambda c: jaxpg.noisy_actions(several()), "whose actions are not always legal"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused(case):
    make, words = REFUSED[case]
    with pytest.raises(ValueError, match=words) as error:
        make(jaxpg.make("CartPole-v1"))
    assert "\n" not in str(error.value)


def test_a_shield_keeps_what_an_agent_stores():
    """An off-policy agent learns from its own action, not from the projected one."""
    env = jaxpg.shielded(jaxpg.make("CartPole-v1"), stay_left)
    state = E.reset(env, KEY, 2)
    _, t = E.step(env, state, jnp.ones(2, jnp.int32), KEY)
    np.testing.assert_array_equal(t.action, 1)
