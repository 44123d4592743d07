"""What V-trace is for: IMPALA on stale data, with and without the correction.

python examples/vtrace.py [--seeds 8] [--total-steps 500000]

Trains on CartPole-v1 with actors `lag` iterations behind the learner, at several learning rates:
the faster the learner, the less its policy resembles the one that collected. Rates and seeds are
one vmapped program. Prints the mean return of the final greedy policies.
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

import jaxpg

RATES, LAGS = (1e-3, 2e-3, 4e-3), (0, 4, 16)


@partial(jax.jit, static_argnames=("lag", "correction", "total_steps"))
def returns(keys, rates, lag: int, correction: str, total_steps: int):
    """Mean greedy return of every rate and seed. [rates, seeds]"""
    env = jaxpg.make("CartPole-v1")

    def one(key, rate):
        k_train, k_eval = jax.random.split(key)
        cfg = jaxpg.preset(
            "impala", "CartPole-v1", lag=lag, correction=correction, learning_rate=rate,
            critic_learning_rate_schedule="linear", entropy_coef=0.01,
        )  # fmt: skip
        state, _ = jaxpg.train(jaxpg.impala, cfg, env, k_train, total_steps)
        return jaxpg.evaluate(jaxpg.impala, cfg, env, state, k_eval, episodes=32).mean()

    return jax.vmap(jax.vmap(one, (0, None)), (None, 0))(keys, rates)


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--total-steps", type=int, default=500_000)
    args = parser.parse_args()
    keys = jax.random.split(jax.random.key(0), args.seeds)
    table = Table("lag", "correction", *(f"rate {rate:g}" for rate in RATES))
    for lag in LAGS:
        for correction in ("vtrace", "none"):
            final = returns(keys, jnp.array(RATES), lag, correction, args.total_steps)
            cells = (f"{row.mean():.0f} ± {row.std() / len(row) ** 0.5:.0f}" for row in final)
            table.add_row(str(lag), correction, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
