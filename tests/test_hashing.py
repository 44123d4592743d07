"""JAX's random numbers to the bit, without the loop that JAX makes of them on a CPU."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import mlir

import jaxpg
from jaxpg.core import random_cpu

# Threefry-2x32 with 20 rounds, from the authors' known-answer file: key, counter, result.
KNOWN = {
    "zeros": ("00000000 00000000", "00000000 00000000", "6b200159 99ba4efe"),
    "ones": ("ffffffff ffffffff", "ffffffff ffffffff", "1cb996fc bb002be7"),
    "pi": ("13198a2e 03707344", "243f6a88 85a308d3", "c4923a9c 483df7a0"),
}


jaxpg.use_fast_random()
KEY = jax.random.key(3)
OWN = KEY.dtype._impl  # the functions that JAX has for keys of this kind


@pytest.mark.parametrize("name", KNOWN)
def test_it_is_threefry(name):
    key, counter, result = (
        np.array([int(w, 16) for w in x.split()], np.uint32) for x in KNOWN[name]
    )
    np.testing.assert_array_equal(random_cpu.threefry(*key, *counter), result)


def both(draw, own):
    """What is drawn, twice, each compiled: by jaxpg's rules, and by JAX's own function."""
    mine = jax.jit(draw)(KEY)
    if jnp.issubdtype(mine.dtype, jax.dtypes.prng_key):
        mine = jax.random.key_data(mine)
    return mine, jax.jit(own)(jax.random.key_data(KEY))


@pytest.mark.parametrize("shape", [(), (5,), (3, 2), (0, 4)], ids=str)
@pytest.mark.parametrize("width", [8, 16, 32])
def test_bits_are_those_of_jax(width, shape):
    dtype = jnp.dtype(f"uint{width}")
    mine, own = both(
        lambda key: jax.random.bits(key, shape, dtype),
        lambda key: OWN.random_bits(key, width, shape),
    )
    assert mine.dtype == own.dtype == dtype
    np.testing.assert_array_equal(mine, own)


@pytest.mark.parametrize("shape", [(), (5,), (3, 2)], ids=str)
def test_new_keys_are_those_of_jax(shape):
    mine, own = both(lambda key: jax.random.split(key, shape), lambda key: OWN.split(key, shape))
    np.testing.assert_array_equal(mine, own)


@pytest.mark.parametrize("data", [0, 7, -1, 2**31 - 1])
def test_keys_with_a_number_are_those_of_jax(data):
    x = jnp.int32(data)
    mine, own = both(lambda key: jax.random.fold_in(key, x), lambda key: OWN.fold_in(key, x))
    np.testing.assert_array_equal(mine, own)


def test_keys_and_numbers_of_several_axes():
    """Draws under `vmap`, over keys, numbers and both, are those of each alone."""
    keys = jax.random.split(KEY, (3, 2))
    data = jnp.arange(6, dtype=jnp.int32).reshape(3, 2)

    def draw(key, number):
        new = jax.random.fold_in(key, number)
        return jax.random.bits(jax.random.split(new, 3)[2], (4,))

    several = jax.jit(jax.vmap(jax.vmap(draw)))(keys, data)
    outer = jax.jit(jax.vmap(jax.vmap(draw, (0, None)), (None, 0)))(keys[:, 0], data[:, 0])
    one = jax.jit(draw)
    for i in range(3):
        for j in range(2):
            np.testing.assert_array_equal(several[i, j], one(keys[i, j], data[i, j]))
        for j in range(3):
            np.testing.assert_array_equal(outer[i, j], one(keys[j, 0], data[i, 0]))


@pytest.mark.parametrize("case", ["another hash", "64 bits", "counted as before"])
def test_other_draws_stay_as_jax_has_them(case):
    """Outside of `jit` JAX calls the functions of a key's kind by itself, without a rule."""
    with jax.threefry_partitionable(case != "counted as before"), jax.enable_x64(case == "64 bits"):
        key = jax.random.key(3, impl="rbg" if case == "another hash" else None)
        dtype = jnp.uint64 if case == "64 bits" else jnp.uint32

        def draw(key):
            return jax.random.bits(jax.random.fold_in(key, 2), (5,), dtype)

        keys = jax.jit(lambda key: jax.random.split(key, 4))(key)
        np.testing.assert_array_equal(
            jax.random.key_data(keys), jax.random.key_data(jax.random.split(key, 4))
        )
        drawn = jax.vmap(draw)(keys)
        assert drawn.dtype == dtype
        np.testing.assert_array_equal(jax.jit(jax.vmap(draw))(keys), drawn)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of the CPU's programs")
def test_there_is_no_loop():
    def draw(key):
        return jax.random.normal(key, (1000,)), jax.random.split(key)

    assert "while" not in jax.jit(draw).lower(jax.random.key(0)).compile().as_text()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of the CPU's programs")
def test_a_hash_is_worked_out_once():
    """Twenty rounds have twenty shifts to the left, whoever reads what follows."""

    def chain(key):
        for _ in range(3):
            key, _ = jax.random.split(key)
        draw = jax.random.uniform(key, (4, 8))
        return [draw, *draw.T]

    program = jax.jit(chain).lower(jax.random.key(0)).compile().as_text()
    assert program.count("shift-left(") == 4 * 20


CPU_PROGRAM = """
def loops():
    f = lambda key: jax.random.normal(key, (1000,))
    jax.clear_caches()
    traced = jax.jit(f).trace(jax.random.key(0))
    return "while" in traced.lower(lowering_platforms=("cpu",)).as_text()
"""


def test_an_import_leaves_jax_as_it_was():
    """And the first loop of jaxpg's own switches it."""
    code = f"""
import jax
{CPU_PROGRAM}
import jaxpg, jaxpg.core.env, jaxpg.core.run, jaxpg.core.episodes
import jaxpg.loops.replay, jaxpg.experiment.runs
env = jaxpg.make("CartPole-v1")
assert [hasattr(getattr(jaxpg, name), "Config") for name in ("ppo", "sac", "cem", "q_learning")]
assert loops()
cfg = jaxpg.a2c.Config(num_envs=2, num_steps=2, hidden=(2,))
jax.eval_shape(lambda key: jaxpg.train(jaxpg.a2c, cfg, env, key, 4), jax.random.key(0))
assert not loops()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("moved", ["lower_fun", "register_lowering"])
def test_a_jax_whose_internals_have_moved_keeps_its_own(moved, monkeypatch):
    before = jax.random.normal(jax.random.key(0), (5,))
    monkeypatch.delattr(f"jax.interpreters.mlir.{moved}")
    assert random_cpu.use_fast_random.__wrapped__() is False
    jax.clear_caches()
    np.testing.assert_array_equal(jax.random.normal(jax.random.key(0), (5,)), before)


def test_a_rule_that_jax_no_longer_takes_is_not_switched_on(monkeypatch):
    def broken(*keys, **shape):
        raise TypeError("moved")

    taken = []
    monkeypatch.setattr(random_cpu, "split_keys", broken)
    own = mlir.register_lowering
    monkeypatch.setattr(
        mlir, "register_lowering", lambda p, *a, **kw: (taken.append(str(p)), own(p, *a, **kw))
    )
    assert random_cpu.use_fast_random.__wrapped__() is False
    assert taken == ["rehearsal"] * 3
