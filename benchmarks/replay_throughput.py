"""Env steps/s, updates/s, compile seconds and peak memory of the off-policy agents.

python benchmarks/replay_throughput.py [WORK ...] [--rounds 3] [--seeds 1] [--rejax PYTHON]

Each work is one configuration of an agent, equal in both libraries: environments, buffer, batch,
network, updates per step. With the path of a Python interpreter that has rejax (it needs
gymnax < 1, so an environment of its own) both are measured in turn, each run a fresh process, with
rejax's periodic evaluation off. With several seeds ours are laid over the CPU's cores, rejax's are
vmapped. Prints every run, the medians and their ratio, and the return that was reached.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any, NamedTuple

from harness import peak_memory


class Work(NamedTuple):
    agent: str
    env: str
    steps: int  # of one seed; whole iterations
    ours: dict[str, Any]
    rejax: dict[str, Any] | None  # None: no such configuration there
    least: float  # our env steps/s over rejax's


WORKS = {
    # rejax's configuration of CartPole: 5 updates for each step of 10 environments.
    "dqn": Work(
        agent="dqn", env="CartPole-v1", steps=50_000,
        ours={
            "num_envs": 10, "updates_per_step": 0.5, "batch_size": 100, "hidden": (64, 64),
            "activation": "silu", "buffer_size": 50_000, "learning_starts": 1000,
            "learning_rate": 1e-3, "target_period": 100, "exploration_fraction": 0.1,
        },
        rejax={
            "num_envs": 10, "num_epochs": 5, "batch_size": 100, "buffer_size": 50_000,
            "fill_buffer": 1000, "learning_rate": 1e-3, "target_update_freq": 200,
            "max_grad_norm": 10.0, "agent_kwargs": {"activation": "swish"},
        },
        least=3.0,
    ),
    # PureJaxRL's (and CleanRL's) configuration: one update for each step of 10 environments.
    "dqn-cleanrl": Work(
        agent="dqn", env="CartPole-v1", steps=500_000,
        ours={
            "num_envs": 10, "updates_per_step": 0.1, "batch_size": 128, "hidden": (120, 84),
            "buffer_size": 10_000, "learning_starts": 10_000, "learning_rate": 2.5e-4,
            "target_period": 50, "double": False, "max_grad_norm": None,
        },
        rejax=None, least=0.0,
    ),
    # rejax's configurations of Pendulum, with one activation and unscaled observations.
    "sac": Work(
        agent="sac", env="Pendulum-v1", steps=20_000,
        ours={
            "num_steps": 8, "batch_size": 256, "buffer_size": 10_000, "learning_starts": 1000,
            "learning_rate": 1e-3,
        },
        rejax={
            "num_envs": 1, "num_epochs": 1, "batch_size": 256, "buffer_size": 10_000,
            "fill_buffer": 1000, "learning_rate": 1e-3, "polyak": 0.995,
            "target_entropy_ratio": None, "agent_kwargs": {"activation": "relu"},
        },
        least=1.2,
    ),
    # The same with a buffer of the usual size: rejax draws at a cost that grows with it.
    "sac-100k": Work(
        agent="sac", env="Pendulum-v1", steps=20_000,
        ours={
            "num_steps": 8, "batch_size": 256, "buffer_size": 100_000, "learning_starts": 1000,
            "learning_rate": 1e-3,
        },
        rejax={
            "num_envs": 1, "num_epochs": 1, "batch_size": 256, "buffer_size": 100_000,
            "fill_buffer": 1000, "learning_rate": 1e-3, "polyak": 0.995,
            "target_entropy_ratio": None, "agent_kwargs": {"activation": "relu"},
        },
        least=1.2,
    ),
    "td3": Work(
        agent="td3", env="Pendulum-v1", steps=20_000,
        ours={
            "num_steps": 8, "batch_size": 100, "buffer_size": 10_000, "learning_starts": 1000,
            "noise_std": 0.15,
        },
        rejax={
            "num_envs": 1, "num_epochs": 1, "batch_size": 100, "buffer_size": 10_000,
            "fill_buffer": 1000, "learning_rate": 1e-3, "polyak": 0.995, "max_grad_norm": 100.0,
            "actor_kwargs": {"activation": "relu"}, "critic_kwargs": {"activation": "relu"},
        },
        least=1.2,
    ),
}  # fmt: skip


def jaxpg_program(work: Work):
    """(train(key) -> state, returns(state, key) -> [episodes], updates of a run) of jaxpg."""
    from functools import partial

    import jaxpg

    agent, env = getattr(jaxpg, work.agent), jaxpg.make(work.env)
    cfg = agent.Config(**work.ours)

    def train(key):
        return jaxpg.train(agent, cfg, env, key, total_steps=work.steps)[0]

    updates = (work.steps - cfg.learning_starts) * cfg.updates_per_step
    return train, partial(jaxpg.evaluate, agent, cfg, env), updates


def rejax_program(work: Work):
    """Program of rejax, with what it calls the same things."""
    import rejax
    from rejax.evaluate import evaluate

    fields = dict(work.rejax)
    algo = rejax.get_algo(work.agent).create(
        env=work.env, total_timesteps=work.steps, eval_freq=work.steps,
        skip_initial_evaluation=True, **fields,
    )  # fmt: skip
    algo = algo.replace(eval_callback=lambda algo, state, key: ())

    def returns(state, key):
        return evaluate(algo.make_act(state), key, algo.env, algo.env_params, 128, 500)[1]

    iterations = (work.steps - fields["fill_buffer"]) / fields["num_envs"]
    return lambda key: algo.train(key)[0], returns, iterations * fields["num_epochs"]


def measure(library: str, work: Work, seeds: int) -> dict:
    """One process: compiles, trains once, and tells what that took."""
    if library == "jaxpg" and seeds > 1:
        import jaxpg

        jaxpg.use_all_cores()
    import jax

    train, returns, updates = {"jaxpg": jaxpg_program, "rejax": rejax_program}[library](work)
    keys = jax.random.split(jax.random.PRNGKey(0), (2, seeds))
    program, inputs = train, keys[0, 0]
    if library == "jaxpg":
        keys = jax.random.wrap_key_data(keys)
        inputs = keys[0, 0]
    if seeds > 1:
        inputs = keys[0]
        program = jax.vmap(train)
        if library == "jaxpg":
            from jaxpg.core.parallel.seeds import over_seeds, seed_mesh

            mesh = seed_mesh(seeds)
            inputs = jax.device_put(
                inputs, jax.NamedSharding(mesh, jax.sharding.PartitionSpec("seed"))
            )
            program = lambda keys: over_seeds(train, mesh)((), keys)  # noqa: E731
    begun = time.perf_counter()
    program = jax.jit(program).lower(inputs).compile()
    compiled = time.perf_counter()
    state = jax.block_until_ready(program(inputs))
    seconds = time.perf_counter() - compiled
    evaluate = jax.jit(jax.vmap(returns) if seeds > 1 else returns)
    state = jax.device_put(state, jax.devices()[0])
    reached = evaluate(state, keys[1] if seeds > 1 else keys[1, 0])
    return {
        "steps/s": work.steps * seeds / seconds,
        "updates/s": updates * seeds / seconds,
        "compile s": compiled - begun,
        "memory MB": peak_memory(),
        "return": float(reached.mean()),
    }


def compare(name: str, rounds: int, seeds: int, rejax: str | None) -> None:
    """Runs the libraries in turn, and prints."""
    work = WORKS[name]
    pythons = {"jaxpg": sys.executable} | ({"rejax": rejax} if rejax and work.rejax else {})
    runs = {library: [] for library in pythons}
    for _ in range(rounds):
        for library, python in pythons.items():
            command = [python, __file__, name, "--library", library, "--seeds", str(seeds)]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs[library].append(json.loads(out.splitlines()[-1]))
            figures = "  ".join(f"{k} {x:,.1f}" for k, x in runs[library][-1].items())
            print(f"{name} {library:6} {figures}", flush=True)
    median = {
        library: {k: statistics.median(run[k] for run in rows) for k in rows[0]}
        for library, rows in runs.items()
    }
    for library, row in median.items():
        figures = "  ".join(f"{k} {x:,.1f}" for k, x in row.items())
        print(f"{name} median {library:6} {figures}")
    if "rejax" in median:
        ratio = median["jaxpg"]["steps/s"] / median["rejax"]["steps/s"]
        verdict = "pass" if ratio >= work.least else "shortfall"
        print(f"{name} jaxpg / rejax: {ratio:.2f}, at least {work.least}: {verdict}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("works", nargs="*", default=list(WORKS), metavar="WORK", help=str([*WORKS]))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rejax", metavar="PYTHON", help="an interpreter that has rejax")
    parser.add_argument("--library", choices=("jaxpg", "rejax"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    unknown = set(args.works) - set(WORKS)
    if unknown:
        parser.error(f"unknown work {sorted(unknown)}: allowed are {[*WORKS]}")
    if args.library:
        print(json.dumps(measure(args.library, WORKS[args.works[0]], args.seeds)))
        return 0
    for name in args.works:
        compare(name, args.rounds, args.seeds, args.rejax)
    return 0


if __name__ == "__main__":
    sys.exit(main())
