"""Env steps/s of evolution strategies on CartPole, beside evosax's, with one device and with two.

python benchmarks/population_throughput.py [--rounds 5] [--evosax PYTHON]

A generation is 256 candidates, an MLP of 2 x 64, and one episode of 500 steps each: the limits of
angle and position are lifted, so that every step of every episode is lived, by all alike. evosax's
Open_ES drives its own gymnax rollout (`evosax.problems`), the same network, greedy, in the same
way. Each run is a fresh process that takes the median of its generations; the runs take turns.
Prints every run, then medians and ratios, and exits with 1 if a bar is missed.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

POPULATION, STEPS = 256, 500
ENDLESS = {"theta_threshold_radians": 1e9, "x_threshold": 1e9}
RUNS = {  # name -> library, devices, slice_size
    "jaxpg": ("jaxpg", 1, None),
    "jaxpg in slices of 64": ("jaxpg", 1, 64),
    "jaxpg, two devices": ("jaxpg", 2, None),
    "jaxpg in slices of 64, two devices": ("jaxpg", 2, 64),
    "evosax": ("evosax", 1, None),
}
BARS = (  # a run, the run that it is compared with, and the least ratio
    ("jaxpg in slices of 64", "evosax", 1.0),
    ("jaxpg in slices of 64, two devices", "jaxpg in slices of 64", 1.8),
)


def jaxpg_generation(devices: int, slice_size: int | None):
    """(state, generation(state) -> state, mean return of the last one) of jaxpg."""
    import jax

    import jaxpg

    if devices > 1:
        jaxpg.use_all_cores(devices)
    env = jaxpg.make("CartPole-v1", **ENDLESS)
    cfg = jaxpg.es.Config(
        population=POPULATION, episodes=1, num_steps=STEPS, devices=devices, slice_size=slice_size
    )
    step = jax.jit(jaxpg.es.step)
    return jaxpg.es.init(cfg, env, jax.random.key(0)), lambda state: step(cfg, env, state)


def evosax_generation():
    """Generation of evosax, with what it calls the same things."""
    import jax
    import optax
    from evosax.algorithms import Open_ES
    from evosax.problems.networks import MLP
    from evosax.problems.rl.gymnax import GymnaxProblem

    def greedy(logits, key):
        return logits.argmax(-1)

    network = MLP((64, 64, 2), output_fn=greedy)
    problem = GymnaxProblem(
        "CartPole-v1", network, STEPS, use_normalize_obs=False, env_params=ENDLESS
    )
    solution = problem.sample(jax.random.key(0))
    search = Open_ES(POPULATION, solution, optimizer=optax.adam(0.03))
    numbers = search.default_params
    state = search.init(jax.random.key(1), solution, numbers)

    @jax.jit
    def step(state):
        state, problem_state, key = state
        key, k_ask, k_eval, k_tell = jax.random.split(key, 4)
        candidates, state = search.ask(k_ask, state, numbers)
        value, problem_state, _ = problem.eval(k_eval, candidates, problem_state)
        state, _ = search.tell(k_tell, candidates, -value, state, numbers)
        return (state, problem_state, key), {"population/mean": value.mean()}

    return (state, problem.init(jax.random.key(2)), jax.random.key(3)), step


def work(name: str, generations: int) -> dict:
    """One process: compiles, warms up, and times every generation."""
    import jax

    library, devices, slice_size = RUNS[name]
    evosax = library == "evosax"
    state, step = evosax_generation() if evosax else jaxpg_generation(devices, slice_size)
    begun, seconds = time.perf_counter(), []
    state, metrics = jax.block_until_ready(step(state))
    compiled = time.perf_counter() - begun
    state, metrics = jax.block_until_ready(step(state))  # the state is on all devices now
    assert float(metrics["population/mean"]) == STEPS, "every step is lived"
    for _ in range(generations):
        begun = time.perf_counter()
        state, _ = jax.block_until_ready(step(state))
        seconds.append(time.perf_counter() - begun)
    rate = POPULATION * STEPS / statistics.median(seconds)
    return {"steps/s": rate, "best": POPULATION * STEPS / min(seconds), "compile s": compiled}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--generations", type=int, default=40)
    parser.add_argument("--evosax", metavar="PYTHON", help="an interpreter that has evosax")
    parser.add_argument("--work", choices=RUNS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(json.dumps(work(args.work, args.generations)))
        return 0

    names = [name for name in RUNS if name != "evosax" or args.evosax]
    runs = {name: [] for name in names}
    for _ in range(args.rounds):
        for name in names:
            python = args.evosax if name == "evosax" else sys.executable
            command = [python, __file__, "--work", name, "--generations", str(args.generations)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            run = json.loads(out.splitlines()[-1])
            runs[name].append(run)
            print(f"{name:36} " + "  ".join(f"{n} {x:12,.1f}" for n, x in run.items()), flush=True)
    rate = {name: statistics.median(run["steps/s"] for run in rows) for name, rows in runs.items()}
    for name, x in rate.items():
        print(f"median {name:36} {x:12,.0f} steps/s")
    missed = 0
    for name, other, least in BARS:
        if other in rate:
            ratio = rate[name] / rate[other]
            missed += ratio < least
            verdict = "pass" if ratio >= least else "shortfall"
            print(f"{name} / {other}: {ratio:.2f}, bar {least}: {verdict}")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
