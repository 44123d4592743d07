"""From the shell to a trained policy: what a user waits for.

python benchmarks/startup.py [--rounds 5] [--seeds 8] [--fresh 50] [--quick]

    imports  `import jaxpg` beside `import jax`, in fresh processes that take turns
    solve    `jaxpg train ppo CartPole-v1 --seeds 8` as typed, with a warm cache: seconds from the
             start of the process to its end, of which the run by its own record (with tracing,
             loading and evaluations), and the greedy returns that it ends with
    training the same run once compiled, without evaluations: what is left is training
    fresh    the same preset on 50 seeds that nobody has tuned for: how many reach 475
    first    a second start with the cache: from the end of imports (jax, jaxpg, gymnax, distrax,
             flax, optax) to the end of the first chunk of iterations, one seed of the same preset

Caches are in a folder of their own, made for this. Writes benchmarks/startup.json.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from harness import fresh, medians, own, save, short, table, worker

SOLVED, TIMEOUT = 475, 900
IMPORT = """
import time
begun = time.perf_counter()
import {}
print(time.perf_counter() - begun)
"""
COMMAND = "import sys; from jaxpg.cli import main; sys.exit(main())"  # what `jaxpg` runs


def imports(rounds: int) -> list[dict]:
    """Seconds that `import jax` and `import jax, jaxpg` take, [rounds]."""
    names = {"jax": "jax", "jaxpg": "jax, jaxpg"}
    for what in names.values():  # bytecode is compiled, and files are in memory
        fresh([sys.executable, "-c", IMPORT.format(what)], TIMEOUT)
    return [
        {
            name: float(fresh([sys.executable, "-c", IMPORT.format(what)], TIMEOUT))
            for name, what in names.items()
        }
        for _ in range(rounds)
    ]


def solve(rounds: int, seeds: int, total_steps: int | None = None) -> list[dict]:
    """`jaxpg train` typed `rounds` times after one that fills the cache; [1 + rounds], that first.

    total_steps: fewer than the preset's, for a trial.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for i in range(1 + rounds):
            out = Path(folder, f"run-{i}")
            command = [sys.executable, "-c", COMMAND, "train", "ppo", "CartPole-v1"]
            command += ["--seeds", str(seeds), "--out", str(out)]
            command += ["--total-steps", str(total_steps)] if total_steps else []
            begun = time.perf_counter()
            fresh(command, TIMEOUT, cwd=folder, XDG_CACHE_HOME=str(Path(folder, "cache")))
            seconds = time.perf_counter() - begun
            summary = json.loads((out / "summary.json").read_text())
            found.append({
                "seconds": seconds, "run": summary["seconds"],
                "lowest": min(summary["evaluation"]["greedy"]),
            })  # fmt: skip
    return found


def fresh_seeds(count: int, total_steps: int | None = None) -> dict:
    """Greedy returns [count] of the preset, in a process of its own."""
    return worker(own("startup.py", "--work", "fresh", count, total_steps or 0), TIMEOUT)


def second_start(rounds: int) -> list[dict]:
    """Seconds to the end of the first chunk: [1 + rounds], the first with an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        return [
            worker(own("startup.py", "--work", "first"), TIMEOUT, XDG_CACHE_HOME=cache)
            for _ in range(1 + rounds)
        ]


def _preset_of(total_steps: int) -> tuple:
    """Agent, environment, config and steps of what `jaxpg train ppo CartPole-v1` runs."""
    import jaxpg
    from jaxpg import presets

    jaxpg.use_all_cores()
    name, agent = "CartPole-v1", jaxpg.ppo
    env, cfg = jaxpg.make(name), jaxpg.preset(agent.name, name)
    return agent, env, cfg, total_steps or presets.table(agent.name)[name]["total_steps"]


def _fresh(count: int, total_steps: int) -> dict:
    import jax

    import jaxpg

    agent, env, cfg, total = _preset_of(total_steps)
    k_train, k_eval = jax.random.split(jax.random.key(719_885_386), (2, count))
    result = jaxpg.run(agent, cfg, env, k_train, total_steps=total)
    returns = jaxpg.evaluate(agent, result.cfg, env, result.state, k_eval)
    return {"greedy": [float(x) for x in returns.mean(-1)], "seconds": result.seconds}


def training(rounds: int, seeds: int, total_steps: int | None = None) -> list[float]:
    """Seconds that the same run trains, [rounds]: once compiled, without evaluations or folder."""
    number = total_steps or 0
    return worker(own("startup.py", "--work", "again", rounds, seeds, number), TIMEOUT)["seconds"]


def _again(rounds: int, seeds: int, total_steps: int) -> dict:
    import jax

    import jaxpg

    agent, env, cfg, total = _preset_of(total_steps)
    keys = jax.random.split(jax.random.key(0), seeds)
    runs = [jaxpg.run(agent, cfg, env, keys, total_steps=total) for _ in range(1 + rounds)]
    return {"seconds": [result.seconds for result in runs[1:]]}


def _first() -> dict:
    """First run as a user's script does it: the cache of the command, in its folder."""
    import distrax  # noqa: F401
    import flax  # noqa: F401
    import gymnax  # noqa: F401
    import jax
    import optax  # noqa: F401

    from jaxpg import make, ppo, preset, run, use_cache

    begun = time.perf_counter()
    use_cache()
    env, cfg = make("CartPole-v1"), preset("ppo", "CartPole-v1")

    def stop(event):
        jax.block_until_ready(event.state)
        return True

    key = jax.random.key(0)
    run(ppo, cfg, env, key, total_steps=200_000, callbacks=[stop])
    return {"seconds": time.perf_counter() - begun}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--fresh", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="a trial: one round, few steps")
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        name, *numbers = args.work
        work = {"fresh": _fresh, "again": _again, "first": _first}[name]
        print(json.dumps(work(*map(int, numbers))))
        return 0
    rounds, steps = (1, 5_120) if args.quick else (args.rounds, None)
    found = {
        "imports": imports(rounds),
        "solve": solve(rounds, args.seeds, steps),
        "training": training(rounds, args.seeds, steps),
        "fresh": fresh_seeds(4 if args.quick else args.fresh, steps),
        "second start": second_start(rounds),
    }
    modules, solved = medians(found["imports"]), medians(found["solve"][1:])
    greedy = found["fresh"]["greedy"]
    start = found["second start"]
    table("what a user waits for", ("", "s"), [
        ("import jax", short(modules["jax"])),
        ("import jaxpg, over it", short(modules["jaxpg"] - modules["jax"])),
        ("first start, to the first chunk", short(start[0]["seconds"])),
        ("second start, to the first chunk", short(medians(start[1:])["seconds"])),
        (f"jaxpg train, {args.seeds} seeds, nothing compiled", short(found["solve"][0]["seconds"])),
        (f"jaxpg train, {args.seeds} seeds, warm cache", short(solved["seconds"])),
        ("  of which the run", short(solved["run"])),
        ("  of which training", short(median(found["training"]))),
    ])  # fmt: skip
    print(f"lowest greedy return of {args.seeds} seeds: {solved['lowest']:.1f}")
    print(f"fresh seeds at {SOLVED} or more: {sum(x >= SOLVED for x in greedy)} of {len(greedy)}")
    save(__file__, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
