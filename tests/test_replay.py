"""The buffers against a deque, NumPy priorities and explicit loops."""

import collections
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxpg.core.types import Transition
from jaxpg.replay import prioritized, uniform

CAPACITY = 37  # three groups of leaves, the last not full
ALPHA = 0.7


@functools.partial(jax.jit, donate_argnums=(0, 1))
def store(buffer, tree, rows):
    new = (buffer.position + jnp.arange(len(rows["x"]), dtype=jnp.int32)) % CAPACITY
    return uniform.add(buffer, rows), prioritized.add(tree, new[-CAPACITY:], ALPHA)


@functools.partial(jax.jit, donate_argnums=0)
def learn(tree, index, error):
    return prioritized.update(tree, index, error, ALPHA)


@jax.jit
def draw(buffer, tree, key):
    index, probability = prioritized.sample(tree, key, 8)
    return uniform.sample(buffer, key, 8), index, uniform.take(buffer, index), probability


@pytest.mark.parametrize("operations", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_operations_against_a_deque(operations):
    """Rows are dicts of different types. A row's priority goes with it; sums match to 1e-6."""
    rng, count = np.random.default_rng(0), 0
    rows, priorities = collections.deque(maxlen=CAPACITY), collections.deque(maxlen=CAPACITY)
    buffer = uniform.init({"x": jnp.zeros((), jnp.int32), "y": jnp.zeros((2,))}, CAPACITY)
    tree, largest, written = prioritized.init(CAPACITY), 1.0, 0
    for operation in range(operations):
        what = rng.choice(("add", "update", "sample"), p=(0.4, 0.3, 0.3)) if rows else "add"
        if what == "add":
            x = np.arange(count, count + rng.choice((1, 3, 50)))
            count += len(x)
            y = np.stack([x / 8, -x], 1)
            # 50 rows are more than fit: priorities are set for the rows that stay
            buffer, tree = store(buffer, tree, {"x": jnp.int32(x), "y": jnp.float32(y)})
            rows.extend(x)
            priorities.extend([largest] * len(x))
            written += len(x)
        elif what == "update":
            at = rng.integers(len(rows), size=8)  # some of them twice
            error = (rng.normal(size=CAPACITY) * 10.0 ** rng.integers(-3, 4))[at]
            oldest = written - len(rows)
            tree = learn(tree, jnp.int32((oldest + at) % CAPACITY), jnp.float32(error))
            for a, e in zip(at, error, strict=True):
                priorities[a] = abs(e) + prioritized.EPS
            largest = max(largest, np.abs(error).max() + prioritized.EPS)
        else:
            same, index, other, probability = draw(buffer, tree, jax.random.key(operation))
            assert set(np.asarray(same["x"])) <= set(rows)
            np.testing.assert_array_equal(same["y"], np.stack([same["x"] / 8, -same["x"]], 1))
            at = (np.asarray(index) - (written - len(rows))) % CAPACITY
            assert at.max() < len(rows)
            np.testing.assert_array_equal(other["x"], np.array(rows)[at])
            p = np.array(priorities) ** ALPHA
            np.testing.assert_allclose(probability, p[at] / p.sum(), rtol=1e-5)
        if operation % 20 == 0 or operation > operations - 100:
            check(buffer, tree, rows, priorities, written)
    assert count > 5 * operations


def check(buffer, tree, rows, priorities, written):
    slots = np.arange(written - len(rows), written) % CAPACITY
    assert (int(buffer.size), int(buffer.position)) == (len(rows), written % CAPACITY)
    np.testing.assert_array_equal(np.asarray(buffer.data["x"])[slots], list(rows))
    leaves = np.zeros(tree.sums[0].size)
    leaves[slots] = np.array(priorities) ** ALPHA
    for level in tree.sums:
        np.testing.assert_allclose(np.ravel(level), np.resize(leaves, level.size), rtol=1e-6)
        sums = leaves.reshape(-1, 16).sum(1)
        leaves = np.concatenate([sums, np.zeros(-len(sums) % 16)])


@pytest.mark.parametrize("stored", [7, CAPACITY + 5])
def test_sampling_is_uniform(stored):

    @jax.jit
    def draws(key):
        buffer = uniform.init(jnp.zeros((), jnp.int32), CAPACITY)
        buffer = uniform.add(buffer, jnp.arange(stored, dtype=jnp.int32))
        return uniform.sample(buffer, key, 50_000)

    x = np.asarray(draws(jax.random.key(0)))
    counts = np.bincount(x - max(stored - CAPACITY, 0), minlength=min(stored, CAPACITY))
    assert len(counts) == min(stored, CAPACITY)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("capacity", [1, 16, 17, 5000])
def test_sampling_is_proportional(capacity):
    """Over six orders of magnitude; rows without a priority are never drawn."""
    rng = np.random.default_rng(1)
    error = 10 ** rng.uniform(-3, 3, capacity) * (rng.random(capacity) < 0.7)
    error[0] = 1.0
    p = np.where(error > 0, error, 0.0) ** 0.5
    at = np.flatnonzero(p)

    @jax.jit
    def draws(key):
        size = jnp.float32(error[at] - prioritized.EPS)
        tree = prioritized.update(prioritized.init(capacity), jnp.int32(at), size, 0.5)
        few = jax.vmap(lambda k: prioritized.sample(tree, k, 2)[0])(jax.random.split(key, 30_000))
        return *prioritized.sample(tree, key, 60_000), few.reshape(-1)

    index, probability, few = map(np.asarray, draws(jax.random.key(0)))
    assert (p[index] > 0).all()
    np.testing.assert_allclose(probability, (p / p.sum())[index], rtol=1e-4)
    # Each share of the sum gives one draw, so counts are nearer their means than by chance.
    counts, mean = np.bincount(index, minlength=capacity), 60_000 * p / p.sum()
    assert np.abs(counts - mean).max() < 2.1
    # Drawn two at a time, over many keys, they spread as they should.
    big = mean > 60
    groups = np.append(np.bincount(few, minlength=capacity)[big], (~big)[few].sum())
    means = np.append(mean[big], mean[~big].sum())
    groups, means = groups[means > 0], means[means > 0]
    if capacity > 1:
        assert scipy.stats.chisquare(groups, means * (60_000 / means.sum())).pvalue > 1e-3


def test_importance_weights():
    p = np.array([0.1, 0.4, 0.02])
    w = (50 * p) ** -0.6
    found = prioritized.weights(jnp.asarray(p), jnp.int32(50), 0.6)
    np.testing.assert_allclose(found, w / w.max(), rtol=1e-5)
    np.testing.assert_allclose(prioritized.weights(jnp.asarray(p), 50, 0.0), 1)


def test_a_masked_update_changes_nothing():
    tree = prioritized.add(prioritized.init(20), jnp.arange(20), 0.5)
    index, error = jnp.array([3, 4]), jnp.array([5.0, 7.0])
    kept = prioritized.update(tree, index, error, 0.5, False)
    jax.tree.map(np.testing.assert_array_equal, kept, tree)
    half = prioritized.update(tree, index, error, 0.5, jnp.array([True, False]))
    assert float(half.largest) == pytest.approx(5, abs=1e-5)
    np.testing.assert_allclose(half.sums[0][0, 3:5], [5**0.5, 1], rtol=1e-6)


def steps_of(reward, terminated, truncated, obs, begin, n, gamma):
    """The definition, in float64: an environment's own steps from `begin`, in order."""
    total, k = 0.0, 0
    while True:
        total += gamma**k * reward[begin + k]
        ended = terminated[begin + k] or truncated[begin + k]
        k += 1
        if k == n or ended or begin + k == len(reward):
            last = begin + k - 1
            return total, 0.0 if terminated[last] else gamma**k, obs[last]


@pytest.mark.parametrize("n", [1, 2, 5, 40])
@pytest.mark.parametrize("written", [24, 30, 66])
def test_n_steps_stop_at_an_episodes_end_and_at_the_newest_row(n, written):
    """Three environments, written six rows at a time into a ring of 30: in part, full, wrapped."""
    envs, capacity, gamma, rng = 3, 30, 0.9, np.random.default_rng(2)
    reward = rng.normal(size=written)
    terminated, truncated = rng.random((2, written)) < 0.12
    at = np.arange(written, dtype=np.float32)
    row = Transition(*(jnp.zeros(()),) * 3, *(jnp.zeros((), bool),) * 2, jnp.zeros(()), {})
    buffer = uniform.init(row, capacity)
    for i in range(0, written, 6):
        s = slice(i, i + 6)
        columns = (np.float32(at[s]), np.float32(at[s]), np.float32(reward[s]))
        rows = Transition(*columns, terminated[s], truncated[s], np.float32(at[s]), {})
        buffer = uniform.add(buffer, jax.tree.map(jnp.asarray, rows))
    oldest = max(written - capacity, 0)
    times = np.arange(oldest, written)
    found = jax.jit(uniform.n_step, static_argnums=(2, 3))(
        buffer, jnp.int32(times % capacity), n, envs, gamma
    )
    for i, t in enumerate(times):
        own = slice(t, None, envs)  # the steps that the same environment took from t on
        data = (x[own] for x in (reward, terminated, truncated, at))
        np.testing.assert_allclose([x[i] for x in found], steps_of(*data, 0, n, gamma), rtol=2e-5)


@pytest.mark.parametrize("seeds", [0, 2])
def test_time_and_memory_do_not_depend_on_the_capacity(seeds):
    """A loop of adding, sampling and updating priorities, with the buffers donated."""

    def loop(buffer, tree, key):
        def body(_, loop):
            buffer, tree, key = loop
            key, k = jax.random.split(key)
            rows = jnp.broadcast_to(jax.random.uniform(k), (10, 8))
            new = (buffer.position + jnp.arange(10, dtype=jnp.int32)) % uniform.capacity(buffer)
            buffer, tree = uniform.add(buffer, rows), prioritized.add(tree, new, 0.5)

            def update(_, tree):
                index, _ = prioritized.sample(tree, k, 16)
                return prioritized.update(tree, index, uniform.take(buffer, index).sum(-1), 0.5)

            return buffer, jax.lax.fori_loop(0, 2, update, tree), key

        return jax.lax.fori_loop(0, 50, body, (buffer, tree, key))

    def seconds(capacity):
        args = uniform.init(jnp.zeros(8), capacity), prioritized.init(capacity), jax.random.key(0)
        program = loop
        if seeds:
            program = jax.vmap(loop)
            args = jax.tree.map(lambda x: jnp.stack([x] * seeds), args)
        else:
            args = jax.tree.map(jnp.copy, args)
        program = jax.jit(program, donate_argnums=(0, 1)).lower(*args).compile()
        memory = program.memory_analysis()
        size = sum(x.nbytes for x in jax.tree.leaves(args[:2]))
        begun = time.process_time()
        jax.block_until_ready(program(*args))
        return time.process_time() - begun, memory.temp_size_in_bytes / size

    small, _ = seconds(1_000)
    large, extra = seconds(500_000)
    assert large < 4 * small + 0.05
    assert extra < 0.1
