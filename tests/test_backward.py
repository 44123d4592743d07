"""The backward curriculum: starts along an episode, against plays of it and plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.agents import go_explore
from jaxpg.core import env as E
from jaxpg.core.train import initial_state
from jaxpg.loops import backward

PLAIN = jaxpg.make("Maze-jaxpg", size=7, level=2, max_steps_in_episode=25)
STICKY = jaxpg.sticky_actions(PLAIN, 0.25)
CHANCE = jnp.uint32(7)
CFG = go_explore.Config(
    num_envs=4, num_steps=8, trajectory_steps=25, slots=1, repeat=0.0, hidden=(8,),
    robustify=True, minibatches=2, num_epochs=1, start_window=4,
)  # fmt: skip


@functools.cache
def explored():
    """A state after some iterations in a maze in which actions stick by chance."""
    state = jax.jit(functools.partial(initial_state, jaxpg.go_explore, CFG, STICKY))(
        jax.random.key(1)
    )
    step, rows = jax.jit(functools.partial(go_explore.step, CFG, STICKY)), []
    for _ in range(25):
        state, metrics = step(state)
        rows.append(jax.device_get(metrics))
    return jax.device_get(state), rows


@functools.cache
def recorded():
    """The best episode, played again."""
    state, _ = explored()
    record = jax.jit(functools.partial(backward.record, STICKY))
    way = state.best_way
    return way, record(jnp.asarray(way.actions), way.length, state.chance)


def test_what_was_found_by_chance_is_played_again_exactly():
    """Every way of the archive leads to its very state, though actions stick by chance."""
    state, rows = explored()
    archive, record = state.archive, jax.jit(functools.partial(backward.record, STICKY))
    cells = np.flatnonzero(archive.filled)
    lengths = np.asarray(archive.state.episode_length)
    assert max(lengths[cells]) >= 6
    for cell in [c for c in cells if 0 < lengths[c] < 25][:8]:
        shown = record(
            jnp.asarray(archive.actions[cell]), jnp.int32(lengths[cell] + 1), state.chance
        )
        at = jax.tree.map(lambda x, i=lengths[cell]: x[i], shown.state)
        for x, y in zip(
            jax.tree.leaves(at),
            jax.tree.leaves(jax.tree.map(lambda x, c=cell: x[c], archive.state.inner)),
            strict=True,
        ):
            np.testing.assert_array_equal(x, y)
    assert rows[-1]["episode/best_return"] == 1
    assert rows[-1]["episode/replayed_return"] == 1


def test_the_record_is_the_episode_step_by_step():
    """Beside `step_by_chance` from the reset, one call a step."""
    way, shown = recorded()
    chance = explored()[0].chance
    state, total = E.reset(STICKY, jax.random.key(chance), 1), 0.0
    step = jax.jit(functools.partial(backward.step_by_chance, STICKY))
    rewards = []
    for i in range(int(way.length)):
        np.testing.assert_array_equal(shown.obs[i], state.obs[0])
        state, t = step(state, jnp.asarray(way.actions[i : i + 1]), chance)
        total += float(t.reward[0])
        rewards.append(float(t.reward[0]))
        ended = bool((t.terminated | t.truncated)[0])
        assert ended == (i == int(way.length) - 1)
    assert int(shown.length) == int(way.length)
    assert total == float(way.score)
    for i in range(int(way.length)):
        assert float(shown.to_go[i]) == pytest.approx(sum(rewards[i:]))


def test_episodes_begin_in_the_window_and_tell_whether_they_match():
    """Starts alone are drawn; what follows is the environment's own step; a match is a return that
    is at least what the demonstration had left."""
    way, shown = recorded()
    length, window = int(way.length), 4
    curriculum = backward.init(window)._replace(distance=jnp.int32(min(6, length)))
    world = backward.along(STICKY, shown, curriculum, window)
    first = length - min(6, length)
    state = jax.jit(E.reset, static_argnums=2)(world, jax.random.key(3), 400)
    inner, wanted, _ = state.inner
    time = np.asarray(inner.inner.time)
    allowed = np.arange(first, min(first + window, length))
    assert set(time) == set(allowed)
    counts = np.array([(time == i).sum() for i in allowed])
    assert counts.min() > 400 / len(allowed) - 5 * np.sqrt(400 / len(allowed))
    np.testing.assert_array_equal(wanted, np.asarray(shown.to_go)[time])
    np.testing.assert_array_equal(state.obs, np.asarray(shown.obs)[time])

    def act(obs, carry, key):
        return jax.random.randint(key, (400,), 0, 4), carry, ()

    roll = jax.jit(lambda state, key: E.rollout(world, act, state, (), key, 25))
    _, _, t, _, metrics = roll(state, jax.random.key(4))
    ended, matched = np.asarray(t.terminated | t.truncated), np.asarray(t.signals[backward.MATCHED])
    assert (matched[~ended] == 0).all()
    # One reward is all that there is, so whoever reaches the goal matched.
    np.testing.assert_array_equal(matched > 0, np.asarray(t.reward) > 0)
    assert 0 < matched[ended].mean() < 1
    assert float(metrics[f"episode/{backward.MATCHED}"]) == pytest.approx(matched[ended].mean())


@pytest.mark.parametrize(
    ("length", "distance", "allowed"),
    [
        (10, 4, [6, 7, 8, 9]),
        (10, 9, [1, 2, 3, 4]),
        (10, 10, [0, 1, 2, 3]),
        (10, 12, [0, 1]),
        (10, 13, [0]),
        (10, 99, [0]),
        (2, 4, [0, 1]),
        (0, 4, [0]),
    ],
)
def test_the_window_moves_from_the_end_to_the_beginning(length, distance, allowed):
    shown = backward.Demonstration((), (), jnp.zeros(12), jnp.int32(length))
    state = backward.init(4)._replace(distance=jnp.int32(distance))
    world = backward.along(PLAIN, shown, state, 4)
    assert np.flatnonzero(world.params.chances).tolist() == allowed


def test_the_frontier_moves_by_the_share_that_matched():
    """Against a loop in plain Python, over rollouts without an end, with some and with many."""
    rng, window = np.random.default_rng(0), CFG.start_window
    shown = backward.Demonstration((), (), jnp.zeros(12), jnp.int32(12))
    state, update = backward.init(window), jax.jit(functools.partial(backward.update, CFG))
    distance, matched, ended, moves, retreat = window, 0, 0, set(), 2
    for i in range(200):
        count = int(rng.integers(0, 5))
        share = np.nan if count == 0 else rng.integers(0, count + 1) * (i % 4 != 0) / count
        metrics = {
            "episode/count": jnp.int32(count),
            f"episode/{backward.MATCHED}": jnp.float32(share),
        }
        state, found = update(shown, state, metrics)
        matched, ended = matched + (round(count * share) if count else 0), ended + count
        if ended >= CFG.num_envs:
            moves.add(move := 2 if matched >= 0.2 * ended else -retreat if matched == 0 else 0)
            retreat = min(2 * retreat, 12 + window - 1) if matched == 0 else 2
            distance = min(max(distance + move, window), 12 + window - 1)
            matched = ended = 0
        assert int(state.distance) == distance
        assert int(found["backward/start"]) == max(12 - distance, 0)
    assert {-4, -2, 0, 2} <= moves


def test_returns_that_differ_by_rounding_match():
    wanted = jnp.array([0.99, -50.0, 0.0])
    assert backward.is_as_good(wanted - 1e-5, wanted).all()
    assert not backward.is_as_good(wanted - 0.01, wanted).any()


def test_with_it_an_iteration_has_twice_the_steps():
    off = go_explore.Config(num_envs=4, num_steps=8, trajectory_steps=25)
    assert go_explore.steps_per_iter(off) == 4 * 8 + 25
    assert go_explore.steps_per_iter(CFG) == 2 * 4 * 8 + 25
    cfg = go_explore.Config(robustify=True, num_envs=4, minibatches=5)
    with pytest.raises(ValueError, match=r"go_explore.Config minibatches=5"):
        go_explore.init(cfg, PLAIN, jax.random.key(0))
    cfg = go_explore.Config(robustify=True, num_envs=4, num_steps=1, minibatches=4)
    with pytest.raises(ValueError, match=r"normalize_advantage=True: .* a larger batch"):
        go_explore.init(cfg, PLAIN, jax.random.key(0))


class Endless:
    """Counts its steps, each of which is rewarded with 1; says in Python's bools that none ends."""

    name, default_params = "Endless", ()

    def reset(self, key, params):
        return jnp.zeros(1), jnp.int32(0)

    def step(self, key, state, action, params):
        obs = jnp.ones(1) * (state + 1)
        return obs, state + 1, 1.0, False, False, {"final_observation": obs}


def test_without_an_episode_none_matches_it():
    """And what a core says in Python's bools is read as its arrays are."""
    record = jax.jit(functools.partial(backward.record, E.Env((), Endless())))
    for length, to_go in ((0, [backward.UNMATCHED] * 3), (2, [2, 1, 0])):
        shown = record(jnp.zeros(3, jnp.int32), jnp.int32(length), CHANCE)
        assert int(shown.length) == length
        np.testing.assert_allclose(shown.to_go, to_go)
    assert not backward.is_as_good(jnp.array([0.0, 1e6]), jnp.full(2, backward.UNMATCHED)).any()


def test_what_many_draw_at_once_each_draws_alone_with_any_kind_of_keys():
    with jax.default_prng_impl("rbg"):
        keys = backward._step_keys(CHANCE, jnp.arange(4))
        alone = [jax.random.uniform(key) for key in keys]
        np.testing.assert_array_equal(jax.vmap(jax.random.uniform)(keys), alone)
