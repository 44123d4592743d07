"""Memory over the length of a run: PPO on CartPole with the common default, one seed.

python benchmarks/footprint.py [--rounds 5] [--iterations 10000] [--chunks 1000]

    peak    of fresh processes that run 10 and 10,000 iterations, in turn, with the same chunk. They
            find their program in a cache: the compiler takes more memory than the run, and its
            peak, which differs by 50 MB between equal processes, would hide the run's
    growth  of the resident size over 1,000 chunks, after 100 that are not counted

Writes benchmarks/footprint.json.
"""

import argparse
import json
import sys
import tempfile

from harness import own, peak_memory, save, table, worker

CHUNK, FEW, WARM, TIMEOUT = 10, 10, 100, 900


def peaks(rounds: int, iterations: int) -> list[dict]:
    """Peak MB with few iterations and with many, [rounds]."""
    with tempfile.TemporaryDirectory() as cache:
        environ = {"JAX_COMPILATION_CACHE_DIR": cache}
        environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

        def peak(n: int) -> float:
            return worker(own("footprint.py", "--work", n), TIMEOUT, **environ)["peak MB"]

        peak(FEW)
        return [{"few": peak(FEW), "many": peak(iterations)} for _ in range(rounds)]


def growth(chunks: int) -> float:
    """MB by which the resident size has grown `chunks` after the first WARM chunks."""
    sizes = worker(own("footprint.py", "--work", (WARM + chunks) * CHUNK), TIMEOUT)["MB"]
    return sizes[-1] - sizes[WARM - 1]


def work(iterations: int) -> dict:
    """One process: its peak, and its resident size after every chunk [chunks]."""
    import jax
    import psutil

    import jaxpg

    this, sizes = psutil.Process(), []
    watch = jaxpg.Callback(on_metrics=lambda event: sizes.append(this.memory_info().rss / 2**20))
    env, cfg = jaxpg.make("CartPole-v1"), jaxpg.ppo.Config()
    total = iterations * jaxpg.ppo.steps_per_iter(cfg)
    jaxpg.run(
        jaxpg.ppo, cfg, env, jax.random.key(0), total_steps=total, chunk=CHUNK, callbacks=[watch]
    )
    return {"peak MB": peak_memory(), "MB": sizes}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=10_000)
    parser.add_argument("--chunks", type=int, default=1_000)
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(json.dumps(work(args.work)))
        return 0
    found = {"peaks": peaks(args.rounds, args.iterations), "growth MB": growth(args.chunks)}
    table("peak MB", (f"{FEW} iterations", f"{args.iterations}", "more"), [
        (f"{r['few']:.1f}", f"{r['many']:.1f}", f"{r['many'] - r['few']:+.1f}")
        for r in found["peaks"]
    ], text=0)  # fmt: skip
    print(f"resident size over {args.chunks} chunks: {found['growth MB']:+.1f} MB")
    save(__file__, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
