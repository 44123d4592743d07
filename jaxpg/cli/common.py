"""Helpers of several commands: messages, tables, keys, folders, and the start of JAX."""

import argparse
import contextlib
import errno
import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxpg.core.interrupt import catch_signals, exit_code
from jaxpg.experiment.text import printable

if TYPE_CHECKING:
    from rich.console import Console

    from jaxpg.core.types import Key

ROWS = 16  # of a table; more seeds are only summed up
INTERRUPTED = exit_code(signal.SIGINT)  # what commands return when a signal has ended a run


class Job(NamedTuple):
    """Arguments of `jaxpg.distributed`: the processes that train together."""

    distributed: bool  # a scheduler says it
    coordinator: str | None
    processes: int | None
    process: int | None


def say(text: str) -> None:
    """Prints a message for the user, in one line on stderr."""
    with lost_terminal():
        print("jaxpg:", printable(" ".join(text.split())), file=sys.stderr)


@contextlib.contextmanager
def lost_terminal() -> Iterator[None]:
    """Context in which nothing is wrong if the terminal that is written to has been closed."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise


def tell(*lines: object) -> None:
    """Prints lines on stdout; no name in them can command the terminal."""
    for line in lines:
        print(printable(line))


def console() -> "Console":
    """Console for tables, which shows a name in brackets as it is."""
    from rich.console import Console

    return Console(markup=False, emoji=False)


def print_table(columns: Mapping[str, Any]) -> None:
    """Prints a row per seed, and what they come to. columns: numbers [seeds], or None for none."""
    import numpy as np
    from rich.box import SIMPLE_HEAD
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
    console().print(table)


def end_by_signal(main: Callable[..., int]) -> Callable[..., int]:
    """Makes a signal that ends a command one line on stderr and the exit code that shells expect,
    wherever it comes. Within a run it ends the run, see core/interrupt.py."""

    @functools.wraps(main)
    def bound(*args, **named) -> int:
        with catch_signals(wait=False) as signals:
            try:
                code = main(*args, **named)
            except KeyboardInterrupt as stop:
                say("; ".join(["interrupted", *getattr(stop, "__notes__", [])]))
                return exit_code(getattr(stop, "number", signal.SIGINT))
            except Exception as error:
                if not signals.asked:
                    raise
                say(f"interrupted; {error!r}")  # what others' code has made of it
                return exit_code(signals.asked)
        return exit_code(signals.asked) if code == INTERRUPTED and signals.asked else code

    return bound


@contextlib.contextmanager
def working_directory() -> Iterator[None]:
    """Puts the working directory on Python's path, behind all else, so that no file in it stands in
    for a package. Not where it is in a run's folder: that may be someone else's."""
    from jaxpg.core.sources import run_folder_of

    here = os.getcwd()
    if here in sys.path or run_folder_of(Path(here, "any")):
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)


def short_name(name: str) -> str:
    """A name for a folder: of "module:Object" the object."""
    return name.rpartition(":")[2].replace("/", "-")


@contextlib.contextmanager
def new_folder(given: Path | None, name: Path) -> Iterator[Path]:
    """The folder that is given or, if none is, a new one of that name or name-2, name-3, ..., which
    is made, and is taken away again if nothing is written. Raises ValueError for one that cannot
    be."""
    from jaxpg.experiment.files.lock import claim, make

    with make(given) if given else claim(name) as folder, resumable(folder):
        yield folder


@contextlib.contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """Context in which a run, a sweep or a tuning is written: what interrupts it says how to go on
    with it."""
    from jaxpg.experiment.files.kinds import kind_of

    try:
        yield
    except KeyboardInterrupt as stop:
        begun = kind_of(folder) is not None
        stop.add_note(f"go on with: jaxpg resume {folder}" if begun else "nothing was trained yet")
        raise


def random_key(seed: int) -> "Key":
    """The key of a seed. Raises ValueError if it does not fit into 32 bits."""
    import jax

    if not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed}: allowed is an integer >= 0 and < 2**32")
    return jax.random.key(seed)


def seed_shape(run: Path) -> tuple[int, ...]:
    """The shape of a run's key: () or (seeds,)."""
    import numpy as np

    from jaxpg.experiment.files.atomic import read_json

    return np.shape(read_json(run / "run.json")["key"]["words"])[:-1]


def own_objects(run: Path, agent: str | None, env: str | None, trust: bool) -> dict[str, Any]:
    """Keywords `agent` and `env` of what loads a run: what the user names in the place of those
    that its folder names."""
    from jaxpg.experiment.run.provenance import named_objects

    return dict(zip(("agent", "env"), named_objects(run, agent, env, trust), strict=True))


def cores() -> int:
    """CPU cores that this process may use."""
    from jaxpg.core.machine import count_cores  # brings JAX

    return count_cores()


def set_up(seeds: int, config: dict | None = None) -> None:
    """Chooses JAX's devices, threads, flags and cache, before it starts.

    config: of an agent, as JSON.
    """
    from jaxpg.core import machine

    with contextlib.suppress(RuntimeError):  # JAX has started: called from a program
        machine.use_all_cores(max(n for n in range(1, cores() + 1) if seeds % n == 0))
    if config is not None and _narrow(config):
        machine.use_one_thread()
    machine.use_command_buffers()
    machine.use_cache()


def _narrow(config: dict) -> bool:
    """True if an agent's networks are small enough for one thread, see `core.machine`."""
    nets = [config[name] for name in ("net", "critic_net") if config.get(name) is not None]
    units = [*config.get("hidden", []), *(config.get("critic_hidden") or [])]
    plain = all(isinstance(net, str) and net.endswith(":MLP") for net in nets)
    return plain and max(units, default=0) <= 128


def set_up_ahead(command: str, words: Sequence[str]) -> None:
    """Chooses JAX's devices by the words of a command whose agent is not imported yet, and so has
    no config to parse them by."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--seeds", type=int, default=1)
    for name in ("data-parallel", "distributed"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--coordinator")
    for name in ("processes", "process"):
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--config.num-envs", "--config.num_envs", dest="num_envs", type=int)
    try:
        found, _ = parser.parse_known_args(words)
    except (argparse.ArgumentError, SystemExit):  # words that the command will refuse
        return
    job = Job(found.distributed, found.coordinator, found.processes, found.process)
    if command != "train":
        set_up(cores())
    elif found.seeds >= 1:
        envs = found.num_envs or 1 << (cores().bit_length() - 1)  # a power of 2, most often
        shares = 1 if several(job) else envs
        set_up(shares if found.data_parallel else found.seeds)
        if several(job):
            _join(job)


def set_up_run(config: dict, seeds: int, data_parallel: bool, job: Job) -> None:
    """`set_up` for a run, with the other processes of its job, if there are any."""
    # Of several processes each is one device to them: only JAX knows how many there are.
    shares = 1 if several(job) else config.get("num_envs", 1)
    set_up(shares if data_parallel else seeds, config)
    if several(job):
        _join(job)


def several(job: Job) -> bool:
    """True if the options make this one of several processes."""
    distributed, *by_hand = job
    return distributed or any(x is not None for x in by_hand)


def _join(job: Job) -> None:
    """Joins the other processes of a job, of which the first one prints for all."""
    import jax

    import jaxpg
    from jaxpg.core.parallel.processes import is_main_process

    if jax.distributed.is_initialized():  # before the agent was imported
        return
    jaxpg.distributed(job.coordinator, job.processes, job.process)
    if not is_main_process():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  as long as the process lives
