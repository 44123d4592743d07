"""Measures what PPO learns in environments of other suites, three seeds each.

python benchmarks/suites.py --all                          all of suites.toml
python benchmarks/suites.py navix/Navix-DoorKey-5x5-v0 ...   these

Settings are those of `jaxpg.preset`. At the end every seed plays 128 whole episodes, greedy, and as
many sampled. A row is written to suites.json as soon as it is done. The script prints a line each
and exits with 1 if a mean over seeds misses its bar. `python -m tests.tables` then writes the table
of docs/suites.md anew.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxpg
from jaxpg.core.config import unknown
from jaxpg.core.env import Env
from jaxpg.core.episodes import actions
from jaxpg.core.train import settle

HERE = Path(__file__).parent
MEASURED = HERE / "suites.json"
KEY, SEEDS, EPISODES, STARTS = 0x5017E, 3, 128, 64
BATCH = 64  # states of one call in the search of shortest solutions


def rows() -> dict[str, dict[str, Any]]:
    """What is to be reached, by environment."""
    return tomllib.loads((HERE / "suites.toml").read_text())


def load() -> dict[str, dict[str, Any]]:
    """What was measured, by environment."""
    return json.loads(MEASURED.read_text()) if MEASURED.exists() else {}


def find_shortest(env: Env, keys: jax.Array) -> list[int]:
    """Steps of the shortest solution of the episodes that begin with these keys, by breadth-first
    search over all actions. Two states are one if they look alike: nothing may be hidden."""
    count = env.action_space.n

    @jax.jit
    def move_all(key, states):  # [BATCH, ...] -> [BATCH * count, ...]
        states = jax.tree.map(lambda x: jnp.repeat(x, count, 0), states)
        step = lambda state, a: env.core.step_env(key, state, a, env.params)  # noqa: E731
        obs, after, _, ended, _ = jax.vmap(step)(states, jnp.tile(jnp.arange(count), BATCH))
        return obs, after, ended

    def search(key):
        obs, state = jax.jit(env.core.reset_env)(key, env.params)
        seen, edge = {np.asarray(obs).tobytes()}, [jax.tree.map(lambda x: x[None], state)]
        for depth in range(1, env.params.max_steps_in_episode + 1):
            states = jax.tree.map(lambda *x: jnp.concatenate(x), *edge)
            size, edge = len(jax.tree.leaves(states)[0]), []
            for start in range(0, size, BATCH):
                at = np.minimum(np.arange(start, start + BATCH), size - 1)
                obs, after, ended = move_all(key, jax.tree.map(lambda x, i=at: x[i], states))
                if ended.any():
                    return depth
                looks = {x.tobytes(): i for i, x in enumerate(np.asarray(obs))}
                new = np.array([i for look, i in looks.items() if look not in seen], int)
                seen |= looks.keys()
                edge += [jax.tree.map(lambda x, i=new: x[i], after)] * (new.size > 0)
        raise RuntimeError(f"{env.name}: an episode has no solution")

    return [search(key) for key in keys]


def measure(name: str, aim: dict[str, Any]) -> dict[str, Any]:
    """Trains PPO in an environment: what the seeds reached, and what it cost."""
    env, agent = jaxpg.make(name, **aim.get("params", {})), jaxpg.ppo
    keys, k_eval = jax.random.split(jax.random.key(KEY), (2, SEEDS))
    cfg, _ = settle(agent, jaxpg.preset("ppo", name), env, aim["total_steps"])
    result = jaxpg.run(agent, cfg, env, keys, total_steps=aim["total_steps"])
    if result.stopped == "interrupt":  # a part of a row is no row
        raise KeyboardInterrupt
    state = agent, result.cfg, env, result.state, k_eval
    found: dict[str, Any] = {
        "package": f"{name.partition('/')[0]} {version(name.partition('/')[0])}",
        "env_steps": result.env_steps,
        "seconds": round(result.seconds),
    }
    for kind in ("greedy", "sampled"):
        returns = jaxpg.evaluate(*state, EPISODES, greedy=kind == "greedy").mean(-1)
        found[kind] = [round(float(x), 3) for x in returns]
    if "times_shortest" in aim:
        longest = int(env.params.max_steps_in_episode)
        _, mask = actions(*state, EPISODES, greedy=True, num_steps=longest)
        found["lengths"] = [round(float(x), 2) for x in mask.sum(1).mean(-1)]
        starts = find_shortest(env, jax.random.split(jax.random.key(KEY + 1), STARTS))
        found["shortest"] = round(float(np.mean(starts)), 2)
    return found


def holds(aim: dict[str, Any], found: dict[str, Any]) -> bool:
    """True if the mean over seeds is at its bar."""
    if "times_shortest" in aim:
        return np.mean(found["lengths"]) <= aim["times_shortest"] * found["shortest"]
    return np.mean(found[aim.get("counted", "greedy")]) >= aim["least"]


def format_row(name: str, aim: dict[str, Any], found: dict[str, Any]) -> str:
    """Formats a measured row as a line."""
    reached = " ".join(f"{x:g}" for x in found[aim.get("counted", "greedy")])
    line = f"{name:38} {found['env_steps']:>9,} steps, {found['seconds']:>4} s  return {reached}"
    if "lengths" in found:
        lengths = " ".join(f"{x:g}" for x in found["lengths"])
        line += f"  steps {lengths}, shortest {found['shortest']:g}"
    return line + ("  held" if holds(aim, found) else "  SHORT")


def table_rows() -> list[str]:
    """The table of docs/suites.md: a row for each environment that was measured."""
    lines, aims = [], rows()
    for name, found in load().items():
        aim, cells = aims[name], [f"`{name}`", found["package"], f"{found['env_steps']:,}"]
        wanted, kind = f"return {aim.get('least')}", aim.get("counted", "greedy")
        reached = ", ".join(f"{x:.4g}" for x in found[kind]) + " (sampled)" * (kind == "sampled")
        if "lengths" in found:
            reached += "; steps " + ", ".join(f"{x:.3g}" for x in found["lengths"])
            wanted = f"steps {aim['times_shortest']} x {found['shortest']:g}, the shortest"
        cells += [
            f"{found['seconds']:,}",
            reached,
            wanted,
            "held" if holds(aim, found) else "short",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="SUITE/NAME", help="of suites.toml")
    parser.add_argument("--all", action="store_true", help="all of them")
    args = parser.parse_args(argv)
    aims, held = rows(), True
    for name in args.rows:
        if name not in aims:
            parser.error(str(unknown("row", name, aims)))
    if not (args.rows or args.all):
        parser.error(f"no row is given: name some of {', '.join(aims)}, or --all")
    jaxpg.use_all_cores()  # before an environment makes JAX's devices
    for name in args.rows or aims:
        found = measure(name, aims[name])
        measured = load() | {name: found}  # again: another process may have written a row
        order = sorted(measured, key=[*aims, *measured].index)  # as suites.toml has them
        lines = [f"{json.dumps(k)}: {json.dumps(measured[k])}" for k in order]
        MEASURED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
        held &= holds(aims[name], found)
        print(format_row(name, aims[name], found), flush=True)
    return not held


if __name__ == "__main__":
    sys.exit(main())
