"""Microseconds of storing, drawing and re-weighing transitions, here and in flashbax.

python benchmarks/replay_buffers.py [--rounds 5] [--updates 20000] [--seeds 0]

Each loop is one program that carries the buffer: store 10 transitions, draw 128 of them, and in
prioritised replay set the priorities of those. flashbax (which is optional: `pip install flashbax`)
does the same with its item buffers. With --seeds every seed has a buffer, under `vmap`. Libraries
take turns; prints medians, and the memory that the program needs beside its buffers.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from jaxpg.core.types import Transition
from jaxpg.replay import prioritized, uniform

STORED, DRAWN, ALPHA = 10, 128, 0.6
CAPACITIES = (10_000, 1_000_000)


def example(rows: tuple[int, ...]) -> Transition:
    """CartPole's transitions."""
    obs, number, flag = jnp.ones((*rows, 4)), jnp.ones(rows), jnp.zeros(rows, bool)
    return Transition(obs, jnp.zeros(rows, jnp.int32), number, flag, flag, obs, {})


def ours(capacity: int, weighed: bool) -> tuple:
    """State that is carried, and a round of (carried, key) -> carried, a number that needs all."""
    tree = prioritized.init(capacity) if weighed else ()

    def one(carried, key):
        buffer, tree = carried
        if weighed:
            new = (buffer.position + jnp.arange(STORED, dtype=jnp.int32)) % capacity
            tree = prioritized.add(tree, new, ALPHA)
        buffer = uniform.add(buffer, example((STORED,)))
        if weighed:
            index, probability = prioritized.sample(tree, key, DRAWN)
            tree = prioritized.update(tree, index, probability, ALPHA)
        else:
            index = uniform.indices(buffer, key, DRAWN)
        return (buffer, tree), total(uniform.take(buffer, index))

    return (uniform.init(example(()), capacity), tree), one


def flashbax(capacity: int, weighed: bool) -> tuple:
    import flashbax as fbx

    sizes = {"max_length": capacity, "min_length": 1, "sample_batch_size": DRAWN}
    if weighed:
        buffer = fbx.make_prioritised_item_buffer(
            **sizes, add_batches=True, priority_exponent=ALPHA
        )
    else:
        buffer = fbx.make_item_buffer(**sizes, add_batches=True)

    def one(state, key):
        state = buffer.add(state, example((STORED,)))
        drawn = buffer.sample(state, key)
        if weighed:
            state = buffer.set_priorities(state, drawn.indices, drawn.probabilities + 1e-6)
        return state, total(drawn.experience)

    return buffer.init(example(())), one


def total(drawn: Transition) -> jax.Array:
    return sum(x.sum(dtype=jnp.float32) for x in jax.tree.leaves(drawn))


def program(begin, one: Callable, updates: int, seeds: int) -> tuple[Callable, float]:
    """A function that gives the microseconds of one round; and its memory beside the carried."""

    def loop(carried, key):
        def body(i, loop):
            carried, sums = loop
            carried, more = one(carried, jax.random.fold_in(key, i))
            return carried, sums + more

        return jax.lax.fori_loop(0, updates, body, (carried, jnp.zeros(())))

    key = jax.random.key(0)
    if seeds:
        begin = jax.tree.map(lambda x: jnp.stack([x] * seeds), begin)
        loop, key = jax.vmap(loop), jax.random.split(key, seeds)
    compiled = jax.jit(loop, donate_argnums=0).lower(begin, key).compile()
    size = sum(x.nbytes for x in jax.tree.leaves(begin))
    beside = compiled.memory_analysis().temp_size_in_bytes / size
    carried = begin

    def measure() -> float:
        nonlocal carried
        begun = time.perf_counter()
        carried, sums = compiled(carried, key)
        jax.block_until_ready(sums)
        return (time.perf_counter() - begun) / updates * 1e6

    return measure, beside


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=0, help="0: one buffer, without vmap")
    args = parser.parse_args()
    libraries = {"jaxpg": ours} | ({"flashbax": flashbax} if find_spec("flashbax") else {})
    table = Table(
        "replay", "capacity", "library", "µs a round", "memory beside the buffer", box=None
    )
    for weighed in (False, True):
        for capacity in CAPACITIES:
            programs = {
                name: program(*make(capacity, weighed), args.updates, args.seeds)
                for name, make in libraries.items()
            }
            times = {name: [] for name in programs}
            for _ in range(args.rounds):
                for name, (measure, _beside) in programs.items():
                    times[name].append(measure())
            for name, (_measure, beside) in programs.items():
                kind = "prioritised" if weighed else "uniform"
                table.add_row(
                    kind, f"{capacity:,}", name, f"{statistics.median(times[name]):.1f}",
                    f"{beside:.1%}",
                )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
