"""What a pool of fresh states gives: env steps/s of rollouts with and without it.

python benchmarks/resets.py [ENV ...] [--envs 64] [--steps 128] [--rounds 5] [--pool K ...]

Each rollout is one program with a policy that guesses, which gives all that it saw; warm, its state
carried on from call to call. Programs take turns, and a ratio is taken within its round. --pool:
sizes to try in place of the one that the environment declares. Needs the suites: jaxpg[envs].
"""

import argparse
import copy
import dataclasses
import functools
import time
from collections.abc import Callable

import jax
from harness import short, spread, table

import jaxpg
from jaxpg.core import env as E

ENVS = (
    "craftax/Craftax-Classic-Symbolic-v1",
    "navix/Navix-DoorKey-8x8-v0",
    "brax/inverted_pendulum",
)


def with_pool(env: jaxpg.Env, size: int | None) -> jaxpg.Env:
    """The environment with a pool of another size, or without."""
    core = copy.copy(env.core)
    core.reset_pool = size
    return dataclasses.replace(env, core=core)


def program(env: jaxpg.Env, envs: int, steps: int) -> Callable[[], tuple[float, float]]:
    """A function that gives steps/s of one rollout, and how many episodes ended in it."""

    def policy(obs, carry, key):
        return jax.vmap(env.action_space.sample)(jax.random.split(key, envs)), carry, ()

    @functools.partial(jax.jit, donate_argnums=0)
    def rollout(state, key):
        state, _, t, _, metrics = E.rollout(env, policy, state, (), key, steps)
        return state, t, metrics["episode/count"]

    state = jax.jit(lambda key: E.reset(env, key, envs))(jax.random.key(0))
    compiled = rollout.lower(state, jax.random.key(0)).compile()
    calls = 0

    def measure() -> tuple[float, float]:
        nonlocal state, calls
        key, calls = jax.random.key(calls), calls + 1
        begun = time.perf_counter()
        state, _, count = jax.block_until_ready(compiled(state, key))
        return envs * steps / (time.perf_counter() - begun), float(count)

    measure()
    return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", default=ENVS, metavar="ENV")
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pool", type=int, nargs="+", metavar="K")
    args = parser.parse_args()
    rows = []
    for name in args.names:
        env = jaxpg.make(name)
        sizes = [None, *(args.pool or [env.core.reset_pool])]
        programs = [program(with_pool(env, size), args.envs, args.steps) for size in sizes]
        rounds = [[measure() for measure in programs] for _ in range(args.rounds)]
        for i, size in enumerate(sizes):
            rates, ends = zip(*(round[i] for round in rounds), strict=True)
            gain = spread(round[i][0] / round[0][0] for round in rounds) if i else ""
            rate, ended = (sorted(x)[len(x) // 2] for x in (rates, ends))
            rows.append([name, size or "none", short(rate), gain, f"{ended:.0f}"])
    title = f"rollouts of {args.envs} environments x {args.steps} steps"
    table(title, ["environment", "pool", "steps/s", "times as fast", "ends"], rows, text=2)


if __name__ == "__main__":
    main()
