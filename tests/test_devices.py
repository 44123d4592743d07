"""One run's environments over devices: the same run, with its work split.

Two devices are given to a process of its own; the tests' own process has one.
"""

import json
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxpg
from jaxpg.core.parallel import devices

pytestmark = pytest.mark.defaults

SCALED = {"normalize_obs": True, "normalize_reward": True}
PPO = SCALED | {"num_envs": 8, "num_steps": 20, "hidden": (24,)}
SAC = SCALED | {
    "num_envs": 4,
    "num_steps": 4,
    "hidden": (24,),
    "buffer_size": 128,
    "learning_starts": 16,
    "batch_size": 8,
    "updates_per_step": 0.5,
}
CASES = {"ppo": ("CartPole-v1", PPO), "sac": ("Pendulum-v1", SAC)}
RUN = {"chunk": 5, "evaluations": 1, "episodes": 4, "checkpoints": 1}
KEY = jax.random.key(3)

CODE = """
import json, sys
import jax, numpy as np
import jaxpg
jaxpg.use_all_cores(2)
from jaxpg.core.plan import begin_run, run_chunk
from jaxpg.core.parallel.devices import mesh_context, put_on_mesh, run_mesh
from tests.test_devices import CASES, PPO, RUN, apart, whole_run

name, folder = sys.argv[1:]
env, settings = CASES[name]
one = whole_run(name, env, settings, data_parallel=False)
two = whole_run(name, env, settings, data_parallel=True)
if name == "ppo":
    whole_run("ppo", "CartPole-v1", PPO, 5, data_parallel=True, out=folder + "/two", **RUN)
    jaxpg.resume(folder + "/one", total_steps=10 * 160)

agent, env = getattr(jaxpg, name), jaxpg.make(env)
cfg = agent.Config(**settings, learning_rate_schedule="constant", total_steps=1e3)
mesh = run_mesh(agent, cfg, env, jax.random.key(0), True)
with mesh_context(mesh):
    state = begin_run(agent, cfg, env, put_on_mesh(mesh, jax.random.key(0)), mesh)
    program = run_chunk.lower(agent, cfg, env, state, np.int32(5), 5, mesh).compile()
devices = len(two.state.key.devices())
print(json.dumps([apart(one.state, two.state), devices, program.as_text()]))
"""


def whole_run(name, env, settings, iterations=10, **options):
    agent = getattr(jaxpg, name)
    cfg = agent.Config(**settings, learning_rate_schedule="constant")
    steps, options = iterations * agent.steps_per_iter(cfg), {"chunk": RUN["chunk"]} | options
    return jaxpg.run(agent, cfg, jaxpg.make(env), KEY, total_steps=steps, **options)


def apart(one, two) -> float:
    """How far two states are apart: relative to a number's size, where that is above 1."""

    def leaf(x, y):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        x, y = np.asarray(x, float), np.asarray(y, float)
        return float(np.max(np.abs(x - y) / np.maximum(np.abs(x), 1), initial=0))

    return max(jax.tree.leaves(jax.tree.map(leaf, one, two)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where `one` was half done on one device, and `two` on two."""
    return tmp_path_factory.mktemp("devices")


def run_on_two(name, folder):
    """How far the states of one device and of two are apart, how many there were, and the program
    of the latter."""
    command = [sys.executable, "-c", CODE, name, str(folder)]
    done = subprocess.run(command, timeout=600, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def found(folder):
    """What two devices did. They also went on with the run of one."""
    whole_run("ppo", "CartPole-v1", PPO, 5, data_parallel=True, out=folder / "one", **RUN)
    return run_on_two("ppo", folder)


def test_two_devices_equal_one(found):
    """After ten iterations, with all that a state holds: scales and the optimiser's."""
    difference, devices, _ = found
    assert devices == 2
    assert difference < 1e-5


def test_the_update_is_split(found):
    """Of a minibatch of 40 each device has 20, of the 160 that the critic sees at once 80; the
    gradients are added up in one collective."""
    program = found[2]
    products = {int(n) for n in re.findall(r"= f32\[(\d+),24\]\S* dot\(", program)}
    assert products >= {4, 20, 80}  # 4 of 8 environments, in the rollout
    assert not products & {8, 40, 160}
    sums = re.findall(r"= \((.*?)\) all-reduce\(", program)
    gradients = ("f32[24,4]", "f32[24]", "f32[2,24]", "f32[2]", "f32[1,24]", "f32[1]")
    assert any(all(shape in group for shape in gradients) for group in sums)


@pytest.mark.slow
def test_a_buffer_is_split(folder):
    """Its states are those of one device. Of a batch of 8 each device has 4; of 4 environments 2.
    Two critics are one of twice 24."""
    difference, devices, program = run_on_two("sac", folder)
    assert devices == 2
    assert difference < 1e-5
    products = {int(n) for n in re.findall(r"= f32\[(\d+),(?:24|48)\]\S* dot\(", program)}
    assert products == {2, 4}


@pytest.mark.filterwarnings("ignore:.*was made with devices")
def test_checkpoints_are_for_any_number_of_devices(found, folder):
    uncut = whole_run("ppo", "CartPole-v1", PPO)
    two_then_one = jaxpg.resume(folder / "two", total_steps=10 * 160)
    one_then_two = jaxpg.load(folder / "one")
    for result in (two_then_one, one_then_two):
        assert result.iteration == 10
        assert apart(uncut.state, result.state) < 1e-5


def test_without_a_mesh_nothing_is_said():
    text = jax.jit(lambda x: devices.shard_axis({"x": x}, 0)).lower(np.zeros((4, 2))).as_text()
    assert "sharding" not in text


@pytest.mark.parametrize(
    ("name", "settings", "key", "words"),
    [
        ("ppo", {"num_envs": 4}, KEY, "num_envs=4: with data_parallel=True allowed is a multiple"),
        ("cem", {}, KEY, "data_parallel=True: allowed is False, for cem has no num_envs"),
        ("ppo", {}, jax.random.split(KEY, 2), "data_parallel=True with 2 seeds: allowed is one"),
    ],
)
def test_what_cannot_be_laid_over_devices(name, settings, key, words, monkeypatch, tmp_path):
    monkeypatch.setattr(jax, "devices", lambda: [None] * 3)
    agent, env = getattr(jaxpg, name), jaxpg.make("CartPole-v1")
    cfg, options = agent.Config(**settings), {"total_steps": 100, "data_parallel": True}
    with pytest.raises(ValueError, match=words):
        jaxpg.run(agent, cfg, env, key, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
