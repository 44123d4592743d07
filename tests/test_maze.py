"""Mazes: trees by enumeration, the shortest way by waves in plain Python, and what is seen."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core import env as E
from jaxpg.envs import maze
from jaxpg.experiment.render import frames, scenes
from tests.test_render import RANDOM, cell, near, play

LEVELS = 40
MAPS = np.asarray(jax.jit(jax.vmap(lambda level: maze.carve(level, 17)))(np.arange(LEVELS)))


def waves(free, start, goal):
    """Steps to a goal from all cells that are reached, and the moves of a shortest way."""
    found, wave = {goal: 0}, [goal]
    for i, j in wave:
        for at in [(i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)]:
            if free[at] and at not in found:
                found[at] = found[i, j] + 1
                wave.append(at)
    at, moves = start, []
    while at != goal:
        way = [tuple(int(x) for x in at + move) for move in maze.MOVES]
        action = min(range(4), key=lambda a: found.get(way[a], 10**9))
        moves.append(action)
        at = way[action]
    return found, moves


def test_every_level_is_a_tree_over_all_rooms():
    """Connected, and with as many ways as rooms less one: exactly one way between any two."""
    for free in MAPS:
        assert free[1::2, 1::2].all()
        assert not free[[0, -1]].any()
        assert not free[:, [0, -1]].any()
        assert not free[2:-1:2, 2:-1:2].any()  # the posts between walls
        assert free.sum() == 64 + 63
        assert len(waves(free, (1, 1), (15, 15))[0]) == 127
    assert len({free.tobytes() for free in MAPS}) == LEVELS


def test_spanning_tree_is_that_of_a_loop_over_walls():
    """Kruskal's in plain Python, with sets of rooms."""
    ends = maze.walls(4)
    assert len(ends) == 24
    order = np.random.default_rng(0).permutation(24)
    parts, gone = {room: {room} for room in range(16)}, np.zeros(24, bool)
    for wall in order:
        one, other = (parts[room] for room in ends[wall].tolist())
        if one is not other:
            gone[wall] = True
            one |= other
            parts |= dict.fromkeys(one, one)
    np.testing.assert_array_equal(maze.spanning_tree(jnp.asarray(order), 4), gone)


def test_small_levels_are_all_trees_equally_often():
    """Of four rooms there are four trees, each without one of the four ways."""
    maps = np.asarray(jax.jit(jax.vmap(lambda level: maze.carve(level, 5)))(np.arange(4000)))
    counts = collections.Counter(free.tobytes() for free in maps)
    assert len(counts) == 4
    assert all(abs(n - 1000) < 5 * 27.4 for n in counts.values())  # five deviations


def test_shortest_path_is_that_of_a_search_and_its_moves_reach_the_goal():
    env = jaxpg.make("Maze-jaxpg", level=7)
    found, moves = waves(MAPS[7], (1, 1), (15, 15))
    distances = np.asarray(jax.jit(env.core.distances)(env.params))
    for i, j in np.ndindex(17, 17):
        assert distances[i, j] == found.get((i, j), 17 * 17)
    lengths = jax.jit(
        jax.vmap(lambda level: env.core.shortest_path(env.params.replace(level=level)))
    )
    assert lengths(np.arange(LEVELS)).tolist() == [
        len(waves(free, (1, 1), (15, 15))[1]) for free in MAPS
    ]
    step = jax.jit(lambda state, action: E.step(env, state, action[None], jax.random.key(0)))
    state, rewards = jax.jit(lambda: E.reset(env, jax.random.key(0), 1))(), []
    for action in moves:
        state, t = step(state, jnp.int32(action))
        rewards.append(float(t.reward[0]))
    assert (rewards[:-1], rewards[-1]) == ([0.0] * (len(moves) - 1), 1.0)
    assert t.terminated[0]
    assert t.next_obs[0].argmax() == 15 * 15 - 1
    assert t.next_obs[0].sum() == 1


def test_walls_hold_and_the_time_limit_truncates():
    env = jaxpg.make("Maze-jaxpg", size=5, max_steps_in_episode=3)
    state = E.reset(env, jax.random.key(0), 1)
    for i in range(3):
        state, t = E.step(env, state, jnp.zeros(1, jnp.int32), jax.random.key(i))
        assert (t.next_obs == t.obs).all()
        assert (bool(t.truncated[0]), bool(t.terminated[0])) == (i == 2, False)


def test_a_view_is_a_window_of_the_map():
    core = maze.Maze(9, view=5)
    free, size = np.asarray(maze.carve(2, 9)), 9
    wide = np.zeros((size + 4, size + 4, 2))
    wide[2:-2, 2:-2, 0], wide[size, size, 1] = ~free, 1
    for i, j in [(1, 1), (7, 7), (5, 3)]:
        state = maze.State(jnp.asarray(free), jnp.array([i, j], jnp.int32), jnp.int32(0))
        np.testing.assert_array_equal(core.observe(state), wide[i : i + 5, j : j + 5])


@pytest.mark.slow  # its quick twins are the tests of `carve` over levels
def test_levels_are_drawn_for_each_episode_and_replayed():
    env = jaxpg.randomized(jaxpg.make("Maze-jaxpg", size=9), level=(0, 999))
    state = jax.jit(lambda: E.reset(env, jax.random.key(0), 6))()
    levels = np.asarray(state.inner.memory["level"])
    assert len(set(levels.tolist())) > 3
    again = jax.vmap(lambda level: maze.carve(level, 9))(levels)
    np.testing.assert_array_equal(state.inner.inner.free, again)


def test_other_sizes_are_refused():
    for fields in ({"size": 16}, {"size": 3}, {"view": 4}, {"view": 1}, {"level": -1}):
        with pytest.raises(ValueError, match=rf"Maze-jaxpg {next(iter(fields))}=.*allowed is"):
            jaxpg.make("Maze-jaxpg", **fields)


def test_a_maze_has_a_scene():
    env = jaxpg.make("Maze-jaxpg", size=9, max_steps_in_episode=5)
    image = frames.draw_frame(scenes.scene_for(env), play(RANDOM, env), 0)
    for (i, j), free in np.ndenumerate(np.asarray(maze.carve(0, 9))):
        assert near(image, cell(i, j, 9, 9), "#4A4A4A") == (not free)
