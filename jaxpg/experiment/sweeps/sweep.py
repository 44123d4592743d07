"""Sweeps: many configs times many seeds, in as few compiled programs as there can be.

    points = grid(learning_rate=[1e-4, 1e-3], gae_lambda=[0.9, 0.95])
    found = run(ppo, cfg, env, key, points, seeds=8, total_steps=100_000, out="sweeps/mine")

Configs that differ in numbers are lanes of one program (core/parallel/lanes.py); what is static
makes groups, a program each. A group is cut into parts if it does not fit into memory, or if lanes
may end early: a part is over when all of its lanes are. Each part is a run folder, so a sweep that
was killed goes on to the byte. A sweep's folder holds

sweep.json        what was asked for, the points, the parts
parts/0/ ...      run folders, a lane for every config and seed
results.csv       a row per config, seed and iteration, or block of iterations
evaluations.csv   returns of whole episodes, a row per config, seed and evaluation
scores.csv        a row per config and seed: its last evaluation, and how it ended

Every config has the same seeds, those of `jaxpg.run` with as many, so that differences between
configs are differences of pairs.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxpg.core import env as E
from jaxpg.core.checks import require_integer, require_number
from jaxpg.core.config import plain, unknown
from jaxpg.core.episodes import require_episodes
from jaxpg.core.interrupt import catch_signals
from jaxpg.core.memory import free_memory
from jaxpg.core.parallel.lanes import stack
from jaxpg.core.plan import device_bytes
from jaxpg.core.run import Callbacks, as_callbacks
from jaxpg.core.single import most_seeds
from jaxpg.core.train import initial_state, num_iterations
from jaxpg.core.types import Agent, C, Key
from jaxpg.experiment.files import RUN, SWEEP, lock
from jaxpg.experiment.files.atomic import json_digest, to_json_values, write_json
from jaxpg.experiment.run import folder as run_folder
from jaxpg.experiment.run import provenance
from jaxpg.experiment.run.record import check_labels
from jaxpg.experiment.sweeps.points import (
    Point,
    check_points,
    group_by_program,
)
from jaxpg.experiment.sweeps.tables import (
    TABLES,
    Sweep,
    SweepFolder,
    check_part,
    open_sweep,
    read_tables,
)
from jaxpg.experiment.sweeps.watching import (
    ask_for_loggers,
    count_compilations,
    display,
    loggers_of_part,
)
from jaxpg.experiment.text import format_count
from jaxpg.presets import find_objects

NARROW = 16  # lanes of a part, at least, if they may end early on a CPU, where width buys nothing
SEEDS, EPISODES = 8, 128  # of a point, and of an evaluation, unless others are asked for
PART = ("chunk", "checkpoints", "keep", "checkpoint_minutes")  # settings of its runs
FREE = 0.8  # of the memory that is free, for a sweep


def run(
    agent: Agent[C] | str,
    cfg: C | None,
    env: E.Env | str,
    key: Key,
    points: Sequence[Point],
    *,
    total_steps: int,
    seeds: int = 8,
    out: str | Path | None = None,
    evaluations: int | None = None,
    episodes: int = 128,
    target: float | None = None,
    lanes: int | None = None,
    memory: int | None = None,
    log_every: int | None = None,
    callbacks: Callbacks = (),
    progress: bool = False,
    log: Callable[[str], None] = lambda text: None,
    loggers: Sequence[str] = (),
    name: str | None = None,
    tags: Sequence[str] = (),
    **settings: Any,
) -> Sweep:
    """Trains every point with every seed.

    agent, env: the objects, or their names. cfg, env: what the points change; cfg=None is the
    preset. key: one; seeds are split off it. out: a new folder; None keeps the tables only.
    evaluations: of each seed, spread over the run; None is one, at its end, or ten if there is a
    target. target: a seed whose greedy evaluation reaches it ends there.
    lanes: how many are run at once, at most; None leaves it to memory, and to the target. memory:
    bytes on each device that they may take; None is 80 % of what is free. callbacks, log_every: for
    each part, as of `jaxpg.run`. progress: whether to show it on stderr. log: is told when
    compiling begins, and how the sweep is laid out: parts, their lanes, the bytes that a device
    needs and has. loggers: names, as `log` of `jaxpg.run` has them; each shows a series for every
    config and seed. name, tags: labels by which `jaxpg runs` finds it. settings: chunk,
    checkpoints, keep and checkpoint_minutes of each part, as of `jaxpg.run`.

    Raises ValueError before anything compiles or is written for what cannot work, whichever point
    it is in.
    """
    callbacks = as_callbacks(callbacks)
    agent, cfg, env = find_objects(agent, cfg, env)
    check_points(agent, cfg, env, key, points, total_steps, seeds)
    require_episodes(env, "episodes", episodes)
    fields = list(dict.fromkeys(name for point in points for name in point))
    with provenance.lasting(out):
        about = {"kind": "sweep", **provenance.describe_run(agent, cfg, env, key)}
    record = ask_for_loggers(loggers, out) | new_record(
        about, fields, total_steps,
        seeds=seeds, evaluations=evaluations, episodes=episodes, target=target, lanes=lanes,
        memory=memory, log_every=log_every, name=name, tags=tags, **settings,
    )  # fmt: skip
    with provenance.lasting(out), lock.hold_new_folder(out) as folder:
        this = open_sweep(folder, agent, cfg, env, key, record, trust=True)
        return write_tables(train_parts(plan_parts(this, points, log), callbacks, progress))


def new_record(
    about: dict[str, Any], fields: list[str], total_steps: int,
    *, seeds: int = SEEDS, evaluations: int | None = None, episodes: int = EPISODES,
    target: float | None = None, lanes: int | None = None, memory: int | None = None,
    log_every: int | None = None,
    name: str | None = None, tags: Sequence[str] = (), **settings: Any,
) -> dict[str, Any]:  # fmt: skip
    """Makes the record of a sweep or comparison without points. Raises ValueError for what is not
    allowed.

    about: its kind, what the points change, and where it comes from. settings: of its runs.
    """
    if settings.keys() & {"init_from", "init_parts"}:
        raise ValueError(
            "init_from: of a sweep allowed is None, since its parts begin one after the other, and "
            "would read the other run again when it may have gone on; a loop of jaxpg.run has it"
        )
    if others := settings.keys() - set(PART):
        known = ("seeds", "evaluations", "episodes", "target", "lanes", "memory", "log_every")
        raise unknown("setting of a sweep", min(others), (*known, "name", "tags", *PART))
    run_folder.check_settings(run_folder.Settings(evaluations=1, **settings), None, Path())
    if evaluations is None:
        evaluations = 1 if target is None else 10
    asked = {"seeds": seeds, "evaluations": evaluations, "episodes": episodes}
    limits = {"lanes": lanes, "memory": memory, "log_every": log_every}
    for limit, value in (asked | {k: x for k, x in limits.items() if x is not None}).items():
        require_integer(limit, value, 1)
    asked = {limit: int(value) for limit, value in asked.items()}  # as JSON has them
    limits = {k: value if value is None else int(value) for k, value in limits.items()}
    if target is not None:
        require_number("target", target)
    return {
        **about,
        "fields": fields,
        "total_steps": int(total_steps),
        **asked,
        **limits,
        "target": None if target is None else float(target),
        **check_labels(name, tags),
        **settings,
        "points": [],
        "parts": [],
        "compilations": 0,
        "seconds": 0.0,
    }


def plan_parts(
    this: SweepFolder, points: Sequence[Point], log: Callable[[str], None]
) -> SweepFolder:
    """Adds points, and the parts that train them, to the record, and writes it."""
    record, begun = dict(this.record), time.perf_counter()
    first, seeds, total = len(record["points"]), record["seeds"], record["total_steps"]
    if not first:
        log("compiling ...")
    points = [{name: plain(value) for name, value in point.items()} for point in points]
    found = [this.resolve(point) for point in points]
    told = (record.get(name) for name in ("configs", "environments", "names"))
    record = provenance.add_sources(record, points, *told)
    pairs = [(cfg, env) for _, cfg, env in found]
    record["points"] = [*record["points"], *points]
    with count_compilations() as compiled:
        for group in group_by_program(pairs, [agent for agent, _, _ in found]):
            lanes = [[first + i, seed] for i in group for seed in range(seeds)]
            agent = found[group[0]][0]
            size, width = _size_parts(this, agent, [pairs[i] for i in group], log)
            common = {
                "width": width,
                "iterations": num_iterations(agent, pairs[group[0]][0], total),
                "env_steps": agent.steps_per_iter(pairs[group[0]][0]),  # of an iteration
                "over": False,
            }
            slices = [lanes[i : i + size] for i in range(0, len(lanes), size)]
            record["parts"] = [*record["parts"], *({"lanes": x} | common for x in slices)]
    record["compilations"] += len(compiled)
    record["seconds"] += time.perf_counter() - begun
    write_json(this.out / SWEEP, record)
    return this._replace(record=record)


def _size_parts(this: SweepFolder, agent: Agent, pairs: list, log: Callable) -> tuple[int, int]:
    """Chooses how many lanes each part of a group has, and how many its program: a multiple of the
    devices. Compiles that program."""
    record, devices, configs = this.record, jax.devices(), len(pairs)
    seeds, count = record["seeds"], configs * record["seeds"]
    early = record["target"] is not None and devices[0].platform == "cpu"
    most = record["lanes"] or (max(seeds, NARROW) if early else count)
    limit = record["memory"] or int(FREE * free_memory())
    cfg, env = pairs[0]
    if (kept := most_seeds(env.core)) is not None:  # one after the other, all on one device
        devices, most = devices[:1], min(most, kept)
    state = jax.eval_shape(lambda key: initial_state(agent, cfg, env, key), this.keys[0])
    lane = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(state))
    most = max(1, min(most, int(limit * len(devices) / lane)))  # before XLA says it precisely
    while True:
        if most >= seeds:  # whole configs, as many in each part
            size = math.ceil(configs / math.ceil(configs / (most // seeds))) * seeds
        else:
            size = math.ceil(seeds / math.ceil(seeds / most))
        width = math.ceil(size / len(devices)) * len(devices) if size >= len(devices) else size
        cfg, env = stack([pairs[min(i // seeds, configs - 1)] for i in range(width)])
        keys = this.keys[np.arange(width) % seeds]
        need = device_bytes(
            agent, cfg, env, keys, total_steps=record["total_steps"], chunk=record.get("chunk")
        )
        if need <= limit or size == 1:
            break
        most = max(1, min(size - 1, int(size * limit / need)))
    parts, plural = math.ceil(count / size), lambda n, what: f"{n} {what}{'s'[: n > 1]}"
    log(
        f"{agent.name} on {pairs[0][1].name}: {plural(configs, 'config')} x "
        f"{plural(seeds, 'seed')}, {plural(parts, 'part')} of {size}, "
        f"{format_count(need)}B of {format_count(limit)}B"
    )
    return size, width


def train_parts(
    this: SweepFolder, callbacks: Callbacks, progress: bool, share: float = 1.0
) -> SweepFolder:
    """Trains the parts that are not over, and records how it went.

    share: of the sweep that is planned, see `watching.display`.
    """
    names = ("evaluations", "episodes", "target", "log_every", *PART)
    record = dict(this.record)
    settings = run_folder.Settings(**{name: record[name] for name in names if name in record})
    shown = display(record["parts"], share) if progress else None
    with catch_signals() as signals:
        for i, part in enumerate(record["parts"]):
            if part["over"]:
                continue
            if signals.asked:
                break
            folder, agent, cfg, env, keys = this.part(i)
            record["parts"] = list(record["parts"])
            if (folder / RUN).exists():
                check_part(this.out, part, i)
            else:  # by which its folder will be known
                made = run_folder.new_record(agent, cfg, env, keys, record["total_steps"], settings)
                part = part | {"run": json_digest(to_json_values(made))}
                record["parts"][i] = part
                write_json(this.out / SWEEP, record)
            watch = [*callbacks, *loggers_of_part(this, i), *([shown(i)] if shown else [])]
            begun = time.perf_counter()
            with count_compilations() as compiled:
                if (folder / RUN).exists():
                    found = run_folder.resume(
                        folder, callbacks=watch, agent=agent, env=env, trust=this.trust
                    )
                else:
                    found = run_folder.run(
                        folder, agent, cfg, env, keys, record["total_steps"], settings, watch
                    )
            record["seconds"] += time.perf_counter() - begun
            record["compilations"] += len(compiled)
            record["parts"][i] = part | {"over": found.stopped != "interrupt"}
            this = this._replace(record=record)
            write_json(this.out / SWEEP, record)
            if found.stopped == "interrupt":
                break
    return this


def write_tables(this: SweepFolder) -> Sweep:
    """Reads the tables, and writes them if all parts are over."""
    found = read_tables(this.out, this.record)
    if not all(part["over"] for part in this.record["parts"]):
        return found
    digests = {}
    for name, file in TABLES.items():
        path = this.out.absolute() / f"{file}.csv"  # pandas takes a "~" for a home
        getattr(found, name).to_csv(path, index=False)
        digests[file] = hashlib.sha256(path.read_bytes()).hexdigest()
    done = this.record | {"digests": digests}
    if (found.scores["ended"] == "diverged").all():
        count = len(found.scores)
        done |= {"failed": f"NonFiniteError: what all {count} seeds learnt is not finite"}
    write_json(this.out / SWEEP, done)
    return found._replace(about=done)
