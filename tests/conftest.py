"""What the tests share: tiny configs of every agent, and what was compiled already."""

import itertools
import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]


def quick_environment():
    """The environment in which XLA leaves out what pays only for programs that run for long: most
    of a test's time is compiling."""
    flags = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    quick = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"} | os.environ
    asked = os.environ.get("XLA_FLAGS", "")
    if flags not in asked:  # a worker has them from the process that started it
        environment = quick | {"XLA_FLAGS": f"{flags} {asked}"}
        code = [sys.executable, "-c", "import jax; jax.devices()"]
        done = subprocess.run(code, env=environment, capture_output=True, text=True)
        if not done.returncode:
            return environment
        # XLA ends a process that names a flag it no longer has.
        print(f"without {flags}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    return quick


def keep_programs(folder):
    """Programs that were compiled once are there for other processes, and the next time."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"


# Before JAX is imported. XLA's defaults, which users run, are for the slow tests marked `defaults`:
# of what an agent promises and learns, of what runs longer than it compiles, and of files that have
# not been tried without.
if os.environ.get("JAXPG_TEST_XLA") != "default":
    os.environ.update(quick_environment())
keep_programs(ROOT / ".pytest_cache" / f"xla-{version('jaxlib')}")

import jax
import pytest

import jaxpg
from jaxpg import agents
from jaxpg.core import machine
from tests.groups import (  # noqa: F401 - hooks
    pytest_collection_finish,
    pytest_runtest_logreport,
    pytest_runtest_makereport,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_xdist_make_scheduler,
)

machine.use_command_buffers()  # on a GPU tests run as the command does


def slow_of(values, *names):
    """Parameters of a test, of which these are for the slow part; the others are its quick twin."""
    return [pytest.param(x, marks=pytest.mark.slow) if x in names else x for x in values]


REPLAY = {
    "num_envs": 2,
    "num_steps": 2,
    "hidden": (4,),
    "buffer_size": 16,
    "learning_starts": 5,
    "batch_size": 4,
}
SCALED = {"normalize_obs": True, "normalize_reward": True}
TABLE = {
    "num_envs": 2,
    "num_steps": 4,
    "bins": (3,) * 4,
    "low": (-1.0,) * 4,
    "high": (1.0,) * 4,
}

# A new agent is one row: the smallest config that still goes through all of its code.
TINY = {
    "reinforce": {"num_envs": 2, "num_steps": 8, "hidden": (4,), "critic_updates": 2},
    "a2c": {"num_envs": 2, "num_steps": 4, "hidden": (4,), "memory": "lstm", "memory_size": 4},
    "a3c": SCALED | {"num_workers": 3, "lag": 2, "num_envs": 2, "num_steps": 4, "hidden": (4,)},
    "impala": SCALED
    | {"num_envs": 2, "num_steps": 4, "hidden": (4,), "lag": 2, "layer_norm": True},
    "npg": {
        "num_envs": 2,
        "num_steps": 4,
        "hidden": (4,),
        "critic_epochs": 2,
        "critic_minibatches": 2,
        "normalize_obs": True,
        "normalize_reward": True,
    },
    "trpo": {
        "num_envs": 2,
        "num_steps": 4,
        "hidden": (4,),
        "critic_epochs": 2,
        "critic_minibatches": 2,
        "normalize_obs": True,
        "normalize_reward": True,
    },
    "cpo": {
        "num_envs": 2,
        "num_steps": 4,
        "hidden": (4,),
        "critic_epochs": 2,
        "critic_minibatches": 2,
    },
    "ppo_lagrangian": {"normalize_obs": True}
    | {"num_envs": 2, "num_steps": 4, "hidden": (4,), "minibatches": 2, "critic_minibatches": 2},
    "ppo": {
        "num_envs": 2,
        "num_steps": 4,
        "hidden": (4,),
        "minibatches": 2,
        "num_epochs": 2,
        "normalize_obs": True,
        "normalize_reward": True,
        "target_kl": 0.05,
    },
    "option_critic": SCALED
    | {"num_envs": 2, "num_steps": 4, "hidden": (4,), "options": 2, "option_policy": "softmax"},
    "ppoc": SCALED | {"num_envs": 2, "num_steps": 4, "hidden": (4,), "minibatches": 2},
    "ippo": SCALED | {"num_envs": 2, "num_steps": 4, "hidden": (4,), "minibatches": 2},
    "mappo": {"num_envs": 2, "num_steps": 4, "hidden": (4,), "share_parameters": False},
    "self_play": SCALED
    | {"num_envs": 2, "num_steps": 4, "hidden": (4,), "league_size": 3, "snapshot_every": 2},
    "maddpg": REPLAY | {"critics": 2, "policy_delay": 2, "others": "policy"},
    "iql": REPLAY | {"share_parameters": False, "dueling": True},
    "dqn": REPLAY | {"updates_per_step": 0.5, "dueling": True, "prioritized": True, "n_step": 2},
    "ddpg": REPLAY | {"noise": "parameter", "batch_norm": True},
    "td3": REPLAY | SCALED | {"dropout": 0.1, "layer_norm": True},
    "sac": REPLAY | {"updates_per_step": 0.5},
    "sac_discrete": REPLAY | SCALED,
    "q_learning": TABLE | {"double": True},
    "sarsa": TABLE,
    "expected_sarsa": TABLE,
    "go_explore": TABLE
    | {
        "trajectory_steps": 10,
        "slots": 8,
        "hidden": (4,),
        "robustify": True,
        "minibatches": 2,
        "num_epochs": 1,
    },
    "hill_climbing": {"episodes": 2, "num_steps": 30, "hidden": (4,), "reevaluate": True},
    "steepest_ascent": {"population": 3, "episodes": 2, "num_steps": 30, "hidden": (4,)},
    "simulated_annealing": {"episodes": 2, "num_steps": 30, "hidden": (4,)},
    "adaptive_noise": {"episodes": 2, "num_steps": 30, "hidden": (4,)},
    "cem": {
        "population": 5,
        "elites": 2,
        "episodes": 2,
        "num_steps": 30,
        "hidden": (4,),
        "normalize_obs": True,
        "common_random_numbers": False,
    },
    "es": {"population": 6, "episodes": 2, "num_steps": 30, "hidden": (4,), "slice_size": 4},
    "ars": {"directions": 3, "top_directions": 2, "episodes": 2, "num_steps": 30, "hidden": (4,)},
    "evosax": {
        "strategy": "Open_ES",
        "learning_rate": 0.01,
        "population": 6,
        "episodes": 2,
        "num_steps": 30,
        "hidden": (4,),
    },
}

# Agents whose policy and critic are the network of nets.actor_critic.
ACTOR_CRITIC = (
    "reinforce", "a2c", "a3c", "impala", "npg", "trpo", "cpo", "ppo", "ppo_lagrangian",
)  # fmt: skip
# Agents that take only one kind of actions.
CONTINUOUS = ("ddpg", "td3", "sac")
DISCRETE = ("iql", "dqn", "sac_discrete", "q_learning", "sarsa", "expected_sarsa")
# The number that says how far the policy moves, where it is not the learning rate.
RATE = {"npg": "max_kl", "trpo": "max_kl", "cpo": "max_kl", "cem": "sigma"}
RATE |= dict.fromkeys(
    ("hill_climbing", "steepest_ascent", "simulated_annealing", "adaptive_noise"), "sigma"
)
# The number that ruins the state when it is enormous; None if what is not finite is never taken in.
RUIN = {
    "npg": "critic_learning_rate",
    "trpo": "critic_learning_rate",
    "cpo": "critic_learning_rate",
    "cem": None,
}
RUIN |= dict.fromkeys(("hill_climbing", "steepest_ascent", "simulated_annealing", "adaptive_noise"))
INSTALLED = [name for name in agents.NAMES if name != "evosax" or find_spec("evosax")]


MAPS, TESTS = Path("/proc/self/maps"), itertools.count()


@pytest.fixture(autouse=True)
def few_mappings():
    """A compiled program is hundreds of memory mappings, and Linux allows a process 65,530: beyond
    them XLA's compiler crashes. So programs are forgotten before that; the cache has them."""
    if next(TESTS) % 10 == 0 and MAPS.exists() and MAPS.read_bytes().count(b"\n") > 30_000:
        jax.clear_caches()


def require_gpu(backend):
    """Skips a test unless JAX's backend is a GPU."""
    if backend != "gpu":
        pytest.skip(f"needs a GPU: JAX's backend here is {backend}")


@pytest.fixture(autouse=True)
def gpu_where_it_is_needed(request):
    """For tests marked `gpu`."""
    if request.node.get_closest_marker("gpu") is not None:
        require_gpu(jax.default_backend())


@pytest.fixture(autouse=True)
def with_optimiser(request):
    """For tests marked `optimised`: of the last bits, or of long runs."""
    if request.node.get_closest_marker("optimised") is None:
        yield
        return
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


# Of players in games ippo and iql are the quick twins, of limits on costs
# trpo and ppo: without a limit they are the same, see test_costs.
@pytest.fixture(params=slow_of(INSTALLED, "mappo", "maddpg", "cpo", "ppo_lagrangian"))
def agent(request):
    return agents.get(request.param)


@pytest.fixture
def tiny(agent):
    return agent.Config(**TINY[agent.name])


@pytest.fixture
def env(agent, tiny):
    return short_env(agent, tiny)


def short_env(agent, cfg):
    """An agent's environment, with episodes short enough for a tiny rollout to hold a whole one."""
    name = "Pendulum-v1" if agent.name in CONTINUOUS else "CartPole-v1"
    return jaxpg.make(name, max_steps_in_episode=max(8, cfg.num_steps))


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the site, built as CONTRIBUTING.md says: a warning is an error."""
    pytest.importorskip("sphinx", reason="the extra docs")
    out = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-c", "docs", ".", out]
    # Lessons learn for longer than they compile.
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_DISABLE_MOST_OPTIMIZATIONS": "0"}
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=900
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return out
