"""JAX's random numbers to the bit, without the loop that JAX makes of them on a CPU."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core.primitives import threefry2x32_p
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
hash_of = jax.jit(threefry2x32_p.bind)


@pytest.mark.parametrize("name", KNOWN)
def test_it_is_threefry(name):
    key, counter, result = (
        np.array([int(w, 16) for w in x.split()], np.uint32) for x in KNOWN[name]
    )
    np.testing.assert_array_equal(hash_of(*key[:, None], *counter[:, None]), result[:, None])


def test_jax_draws_by_it():
    """Bits of a key are the two words of the hash of (0, i), exclusive or."""
    key, count = jax.random.key(3), jnp.arange(20, dtype=jnp.uint32)
    x, y = hash_of(*jax.random.key_data(key), jnp.zeros_like(count), count)
    np.testing.assert_array_equal(jax.jit(lambda k: jax.random.bits(k, (20,)))(key), x ^ y)


def test_words_of_other_shapes_are_broadcast():
    """Under `vmap` over keys [4, 1], of counters [1, 3]."""
    rng = np.random.default_rng(0)
    keys, x, y = rng.integers(2**32, size=(2, 4, 1)), *rng.integers(2**32, size=(2, 1, 3))
    words = [w.astype(np.uint32) for w in (*keys, x, y)]
    each = [hash_of(*(w[i : i + 1] for w in words[:2]), *words[2:]) for i in range(4)]
    np.testing.assert_array_equal(hash_of(*words), np.concatenate(each, 1))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of the CPU's programs")
def test_there_is_no_loop():
    def draw(key):
        return jax.random.normal(key, (1000,)), jax.random.split(key)

    assert "while" not in jax.jit(draw).lower(jax.random.key(0)).compile().as_text()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of the CPU's programs")
def test_a_hash_is_worked_out_once():
    """Twenty rounds have twenty shifts to the left, whoever reads what follows; one more packs."""

    def chain(key):
        for _ in range(3):
            key, _ = jax.random.split(key)
        draw = jax.random.uniform(key, (4, 8))
        return [draw, *draw.T]

    program = jax.jit(chain).lower(jax.random.key(0)).compile().as_text()
    assert program.count("shift-left(") == 4 * 21


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


@pytest.mark.parametrize("moved", ["lower_fun", "register_lowering"])
def test_a_jax_whose_internals_have_moved_keeps_its_own(moved, monkeypatch):
    before = jax.random.normal(jax.random.key(0), (5,))
    monkeypatch.delattr(f"jax.interpreters.mlir.{moved}")
    assert random_cpu.use_fast_random.__wrapped__() is False
    jax.clear_caches()
    np.testing.assert_array_equal(jax.random.normal(jax.random.key(0), (5,)), before)


def test_a_rule_that_jax_no_longer_takes_is_not_switched_on(monkeypatch):
    def broken(*words):
        raise TypeError("moved")

    taken = []
    monkeypatch.setattr(random_cpu, "_once", broken)
    own = mlir.register_lowering
    monkeypatch.setattr(
        mlir, "register_lowering", lambda p, *a, **kw: (taken.append(str(p)), own(p, *a, **kw))
    )
    assert random_cpu.use_fast_random.__wrapped__() is False
    assert taken == ["rehearsal"]
