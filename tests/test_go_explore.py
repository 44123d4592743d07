"""Go-Explore: the archive against loops in NumPy, ways against a walk over the map."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.agents import go_explore
from jaxpg.core import env as E
from jaxpg.core.run import run
from jaxpg.core.types import EnvState
from jaxpg.envs import maze
from jaxpg.loops import archive as A

SIZE, STEPS = 7, 25
ENV = jaxpg.make("Maze-jaxpg", size=SIZE, level=2, max_steps_in_episode=STEPS)
CFG = go_explore.Config(
    num_envs=4, num_steps=8, trajectory_steps=STEPS, slots=1, repeat=0.0, learning_rate=1e-2,
    hidden=(32,), imitation_updates=20,
)  # fmt: skip


@functools.cache
def trained():
    total = 200 * go_explore.steps_per_iter(CFG)
    return run(jaxpg.go_explore, CFG, ENV, jax.random.key(0), total_steps=total, chunk=20)


def states(score, length):
    """States of environments with these returns and lengths, numbered."""
    score, length = jnp.asarray(score, jnp.float32), jnp.asarray(length, jnp.int32)
    number = jnp.arange(len(score), dtype=jnp.int32)
    return EnvState(number, number, score, length, {}, {})


def test_add_keeps_the_best_way_of_each_cell():
    """Against a loop over the steps, one by one; equal ways change nothing."""
    rng, cells, many = np.random.default_rng(0), 6, 40
    empty = states(np.zeros(cells), np.zeros(cells))
    archive = A.Archive(
        empty._replace(inner=empty.inner - 100), jnp.zeros((cells, 3), jnp.int32),
        jnp.zeros(cells, bool), jnp.zeros(cells, jnp.int32),
    )  # fmt: skip
    add, expected, seen = jax.jit(A.add), {}, np.zeros(cells, int)
    for _ in range(4):
        cell, valid = rng.integers(0, cells - 1, many), rng.random(many) < 0.7
        score, length = rng.integers(0, 3, many), rng.integers(1, 4, many)
        actions, state = rng.integers(0, 9, (many, 3)), states(score, length)
        number = state.inner + 1000 * (1 + sum(seen))
        archive = add(
            archive, jnp.asarray(cell), state._replace(inner=number), jnp.asarray(actions),
            jnp.asarray(valid),
        )  # fmt: skip
        for i in range(many):
            if valid[i]:
                new = (score[i], -length[i])
                if cell[i] not in expected or new > expected[cell[i]][0]:
                    expected[cell[i]] = new, int(number[i]), actions[i]
                seen[cell[i]] += 1
    np.testing.assert_array_equal(archive.seen, seen)
    np.testing.assert_array_equal(np.flatnonzero(archive.filled), sorted(expected))
    for c, ((score, length), number, actions) in expected.items():
        assert float(archive.state.episode_return[c]) == score
        assert int(archive.state.episode_length[c]) == -length
        assert int(archive.state.inner[c]) == number
        np.testing.assert_array_equal(archive.actions[c], actions)


def test_cells_are_drawn_by_their_weights():
    seen, filled = jnp.array([0, 3, 8, 0, 99]), jnp.array([True, True, True, False, True])
    archive = A.Archive(states(np.zeros(5), np.zeros(5)), jnp.zeros((5, 1)), filled, seen)
    drawn = np.asarray(A.choose(archive, jax.random.key(0), 40_000))
    weight = np.array([1, 1 / 2, 1 / 3, 0, 1 / 10])
    share = np.bincount(drawn, minlength=5) / len(drawn)
    np.testing.assert_allclose(share, weight / weight.sum(), atol=0.01)


def test_best_end_is_that_of_a_loop():
    rng, (t, n, steps) = np.random.default_rng(1), (5, 4, 6)
    ended, length = rng.random((t, n)) < 0.5, rng.integers(1, 9, (t, n))
    score = rng.integers(0, 3, (t, n)).astype(np.float32)
    actions = rng.integers(0, 4, (t, n, steps))
    found = A.Found(states([0], [0]), *map(jnp.asarray, (actions, ended, score, length)))
    for old in (-np.inf, 1.0, 3.0):
        way = A.Way(jnp.float32(old), jnp.int32(2), jnp.full(steps, -1))
        best = A.best_end(way, found)
        ways = [(old, -2, None)]
        ways += [
            (score[i], -length[i], i)
            for i in np.ndindex(t, n) if ended[i] and length[i] <= steps
        ]  # fmt: skip
        expected = max(ways, key=lambda x: x[:2])
        assert (float(best.score), -int(best.length)) == expected[:2]
        own = np.full(steps, -1) if expected[2] is None else actions[expected[2]]
        np.testing.assert_array_equal(best.actions, own)


def test_every_way_of_the_archive_leads_to_its_cell():
    """Walked over the map in plain Python; the state that is restored is there too."""
    archive, inner = trained().state.archive, SIZE - 2
    free = np.asarray(maze.carve(2, SIZE))
    cells = np.flatnonzero(archive.filled)
    assert len(cells) > 5
    for c in cells:
        at, length = np.array([1, 1]), int(archive.state.episode_length[c])
        for action in np.asarray(archive.actions[c])[:length]:
            to = at + maze.MOVES[action]
            at = to if free[tuple(to)] else at
        assert (at - 1).tolist() == list(divmod(int(c), inner))
        np.testing.assert_array_equal(archive.state.inner.position[c], at)
        assert int(archive.state.inner.time[c]) == length


def test_ways_become_the_shortest_and_the_policy_walks_the_best():
    """Every way of a tree is as long as the distance; the goal itself ends, and is no cell."""
    result, env = trained(), ENV
    free, archive = np.asarray(maze.carve(2, SIZE)), result.state.archive
    found, wave = {(1, 1): 0}, [(1, 1)]
    for i, j in wave:
        if (i, j) == (SIZE - 2, SIZE - 2):
            continue  # what is behind the goal is not reached
        for at in [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]:
            if free[at] and at not in found:
                found[at] = found[i, j] + 1
                wave.append(at)
    goal = found.pop((SIZE - 2, SIZE - 2))
    index = {(i - 1) * (SIZE - 2) + j - 1: d for (i, j), d in found.items()}
    assert np.flatnonzero(archive.filled).tolist() == sorted(index)
    lengths = np.asarray(archive.state.episode_length)
    assert all(lengths[c] == d for c, d in index.items())
    way = result.state.best_way
    assert (float(way.score), int(way.length)) == (1.0, goal)
    assert result.metrics["episode/replayed_return"][-1] == 1
    key = jax.random.key(1)
    returns = jaxpg.evaluate(jaxpg.go_explore, result.cfg, env, result.state, key, episodes=2)
    assert returns.tolist() == [1.0, 1.0]


def test_what_led_back_is_not_imitated():
    """Of steps at equal observations the last that is taken counts."""
    places, taken = np.array([0, 1, 2, 1, 3, 0]), np.array([True] * 5 + [False])
    obs = jnp.eye(25)[places]
    kept = A.last_visits(ENV, obs, jnp.asarray(taken))
    assert kept.tolist() == [True, False, True, True, True, False]


def test_cells_of_values_of_grids_and_of_a_function():
    obs = jnp.eye(25)[jnp.array([3, 24])]
    assert A.num_cells(CFG, ENV) == 25 + 1 + 1
    assert A.cell_of(CFG, ENV, obs).tolist() == [3, 24]

    def column(x):
        return x.argmax() % 5

    own = go_explore.Config(cell=column, slots=5)
    assert A.num_cells(own, ENV) == 5
    assert A.cell_of(own, ENV, obs).tolist() == [3, 4]
    car = jaxpg.make("MountainCar-v0")
    grid = go_explore.Config(bins=(4, 2))
    assert A.num_cells(grid, car) == 8
    assert A.cell_of(grid, car, jnp.array([[-1.2, -0.07], [0.59, 0.01]])).tolist() == [0, 7]


@pytest.mark.slow  # its quick twin is the test of `best_end`
def test_longer_ways_are_left_out():
    """With room for three actions nothing is kept that is four steps away."""
    cfg = go_explore.Config(
        num_envs=2, num_steps=12, trajectory_steps=3, slots=1, repeat=0.0, hidden=(4,)
    )
    state = jax.jit(functools.partial(go_explore.init, cfg, ENV))(jax.random.key(0))
    step = jax.jit(functools.partial(go_explore.step, cfg, ENV))
    for _ in range(8):
        state, metrics = step(state)
    assert int(state.archive.state.episode_length.max()) == 3
    assert np.isnan(metrics["episode/best_return"])


def test_an_environment_on_the_host_is_refused():
    class Host(type(ENV.core)):
        batched = True

    env = E.Env(ENV.params, Host(size=SIZE))
    with pytest.raises(ValueError, match=r"go_explore.Config on Maze-jaxpg.*host: allowed"):
        go_explore.init(CFG, env, jax.random.key(0))


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (lambda obs: obs[0], r"it gives float32\[\], allowed is a function of one observation"),
        (lambda obs: obs.astype(int), r"it gives int32\[2\], allowed"),
        (lambda obs: None, "it gives None, allowed"),
        (np.sum, r"it gives float32\[\], allowed"),
        (lambda obs, action: 0, "missing a required argument: 'action'; allowed is a function of"),
    ],
)
def test_a_cell_is_one_integer(cell, words):
    env = jaxpg.make("MountainCar-v0")
    cfg = go_explore.Config(cell=cell, slots=8)
    with pytest.raises(ValueError, match=f"go_explore.Config cell=.*{words}"):
        go_explore.init(cfg, env, jax.random.key(0))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"bins": (1000, 1000), "low": (-1.2, -1.0), "high": (1.0, 1.0)}, r"bins=\(1000, 1000\)"),
        ({"slots": 2**30}, f"slots={2**30}"),
        ({"high": (1.0, 1.0), "slots": 8}, r"high=\(1.0, 1.0\)"),
    ],
)
def test_an_archive_fits_into_memory_and_bins_have_ends(fields, words):
    env = jaxpg.make("MountainCar-v0")
    cfg = go_explore.Config(trajectory_steps=10_000, **fields)
    with pytest.raises(
        ValueError, match=f"go_explore.Config {words}: .*((GB|TB) of memory|without bins)"
    ):
        go_explore.init(cfg, env, jax.random.key(0))
