"""`jaxpg train` and `jaxpg resume`."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import TextWrapper
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional, UseAppendAction

from jaxpg.cli import common, options, sweep, tune
from jaxpg.cli.about.usage import wrap

if TYPE_CHECKING:
    from jaxpg.core.run import Result
    from jaxpg.core.types import Agent, Key

EXAMPLES = (
    "jaxpg train ppo CartPole-v1",
    "jaxpg train sac Pendulum-v1 --seeds 8 --config.learning-rate 1e-3",
)


def train(words: list[str]) -> int:
    """Trains the agent that the first word names in the environment of the second."""
    return options.call_with_agent("train", _train, EXAMPLES, words)


def _train(
    agent: "Agent",
    env_name: str,
    config: Any,
    preset: Path | None = None,
    param: UseAppendAction[tuple[str, ...]] = (),
    init_from: Path | None = None,
    init_parts: tuple[str, ...] = (),
    total_steps: int = options.STEPS,
    seeds: int = 1,
    seed: int = 0,
    out: Path | None = None,
    name: str | None = None,
    tag: UseAppendAction[tuple[str, ...]] = (),
    evaluations: int = 10,
    episodes: int = 128,
    target: float | None = None,
    checkpoints: int = 5,
    checkpoint_minutes: float | None = 10.0,
    keep: int = 3,
    keep_best: bool = False,
    chunk: int | None = None,
    log: tuple[str, ...] = (),
    tensorboard: bool = False,
    log_every: int | None = None,
    data_parallel: bool = False,
    distributed: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> int:
    """Trains an agent and writes a run folder: config, metrics, checkpoints, learning curve.

    Args:
        preset: a TOML file, such as `jaxpg tune` writes: its settings are the defaults of the other
            options. The word defaults: those of the agent, without its preset.
        param: NAME=VALUE, a parameter of the environment or an argument of its constructor; may
            be given several times.
        init_from: the folder of another run, whose parameters and statistics this one begins with.
        init_parts: what of them, if not all: names in the tree of parameters, such as actor_torso.
        total_steps: environment steps of each seed.
        seeds: how many independent runs to train side by side.
        seed: of all random numbers.
        out: the run folder; None is a new one in runs/.
        name: of the folder in runs/, if that shall not be called after agent and environment;
            `jaxpg runs` shows it.
        tag: a word by which `jaxpg runs` finds it; may be given several times.
        evaluations: how many times to evaluate, spread evenly over the run.
        episodes: of an evaluation.
        target: stop when the greedy evaluation of every seed reaches this return.
        checkpoints: how many, spread evenly over the run.
        checkpoint_minutes: between checkpoints by the clock, beside those; None is none.
        keep: how many of the newest checkpoints stay.
        keep_best: keep the one with the best greedy evaluation too (mean over seeds).
        chunk: iterations between looks at what came of them; None is a thirtieth of the run, at
            most 100.
        log: loggers to write to as well: tensorboard, wandb and mlflow, each an extra of jaxpg,
            with a series for each seed; jsonl, the rows of metrics.csv as JSON lines.
        tensorboard: the same as --log tensorboard.
        log_every: iterations of a row of metrics.csv; 1 is all rows, None as many as give no more
            than 10,000 rows a seed.
        data_parallel: lay the environments of one seed over all devices.
        distributed: one of several processes that train together, as a scheduler says (SLURM);
            without one give the next three.
        coordinator: HOST:PORT, a free port of the machine of process 0.
        processes: how many there are.
        process: which of them this is: 0, 1, ...
    """
    from jaxpg.core.config import from_dict

    if seeds < 1:
        raise ValueError(f"seeds={seeds}: allowed is an integer >= 1")
    job = common.Job(distributed, coordinator, processes, process)
    common.set_up_run(vars(config), seeds, data_parallel, job)  # before what they name is imported
    cfg = from_dict(agent.Config, vars(config), trust=True)  # the user has typed it
    import jaxpg
    from jaxpg.core.parallel.processes import agree_on_errors
    from jaxpg.core.plan import require_seeds
    from jaxpg.core.run import Callback
    from jaxpg.experiment.run.record import Settings, check_settings

    asked = {
        "evaluations": evaluations, "episodes": episodes, "target": target,
        "checkpoints": checkpoints, "checkpoint_minutes": checkpoint_minutes, "keep": keep,
        "keep_best": keep_best, "chunk": chunk, "log_every": log_every,
        "log": (*log, *["tensorboard"] * tensorboard), "data_parallel": data_parallel,
        "name": name, "tags": tag, "preset": None if preset is None else str(preset),
    }  # fmt: skip
    with agree_on_errors():
        env = jaxpg.make(env_name, **dict(map(options.parse_parameter, param)))
        check_settings(Settings(**asked), cfg, Path())
        require_seeds(agent, cfg, env, seeds)
        key = _keys(seed, seeds)
    usual = f"{agent.name}-{common.short_name(env_name)}"
    with common.new_folder(out, Path("runs", name or usual)) as folder:

        def go(watching):
            begun = f"{', '.join(init_parts) or 'all that is learnt'} of {init_from}"
            told = agent, env_name, seeds, total_steps, preset, begun * (init_from is not None)
            announce = Callback(on_begin=lambda _: _announce(*told))
            return jaxpg.run(
                agent, cfg, env, key, total_steps=total_steps, callbacks=[announce, *watching],
                out=folder, init_from=init_from, init_parts=init_parts, **asked,
            )  # fmt: skip

        return _watch(go, folder)


def _keys(seed: int, seeds: int) -> "Key":
    """The key of a run, or of several [seeds]."""
    import jax

    key = common.random_key(seed)
    return jax.random.split(key, seeds) if seeds > 1 else key


def _announce(
    agent: "Agent", env_name: str, seeds: int, total_steps: int, preset: Path | None, begun: str
) -> None:
    """Prints what is going to be trained, and what it begins with."""
    from jaxpg import presets
    from jaxpg.experiment.text import format_count

    of = presets.find(agent, env_name, preset).of
    none = f"There is no preset of {agent.name} for {env_name}: these are its"
    if preset is None and of == presets.GENERAL:
        text = f"{none} general profile. `--preset defaults` has its bare defaults."
        common.tell(*wrap(text).splitlines())
    elif preset is None and of is None:
        common.tell(f"{none} defaults.")
    elif of is None:
        common.tell(f"settings: the defaults of {agent.name}")
    elif preset is not None:
        common.tell(f"settings of {preset}" + ", the general ones" * (of == presets.GENERAL))
    if begun:
        common.tell(f"begins with {begun}")
    size = f"{seeds} x " * (seeds > 1) + format_count(total_steps)
    common.tell(f"{agent.name} on {env_name}, {size} env steps; compiling ...")


def resume(
    run: Positional[Path],
    total_steps: int | None = None,
    target: float | None = None,
    agent: str | None = None,
    env: str | None = None,
    trust: bool = False,
    distributed: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> int:
    """Goes on with a run, a sweep or a tuning, as if it had never been stopped.

    Args:
        run: the run folder.
        total_steps: of each seed, in all, if the run shall be longer now.
        target: of the greedy evaluation of every seed, if it shall be another one now.
        agent: module:Object of its agent, if it is another one now.
        env: module:Object of its environment, if it is another one now.
        trust: import any module that the folder names, which runs its code.
        distributed: one of several processes that go on together, as `jaxpg train` says it.
        coordinator: HOST:PORT, a free port of the machine of process 0.
        processes: how many there are.
        process: which of them this is: 0, 1, ...
    """
    from jaxpg.experiment.files.atomic import read_json
    from jaxpg.experiment.run.provenance import is_sweep, is_tuning

    job = common.Job(distributed, coordinator, processes, process)
    if is_sweep(run) or is_tuning(run):
        what = "sweep" if is_sweep(run) else "tuning"
        for name, value in {"total_steps": total_steps, "target": target}.items():
            if value is not None:
                raise ValueError(f"{name}={value}: allowed is None for a {what}")
        if common.several(job):
            raise ValueError(f"distributed: a {what} goes on in one process")
        go_on = sweep.resume_sweep if is_sweep(run) else tune.resume_tuning
        return go_on(run, agent, env, trust)
    record = read_json(run / "run.json")
    seeds, data_parallel = math.prod(common.seed_shape(run)), record.get("data_parallel", False)
    common.set_up_run(record["config"], seeds, data_parallel, job)
    import jaxpg
    from jaxpg.core.parallel.processes import agree_on_errors
    from jaxpg.core.run import Callback

    with agree_on_errors():
        objects = common.own_objects(run, agent, env, trust)
    announce = Callback(on_begin=lambda _: common.tell(f"going on with {run} ..."))
    asked = {"total_steps": total_steps, "target": target, "trust": trust, **objects}
    with common.resumable(run):
        return _watch(lambda w: jaxpg.resume(run, callbacks=[announce, *w], **asked), run)


def _watch(go: Callable, folder: Path) -> int:
    """Calls go(callbacks) -> Result with a progress bar, and says how it ended."""
    from jaxpg.core.parallel.processes import is_main_process
    from jaxpg.core.run import Callback, Event
    from jaxpg.experiment.callbacks.guards import NonFiniteError
    from jaxpg.experiment.callbacks.progress import progress
    from jaxpg.experiment.run.checkpoint import newest

    clock: list[tuple[float, int]] = []  # of the first chunk, and of the newest

    def note(event: Event) -> None:
        clock[1:] = [(time.perf_counter(), event.env_steps)]

    tick = Callback(on_metrics=note)
    try:
        result = go([progress(), tick] if is_main_process() else [])
    except NonFiniteError as error:
        last = newest(folder / "checkpoints")
        good = f"the last good checkpoint is {folder / 'checkpoints' / str(last)}"
        common.say(f"error: {error}; {good if last else 'there is no checkpoint from before that'}")
        return 1
    if result.stopped == "interrupt":
        common.say(
            f"interrupted at {result.env_steps:,} env steps; go on with: jaxpg resume {folder}"
        )
        return common.INTERRUPTED
    if is_main_process():
        _sum_up(result, folder, clock)
        _say_findings(result, folder)
    return 0


def _sum_up(result: "Result", folder: Path, clock: list[tuple[float, int]]) -> None:
    """Prints how a run ended. clock: times, and environment steps by then."""
    import numpy as np

    from jaxpg.core.config import to_dict
    from jaxpg.core.games import is_game
    from jaxpg.core.goals import has_goals
    from jaxpg.core.metrics import recent_mean
    from jaxpg.experiment.analysis import costs
    from jaxpg.experiment.files.atomic import read_json
    from jaxpg.experiment.text import format_count

    if result.stopped == "callback":
        common.tell("the target is reached")
    returns = result.metrics["episode/return"]
    seeds = len(returns) if returns.ndim == 2 else 1
    evaluation = read_json(folder / "summary.json").get("evaluation")
    if evaluation:
        steps = evaluation["iteration"] * result.agent.steps_per_iter(result.cfg)
        common.tell(f"mean return of whole episodes at {steps:,} env steps")
        common.print_table({kind: evaluation[kind] for kind in ("greedy", "sampled")})
    elif result.metrics["episode/count"].any():
        common.tell("mean return of the last episodes in training, and the iterations since then")
        recent = recent_mean(result.metrics)
        columns = {"return": recent.mean, "episodes": recent.episodes, "age": recent.age}
        common.print_table({name: np.atleast_1d(x) for name, x in columns.items()})
    if costs.has_costs(result.metrics):
        limit = costs.limit_of(to_dict(result.cfg))
        common.tell(*wrap(costs.describe_costs(result.metrics, limit)).splitlines())
    took = f"{seeds} x " * (seeds > 1)
    took += f"{result.env_steps:,} env steps in {result.seconds:.1f} s"
    if len(clock) > 1:  # from the end of the first chunk
        (begin, before), (end, after) = clock[0], clock[-1]
        rate = seeds * (after - before) / (end - begin)
        took += f", {format_count(rate)}/s once compiled"
        took += " (with evaluations)" * bool(evaluation)
    common.tell(took, f"run folder      {folder}")
    for name in ("tensorboard", "wandb", "mlflow"):
        if (folder / name).exists():
            common.tell(f"{name:<16}{folder / name}")
    if (curve := folder / "curve.png").exists():
        common.tell(f"learning curve  {curve}")
    if is_game(result.env.core):  # the mean says nothing of a sum that is always 0
        common.tell(f"each player     jaxpg eval {folder} --by-player")
    if has_goals(result.env):
        common.tell(f"success rate    jaxpg eval {folder}")


def _say_findings(result: "Result", folder: Path) -> None:
    """Prints that a run learnt nothing, and what to try; nothing of one that learnt. A run is whole
    without it: an error is a warning."""
    from jaxpg.experiment.diagnostics import diagnose, name_failed
    from jaxpg.experiment.files.atomic import read_json
    from jaxpg.experiment.run.origin import describe_origin
    from jaxpg.experiment.text import warn

    try:
        begun = describe_origin(read_json(folder / "run.json"))  # with what had learnt already
        found = diagnose(result, from_start=not begun)
    except Exception as error:
        warn(f"whether it learnt is not judged: {type(error).__name__}: {error}")
        return
    if found:
        common.tell("", name_failed(found))
    for finding in found:
        for text, mark in {finding.sentence: "- ", finding.advise(options=True): "  "}.items():
            wrap = TextWrapper(80, initial_indent=mark, subsequent_indent="  ")
            common.tell(*wrap.wrap(text))
