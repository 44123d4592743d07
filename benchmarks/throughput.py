"""Env steps/s, compile seconds and peak memory of PPO on CartPole with the common default.

python benchmarks/throughput.py [--steps 500000] [--rounds 3] [--seeds 1] [--rejax PYTHON]

The common default is 4 environments x 128 steps, 4 epochs of 4 minibatches, tanh 64 x 64. With
the path of a Python interpreter that has rejax (it needs gymnax < 1, so an environment of its
own) both are measured in turn, each run a fresh process, with rejax's periodic evaluation off.
Prints every run, the medians and their ratio, and the return that was reached (sampled actions).
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time


def jaxpg_program(steps: int):
    """(train(key) -> state, returns(state, key) -> [episodes]) of jaxpg."""
    from functools import partial

    import jaxpg

    env, cfg = jaxpg.make("CartPole-v1"), jaxpg.ppo.Config()

    def train(key):
        return jaxpg.train(jaxpg.ppo, cfg, env, key, total_steps=steps)[0]

    return train, partial(jaxpg.evaluate, jaxpg.ppo, cfg, env, greedy=False)


def rejax_program(steps: int):
    """The same of rejax, with what it calls the same things."""
    import rejax
    from rejax.evaluate import evaluate

    algo = rejax.get_algo("ppo").create(
        env="CartPole-v1", num_envs=4, num_steps=128, num_epochs=4, num_minibatches=4,
        learning_rate=2.5e-4, max_grad_norm=0.5, total_timesteps=steps, eval_freq=steps,
        skip_initial_evaluation=True, agent_kwargs={"activation": "tanh"},
    )  # fmt: skip
    algo = algo.replace(eval_callback=lambda algo, state, key: ())

    def returns(state, key):
        return evaluate(algo.make_act(state), key, algo.env, algo.env_params, 128, 500)[1]

    return lambda key: algo.train(key)[0], returns


def work(library: str, steps: int, seeds: int) -> dict:
    """One process: compiles, trains once, and tells what that took."""
    import jax

    train, returns = {"jaxpg": jaxpg_program, "rejax": rejax_program}[library](steps)
    keys = jax.random.split(jax.random.PRNGKey(0), (2, seeds))
    if library == "jaxpg":
        keys = jax.random.wrap_key_data(keys)
    begun = time.perf_counter()
    program = jax.jit(jax.vmap(train) if seeds > 1 else train)
    inputs = keys[0] if seeds > 1 else keys[0, 0]
    program = program.lower(inputs).compile()
    compiled = time.perf_counter()
    state = jax.block_until_ready(program(inputs))
    done = time.perf_counter()
    evaluate = jax.jit(jax.vmap(returns) if seeds > 1 else returns)
    reached = evaluate(state, keys[1] if seeds > 1 else keys[1, 0])
    return {
        "steps/s": steps * seeds / (done - compiled),
        "compile s": compiled - begun,
        "memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "return": float(reached.mean()),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500_224, help="whole iterations of 512")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1, help="vmapped, on one device")
    parser.add_argument("--rejax", metavar="PYTHON", help="an interpreter that has rejax")
    parser.add_argument("--work", choices=("jaxpg", "rejax"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(json.dumps(work(args.work, args.steps, args.seeds)))
        return 0

    pythons = {"jaxpg": sys.executable} | ({"rejax": args.rejax} if args.rejax else {})
    runs = {library: [] for library in pythons}
    for _ in range(args.rounds):
        for library, python in pythons.items():
            command = [python, __file__, "--work", library]
            command += ["--steps", str(args.steps), "--seeds", str(args.seeds)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            run = json.loads(out.splitlines()[-1])
            runs[library].append(run)
            figures = "  ".join(f"{name} {value:,.1f}" for name, value in run.items())
            print(f"{library:6} {figures}", flush=True)
    median = {
        library: {name: statistics.median(run[name] for run in rows) for name in rows[0]}
        for library, rows in runs.items()
    }
    for library, row in median.items():
        print(f"median {library:6} " + "  ".join(f"{n} {x:,.1f}" for n, x in row.items()))
    if args.rejax:
        ratio = median["jaxpg"]["steps/s"] / median["rejax"]["steps/s"]
        print(f"jaxpg / rejax: {ratio:.2f} {'pass' if ratio >= 0.9 else 'shortfall'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
