"""Pursuit: steps by hand and by loops, who leaves and when, what is seen, policies by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.envs.games import pursuit

NAME = "Pursuit-jaxpg"
MOVES = {0: (0, 0), 1: (0, 1), 2: (1, 0), 3: (0, -1), 4: (-1, 0)}
KEY = jax.random.key(0)


def shortest(d: int, size: int) -> int:
    """The way among d + k size that is shortest; of two equal ones that below zero."""
    return min((d + k * size for k in (-1, 0, 1)), key=lambda way: (abs(way), way))


def see(cell, alive, h: int, size: int) -> dict[str, np.ndarray]:
    """What all see, by loops over all pairs."""
    way = lambda i, j: [shortest(int(d), size) * 2 / size for d in cell[j] - cell[i]]  # noqa: E731
    q, seen = len(cell) - h, {"hunters": [], "prey": []}
    for i in range(h + q):
        row = [x for j in range(h) if j != i for x in way(i, j)]
        for j in range(h, h + q):
            if j != i:
                row += [*way(i, j), 1] if alive[j] else [0, 0, 0]
        seen["hunters" if i < h else "prey"].append(np.array(row) * alive[i])
    return {name: np.array(rows) for name, rows in seen.items()}


def step_by_loops(cell, alive, action, h: int, size: int, needed: int):
    """The next cells and who is there then, rewards, who leaves, whether it is over."""
    cell = cell.copy()
    for i, a in enumerate(action):
        if alive[i]:
            cell[i] = (cell[i] + MOVES[int(a)]) % size
    caught = []
    for j in range(h, len(cell)):
        near = [sum(abs(shortest(int(d), size)) for d in cell[j] - cell[i]) <= 1 for i in range(h)]
        if alive[j] and sum(near) >= needed:
            caught.append(j)
    after = np.array([alive[i] and i not in caught for i in range(len(cell))])
    over = not after[h:].any()
    rewards = np.zeros(len(cell))
    rewards[:h] = len(caught) - 0.01
    for j in range(h, len(cell)):
        rewards[j] = alive[j] * (0.01 - (j in caught))
    leaves = np.array([alive[i] and (over or i in caught) for i in range(len(cell))])
    return cell, after, rewards, leaves, over


@pytest.mark.parametrize(("h", "q", "size", "needed"), [(3, 2, 4, 2), (2, 1, 5, 1), (3, 3, 3, 3)])
def test_random_steps_are_those_of_the_rules(h, q, size, needed):
    env = jaxpg.make(NAME, hunters=h, prey=q, size=size, needed=needed)
    rng = np.random.default_rng(h * q)
    cell = rng.integers(0, size, (300, h + q, 2))
    alive = rng.random((300, h + q)) < 0.7
    alive[:, :h], alive[np.arange(300), rng.integers(h, h + q, 300)] = True, True
    action = rng.integers(0, 5, (300, h + q))
    states = pursuit.State(jnp.asarray(cell, jnp.int32), jnp.asarray(alive), jnp.zeros(300, int))
    move = jax.jit(jax.vmap(lambda s, a: env.core.step_env(KEY, s, a, env.params)))
    obs, after, reward, over, info = move(states, jnp.asarray(action))
    for i in range(300):
        want = step_by_loops(cell[i], alive[i], action[i], h, size, needed)
        found = after.cell[i], after.alive[i], info["rewards"][i], info["leaves"][i], over[i]
        for got, wanted in zip(found, want, strict=True):
            np.testing.assert_allclose(got, wanted, atol=1e-6)
        for name, rows in see(want[0], want[1], h, size).items():
            np.testing.assert_allclose(obs[name][i], rows, atol=1e-6)
    np.testing.assert_array_equal(info["alive"], alive)
    np.testing.assert_allclose(reward, info["rewards"].mean(-1), atol=1e-6)
    assert over.any()
    assert not over.all()
    for name, rows in env.core.observation_space(env.params).spaces.items():
        assert obs[name].shape[1:] == rows.shape
        assert len(obs[name][0]) == env.core.groups[name]


def test_one_prey_leaves_before_the_other():
    """By hand: the first is caught between two hunters, round the edge; the second a step later."""
    env = jaxpg.make(NAME)
    cell = jnp.array([[7, 4], [2, 4], [3, 0], [0, 4], [5, 1]], jnp.int32)
    state = pursuit.State(cell, jnp.ones(5, bool), jnp.array(0))

    def move(state, *action):
        return env.core.step_env(KEY, state, jnp.array(action), env.params)

    obs, state, _, over, info = move(state, 0, 4, 2, 0, 0)  # the second hunter comes next to it
    np.testing.assert_array_equal(state.alive, [1, 1, 1, 0, 1])
    np.testing.assert_array_equal(info["alive"], [1, 1, 1, 1, 1])
    np.testing.assert_array_equal(info["leaves"], [0, 0, 0, 1, 0])
    np.testing.assert_allclose(info["rewards"], [0.99, 0.99, 0.99, -0.99, 0.01], atol=1e-6)
    assert not over
    np.testing.assert_allclose(obs["hunters"][0], [0.5, 0, -0.75, -1, 0, 0, 0, -0.5, -0.75, 1])
    assert not obs["prey"][0].any()
    np.testing.assert_allclose(obs["prey"][1], [0.5, 0.75, -1, 0.75, -0.25, -0.25, 0, 0, 0])

    cell = state.cell.at[0].set(jnp.array([5, 2]))
    obs, state, _, over, info = move(state.replace(cell=cell), 0, 0, 1, 1, 0)
    np.testing.assert_array_equal(state.cell[3], [0, 4])  # it is out, and no longer moves
    np.testing.assert_array_equal(info["alive"], [1, 1, 1, 0, 1])
    np.testing.assert_array_equal(info["leaves"], [1, 1, 1, 0, 1])
    np.testing.assert_allclose(info["rewards"], [0.99, 0.99, 0.99, 0, -0.99], atol=1e-6)
    assert over


def test_the_limit_truncates_and_nobody_leaves_by_it():
    env = jaxpg.make(NAME, needed=3, size=30)
    _, state = env.core.reset(KEY, env.params)
    move = jax.jit(lambda key, s: env.core.step(key, s, jnp.zeros(5, int), env.params))
    for t in range(50):
        _, state, reward, terminated, truncated, info = move(jax.random.key(t), state)
        assert not terminated
        assert truncated == (t == 49)
        assert not info["leaves"].any()
    np.testing.assert_allclose(reward, (-3 * 0.01 + 2 * 0.01) / 5, rtol=1e-5)
    assert state.alive.all()
    assert state.time == 0  # of the next episode


def test_a_slow_prey_moves_as_often_as_it_should():
    env = jaxpg.make(NAME, prey_speed=0.3)
    state = env.core.reset(KEY, env.params)[1]
    keys = jax.random.split(KEY, 4000)
    after = jax.vmap(lambda k: env.core.step_env(k, state, jnp.ones(5, int), env.params)[1])(keys)
    moved = (after.cell != state.cell).any(-1).mean(0)
    assert (moved[:3] == 1).all()
    np.testing.assert_allclose(moved[3:], 0.3, atol=0.03)


def test_hunters_by_hand_move_as_they_say():
    """Chase goes along the longer way to the nearest; flee away from the nearest hunter."""
    core = jaxpg.make(NAME).core
    cell = jnp.array([[0, 0], [7, 7], [4, 4], [3, 1], [4, 7]], jnp.int32)
    obs = core.observe(pursuit.State(cell, jnp.ones(5, bool), jnp.array(0)))
    np.testing.assert_array_equal(pursuit.chase(core, obs["hunters"], KEY), [2, 4, 1])
    gone = core.observe(pursuit.State(cell, jnp.arange(5) != 4, jnp.array(0)))
    np.testing.assert_array_equal(pursuit.chase(core, gone["hunters"], KEY), [2, 4, 3])
    # Both distances count, the nearest one first: of all moves this is the best, by a look at each.
    moves = pursuit.flee(core, obs["prey"], KEY)
    for prey, move in zip((3, 4), moves, strict=True):
        far = {}
        for a, step in MOVES.items():
            ways = cell[:3] - (cell[prey] + jnp.array(step))
            far[a] = sorted(sum(abs(shortest(int(d), 8)) for d in way) for way in ways)
        assert far[int(move)] == max(far.values())


def test_hunters_who_work_together_catch_more():
    """Against prey that flee: at random next to nothing, each for itself an eighth, together half
    (means of 1000 episodes: 0.011, 0.121, 0.475)."""
    env = jaxpg.make(NAME)
    caught = {}
    for hunters in (pursuit.random, pursuit.chase, pursuit.pinch):
        hunt = pursuit.play(env, KEY, hunters, episodes=400)
        caught[hunters] = float(hunt.caught)
        # What hunters gain and prey lose is what is caught, and the time.
        want = 2 * hunt.caught - 0.01 * hunt.steps
        np.testing.assert_allclose(hunt.returns["hunters"], want, atol=1e-4)
    assert caught[pursuit.random] < 0.03
    assert 0.07 < caught[pursuit.chase] < 0.17
    assert 0.4 < caught[pursuit.pinch] < 0.55


def test_check_env():
    jaxpg.check_env(NAME)
    jaxpg.check_env(jaxpg.make(NAME, hunters=1, prey=1, needed=1, size=5))


def test_errors():
    with pytest.raises(ValueError, match=r"size=2: allowed is an integer >= 3"):
        jaxpg.make(NAME, size=2)
    with pytest.raises(ValueError, match=r"prey=0: allowed is an integer >= 1"):
        jaxpg.make(NAME, prey=0)
    with pytest.raises(ValueError, match=r"needed=4: allowed is a number >= 1 and <= 3"):
        jaxpg.make(NAME, needed=4)
    with pytest.raises(ValueError, match=r"prey_speed=1.5: allowed"):
        jaxpg.make(NAME, prey_speed=1.5)
