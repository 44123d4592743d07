"""The `jaxpg` command.

An error that the user can mend is one line on stderr and exit code 2. JAX, gymnax and others take
seconds to import, so they are imported where they are needed.
"""

import contextlib
import dataclasses
import gc
import itertools
import json
import math
import os
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import tyro
from tyro.conf import Positional

USAGE = """\
usage: jaxpg COMMAND ...

  train AGENT ENV   train an agent in an environment, into a new run folder
  sweep AGENT ENV   train it with many settings and seeds, in few compiled programs
  compare AGENT...  train several agents on equal terms, and compare them
  resume RUN        go on with a run or sweep that was stopped, or make a run longer
  eval RUN          measure whole episodes under the policy that was learnt
  plot RUN...       draw learning curves into a PNG
  report RUN...     write a page about runs, sweeps and comparisons, which opens offline
  render RUN        draw episodes of the policy that was learnt, as GIF or MP4
  export RUN        write the policy that was learnt into one file
  list              agents, environments, and which go together

`jaxpg COMMAND --help` says more. `jaxpg train AGENT ENV --help` has every setting
of the agent, with the values that it is tuned to for the environment. Compiled
programs are kept in ~/.cache/jaxpg; JAX_ENABLE_COMPILATION_CACHE=0 turns that off.
"""
STEPS = 500_000  # of a run without a preset
ROWS = 16  # of a table; more seeds are only summed up
EVALUATION = 1  # folded into the seed's key: evaluation shares no key with training


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 1 if the run failed, 2 for bad input, 130 if
    it was interrupted. Raises SystemExit after --help and for what tyro cannot parse (0 and 2).
    """
    if argv is None:  # the process is ours. To start makes objects by the million, little garbage
        gc.set_threshold(100_000, 20, 20)
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    name, *rest = argv
    from jaxpg import cli_experiments

    commands = {
        "compare": cli_experiments.compare,
        "report": cli_experiments.report,
        "render": cli_experiments.render,
        "resume": resume,
        "eval": evaluate,
        "plot": plot,
        "export": export,
        "list": overview,
    }
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda text, *_, **__: _say(f"warning: {text}")
            if name == "train":
                return train(rest)
            if name == "sweep":
                return cli_experiments.sweep(rest)
            if name not in commands:
                from jaxpg.core.config import unknown

                raise unknown("command", name, ["train", "sweep", *commands])
            return tyro.cli(commands[name], prog=f"jaxpg {name}", args=rest)
    except (ValueError, ImportError, OSError) as error:
        _say(f"error: {error}")
        return 2


def train(argv: list[str]) -> int:
    """`jaxpg train AGENT ENV ...`: these two decide what else there is to say."""
    from jaxpg import agents, presets
    from jaxpg.core.config import from_dict, to_dict

    names = [word for word in argv[:2] if not word.startswith("-")]
    if not names:
        print("usage: jaxpg train AGENT ENV [OPTIONS]   the agents:", ", ".join(agents.NAMES))
        print("`jaxpg train AGENT ENV --help` shows the options, `jaxpg list` the environments.")
        return 0 if argv else 2
    agent, env_name = agents.get(names[0]), (names[1:] or [None])[0]
    preset = presets.table(agent).get(env_name, {})
    shown = _shown(presets.preset(agent, env_name))

    def command(
        config: type(shown) = shown,
        param: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
        total_steps: int = preset.get("total_steps", STEPS),
        seeds: int = 1,
        seed: int = 0,
        out: Path | None = None,
        evaluations: int = 10,
        target: float | None = None,
        tensorboard: bool = False,
        data_parallel: bool = False,
        distributed: bool = False,
        coordinator: str | None = None,
        processes: int | None = None,
        process: int | None = None,
    ) -> int:
        """Trains an agent and writes a run folder: config, metrics, checkpoints, learning curve.

        Args:
            param: NAME=NUMBER, a parameter of the environment; may be given several times.
            total_steps: environment steps of each seed.
            seeds: how many independent runs to train side by side.
            seed: of all random numbers.
            out: the run folder; None is a new one in runs/.
            evaluations: how many times to evaluate, spread evenly over the run.
            target: stop when the greedy evaluation of every seed reaches this return.
            tensorboard: write TensorBoard files too.
            data_parallel: lay the environments of one seed over all devices.
            distributed: one of several processes that train together, as a scheduler says (SLURM);
                without one give the next three.
            coordinator: HOST:PORT, a free port of the machine of process 0.
            processes: how many there are.
            process: which of them this is: 0, 1, ...
        """
        if env_name is None:
            raise ValueError(f"`jaxpg train {agent.name} ENV`: no ENV is given, see `jaxpg list`")
        if seeds < 1:
            raise ValueError(f"seeds={seeds}: allowed is an integer >= 1")
        cfg = from_dict(agent.Config, vars(config))
        job = distributed, coordinator, processes, process
        # Of several processes each is one device to them: only JAX knows how many there are.
        shares = 1 if _several(*job) else getattr(cfg, "num_envs", 1)
        _set_up(shares if data_parallel else seeds, to_dict(cfg))
        _join(*job)
        import jax

        import jaxpg
        from jaxpg.core.parallel.processes import broadcast_from_main, is_main_process
        from jaxpg.experiment.callbacks.guards import stop_at
        from jaxpg.experiment.callbacks.tensorboard import tensorboard
        from jaxpg.experiment.text import format_count

        env, key = jaxpg.make(env_name, **dict(map(_parameter, param))), _key(seed)
        key = jax.random.split(key, seeds) if seeds > 1 else key
        folder = out or broadcast_from_main(lambda: _new(Path("runs", f"{agent.name}-{env_name}")))
        if target is not None and evaluations == 0:
            raise ValueError("evaluations=0: with a target allowed is an integer >= 1")
        callbacks = [] if target is None else [stop_at(target)]
        if tensorboard and is_main_process():
            callbacks.append(tensorboard(folder / "tensorboard"))
        if not preset:
            print(f"There is no preset of {agent.name} for {env_name}: these are its defaults.")
        size = f"{seeds} x " * (seeds > 1) + format_count(total_steps)
        print(f"{agent.name} on {env_name}, {size} env steps; compiling ...")

        def go(watch):
            return jaxpg.run(
                agent, cfg, env, key, total_steps=total_steps, evaluations=evaluations,
                callbacks=[*callbacks, *watch], out=folder, data_parallel=data_parallel,
            )  # fmt: skip

        return _watch(go, folder)

    return tyro.cli(command, prog=" ".join(["jaxpg train", *names]), args=argv[len(names) :])


def resume(
    run: Positional[Path],
    total_steps: int | None = None,
    distributed: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> int:
    """Goes on with a run, or a sweep, from its newest checkpoint, as if it had never been stopped.

    Args:
        run: the run folder.
        total_steps: of each seed, in all, if the run shall be longer now.
        distributed: one of several processes that go on together, as `jaxpg train` says it.
        coordinator: HOST:PORT, a free port of the machine of process 0.
        processes: how many there are.
        process: which of them this is: 0, 1, ...
    """
    job = distributed, coordinator, processes, process
    from jaxpg.experiment.run.provenance import is_sweep

    if is_sweep(run):
        if total_steps is not None:
            raise ValueError(f"total_steps={total_steps}: allowed is None for a sweep")
        if _several(*job):
            raise ValueError("distributed: a sweep goes on in one process")
        from jaxpg import cli_experiments

        return cli_experiments.resume(run)
    from jaxpg.experiment.run.checkpoint import read_json

    record = read_json(run / "run.json")
    shares = 1 if _several(*job) else record["config"].get("num_envs", 1)
    _set_up(shares if record.get("data_parallel") else math.prod(_seeds(run)), record["config"])
    _join(*job)
    import jaxpg

    print(f"going on with {run} ...")
    return _watch(lambda w: jaxpg.resume(run, callbacks=w, total_steps=total_steps), run)


def evaluate(
    run: Positional[Path], episodes: int = 128, sampled: bool = False, seed: int = 0
) -> int:
    """Measures the returns of whole episodes under the newest checkpoint of a run.

    Args:
        run: the run folder.
        episodes: of each seed.
        sampled: draw actions from the policy, instead of its mode.
        seed: of the random numbers.
    """
    if episodes < 1:
        raise ValueError(f"episodes={episodes}: allowed is an integer >= 1")
    seeds = _seeds(run)
    _set_up(math.prod(seeds))
    import jax
    import numpy as np

    import jaxpg

    key = jax.random.split(jax.random.fold_in(_key(seed), EVALUATION), seeds)
    result = jaxpg.load(run)
    agent, cfg, env, state, *_ = result
    returns = np.atleast_2d(jaxpg.evaluate(agent, cfg, env, state, key, episodes, not sampled))
    kind = "sampled" if sampled else "greedy"
    print(f"return of {episodes} {kind} episodes at {result.env_steps:,} env steps")
    _table({"mean": returns.mean(1), "std": returns.std(1), "lowest": returns.min(1)})
    return 0


def plot(runs: Positional[tuple[Path, ...]], out: Path | None = None, window: int = 20) -> int:
    """Draws the learning curves of runs into one PNG.

    Args:
        runs: run folders.
        out: the file; None is curve.png in the run's folder, or curves.png here for several.
        window: how many of the last episodes the return is a mean of.
    """
    if not runs:
        raise ValueError("`jaxpg plot RUN...`: no RUN is given")
    from jaxpg.experiment.figures.learning_curve import learning_curve

    out = out or (runs[0] / "curve.png" if len(runs) == 1 else Path("curves.png"))
    learning_curve(runs, out, window)
    print(out)
    return 0


def export(run: Positional[Path], out: Path, onnx: bool = False, seed: int = 0) -> int:
    """Writes the policy of a run's newest checkpoint into one file, to act with elsewhere.

    Args:
        run: the run folder.
        out: the file.
        onnx: as ONNX, greedy; else for jaxpg.Policy.from_file, which needs JAX.
        seed: which policy, of a run of several seeds: 0, 1, ...
    """
    if not out.parent.is_dir():
        raise ValueError(f"out={str(out)!r}: allowed is a file in a folder that is there")
    _set_up(math.prod(_seeds(run)))
    import jaxpg

    policy = jaxpg.Policy.load(run, seed=seed)
    (policy.export_onnx if onnx else policy.export)(out)
    print(f"{out}  {out.stat().st_size:,} bytes")
    return 0


def overview() -> int:
    """Lists the agents and environments, which go together, and which have presets."""
    import jax
    from rich.console import Console
    from rich.table import Table

    from jaxpg import agents, presets
    from jaxpg.envs import registry

    def fits(agent, env_name: str) -> bool:
        try:
            env, cfg = registry.make(env_name), presets.preset(agent, env_name)
            jax.eval_shape(lambda key: agent.init(cfg, env, key), jax.random.key(0))
        except ValueError:
            return False
        return True

    probes = {"discrete": "CartPole-v1", "continuous": "Pendulum-v1"}
    table = Table("agent", "what it is", "actions", "preset for", show_lines=True)
    for agent in map(agents.get, agents.NAMES):
        title = sys.modules[agent.step.__module__].__doc__.splitlines()[0]
        actions = [kind for kind, probe in probes.items() if fits(agent, probe)]
        table.add_row(agent.name, title, "\n".join(actions), "\n".join(presets.table(agent)))
    envs = Table("actions", "environments", show_lines=True)
    for kind in probes:
        names = [
            name
            for name in registry.names()
            if registry.make(name).discrete == (kind == "discrete")
        ]
        envs.add_row(kind, ", ".join(names))
    Console().print(table, envs)
    return 0


def _say(text: str) -> None:
    print("jaxpg:", " ".join(text.split()), file=sys.stderr)


def _shown(cfg):
    """The config in a class that tyro can show: a field with choices lists them, a class is
    written "module:Name", and `total_steps`, which the run fills in, is hidden."""
    from jaxpg.core.config import to_dict

    types, values = {}, dict(vars(cfg))
    for field in dataclasses.fields(cfg):
        if choices := field.metadata.get("choices"):
            types[field.name] = Literal[tuple(choices)]
        elif field.type is type:
            types[field.name], values[field.name] = str, to_dict(cfg)[field.name]
        elif field.name == "total_steps":
            types[field.name] = tyro.conf.Suppress[field.type]
    made = dataclasses.make_dataclass(
        "Config", types.items(), bases=(type(cfg),), frozen=True, kw_only=True
    )
    made.__module__ = type(cfg).__module__  # whose source has the fields' comments, for --help
    return made(**values)


def _parameter(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError as error:
        raise ValueError(f"param={text!r}: allowed is NAME=NUMBER") from error


def _new(folder: Path) -> Path:
    """The folder, or the first of folder-2, folder-3, ... that is not there."""
    others = (folder.with_name(f"{folder.name}-{n}") for n in itertools.count(2))
    return next(f for f in itertools.chain([folder], others) if not f.exists())


def _key(seed: int):
    import jax

    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed}: allowed is an integer >= 0 and < 2**32")
    return jax.random.key(seed)


def _seeds(run: Path) -> tuple[int, ...]:
    """The shape of a run's key: () or (seeds,)."""
    import numpy as np

    from jaxpg.experiment.run.checkpoint import read_json

    return np.shape(read_json(run / "run.json")["key"]["words"])[:-1]


def _several(distributed: bool, *by_hand) -> bool:
    """Whether this is one of several processes, by the options that say so."""
    return distributed or any(x is not None for x in by_hand)


def _join(*job) -> None:
    """Joins the other processes of a job, of which the first one prints for all."""
    if not _several(*job):
        return
    import jaxpg
    from jaxpg.core.parallel.processes import is_main_process

    jaxpg.distributed(*job[1:])
    if not is_main_process():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  as long as the process lives


def _set_up(seeds: int, config: dict | None = None) -> None:
    """Chooses JAX's devices, threads and cache, before it starts. config: of an agent, as JSON."""
    from jaxpg.core import machine

    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(RuntimeError):  # JAX has started: called from a program
        machine.use_all_cores(max(n for n in range(1, cores + 1) if seeds % n == 0))
    if config is not None and _narrow(config):
        machine.use_one_thread()
    machine.use_cache()


def _narrow(config: dict) -> bool:
    """Whether an agent's networks are small enough for one thread, see `machine`."""
    plain = config.get("net", "").endswith(":MLP") or "net" not in config
    return plain and max(config.get("hidden", [0]), default=0) <= 128


def _watch(go: Callable, folder: Path) -> int:
    """Calls go(callbacks) -> Result with a progress bar, and says how it ended."""
    from jaxpg.core.parallel.processes import is_main_process
    from jaxpg.core.run import Callback
    from jaxpg.experiment.callbacks.guards import NonFiniteError
    from jaxpg.experiment.callbacks.progress import progress
    from jaxpg.experiment.run.checkpoint import newest, read_json
    from jaxpg.experiment.text import format_count

    clock = []
    tick = Callback(on_metrics=lambda e: clock.append((time.perf_counter(), e.env_steps)))
    try:
        result = go([progress(), tick] if is_main_process() else [])
    except NonFiniteError as error:
        last = newest(folder / "checkpoints")
        good = f"the last good checkpoint is {folder / 'checkpoints' / str(last)}"
        _say(f"error: {error}; {good if last else 'there is no checkpoint from before that'}")
        return 1
    except KeyboardInterrupt:  # a second Ctrl-C, or one outside the loop
        _say(f"interrupted; go on with: jaxpg resume {folder}")
        return 130
    if result.stopped == "interrupt":
        _say(f"interrupted at {result.env_steps:,} env steps; go on with: jaxpg resume {folder}")
        return 130

    if not is_main_process():
        return 0
    if result.stopped == "callback":
        print("the target is reached")
    returns = result.metrics["episode/return"]
    seeds = len(returns) if returns.ndim == 2 else 1
    evaluation = read_json(folder / "summary.json").get("evaluation")
    if evaluation:
        steps = evaluation["iteration"] * result.agent.steps_per_iter(result.cfg)
        print(f"mean return of whole episodes at {steps:,} env steps")
        _table({kind: evaluation[kind] for kind in ("greedy", "sampled")})
    took = f"{seeds} x " * (seeds > 1)
    took += f"{result.env_steps:,} env steps in {result.seconds:.1f} s"
    if len(clock) > 1:  # from the end of the first chunk
        (begin, before), (end, after) = clock[0], clock[-1]
        rate = seeds * (after - before) / (end - begin)
        took += f", {format_count(rate)}/s once compiled"
        took += " (with evaluations)" * bool(evaluation)
    print(f"{took}\nrun folder      {folder}\nlearning curve  {folder / 'curve.png'}")
    return 0


def _table(columns: dict[str, Sequence[float | None]]) -> None:
    """Prints a row per seed, and what they come to."""
    import numpy as np
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table("seed", box=SIMPLE_HEAD)
    for name in columns:
        table.add_column(name, justify="right")
    values = np.array(list(columns.values()), float)
    rows = list(enumerate(values.T)) if values.shape[1] <= ROWS else []
    if values.shape[1] > 1:
        rows += [("mean", values.mean(1)), ("lowest", values.min(1))]
    for name, row in rows:
        if name == "mean":
            table.add_section()
        table.add_row(str(name), *(f"{x:.4g}" for x in row))
    Console().print(table)
