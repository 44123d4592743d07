"""What an import costs, by what it loads; each in a process of its own."""

import os
import subprocess
import sys

import pytest

CASES = {
    # gymnax makes JAX's devices, which the command chooses when it knows the agent.
    "agents": (
        "import jaxpg, jaxpg.presets; [getattr(jaxpg, x) for x in jaxpg.agents.NAMES]",
        "gymnax",
    ),
    "jaxpg alone": ("import jaxpg", "jax gymnax flax optax distrax matplotlib.pyplot seaborn"),
    "an environment": (
        "import jaxpg; jaxpg.make('CartPole-v1')",
        "matplotlib.figure matplotlib.axes scipy.stats distrax",
    ),
    "a discrete policy": (
        "import jaxpg; jaxpg.make('CartPole-v1'); jaxpg.ppo",
        "matplotlib.figure scipy.stats distrax tensorflow_probability",
    ),
}


def python(code, **options):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


@pytest.mark.parametrize("name", CASES)
def test_nothing_is_loaded_that_is_not_needed(name):
    code, unwanted = CASES[name]
    done = python(f"{code}\nimport sys\nprint(*set({unwanted.split()!r}) & set(sys.modules))")
    loaded = set(done.stdout.split())
    assert done.returncode == 0, done.stderr
    assert not loaded


def test_what_waits_is_there_when_it_is_asked_for():
    """Also for whoever imports it again, or a part of it, or was given it by gymnax."""
    code = """
import jaxpg, sys
jaxpg.make("CartPole-v1")
import matplotlib.pyplot as plt
import seaborn
from gymnax.environments.bsuite import catch
assert "matplotlib.figure" not in sys.modules
assert not hasattr(plt, "__warningregistry__") and "matplotlib.figure" not in sys.modules
fig, ax = plt.subplots()
assert sys.modules["matplotlib.pyplot"].gcf() is fig is catch.plt.gcf() is plt.gcf()
import seaborn.utils
from seaborn import color_palette
assert len(seaborn.color_palette()) == len(color_palette())
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_one_call_keeps_compiled_programs(tmp_path):
    code = f"""
import jaxpg, jax
jaxpg.use_cache({str(tmp_path)!r})
env = jaxpg.make("CartPole-v1")
cfg = jaxpg.a2c.Config(num_envs=2, hidden=(4,))
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
jaxpg.run(jaxpg.a2c, cfg, env, jax.random.key(0), total_steps=1)
print(sum(name.endswith("cache_hits") for name in hits))
"""
    # Two make programs that are too quick to be worth keeping; the third is the tests' own folder.
    ours = ("XLA_FLAGS", "JAX_DISABLE_MOST_OPTIMIZATIONS", "JAX_COMPILATION_CACHE_DIR")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    hits = [int(python(code, env=env).stdout) for _ in range(2)]
    assert hits[0] == 0
    assert hits[1] >= 2  # the state's beginning and the chunk
