"""Trains agents with and without a memory where one is needed; writes benchmarks/memory.json and
the figure of docs/memory.md.

python benchmarks/memory.py [--seeds 5] [--only ppo/chain]

Two tasks: MemoryChain-bsuite of length 20, where the first of 21 observations says which action is
right in the last one (chance is a return of 0, the best 1); and CartPole-v1 without velocities.
Every seed ends with 128 whole greedy episodes. A line with a memory has a bar for every seed; one
without has to stay below another, or the task would show nothing. Exits with 1 if one is missed.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np

import jaxpg
from jaxpg import agents

TASKS = {
    "chain": ("MemoryChain-bsuite", {"memory_length": 20}, 0.99, 0.5),
    "cart": ("CartPolePositions-jaxpg", {}, 450, 150),
}
SMALL = {"hidden": (32,), "memory_size": 32, "gamma": 1.0}
# (agent, task) -> environment steps, config, the memories to try
LINES = {
    ("ppo", "chain"): (
        200_000,
        SMALL | {"num_envs": 32, "num_steps": 63, "learning_rate": 3e-3, "clip_value": False},
        ("gru", "lstm", "attention", "none"),
    ),
    ("ppo", "cart"): (
        400_000,
        {"num_envs": 32, "learning_rate": 1e-3, "clip_value": False, "memory_length": 8}
        | {"normalize_obs": True, "normalize_reward": True},
        ("gru", "lstm", "attention", "none"),
    ),
    ("a2c", "chain"): (
        800_000,
        SMALL
        | {"num_envs": 32, "num_steps": 42, "learning_rate": 3e-3, "critic_learning_rate": 3e-3}
        | {"normalize_advantage": True, "gae_lambda": 0.9, "learning_rate_schedule": "linear"},
        ("gru", "none"),
    ),
    ("a2c", "cart"): (
        1_000_000,
        {"num_steps": 32, "learning_rate_schedule": "linear"},
        ("gru", "none"),
    ),
    ("dqn", "chain"): (
        200_000,
        SMALL
        | {"buffer_size": 50_000, "batch_size": 32, "sequence_length": 21, "burn_in": 0}
        | {"exploration_fraction": 0.3, "activation": "tanh", "learning_rate_schedule": "linear"},
        ("gru", "none"),
    ),
    ("dqn", "cart"): (
        200_000,
        {"buffer_size": 50_000, "batch_size": 32, "hidden": (64,), "activation": "tanh"}
        | {"exploration_fraction": 0.3, "learning_rate_schedule": "linear"},
        ("gru", "none"),
    ),
}
# One update a rollout may forget what it found, and Q-learning on the cart swings to the end: these
# two show the need, without a bar.
NO_BAR = {("a2c", "chain"), ("dqn", "cart")}


def measure(name: str, task: str, memory: str, seeds: int) -> dict:
    """Final greedy returns of every seed, and the learning curve: means of 25 parts of the run."""
    steps, fields, _ = LINES[name, task]
    env_name, params, *_ = TASKS[task]
    agent, env = agents.get(name), jaxpg.make(env_name, **params)
    cfg = agent.Config(**fields, memory=memory)
    keys, k_eval = jax.random.split(jax.random.key(2026), (2, seeds))
    result = jaxpg.run(agent, cfg, env, keys, total_steps=steps)
    greedy = jaxpg.evaluate(agent, result.cfg, env, result.state, k_eval).mean(-1)
    returns, counts = (result.metrics[f"episode/{x}"] for x in ("return", "count"))
    parts = np.array_split(np.arange(returns.shape[-1]), 25)
    total = [np.nansum((returns * counts)[:, p], -1) / counts[:, p].sum(-1) for p in parts]
    return {
        "env_steps": result.env_steps,
        "greedy": [round(float(x), 2) for x in greedy],
        "curve": [[round(float(x), 2) for x in seed] for seed in np.stack(total, -1)],
        "seconds": round(result.seconds, 1),
    }


def draw(results: dict, path: Path) -> None:
    """A panel for each line: the return while learning, mean and range over seeds."""
    from matplotlib import pyplot as plt

    colours = {"gru": "C0", "lstm": "C1", "attention": "C2", "none": "0.45"}
    figure, axes = plt.subplots(2, 3, figsize=(9, 4.6), sharey="row", layout="constrained")
    for column, name in enumerate(("ppo", "a2c", "dqn")):
        for row, task in enumerate(TASKS):
            axis, (steps, _, memories) = axes[row, column], LINES[name, task]
            for memory in memories:
                curve = np.array(results[f"{name}/{task}/{memory}"]["curve"])
                x = (np.arange(curve.shape[1]) + 0.5) / curve.shape[1] * steps / 1000
                label = "no memory" if memory == "none" else memory.upper().replace("ATT", "Att")
                label = "attention" if memory == "attention" else label
                axis.plot(x, curve.mean(0), color=colours[memory], label=label)
                axis.fill_between(
                    x, curve.min(0), curve.max(0), color=colours[memory], alpha=0.15, lw=0
                )
            title = "chain of 20 steps" if task == "chain" else "CartPole without velocities"
            axis.set_title(f"{name.upper()}: {title}", fontsize=9)
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel("return")
            if row == 1:
                axis.set_xlabel("environment steps (thousands)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", help="one line, such as ppo/chain")
    args = parser.parse_args()
    jaxpg.use_all_cores()
    path, missed = Path(__file__).with_name("memory.json"), 0
    results = json.loads(path.read_text()) if path.exists() else {}
    for (name, task), (*_, memories) in LINES.items():
        if args.only not in (None, f"{name}/{task}"):
            continue
        _, _, bar, chance = TASKS[task]
        for memory in memories:
            row = measure(name, task, memory, args.seeds)
            results[f"{name}/{task}/{memory}"] = row
            greedy, line = row["greedy"], f"{name:4} {task:6} {memory:10}"
            line += f" {row['env_steps']:>9,} steps {row['seconds']:6.1f} s"
            line += f"  greedy {np.mean(greedy):7.2f} (worst {min(greedy):.2f})"
            if memory == "none" or (name, task) not in NO_BAR:
                held = max(greedy) < chance if memory == "none" else min(greedy) >= bar
                limit = f"below {chance}" if memory == "none" else f"bar {bar}"
                line += f"  {limit}: {'held' if held else 'MISSED'}"
                missed += not held
            print(line, flush=True)
    results["versions"] = {p: version(p) for p in ("jax", "gymnax", "flax", "optax")}
    rows = [f" {json.dumps(name)}: {json.dumps(row)}" for name, row in results.items()]
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n")  # a line each
    if all(f"{n}/{t}/{m}" in results for (n, t), (*_, ms) in LINES.items() for m in ms):
        figures = path.parent.parent / "docs" / "figures"
        draw(results, figures / "memory.png")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
