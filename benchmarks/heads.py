"""Trains PPO, A2C, TRPO and SAC with every continuous head that they are recommended with.

python benchmarks/heads.py [--only ppo/beta] [--seeds 3]

The agents' presets on Pendulum-v1, with nothing changed but the head; with a beta head half the
rate and twice the steps; with noise that is held over steps the settings of RL Baselines3 Zoo
(A2C's with Adam at 1e-3). Each seed ends with 128 greedy episodes; the bar has to be held by all of
them. Writes benchmarks/heads.json, prints a line each, and exits with 1 if a bar is missed.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path

import jax

import jaxpg
from jaxpg import agents, presets
from jaxpg.core.config import replace

ENV = "Pendulum-v1"
BARS = {  # (agent, head) -> greedy return that every seed has to reach, most environment steps
    ("ppo", "gaussian"): (-250, 1_000_000),
    ("ppo", "tanh_gaussian"): (-250, 1_000_000),
    ("ppo", "beta"): (-250, 200_000),
    ("ppo", "mixture"): (-250, 1_000_000),
    ("sac", "tanh_mixture"): (-200, 30_000),
    ("sac", "flow"): (-200, 30_000),
    ("ppo", "gsde"): (-250, 100_000),
    ("a2c", "gsde"): (-200, 1_000_000),
    ("trpo", "gsde"): (90, 50_000),
    ("sac", "tanh_gsde"): (94, 50_000),
}
OWN = {  # (agent, head) -> the environment and all settings, where they are not the preset's
    ("ppo", "beta"): (  # half the rate and twice the steps: else one seed of three ends at -435
        ENV,
        {
            "num_steps": 256, "num_epochs": 10, "minibatches": 16, "learning_rate": 5e-4,
            "gamma": 0.97, "gae_lambda": 0.9, "entropy_coef": 0.0, "clip_value": False,
            "normalize_obs": True, "normalize_steps": 1000.0, "normalize_reward": True,
        },
    ),
    ("ppo", "gsde"): (
        ENV,
        {
            "num_envs": 4, "num_steps": 1024, "minibatches": 64, "num_epochs": 10, "gamma": 0.9,
            "learning_rate": 1e-3, "learning_rate_schedule": "constant", "entropy_coef": 0.0,
            "clip_value": False, "noise_every": 4,
        },
    ),
    ("a2c", "gsde"): (
        ENV,
        {
            "num_envs": 8, "num_steps": 8, "gae_lambda": 0.9, "entropy_coef": 0.0,
            "learning_rate_schedule": "linear", "critic_learning_rate_schedule": "linear",
            "normalize_obs": True, "normalize_reward": True, "noise_every": 8,
            "noise_log_std": -2.0,
        },
    ),
    ("trpo", "gsde"): (
        "MountainCarContinuous-v0",
        {
            "num_envs": 2, "num_steps": 2048, "critic_minibatches": 32, "cg_iterations": 15,
            "normalize_obs": True, "normalize_reward": True, "noise_every": 4,
        },
    ),
    ("sac", "tanh_gsde"): (
        "MountainCarContinuous-v0",
        {
            "num_steps": 32, "buffer_size": 50_000, "learning_starts": 0, "batch_size": 512,
            "critic_learning_rate": 3e-4, "gamma": 0.9999, "tau": 0.01, "alpha": 0.1,
            "learn_alpha": False, "noise_every": 32, "noise_log_std": -3.67,
        },
    ),
}  # fmt: skip


def measure(name: str, head: str, steps: int, seeds: int) -> dict:
    where, own = OWN.get((name, head), (ENV, None))
    agent, env = agents.get(name), jaxpg.make(where)
    cfg = jaxpg.preset(name, where) if own is None else agent.Config(**own)
    cfg = replace(cfg, head=head)
    keys, k_eval = jax.random.split(jax.random.key(2026), (2, seeds))
    total = min(steps, presets.table(name)[where]["total_steps"]) if own is None else steps
    result = jaxpg.run(agent, cfg, env, keys, total_steps=total)
    returns = jaxpg.evaluate(agent, result.cfg, env, result.state, k_eval, episodes=128)
    return {
        "env": where,
        "env_steps": result.env_steps,
        "greedy": [round(float(x), 1) for x in returns.mean(-1)],
        "seconds": round(result.seconds, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", help="one line, such as ppo/beta")
    args = parser.parse_args()
    path, missed = Path(__file__).with_name("heads.json"), 0
    results = json.loads(path.read_text()) if path.exists() else {}
    for (name, head), (bar, steps) in BARS.items():
        if args.only not in (None, f"{name}/{head}"):
            continue
        row = measure(name, head, steps, args.seeds)
        held = min(row["greedy"]) >= bar
        missed += not held
        results[f"{name}/{head}"] = row | {"bar": bar, "held": held}
        returns = ", ".join(f"{x:7.1f}" for x in row["greedy"])
        line = f"{name:4} {head:14} {row['env_steps']:>9,} steps  greedy {returns}"
        print(f"{line}  bar {bar}: {'held' if held else 'MISSED'}", flush=True)
        results["versions"] = {p: version(p) for p in ("jax", "gymnax", "flax", "optax", "distrax")}
        path.write_text(json.dumps(results, indent=1) + "\n")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
