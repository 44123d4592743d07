"""A sweep against the same runs one after another, in one process each, alternating.

python benchmarks/sweep.py [--rounds 3] [--total-steps 100000]

3 learning rates x 2 lambdas x 8 seeds of PPO on CartPole-v1, its default config. `sweep` is
`jaxpg.sweep.run` into a folder, tables written. `loop` is `jaxpg.run` and the same evaluation, 128
greedy and 128 sampled episodes, once for each of the 48: no folder, and compiled once, for only
numbers differ. Both begin with nothing compiled; what imports take is counted in neither. Ends
with a plain pass or shortfall, and writes benchmarks/sweep.json.
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

BAR = 0.6
RATES, LAMBDAS, SEEDS = (1e-4, 3e-4, 1e-3), (0.9, 0.95), 8


def once(kind: str, total_steps: int) -> dict[str, float]:
    """Seconds in all, and the mean of the 48 greedy returns."""
    import tempfile

    import jax
    import numpy as np

    import jaxpg
    from jaxpg import sweep

    if kind == "sweep":
        jaxpg.use_all_cores()
    env, key = jaxpg.make("CartPole-v1"), jax.random.key(0)
    points = sweep.grid(learning_rate=list(RATES), gae_lambda=list(LAMBDAS))
    cfg = jaxpg.ppo.Config()
    if kind == "sweep":
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            found = sweep.run(
                jaxpg.ppo, cfg, env, key, points, seeds=SEEDS, total_steps=total_steps,
                out=Path(folder, "sweep"),
            )  # fmt: skip
            seconds = time.perf_counter() - begun
        compilations = found.about["compilations"]
        return {
            "seconds": seconds,
            "return": found.scores["score"].mean(),
            "programs": compilations,
        }
    begun, greedy = time.perf_counter(), []
    with sweep.compilations() as compiled:
        for point in points:
            for k, *k_eval in zip(*jax.random.split(key, (3, SEEDS)), strict=True):
                own = jaxpg.core.config.replace(cfg, **point)
                result = jaxpg.run(jaxpg.ppo, own, env, k, total_steps=total_steps)
                for k_mode, mode in zip(k_eval, (True, False), strict=True):
                    args = result.cfg, result.env, result.state, k_mode
                    returns = np.asarray(jaxpg.evaluate(jaxpg.ppo, *args, greedy=mode))
                    greedy += [returns.mean()] if mode else []
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "return": float(np.mean(greedy)), "programs": len(compiled)}


def main(rounds: int, total_steps: int) -> int:
    found = {"loop": [], "sweep": []}
    for _ in range(rounds):
        for kind, results in found.items():
            command = [sys.executable, __file__, "--once", kind, "--total-steps", str(total_steps)]
            out = subprocess.run(command, check=True, capture_output=True, text=True)
            results.append(json.loads(out.stdout.splitlines()[-1]))
            print(kind, {k: round(v, 2) for k, v in results[-1].items()}, flush=True)
    ratios = [s["seconds"] / b["seconds"] for s, b in zip(*map(found.get, ("sweep", "loop")))]  # noqa: B905
    ratio, programs = statistics.median(ratios), max(s["programs"] for s in found["sweep"])
    held = ratio <= BAR and programs == 1
    print(f"\nsweep / loop: {', '.join(f'{r:.2f}' for r in ratios)}; median {ratio:.2f}")
    print(f"training programs compiled by the sweep: {programs}")
    print(f"{'pass' if held else 'SHORTFALL'}: at most {BAR:.2f}, in one program")
    where = {"cores": os.cpu_count(), "machine": platform.processor() or platform.machine()}
    record = {"total_steps": total_steps, "runs": found, "ratio": ratio, "machine": where}
    Path(__file__).with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    return 0 if held else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--total-steps", type=int, default=100_000)
    parser.add_argument("--once", choices=("loop", "sweep"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.once:
        print(json.dumps(once(asked.once, asked.total_steps)))
    else:
        sys.exit(main(asked.rounds, asked.total_steps))
