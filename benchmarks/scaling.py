"""Env steps/s of PPO on CartPole on one host device and on one per core: seeds, and environments.

python benchmarks/scaling.py [--rounds 3] [--quick] [--confine] [--out scaling.json]
python benchmarks/scaling.py --agent ippo --env Spread-jaxpg --seeds 4

Seeds are laid over the devices as `jaxpg.run` does it, with the common default (4 environments x
128 steps). "envs" is one seed with so many environments x 32 steps, data parallel. Each figure is
the median over rounds; in a round one device and all are measured in turn, each in a fresh
process, after compilation. Ends with a pass or a shortfall for 16 seeds, see `bar`. One device of
a CPU may use every core; with `--confine` it has one core, as each of several has.

With `--agent` it is seeds of that agent, with its defaults.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from harness import count_cores

SEEDS, QUICK_SEEDS = (1, 2, 4, 8, 16, 32), (1, 16)
ENVS, QUICK_ENVS = (16, 256, 2048), (256,)
BAR = 0.60  # of the time on one device, for 16 seeds over two


def work(what: str, size: int, devices: int, steps: int, asked: dict) -> float:
    """Env steps/s of a run of about `steps` in all, in this process."""
    if asked["confine"] and devices == 1:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import jax

    import jaxpg

    jaxpg.use_all_cores(devices)
    wide = {"num_envs": size, "num_steps": 32} if what == "envs" else {}
    agent, env = jaxpg.agents.get(asked["agent"]), jaxpg.make(asked["env"])
    cfg = agent.Config(**wide)
    key, seeds = jax.random.key(0), 1
    if what == "seeds":
        key, seeds = jax.random.split(key, size), size
    iteration = cfg.num_envs * cfg.num_steps
    iterations = max(10, steps // (seeds * iteration))

    def train() -> float:
        begun = time.perf_counter()
        jaxpg.run(
            agent, cfg, env, key, total_steps=iterations * iteration, chunk=10,
            data_parallel=what == "envs",
        )  # fmt: skip
        return time.perf_counter() - begun

    train()  # compiles
    return seeds * iterations * iteration / train()


def measure(*asked) -> float:
    """`work` in a fresh process."""
    command = [sys.executable, __file__, "--work", json.dumps(asked)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(out.splitlines()[-1])


def compare(what: str, size: int, devices: int, steps: int, rounds: int, asked: dict) -> dict:
    """One device against `devices`, in alternating runs: rates, and the ratio of the times."""
    runs = [[measure(what, size, n, steps, asked) for n in (1, devices)] for _ in range(rounds)]
    ratios = [one / all_ for one, all_ in runs]
    one, every = (statistics.median(rates) for rates in zip(*runs, strict=True))
    return {
        "what": what,
        "size": size,
        "steps/s on 1": one,
        f"steps/s on {devices}": every,
        "time ratio": statistics.median(ratios),
        "from": min(ratios),
        "to": max(ratios),
    }


def bar(row: dict) -> str:
    """Whether 16 seeds over all devices take at most 60 % of the time on one, in words."""
    ratio = row["time ratio"]
    return f"16 seeds: {ratio:.2f} of the time {'pass' if ratio <= BAR else 'shortfall'} (<= {BAR})"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round of few sizes")
    parser.add_argument("--confine", action="store_true", help="one device has one core")
    parser.add_argument("--agent", default="ppo")
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--seeds", type=int, help="these alone")
    parser.add_argument("--out", type=Path, help="write JSON there")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(work(*json.loads(args.work)))
        return 0

    devices = count_cores()
    if devices == 1:
        print("one core: there is nothing to lay anything over")
        return 1
    steps, rounds = (200_000, 1) if args.quick else (1_000_000, args.rounds)
    sizes = [("seeds", n) for n in (QUICK_SEEDS if args.quick else SEEDS)]
    sizes += [("envs", n) for n in (QUICK_ENVS if args.quick else ENVS) if n % devices == 0]
    if args.seeds:
        sizes = [("seeds", args.seeds)]
    asked = {name: getattr(args, name) for name in ("confine", "agent", "env")}
    print(f"{'':6} {'':>5} {'1 device':>12} {f'{devices} devices':>12}  time (from-to)")
    rows = []
    for what, size in sizes:
        row = compare(what, size, devices, steps, rounds, asked)
        rows.append(row)
        rates = f"{row['steps/s on 1']:12,.0f} {row[f'steps/s on {devices}']:12,.0f}"
        spread = f"{row['time ratio']:.2f} ({row['from']:.2f}-{row['to']:.2f})"
        print(f"{what:6} {size:5} {rates}  {spread}", flush=True)
    if args.out:
        machine = f"{platform.system()} {platform.machine()}, {devices} cores"
        args.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    if not args.seeds:
        print(bar(next(row for row in rows if (row["what"], row["size"]) == ("seeds", 16))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
