"""One row of `gpu.py` in one library, in a process of its own; `gpu.py` calls it.

python benchmarks/gpu_programs.py LIBRARY ROW [--dry] [--checkout FOLDER]
python benchmarks/gpu_programs.py --device

It runs in interpreters without jaxpg. A whole run is one program: compiled, called once, so that
the device has seen it, and called again, which is what is timed. Prints as one line of JSON

    steps/s     of all seeds together, in the second call
    compile s   to trace, lower and compile, without a cache
    memory MB   of the device at its peak, both calls over; None where it does not say, as on a CPU
    return      of whole episodes afterwards; of many seeds, of the first EVALUATED
    kernels     launches an iteration, and by kind, see kernel_count.py; None but for PPO

--dry makes a row a thousandth of its size. --device tells what is measured on, and trains nothing.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

from harness import peak_memory
from kernel_count import count_kernels
from peer_programs import EPISODES, EVERY, Programs, Setting, purejaxrl_ppo, rejax_ppo
from replay_throughput import WORKS, rejax_program

PLAIN = "jaxpg-plain"  # jaxpg without `use_command_buffers`: XLA's own choice
ALL = ("jaxpg", "purejaxrl", "rejax")
EVALUATED, STEPS = 32, 128  # seeds whose return is measured; steps of a rollout of PPO
OWN, BOTH = ("jaxpg",), ("jaxpg", "rejax")
SMALLER = 1000  # how much a trial is


class Row(NamedTuple):
    """What is measured in one process of every library."""

    what: str
    make: Callable[[str, "Row", Path | None], Programs]
    settings: Setting | tuple[str, str] | str  # of PPO; agent and environment; a work
    steps: int  # of a seed, whole iterations
    seeds: int = 1
    libraries: tuple[str, ...] = ALL
    seconds: int = 30  # that a process takes on one H100, about


def own_programs(agent, cfg, name: str, steps: int, greedy: bool = True) -> Programs:
    """Programs of jaxpg: the run gives back what a user keeps, state and metrics."""
    import jaxpg

    env = jaxpg.make(name)

    def train(key):
        return jaxpg.train(agent, cfg, env, key, total_steps=steps)

    def returns(out, key):
        return jaxpg.evaluate(agent, cfg, env, out[0], key, EPISODES, greedy=greedy)

    return train, returns


def ppo(library: str, row: Row, checkout: Path | None) -> Programs:
    """PPO with the common default but for a setting; returns are those of sampled actions."""
    setting: Setting = row.settings
    if library == "rejax":
        return rejax_ppo(setting, row.steps)
    if library == "purejaxrl":
        return purejaxrl_ppo(setting, row.steps, row.seeds, checkout)
    import jaxpg

    cfg = jaxpg.ppo.Config(
        num_envs=setting.num_envs, num_steps=STEPS, minibatches=setting.minibatches,
        learning_rate=setting.learning_rate,
    )  # fmt: skip
    return own_programs(jaxpg.ppo, cfg, setting.env, row.steps, greedy=False)


def preset(library: str, row: Row, checkout: Path | None) -> Programs:
    """An agent of jaxpg with its own settings for an environment."""
    import jaxpg

    name, env = row.settings
    return own_programs(getattr(jaxpg, name), jaxpg.preset(name, env), env, row.steps)


def replay(library: str, row: Row, checkout: Path | None) -> Programs:
    """An off-policy agent with settings that both libraries have, those of `replay_throughput`."""
    work = WORKS[row.settings]._replace(steps=row.steps)
    if library == "rejax":
        return rejax_program(work)[:2]
    import jaxpg

    agent = getattr(jaxpg, work.agent)
    return own_programs(agent, agent.Config(**work.ours), work.env, row.steps)


CARTPOLE, WIDE = Setting(), Setting(num_envs=2048)
BREAKOUT = Setting("Breakout-MinAtar", 64, 8, learning_rate=2.5e-3, max_steps=1000)
# The most important first: what is left when the time is over is at the end.
ROWS = {
    "one": Row("PPO CartPole, 1 seed", ppo, CARTPOLE, 977 * EVERY),
    "seeds": Row("PPO CartPole, 2048 seeds", ppo, CARTPOLE, 200 * EVERY, 2048, seconds=40),
    "envs": Row("PPO CartPole, 2048 envs", ppo, WIDE, 100 * 2048 * STEPS, seconds=25),
    "breakout": Row("PPO Breakout, MLP", ppo, BREAKOUT, 245 * 64 * STEPS),
    "sac": Row("SAC Pendulum", replay, "sac", 20_000, libraries=BOTH),
    "dqn": Row("DQN CartPole", replay, "dqn", 50_000, libraries=BOTH, seconds=25),
    "preset-ppo": Row(
        "PPO CartPole preset, 512 seeds", preset, ("ppo", "CartPole-v1"), 61_440, 512, OWN, 25
    ),
    "preset-cnn": Row(
        "PPO Breakout preset, CNN", preset, ("ppo", "Breakout-MinAtar"), 123 * 64 * STEPS,
        libraries=OWN,
    ),
    "preset-sac": Row("SAC Pendulum preset", preset, ("sac", "Pendulum-v1"), 20_000, libraries=OWN),
    "preset-dqn": Row(
        "DQN CartPole preset", preset, ("dqn", "CartPole-v1"), 100_000, libraries=OWN, seconds=25
    ),
    "one-plain": Row("PPO CartPole, 1 seed", ppo, CARTPOLE, 977 * EVERY, libraries=(PLAIN,)),
    "seeds-plain": Row(
        "PPO CartPole, 2048 seeds", ppo, CARTPOLE, 200 * EVERY, 2048, (PLAIN,), 40
    ),
}  # fmt: skip


def iteration(row: Row) -> int | None:
    """Environment steps of an iteration of PPO with a setting; None for other rows."""
    return row.settings.num_envs * STEPS if isinstance(row.settings, Setting) else None


def thousandth(row: Row) -> Row:
    """A row a thousandth as large: in seeds or environments if they are many, else in steps."""
    seeds = max(2, row.seeds // SMALLER) if row.seeds > 1 else 1
    if isinstance(row.settings, Setting) and row.settings.num_envs > SMALLER:
        envs = max(2, row.settings.num_envs // SMALLER)
        row = row._replace(settings=row.settings._replace(num_envs=envs))
    steps = -(-row.steps * row.seeds // (SMALLER * seeds))
    whole = iteration(row) or 1
    return row._replace(seeds=seeds, steps=-(-steps // whole) * whole)


def measure(library: str, row: Row, checkout: Path | None) -> dict:
    """One process: compiles a row's program, trains twice, and tells what that took."""
    own = library in ("jaxpg", PLAIN)
    if library == "jaxpg":
        import jaxpg

        jaxpg.use_command_buffers()
    import jax

    train, returns = row.make(library, row, checkout)
    keys = jax.random.split(jax.random.PRNGKey(0), (2, row.seeds))
    keys = jax.random.wrap_key_data(keys) if own else keys
    if row.seeds == 1:
        keys = keys[:, 0]
    else:
        train, returns = jax.vmap(train), jax.vmap(returns)
    k_train, k_eval = jax.block_until_ready((keys[0], keys[1]))
    begun = time.perf_counter()
    program = jax.jit(train).lower(k_train).compile()
    compiled = time.perf_counter() - begun
    jax.block_until_ready(program(k_train))
    begun = time.perf_counter()
    out = jax.block_until_ready(program(k_train))
    seconds = time.perf_counter() - begun
    peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if row.seeds > 1:
        out, k_eval = jax.tree.map(lambda x: x[:EVALUATED], (out, k_eval))
    return {
        "steps/s": row.steps * row.seeds / seconds,
        "compile s": compiled,
        "memory MB": None if peak is None else peak / 2**20,
        "return": float(jax.jit(returns)(out, k_eval).mean()),
        **_kernels(program, row),
        "host MB": peak_memory(),
        "jax": jax.__version__,
    }


def _kernels(program, row: Row) -> dict:
    """Launches an iteration; what a run launches once is shared out to its iterations."""
    if not (whole := iteration(row)):
        return {"kernels": None}
    count, per = count_kernels(program.as_text()), whole / row.steps
    kinds = {kind: round(n * per, 2) for kind, n in count.most_common()}
    return {"kernels": round(count.total() * per, 1), "kernels by kind": kinds}


def device() -> dict:
    """The first device of JAX, with its driver and the versions that JAX's packages have."""
    import jax

    one = jax.devices()[0]
    packages = {x.metadata["Name"] or "": x.version for x in distributions()}
    cuda = re.compile(r"jax|nvidia-(cublas|cuda-nvcc|cudnn|cuda-runtime)")
    return {
        "platform": one.platform,
        "device": one.device_kind,
        "driver": _driver(),
        "runtime": one.client.platform_version,
        "packages": {name: packages[name] for name in sorted(packages) if cuda.match(name)},
    }


def _driver() -> str | None:
    """The version of NVIDIA's driver, where there is one that says it."""
    ask = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        file = Path("/proc/driver/nvidia/version")
        found = re.search(r"\d+\.\d[\d.]*", file.read_text()) if file.exists() else None
        return found and found[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("library", nargs="?", choices=[*ALL, PLAIN])
    parser.add_argument("row", nargs="?", choices=ROWS)
    parser.add_argument("--dry", action="store_true", help="a thousandth of the size")
    parser.add_argument("--checkout", type=Path, help="of a library that is no package")
    parser.add_argument("--device", action="store_true", help="tell what is measured on")
    args = parser.parse_args()
    if args.device:
        print(json.dumps(device()))
        return 0
    row = ROWS[args.row]
    print(json.dumps(measure(args.library, thousandth(row) if args.dry else row, args.checkout)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
