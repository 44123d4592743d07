"""Spread: a step by hand and in NumPy, JaxMARL's own, rewards of its own to each, the limit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.envs.games import spread

NAME = "Spread-jaxpg"
ACTIONS = {0: (0, 0), 1: (-1, 0), 2: (1, 0), 3: (0, -1), 4: (0, 1)}


def random_states(rng, count: int, agents: int, size: float) -> spread.State:
    """States [count, ...] in which many agents touch, for places are within `size`."""
    places = size * rng.uniform(-1, 1, (count, 2 * agents, 2))
    velocity = rng.normal(size=(count, agents, 2))
    position, landmarks = places[:, :agents], places[:, agents:]
    one = [jnp.asarray(x, jnp.float32) for x in (position, velocity, landmarks)]
    return spread.State(one[0], one[1], one[2], jnp.zeros(count, jnp.int32))


def step(env, states, action):
    key = jax.random.key(0)
    one = jax.jit(jax.vmap(lambda s, a: env.core.step_env(key, s, a, env.params)))
    return one(states, jnp.asarray(action))


def step_by_loops(x, v, landmarks, action):
    """One step of MPE in double precision: places, velocities, observations, rewards."""
    n = len(x)
    force = np.array([5.0 * np.array(ACTIONS[int(a)]) for a in action])
    for i in range(n):
        for j in range(n):
            if i != j:
                apart = x[i] - x[j]
                d = np.hypot(*apart)
                force[i] += 100 * apart / d * 1e-3 * np.logaddexp(0, (0.3 - d) / 1e-3)
    x, v = x + 0.1 * v, 0.75 * v + 0.1 * force
    shared = -sum(min(np.hypot(*(p - mark)) for p in x) for mark in landmarks)
    rewards, obs = [], []
    for i in range(n):
        others = [j for j in range(n) if j != i]
        touched = sum(np.hypot(*(x[i] - x[j])) < 0.3 for j in others)
        rewards.append(0.5 * shared - 0.5 * touched)
        parts = [v[i], x[i], *(landmarks - x[i]), *(x[others] - x[i]), np.zeros(2 * n - 2)]
        obs.append(np.concatenate(parts))
    return x, v, np.array(obs), np.array(rewards)


@pytest.mark.parametrize("agents", [1, 3, 4])
def test_a_step_is_that_of_the_equations(agents):
    env, rng = jaxpg.make(NAME, agents=agents), np.random.default_rng(agents)
    states = random_states(rng, 100, agents, 0.4)
    action = rng.integers(0, 5, (100, agents))
    obs, after, reward, terminated, info = step(env, states, action)
    found = after.position, after.velocity, obs, info["rewards"]
    wide = [np.asarray(x, float) for x in (states.position, states.velocity, states.landmarks)]
    for i in range(100):
        want = step_by_loops(wide[0][i], wide[1][i], wide[2][i], action[i])
        for got, wanted in zip(found, want, strict=True):
            np.testing.assert_allclose(got[i], wanted, atol=2e-5)
    np.testing.assert_allclose(reward, np.mean(info["rewards"], -1), rtol=1e-6)
    assert obs.shape[1:] == env.core.observation_space(env.params).shape
    assert not terminated.any()


def test_a_step_by_hand():
    """Two agents that touch, each on its landmark, of which one is pushed."""
    env = jaxpg.make(NAME, agents=2, contact_force=0.0, damping=0.5, local_ratio=0.25)
    place = jnp.array([[0.0, 0.0], [0.2, 0.0]])
    state = spread.State(place, jnp.array([[0.0, 1.0], [0.0, 0.0]]), place, jnp.array(0))
    obs, after, reward, _, info = env.core.step_env(
        jax.random.key(0), state, jnp.array([0, 2]), env.params
    )
    np.testing.assert_allclose(after.position, [[0, 0.1], [0.2, 0]], atol=1e-6)
    np.testing.assert_allclose(after.velocity, [[0, 0.5], [0.5, 0]], atol=1e-6)
    np.testing.assert_allclose(obs[0], [0, 0.5, 0, 0.1, 0, -0.1, 0.2, -0.1, 0.2, -0.1, 0, 0],
                               atol=1e-6)  # fmt: skip
    np.testing.assert_allclose(info["rewards"], [-0.75 * 0.1 - 0.25] * 2, rtol=1e-6)
    np.testing.assert_allclose(reward, -0.325, rtol=1e-6)


def test_contacts_push_apart_and_balance():
    params = spread.Params()
    place = jnp.array([[0.0, 0.0], [0.1, 0.0], [5.0, 5.0], [5.0, 5.0]])
    force = spread.contacts(place, params)
    np.testing.assert_allclose(force[:2], [[-20, 0], [20, 0]], rtol=1e-5)  # 100 (0.3 - 0.1)
    assert not force[2:].any()  # in one place: no direction to be pushed in, and no NaN
    np.testing.assert_allclose(force.sum(0), 0, atol=1e-5)


def test_rewards_are_not_equal_over_agents():
    """An agent that touches nobody is not punished for two others that touch."""
    env = jaxpg.make(NAME)
    place = jnp.array([[0.0, 0.0], [0.1, 0.0], [2.0, 0.0]])
    state = spread.State(place, jnp.zeros((3, 2)), place, jnp.array(0))
    rewards = env.core.step_env(jax.random.key(0), state, jnp.zeros(3, int), env.params)[-1]
    np.testing.assert_allclose(rewards["rewards"], [-0.5, -0.5, 0], atol=1e-6)


def test_a_force_is_what_a_discrete_action_is():
    table, force = jaxpg.make(NAME), jaxpg.make(NAME, continuous=True)
    states = random_states(np.random.default_rng(0), 5, 3, 0.5)
    action = np.array([[a, 0, 1] for a in ACTIONS])
    push = np.array([[ACTIONS[a] for a in row] for row in action], float)
    for scale in (1.0, 3.0):  # beyond its bounds it is clipped
        one, other = step(table, states, action), step(force, states, scale * push)
        np.testing.assert_array_equal(one[0], other[0])
    half = step(force, states, 0.5 * push)[1].velocity - step(force, states, 0 * push)[1].velocity
    np.testing.assert_allclose(half, 0.25 * push, atol=1e-6)  # 0.1 s, of half of 5


def test_the_limit_truncates_and_first_states_differ():
    env = jaxpg.make(NAME)
    obs, state = env.core.reset(jax.random.key(1), env.params)
    move = jax.jit(lambda key, s: env.core.step(key, s, jnp.zeros(3, int), env.params))
    for t in range(25):
        before = state
        obs, state, _, terminated, truncated, info = move(jax.random.key(t), state)
        assert not terminated
        assert truncated == (t == 24)
    last = before.position + 0.1 * before.velocity
    np.testing.assert_allclose(info["final_observation"][:, 2:4], last, atol=1e-6)
    assert not np.allclose(obs, info["final_observation"])
    first = jax.vmap(env.core.reset, (0, None))(jax.random.split(jax.random.key(0), 999), None)[1]
    for x in (first.position, first.landmarks):
        assert -1 < x.min() < -0.99
        assert 0.99 < x.max() < 1
        np.testing.assert_allclose(x.mean(0), 0, atol=0.06)
    assert not first.velocity.any()


def test_a_step_is_jaxmarl_s():
    """One step from each of 200 states on a random way, and others in which agents touch."""
    jaxmarl = pytest.importorskip("jaxmarl")
    other, env = jaxmarl.make("MPE_simple_spread_v3"), jaxpg.make(NAME)
    stack = lambda x: jnp.stack([x[name] for name in other.agents])  # noqa: E731

    def one(state, drawn):
        key, action = drawn
        told = {name: action[i] for i, name in enumerate(other.agents)}
        obs, after, rewards, _, _ = other.step_env(key, state, told)
        mine = spread.State(state.p_pos[:3], state.p_vel[:3], state.p_pos[3:], state.step)
        own, new, _, _, info = env.core.step_env(key, mine, action, env.params)
        pairs = [(own, stack(obs)), (info["rewards"], stack(rewards)),
                 (new.position, after.p_pos[:3]), (new.velocity, after.p_vel[:3])]  # fmt: skip
        return after, (pairs, own)

    @jax.jit
    def compare(key, size):
        k_reset, k_step, k_act = jax.random.split(key, 3)
        state = other.reset(k_reset)[1]
        action = jax.random.randint(k_act, (200, 3), 0, 5)
        state = state.replace(p_pos=size * state.p_pos)
        return jax.lax.scan(one, state, (jax.random.split(k_step, 200), action))[1]

    for size in (1.0, 0.2):
        pairs, own = compare(jax.random.key(7), size)
        for got, wanted in pairs:
            np.testing.assert_allclose(got, wanted, atol=1e-5)
        assert own.shape == (200, 3, 18)
    assert np.ptp(pairs[1][0], -1).max() > 0.4  # some were punished alone


def test_episodes_are_pettingzoo_s():
    """Its MPE is mpe2 now: whole episodes, which end after as many steps, in double precision."""
    simple_spread = pytest.importorskip("mpe2.simple_spread_v3")
    other, env = simple_spread.parallel_env(N=3, local_ratio=0.5, max_cycles=25), jaxpg.make(NAME)
    move = jax.jit(lambda s, a: env.core.step_env(jax.random.key(0), s, a, env.params))
    rng = np.random.default_rng(0)
    for seed in range(8):
        seen, _ = other.reset(seed=seed)
        world = other.unwrapped.world
        for body in world.agents + world.landmarks:
            body.state.p_pos *= 0.5  # so that they meet
        places = [np.array([x.state.p_pos for x in y]) for y in (world.agents, world.landmarks)]
        one = [jnp.asarray(x, jnp.float32) for x in places]
        state = spread.State(one[0], 0 * one[0], one[1], jnp.array(0))
        for _ in range(25):
            action = rng.integers(0, 5, 3)
            seen, rewards, _, over, _ = other.step(dict(zip(other.agents, action, strict=True)))
            obs, state, _, _, info = move(state, jnp.asarray(action))
            np.testing.assert_allclose(obs, np.stack([*seen.values()]), atol=1e-4)
            np.testing.assert_allclose(info["rewards"], [*rewards.values()], atol=1e-4)
            assert all(over.values()) == bool(env.core.is_truncated(state, env.params))
        assert not other.agents


def test_check_env():
    jaxpg.check_env(NAME)
    jaxpg.check_env(jaxpg.make(NAME, agents=1, continuous=True))


def test_errors():
    with pytest.raises(ValueError, match=r"agents=0: allowed is an integer >= 1"):
        jaxpg.make(NAME, agents=0)
    with pytest.raises(ValueError, match=r"local_ratio=2: allowed"):
        jaxpg.make(NAME, local_ratio=2)
    with pytest.raises(ValueError, match=r"continuous=3: allowed"):
        jaxpg.make(NAME, continuous=3)
