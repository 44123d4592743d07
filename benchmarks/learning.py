"""Trains every preset with several seeds and writes what it reached to benchmarks/learning.json.

python benchmarks/learning.py [--seeds 8] [--only ppo/CartPole-v1]

Every seed ends with 128 whole episodes, greedy and sampled. The bars are the project's own; the
script prints a line each and exits with 1 if one is missed. Where an environment counts as solved
from some return on, it is told when all seeds had reached that in one of 20 evaluations on the way:
environment steps of each, and seconds from the start, compilation and evaluations included.
"""

import argparse
import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import jax

import jaxpg
from jaxpg import agents, presets
from jaxpg.core.train import settle
from jaxpg.experiment.analysis.thresholds import solved
from jaxpg.experiment.callbacks.evaluation import evaluation

# (agent, environment) -> the greedy return to reach, and by which seeds
BARS = {
    ("ppo", "CartPole-v1"): (475, min),
    ("ppo", "Acrobot-v1"): (-90, lambda x: sum(x) / len(x)),
    ("ppo", "Pendulum-v1"): (-250, lambda x: sum(x) / len(x)),
    ("ppo", "Breakout-MinAtar"): (10, min),
    ("ppo", "CartPolePositions-jaxpg"): (450, min),
    ("a2c", "CartPole-v1"): (450, lambda x: sum(x) / len(x)),
    ("a3c", "CartPole-v1"): (450, min),
    ("impala", "CartPole-v1"): (450, min),
    ("npg", "CartPole-v1"): (475, min),
    ("trpo", "CartPole-v1"): (499.9, min),
    ("dqn", "CartPole-v1"): (475, lambda x: sorted(x)[len(x) // 5]),
    ("ddpg", "Pendulum-v1"): (-200, lambda x: sorted(x)[len(x) // 5]),
    ("td3", "Pendulum-v1"): (-200, lambda x: sorted(x)[len(x) // 5]),
    ("sac", "Pendulum-v1"): (-200, lambda x: sorted(x)[len(x) // 5]),
    ("sac_discrete", "CartPole-v1"): (400, min),
    ("q_learning", "CartPole-v1"): (475, min),
    ("q_learning", "Cliff-jaxpg"): (-13, min),
    ("sarsa", "Cliff-jaxpg"): (-17, min),
    ("expected_sarsa", "Cliff-jaxpg"): (-15, min),
    ("hill_climbing", "CartPole-v1"): (475, lambda x: sorted(x)[len(x) // 5]),
    ("steepest_ascent", "CartPole-v1"): (450, lambda x: sum(x) / len(x)),
    ("simulated_annealing", "CartPole-v1"): (475, lambda x: sorted(x)[len(x) // 5]),
    ("adaptive_noise", "CartPole-v1"): (475, lambda x: sorted(x)[len(x) // 5]),
    ("cem", "CartPole-v1"): (475, min),
    ("cem", "MountainCarContinuous-v0"): (90, min),
    ("es", "CartPole-v1"): (475, min),
    ("es", "Pendulum-v1"): (-200, lambda x: sum(x) / len(x)),
    ("ars", "CartPole-v1"): (475, min),
    ("reinforce", "CartPole-v1"): (450, lambda x: sum(x) / len(x)),
}


def watch(threshold: float, found: dict) -> jaxpg.Callback:
    """Notes in `found` where every seed first reached the threshold, greedy; and where all had."""
    begun = time.perf_counter()

    def look(event: jaxpg.Event) -> None:
        if "eval/greedy" not in event.metrics:
            return
        reached = event.metrics["eval/greedy"] >= threshold  # [seeds]
        at = found.setdefault("env_steps", [None] * len(reached))
        for seed in reached.nonzero()[0]:
            at[seed] = at[seed] or event.env_steps
        if "seconds" not in found and None not in at:
            found["seconds"] = round(time.perf_counter() - begun, 1)

    return jaxpg.Callback(on_metrics=look)


def measure(name: str, env_name: str, seeds: int) -> dict:
    """One preset: final returns of every seed [seeds], and what they cost."""
    agent, env = agents.get(name), jaxpg.make(env_name)
    keys, k_eval = jax.random.split(jax.random.key(2026), (2, seeds))
    total = presets.table(name)[env_name]["total_steps"]
    cfg, num_iters = settle(agent, jaxpg.preset(name, env_name), env, total)
    threshold, found = solved(env_name), {}
    callbacks = []
    if threshold is not None:
        every = -(-num_iters // 20)
        callbacks = [
            evaluation(agent, cfg, env, keys, every),
            watch(threshold, found),
        ]
    result = jaxpg.run(agent, cfg, env, keys, total_steps=total, callbacks=callbacks)
    state = agent, result.cfg, env, result.state, k_eval
    return {
        "env_steps": result.env_steps,
        "greedy": jaxpg.evaluate(*state).mean(-1).round(2).tolist(),
        "sampled": jaxpg.evaluate(*state, greedy=False).mean(-1).round(2).tolist(),
        "seconds": round(result.seconds, 1),
        "solved": threshold and {"threshold": threshold, **found},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--only", help="one preset, such as ppo/CartPole-v1")
    args = parser.parse_args()
    jaxpg.use_all_cores()
    path, missed = Path(__file__).with_name("learning.json"), 0
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in agents.NAMES:
        for env_name in presets.table(name):
            if args.only not in (None, f"{name}/{env_name}"):
                continue
            row = measure(name, env_name, args.seeds)
            results[f"{name}/{env_name}"] = row
            greedy, line = row["greedy"], f"{name:10} {env_name:14} {row['env_steps']:>9,} steps"
            line += f"  greedy {sum(greedy) / len(greedy):8.1f} (worst seed {min(greedy):.1f})"
            if bar := BARS.get((name, env_name)):
                held = bar[1](greedy) >= bar[0]
                missed += not held
                line += f"  bar {bar[0]}: {'held' if held else 'MISSED'}"
            if "seconds" in (when := row["solved"] or {}):
                steps, seconds = max(when["env_steps"]), when["seconds"]
                line += f"  all at {when['threshold']:g} by {steps:,} steps, {seconds:.0f} s"
            print(line, flush=True)
    results["versions"] = {p: version(p) for p in ("jax", "gymnax", "flax", "optax", "distrax")}
    path.write_text(json.dumps(results, indent=1) + "\n")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
