"""Measures the table of results: what every agent reaches in every environment, with ten seeds.

python benchmarks/learning.py ppo/MountainCar-v0 ...     these rows
python benchmarks/learning.py --missing [--agent ppo]     all that are not measured
python benchmarks/learning.py --agent ppo               all of an agent, again
python benchmarks/learning.py --all --jobs 2            all that there are, again
python benchmarks/learning.py --list                    what there is, and how long it takes

With `--jobs 2` two rows are measured at once: most leave a core of two idle. The whole table then
takes about two and a half hours on two cores.

A row is an agent in an environment: `ppo/MountainCar-v0`, `ppo/DeepSea-bsuite,size=20`. Which there
are, for how many steps, is in rows.toml; what they have to reach, in references.toml. Settings are
those of `jaxpg.preset`. The seeds are of a key that no search has seen. On the way there are 20
evaluations; at the end every seed plays 128 whole episodes, or as many as rows.toml says, greedy
and sampled. Where an environment counts as solved from some return on, it is told when all seeds
had reached that: environment steps of each, and seconds from the start, compilation and evaluations
included.

A row is written to learning.json as soon as it is done. The script prints a line each and exits
with 1 if a bar is missed by a row that can hold it. `python -m tests.tables` then writes the pages
anew, and `python benchmarks/learning_figure.py` the picture.
"""

import argparse
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import jax
import learning_rows
import numpy as np
from learning_rows import Row

import jaxpg
from jaxpg import agents
from jaxpg.core import env as E
from jaxpg.core.episodes import actions
from jaxpg.core.interrupt import exit_code
from jaxpg.core.train import settle
from jaxpg.experiment.analysis.thresholds import solved

KEY = 0x7AB1E  # of all rows; searches have others
EVALUATIONS, EPISODES = 20, 128
PACKAGES = ("jax", "gymnax", "flax", "optax", "distrax")


def shorten(values: Any) -> list[float | None]:
    """Numbers to five digits, for JSON: None for what is not finite."""
    texts = [f"{x:.5g}" for x in np.atleast_1d(np.asarray(values, float))]
    return [json.loads(x) if np.isfinite(float(x)) else None for x in texts]


def measure_random(label: str, episodes: int = 512) -> float | None:
    """Mean return of uniformly random actions; None if an episode does not end."""
    env, agent = learning_rows.make_env(label), jaxpg.ppo
    space = env.action_space

    def act(cfg, env, state, obs, carry, key, greedy):
        envs = len(jax.tree.leaves(obs)[0])
        if env.action_kind != "continuous":
            return jax.vmap(space.sample)(jax.random.split(key, envs)), carry
        size = envs, E.action_size(env)
        return E.to_space(env, jax.random.uniform(key, size, minval=-1.0)), carry

    cfg = agent.Config(num_envs=1, num_steps=4, minibatches=1, hidden=(1,))
    state = agent.init(cfg, env, jax.random.key(0))
    agent = agent._replace(name="random", act=act)
    returns = jaxpg.evaluate(agent, cfg, env, state, jax.random.key(KEY), episodes=episodes)
    return shorten(returns.mean())[0]


def watch(
    evaluate: Callable[[jaxpg.Event], jax.Array], threshold: float | None, curve: dict, found: dict
) -> jaxpg.Callback:
    """Notes the mean over seeds of `evaluate(event)`, returns [seeds], after each chunk in `curve`;
    in `found`, where every seed first reached the threshold, and where all had."""
    begun = time.perf_counter()

    def look(event: jaxpg.Event) -> None:
        returns = event.metrics["return"]
        curve.setdefault("env_steps", []).append(event.env_steps)
        curve.setdefault("returns", []).extend(shorten(returns.mean()))
        if threshold is None:
            return
        at = found.setdefault("env_steps", [None] * len(returns))
        for seed in (returns >= threshold).nonzero()[0]:
            at[seed] = at[seed] or event.env_steps
        if "seconds" not in found and None not in at:
            found["seconds"] = round(time.perf_counter() - begun, 1)

    return jaxpg.Callback(on_chunk=lambda event: {"return": evaluate(event)}, on_metrics=look)


def measure(row: Row, seeds: int, episodes: int = EPISODES) -> dict[str, Any]:
    """Trains a row: settings, returns of every seed [seeds], the curve, and what it cost."""
    agent, env = agents.get(row.agent), learning_rows.make_env(row.env)
    keys, k_eval, k_way = jax.random.split(jax.random.key(KEY), (3, seeds))
    total = learning_rows.total_steps(row)
    cfg, num_iters = settle(agent, learning_rows.make_config(row), env, total)
    counted = learning_rows.counted_returns(row.env) == "greedy"
    tables = learning_rows.tables()
    episodes = min(episodes, tables["episodes"].get(row.env, episodes))
    few = min(episodes, tables["curve_episodes"].get(row.env, episodes))
    threshold, curve, found = solved(row.env), {}, {}

    def evaluate(event: jaxpg.Event) -> jax.Array:
        keys = jax.vmap(jax.random.fold_in, (0, None))(k_way, event.iteration)
        return jaxpg.evaluate(agent, cfg, env, event.state, keys, few, counted).mean(-1)

    callbacks = [watch(evaluate, threshold, curve, found)]
    chunk = -(-num_iters // EVALUATIONS)
    result = jaxpg.run(agent, cfg, env, keys, total_steps=total, callbacks=callbacks, chunk=chunk)
    if result.stopped == "interrupt":  # a part of a row is no row
        raise KeyboardInterrupt
    state = agent, result.cfg, env, result.state, k_eval
    greedy, sampled = (jaxpg.evaluate(*state, episodes, g).mean(-1) for g in (True, False))
    lengths = {}
    if learning_rows.has_length_bar(row):
        longest = int(env.params.max_steps_in_episode)
        _, mask = actions(*state, episodes, greedy=True, num_steps=longest)
        lengths = {"lengths": shorten(mask.sum(1).mean(-1))}
    return {
        **learning_rows.describe_settings(row),
        "total_steps": total,
        "env_steps": result.env_steps,
        "greedy": shorten(greedy),
        "sampled": shorten(sampled),
        **lengths,
        "curve": curve,
        "seconds": round(result.seconds, 1),
        "solved": threshold and {"threshold": threshold, **found},
    }


def add(row: Row, seeds: int) -> dict[str, Any]:
    """Measures a row, writes it beside what was measured meanwhile, and returns all of it."""
    known = learning_rows.load()["random"]
    # Before what takes hours: an error here would lose it.
    chance = known[row.env] if row.env in known else measure_random(row.env)
    one = measure(row, seeds)
    folder = os.open(learning_rows.MEASURED.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # another process may write a row
        found = learning_rows.load()
        found["rows"][row.name], found["random"][row.env] = one, chance
        found["versions"] = {p: version(p) for p in PACKAGES}
        learning_rows.save(found)
    finally:
        os.close(folder)
    return found


def add_all(rows: list[Row], seeds: int) -> int:
    """Measures rows one after the other; returns how many failed, or missed a bar."""
    missed = 0
    for row in rows:
        try:
            measured = add(row, seeds)
        except Exception as error:  # the others may take hours, and are not lost
            print(f"{row.name:32} FAILED  {type(error).__name__}: {error}", flush=True)
            missed += 1
            continue
        print(format_row(row, measured), flush=True)
        verdict = learning_rows.judge(row, measured)
        missed += verdict.held is False and not verdict.cannot
    return missed


def share(rows: list[Row], seeds: int, jobs: int) -> int:
    """Measures rows in processes of their own, several at once; returns as `add_all`."""

    def measure_apart(row: Row) -> int:
        command = [sys.executable, __file__, row.name, "--seeds", str(seeds)]
        return subprocess.run(command, check=False).returncode

    pool = ThreadPoolExecutor(jobs)
    try:
        return sum(map(bool, pool.map(measure_apart, rows)))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C: what is running has it, too


def format_row(row: Row, measured: dict[str, Any]) -> str:
    """Formats a measured row as a line."""
    one, verdict = measured["rows"][row.name], learning_rows.judge(row, measured)
    mean = verdict.mean
    line = f"{row.name:32} {one['env_steps']:>10,} steps  {mean.value:8.4g}"
    line += f" ({mean.low:.4g} .. {mean.high:.4g}), worst {verdict.worst:.4g}"
    if found := learning_rows.references(row):
        line += f"  reference {found[0].value:g}"
    if verdict.held is not None:
        line += f"  {'held' if verdict.held else 'SHORT'}" + ", in more steps" * verdict.later
    if verdict.cannot:
        line += f", as it must: {verdict.cannot}"
    if "seconds" in (when := one["solved"] or {}):
        steps, seconds = max(when["env_steps"]), when["seconds"]
        line += f"  all at {when['threshold']:g} by {steps:,} steps, {seconds:.0f} s"
    return line


def show(rows: list[Row], seeds: int) -> None:
    """Prints all rows, and the time that those which are missing would take."""
    measured, each = learning_rows.load(), []
    for row in rows:
        if learning_rows.is_missing(row, measured, seeds):
            seconds = learning_rows.estimate_seconds(row, measured, seeds)
            each.append(seconds)
            about = f"about {seconds / 60:.1f} min" if seconds == seconds else "time not known"
            of = learning_rows.describe_settings(row)["settings"]
            known = "not measured"
            if one := measured["rows"].get(row.name):
                known = f"with {len(one['greedy'])} seeds"
                if learning_rows.lacks_lengths(row, one):
                    known = "without lengths of episodes"
                if learning_rows.has_changed(row, one):
                    known = "with other settings"
            steps = f"{learning_rows.total_steps(row):>10,} steps"
            print(f"{row.name:32} {steps}  {known}, {of}, {about}")
        else:
            print(format_row(row, measured))
    line = f"{len(rows)} rows; those that are missing take about {np.nansum(each) / 3600:.1f} hours"
    unknown = int(np.isnan(each).sum())
    print(line + f", and {unknown} of them a time that is not known" * (unknown > 0))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="AGENT/ENV", help="such as ppo/CartPole-v1")
    parser.add_argument("--agent", choices=agents.NAMES, help="the rows of this agent alone")
    parser.add_argument("--missing", action="store_true", help="rows that are not measured")
    parser.add_argument("--all", action="store_true", help="every row, again")
    parser.add_argument("--list", action="store_true", help="print the rows, and measure nothing")
    seeds = f"of a row ({learning_rows.SEEDS}); it takes the place of what was measured with others"
    parser.add_argument("--seeds", type=int, default=learning_rows.SEEDS, help=seeds)
    parser.add_argument("--jobs", type=int, default=1, help="rows that are measured at once (1)")
    args = parser.parse_args()
    if not (args.rows or args.agent or args.missing or args.all or args.list):
        parser.error("no row is given: name some, or --missing, --all, --agent NAME, --list")
    if args.all and (args.rows or args.agent or args.missing):
        parser.error("--all: allowed where no row, --agent or --missing is given")
    if args.rows and args.agent:
        parser.error(f"--agent {args.agent}: allowed where no row is named")
    for name in ("seeds", "jobs"):
        if (value := getattr(args, name)) < 1:
            parser.error(f"--{name} {value}: allowed is an integer >= 1")
    jaxpg.use_all_cores()  # before an environment makes JAX's devices
    try:
        rows = learning_rows.find_rows(args.rows) or list(learning_rows.all_rows().values())
        measured = learning_rows.load()
    except ValueError as error:
        parser.error(str(error))
    rows = [row for row in rows if args.agent in (None, row.agent)]
    if not rows:
        parser.error(f"--agent {args.agent}: has no row; --list has all that there are")
    if args.missing:
        rows = [row for row in rows if learning_rows.is_missing(row, measured, args.seeds)]
    if args.list:
        show(rows, args.seeds)
        return 0
    if not rows:
        print("no row is missing")
    try:
        missed = add_all(rows, args.seeds) if args.jobs == 1 else share(rows, args.seeds, args.jobs)
    except KeyboardInterrupt:
        print("interrupted; learning.json has the rows that were done, --missing has the others")
        return exit_code(signal.SIGINT)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
