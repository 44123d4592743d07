"""Brax's physics as parameters: each against Brax's own environment, changed by hand."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core import env as E
from jaxpg.envs import registry
from tests.conftest import slow_of

envs, mujoco = pytest.importorskip("brax.envs"), pytest.importorskip("mujoco")

from brax.io import mjcf  # noqa: E402
from etils import epath  # noqa: E402

from jaxpg.envs.suites import from_brax as suite  # noqa: E402

KEY, STEPS, PENDULUM = jax.random.key(0), 200, "brax/inverted_pendulum"
BACKENDS = slow_of(("generalized", "spring", "positional", "mjx"), "positional", "mjx")


def replace_by_hand(sys, backend, gravity=1.0, gear=1.0, friction=1.0, damping=1.0, mass=1.0):
    """The system that a user of Brax would make, by what this backend reads; masses of `spring`."""
    sys = sys.replace(geom_friction=sys.geom_friction * friction)
    if backend == "mjx":
        opt = sys.opt.replace(gravity=sys.opt.gravity * gravity)
        gears, damping = sys.actuator_gear * gear, sys.dof_damping * damping
        return sys.replace(opt=opt, actuator_gear=gears, dof_damping=damping)
    inertia = sys.link.inertia
    inertia = inertia.replace(mass=inertia.mass * mass, i=inertia.i * mass)
    return sys.replace(
        gravity=sys.gravity * gravity,
        link=sys.link.replace(inertia=inertia),
        actuator=sys.actuator.replace(gear=sys.actuator.gear * gear),
        dof=sys.dof.replace(damping=sys.dof.damping * damping),
    )


def own(name, backend="generalized", **factors):
    """Brax's own environment, with other numbers."""
    env = envs.get_environment(name, backend=backend)
    env.sys = replace_by_hand(env.sys, backend, **factors)
    return env


@functools.partial(jax.jit, static_argnums=0)
def play_own(env, actions):
    """Observations [T, D] and rewards [T] of Brax's environment, which does not reset."""

    def body(state, action):
        state = env.step(state, action)
        return state, (state.obs, jnp.asarray(state.reward, float))

    return jax.lax.scan(body, env.reset(KEY), actions)[1]


@jax.jit
def play(env, actions):
    """The same by the adapter."""

    def body(state, action):
        obs, state, reward, _, _ = env.core.step_env(KEY, state, action, env.params)
        return state, (obs, jnp.asarray(reward, float))

    return jax.lax.scan(body, env.core.reset_env(KEY, env.params)[1], actions)[1]


def actions_for(env, steps=STEPS):
    return 0.2 * jax.random.uniform(KEY, (steps, *env.action_space.shape), float, -1, 1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_are_those_of_brax_with_its_numbers_replaced(backend):
    """And as they are: the plain environment is Brax's."""
    plain, seen = jaxpg.make(PENDULUM, backend=backend), []
    actions = actions_for(plain)
    for factors in ({}, {"gravity": 0.5, "gear": 1.7, "damping": 2.0}, {"gravity": -1.0}):
        env = registry.with_params(plain, **{f"{k}_scale": x for k, x in factors.items()})
        found = play(env, actions)
        expected = play_own(own("inverted_pendulum", backend, **factors), actions)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)
        seen.append(found[0][:20])
    assert np.isfinite(found[0]).all()  # it hangs; Brax's own falls, and is NaN on the ground
    assert min(np.abs(seen[0] - x).max() for x in seen[1:]) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["generalized", "spring", "positional", "mjx"])
def test_steps_of_a_robot_that_touches_the_ground(backend):
    """With friction: 200 steps from where Brax's own is, one by one, for contacts are chaotic."""
    factors = {"friction": 0.3, "gravity": 0.8, "damping": 1.5}
    theirs = own("hopper", backend, **factors)
    env = jaxpg.make("brax/hopper", backend=backend)
    scaled = registry.with_params(env, **{f"{k}_scale": x for k, x in factors.items()})

    @jax.jit
    def both(env, actions):
        def body(state, action):
            after = theirs.step(state.inner, action)
            obs, ours, *_ = env.core.step_env(KEY, state, action, env.params)
            return ours.replace(inner=after), (obs, after.obs)

        return jax.lax.scan(body, env.core.reset_env(KEY, env.params)[1], actions)[1]

    found, expected = both(scaled, actions_for(env))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    others, _ = both(registry.with_params(scaled, friction_scale=3.0), actions_for(env))
    assert np.abs(others - expected).max() > 0.01


@pytest.mark.parametrize("name", ["inverted_pendulum", "ant", "humanoid"])
def test_what_follows_from_masses_is_what_mujoco_makes_of_them(name):
    path = epath.resource_path("brax") / f"envs/assets/{name}.xml"
    plain, heavy = mjcf.load_mjmodel(path), mjcf.load_mjmodel(path)
    for masses in (heavy.body_mass, heavy.body_inertia, heavy.dof_armature):
        masses *= 1.7
    mujoco.mj_setConst(heavy, mujoco.MjData(heavy))
    plain, expected = mjcf.load_model(plain), mjcf.load_model(heavy)
    found = suite.scale(plain, {"mass_scale": 1.7})
    pairs = zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True)
    for (path, a), b in pairs:
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6, err_msg=jax.tree_util.keystr(path))
    assert not np.allclose(found.dof.invweight, plain.dof.invweight)


def test_many_parameters_at_once_are_each_for_itself():
    env = jaxpg.make(PENDULUM, backend="spring")
    actions = actions_for(env, 20)

    def last(gravity, mass):
        scaled = registry.with_params(env, gravity_scale=gravity, mass_scale=mass)
        return play(scaled, actions)[0][-1]

    gravities, masses = jnp.array([0.2, 1.0, 3.0]), jnp.array([0.5, 1.0, 2.0])
    found = jax.jit(jax.vmap(last))(gravities, masses)
    for obs, gravity, mass in zip(found, gravities, masses, strict=True):
        np.testing.assert_allclose(obs, last(float(gravity), float(mass)), rtol=1e-4, atol=1e-4)
    assert np.ptp(found[:, 1]) > 0.01


def test_they_are_drawn_for_each_episode_and_hold_in_it():
    """Each step is that of Brax with the gravity that the episode has drawn."""
    plain = jaxpg.make(PENDULUM, backend="spring", max_steps_in_episode=4)
    env, lanes = jaxpg.randomized(plain, gravity_scale=(0.2, 3.0), mass_scale=[0.5, 2.0]), 3
    theirs, drawn = envs.get_environment("inverted_pendulum", backend="spring"), []
    action = jnp.full((lanes, 1), 0.3)

    @jax.jit
    def step_own(state, gravity, mass):
        env = copy.copy(theirs)
        env.sys = replace_by_hand(env.sys, "spring", gravity=gravity, mass=mass)
        return env.step(state, action[0]).obs

    state = E.reset(env, KEY, lanes)
    step = jax.jit(lambda state, key: E.step(env, state, action, key))
    for i in range(12):
        before, memory = state.inner.inner.inner, jax.tree.map(np.asarray, state.inner.memory)
        drawn.append(memory["gravity_scale"])
        state, t = step(state, jax.random.key(i))
        np.testing.assert_array_equal(t.truncated, i % 4 == 3)
        for lane in range(lanes):
            one = jax.tree.map(lambda x, lane=lane: x[lane], before)
            obs = step_own(one, memory["gravity_scale"][lane], memory["mass_scale"][lane])
            np.testing.assert_allclose(t.next_obs[lane], obs, rtol=1e-4, atol=1e-5)
    episodes = np.reshape(drawn, (3, 4, lanes))
    assert (episodes == episodes[:, :1]).all()
    assert len(np.unique(episodes)) == 3 * lanes


def test_a_parameter_is_there_where_it_changes_something():
    params = vars(jaxpg.make(PENDULUM).params)
    assert set(params) == {
        "gravity_scale", "mass_scale", "damping_scale", "gear_scale", "max_steps_in_episode"
    }  # fmt: skip
    cheetah = set(vars(jaxpg.make("brax/halfcheetah").params))
    assert cheetah == {*suite.SCALES, "max_steps_in_episode"}
    assert "gravity_scale" not in vars(jaxpg.make("brax/pusher").params)
    with pytest.raises(ValueError, match="unknown brax/inverted_pendulum parameter 'friction_sca"):
        jaxpg.make(PENDULUM, friction_scale=2.0)
    with pytest.raises(ValueError, match=r"mass_scale=0.0: allowed is a number >= 0.001"):
        jaxpg.make(PENDULUM, mass_scale=0.0)


def test_brax_own_object_stays_as_it_is():
    env = jaxpg.make(PENDULUM, backend="spring", gravity_scale=0.5)
    sys = env.core.inner.sys
    play(env, actions_for(env, 20))
    assert env.core.inner.sys is sys
    np.testing.assert_allclose(sys.gravity, (0, 0, -9.81), rtol=1e-6)
