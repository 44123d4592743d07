"""What evaluations cost: PPO on CartPole with the common default, into a run folder, one seed.

python benchmarks/evaluation.py [--rounds 5] [--steps 500224]

With the evaluations that `jaxpg train` makes by default (10, of 128 greedy and 128 sampled
episodes) and with none, in turn, in one process in which everything was compiled before. Folder,
metrics and checkpoints are the same. Writes benchmarks/evaluation.json.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

from harness import own, save, worker

TIMEOUT = 1800


def cost(rounds: int, steps: int) -> list[float]:
    """The part of the whole time that evaluations take, [rounds], measured in a fresh process."""
    runs = worker(own("evaluation.py", "--work", "--rounds", rounds, "--steps", steps), TIMEOUT)
    return [1 - without / whole for whole, without in zip(runs["10"], runs["0"], strict=True)]


def work(rounds: int, steps: int) -> dict[str, list[float]]:
    """Seconds of every run with so many evaluations, once compiled."""
    import jax

    import jaxpg

    env, cfg, seconds = jaxpg.make("CartPole-v1"), jaxpg.ppo.Config(), {"10": [], "0": []}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(1 + rounds):
            for evaluations, taken in seconds.items():
                out = Path(folder, f"{evaluations}-{i}")
                result = jaxpg.run(
                    jaxpg.ppo, cfg, env, jax.random.key(i), total_steps=steps,
                    evaluations=int(evaluations), out=out,
                )  # fmt: skip
                taken.append(result.seconds)
    return {name: taken[1:] for name, taken in seconds.items()}  # the first ones compiled


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=500_224)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(json.dumps(work(args.rounds, args.steps)))
        return 0
    parts = cost(args.rounds, args.steps)
    print(
        f"evaluations take {median(parts):.1%} of the time ({min(parts):.1%} to {max(parts):.1%})"
    )
    save(__file__, {"steps": args.steps, "part of the time": parts})
    return 0


if __name__ == "__main__":
    sys.exit(main())
