"""How fast agents train: a table over agents, environments, numbers of environments and of seeds.

python benchmarks/throughput.py [--agents ppo sac] [--envs ENV ...] [--num-envs N ...]
                                [--seeds N ...] [--seconds 3] [--quick] [--compile]

Every row is a fresh process with the agent's preset for the environment, or its defaults. Left
to themselves the rows are every agent in the environment of its shortest preset, and PPO in all of
its own. Seeds are laid over all cores. A row warms up until the agent learns, then runs for
--seconds, whole iterations, and tells

    steps/s      environment steps of all seeds together
    updates/s    steps of the optimiser that steps most often; a dash where there is none
    init, loop   seconds to trace, lower and compile `start`, and the loop over iterations
    MB           the process at its peak, compiler included (in the JSON also what XLA says that the
                 loop needs on a device)
    peak         operations of matrix products, counted as in flops.py, over the rate of large
                 float32 ones in the same process; of a search, at full length of its episodes

--compile trains nothing and says where the time to compile goes: trace, lower and compile apart,
how many equations the jaxpr has, how many instructions the compiled program, and how many of these
are matrix products and loops: many products mean a network that is inlined often. Writes
benchmarks/throughput.json (or throughput_compile.json). PPO beside other libraries: peers.py.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path

from harness import Failed, own, peak_memory, save, short, table, worker

TIMEOUT = 900  # seconds for one row
LENGTH = 500  # iterations of a call, at most


def measure(name: str, env_name: str, num_envs: int | None, seeds: int, seconds: float) -> dict:
    """One row, in a process of its own. seconds: 0 only compiles."""
    from functools import partial

    import jax
    import numpy as np
    from flops import flops, matmul_rate

    import jaxpg
    from jaxpg import agents, presets
    from jaxpg.core.parallel.seeds import over_seeds, seed_mesh
    from jaxpg.core.train import initial_state, iterate, settle

    if seeds > 1:
        jaxpg.use_all_cores()
    agent, env = agents.get(name), jaxpg.make(env_name)
    more = {} if num_envs is None else {"num_envs": num_envs}
    total = presets.find(name, env_name).settings.get("total_steps", 500_000)
    cfg, _ = settle(agent, jaxpg.preset(name, env_name, **more), env, total)
    mesh, key = seed_mesh(seeds), jax.random.key(0)
    keys = jax.random.split(key, seeds) if seeds > 1 else key

    def wide(f):
        return over_seeds(f, mesh) if seeds > 1 else lambda shared, *own: f(*shared, *own)

    def loop(count, cfg, env, state):
        return iterate(agent, cfg, env, state, LENGTH, count)

    begin, init = _compile(jax.jit(wide(partial(initial_state, agent))), (cfg, env), keys)
    state = begin((cfg, env), keys)
    one = jax.eval_shape(partial(initial_state, agent), cfg, env, key)
    count = np.int32(1)
    run, body = _compile(jax.jit(wide(loop), donate_argnums=1), (count, cfg, env), state)
    need = run.memory_analysis()
    row = {
        "agent": name, "env": env_name, "num_envs": getattr(cfg, "num_envs", None), "seeds": seeds,
        "devices": mesh.size, "init": init, "loop": body,
        "loop MB": (need.argument_size_in_bytes + need.output_size_in_bytes
                    + need.temp_size_in_bytes - need.alias_size_in_bytes) / 2**20,
    }  # fmt: skip
    if seconds:
        per_iter = agent.steps_per_iter(cfg)
        rate, updates = _timed(run, (cfg, env), state, seconds, cfg, per_iter)
        trips = updates if updates and hasattr(cfg, "updates_per_step") else 1
        if hasattr(cfg, "population") or hasattr(cfg, "episodes"):
            trips = cfg.num_steps
        work = flops(agent.step, cfg, env, one, trips=trips)
        row |= {
            "steps/s": seeds * per_iter * rate,
            "updates/s": seeds * updates * rate if updates else None,
            "flops of an iteration": work,
            "peak": seeds * rate * work / matmul_rate(),
        }
    return row | {"memory MB": peak_memory()}


def _compile(f, *args):
    """The compiled program, and what it took and came to."""
    begun = time.perf_counter()
    traced = f.trace(*args)
    at = [begun, time.perf_counter()]
    lowered = traced.lower()
    at.append(time.perf_counter())
    compiled = lowered.compile()
    at.append(time.perf_counter())
    text = compiled.as_text()
    return compiled, {
        **{name: at[i + 1] - at[i] for i, name in enumerate(("trace", "lower", "compile"))},
        "equations": _equations(traced.jaxpr),
        "instructions": len(re.findall(r"^\s+(?:ROOT )?%?[\w.\-]+ = ", text, re.M)),
        "products": len(re.findall(r"\b(?:dot|convolution)\(", text)),
        "loops": len(re.findall(r"\bwhile\(", text)),
    }


def _equations(closed) -> int:
    from flops import inner_jaxprs

    jaxpr = getattr(closed, "jaxpr", closed)
    return sum(1 + sum(_equations(j) for j in inner_jaxprs(eqn)) for eqn in jaxpr.eqns)


def _timed(run, shared, state, seconds, cfg, per_iter) -> tuple[float, float]:
    """Iterations a second, and updates an iteration (0: there is no optimiser)."""
    import jax
    import numpy as np

    def go(count, state):
        return jax.block_until_ready(run((np.int32(count), *shared), state)[0])

    warm = -(-getattr(cfg, "learning_starts", 0) // per_iter) + 2
    while warm > 0:
        state = go(min(warm, LENGTH), state)
        warm -= LENGTH
    begun = time.perf_counter()
    state = go(2, state)
    few = time.perf_counter() - begun
    count = max(2, min(LENGTH, round(2 * seconds / 5 / few)))
    before, done, begun = _counts(state), 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        state, done = go(count, state), done + count
    took = time.perf_counter() - begun
    made = [b - a for a, b in zip(before, _counts(state), strict=True)]
    return done / took, max(made, default=0) / done


def _counts(state) -> list[int]:
    """Number of steps that every optimiser in a state has made, for each (of the first seed)."""
    import jax
    import numpy as np

    leaves = jax.tree_util.tree_leaves_with_path(state)
    found = [x for path, x in leaves if path and getattr(path[-1], "name", "") == "count"]
    return [int(np.ravel(x)[0]) for x in found if np.issubdtype(x.dtype, np.integer)]


def rows(args: argparse.Namespace) -> list[tuple[str, str, int | None, int]]:
    """Rows to measure: (agent, environment, num_envs or None for its own, seeds)."""
    from importlib.util import find_spec

    from jaxpg import agents, presets

    pairs = []
    for name in args.agents or agents.NAMES:
        if name == "evosax" and not find_spec("evosax"):
            print("evosax is left out: it is not installed")
            continue
        own = presets.table(name)
        cheapest = min(own, key=lambda env: own[env]["total_steps"])
        wide = name == "ppo" and not args.quick and not args.agents
        pairs += [(name, env) for env in args.envs or (own if wide else [cheapest])]
    return [(*pair, n, s) for pair in pairs for n in args.num_envs or [None] for s in args.seeds]


def show(found: list[dict]) -> None:
    table(
        "training",
        ("agent, environment", "envs", "seeds", "steps/s", "upd/s", "init", "loop", "MB", "peak"),
        (
            (
                f"{r['agent']}, {r['env']}", r["num_envs"] or "-", r["seeds"], short(r["steps/s"]),
                short(r["updates/s"]), *(f"{_whole(r[part]):.1f}" for part in ("init", "loop")),
                f"{r['memory MB']:.0f}",
                short(100 * r["peak"]) + "%",
            )
            for r in found
        ),
    )  # fmt: skip


def show_compile(found: list[dict]) -> None:
    table(
        "compiling, seconds",
        ("agent", "", "trace", "lower", "compile", "equations", "instr.", "products", "loops"),
        (
            (
                r["agent"] if part == "init" else "", part,
                *(f"{r[part][x]:.2f}" for x in ("trace", "lower", "compile")),
                *(r[part][x] for x in ("equations", "instructions", "products", "loops")),
            )
            for r in sorted(found, key=lambda r: -_whole(r["init"]) - _whole(r["loop"]))
            for part in ("init", "loop")
        ),
        text=2,
    )  # fmt: skip


def _whole(part: dict) -> float:
    return part["trace"] + part["lower"] + part["compile"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--agents", nargs="+")
    parser.add_argument("--envs", nargs="+")
    parser.add_argument("--num-envs", nargs="+", type=int)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--seconds", type=float, default=3.0, help="that a row trains")
    parser.add_argument("--quick", action="store_true", help="a fifth of a second for each row")
    parser.add_argument("--compile", action="store_true", help="trains nothing")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.row:
        print(json.dumps(measure(*json.loads(args.row))))
        return 0
    seconds = 0.0 if args.compile else 0.2 if args.quick else args.seconds
    found, failed = [], 0
    for row in rows(args):
        try:
            found.append(
                worker(own("throughput.py", "--row", json.dumps([*row, seconds])), TIMEOUT)
            )
        except Failed as error:
            failed += 1
            print(f"{row[0]} on {row[1]}: {error}", flush=True)
            continue
        print(f"{row[0]} on {row[1]}: done", file=sys.stderr, flush=True)
    (show_compile if args.compile else show)(found)
    path = Path(__file__).with_name("throughput_compile.json") if args.compile else None
    save(__file__, {"rows": found}, path)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
