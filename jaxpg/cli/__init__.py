"""The `jaxpg` command: the table of its commands, and `main`, which runs one of them.

An error that the user can mend is one line on stderr and exit code 2. Where nobody reads what is
printed any more (`jaxpg list | head`) the command ends as others do, by SIGPIPE's number. JAX,
gymnax and others take seconds to import, so commands import them where they are needed.
"""

import gc
import io
import os
import select
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from tyro.conf import Positional

from jaxpg import __version__
from jaxpg.cli import catalogue, common, results, robustness, sweep, train, tune
from jaxpg.cli.about import one, table
from jaxpg.cli.options import parse


def completion(shell: Positional[Literal["bash", "zsh", "fish"]]) -> int:
    """Prints a script by which a shell completes `jaxpg`.

    bash: `source <(jaxpg completion bash)` in ~/.bashrc, or the output in a file of
    ~/.local/share/bash-completion/completions/ that is called jaxpg. zsh: in a file _jaxpg of a
    folder in $fpath. fish: in ~/.config/fish/completions/jaxpg.fish. Print it anew when packages
    bring agents or environments.

    Args:
        shell: which.
    """
    from jaxpg.cli.about.completion import write_script

    inner = {
        "train": train._train,
        "sweep": sweep._sweep,
        "tune": tune._tune,
    }  # their options follow AGENT ENV
    functions = {name: inner.get(name, c.function) for name, c in COMMANDS.items()}
    print(write_script(shell, functions), end="")
    return 0


class Command(NamedTuple):
    function: Callable[..., int]  # returns the exit code; its docstring is the help
    arguments: str  # as the usage names them
    summary: str
    parses: bool = False  # takes all words as they are, since the first ones decide on the options


COMMANDS = {
    "train": Command(
        train.train,
        "AGENT ENV",
        "train an agent in an environment, into a new run folder",
        parses=True,
    ),
    "sweep": Command(
        sweep.sweep,
        "AGENT ENV",
        "train it with many settings and seeds, in few compiled programs",
        parses=True,
    ),
    "tune": Command(
        tune.tune,
        "AGENT ENV",
        "search for better settings, and judge them on fresh seeds",
        parses=True,
    ),
    "compare": Command(
        sweep.compare, "AGENT...", "train several agents on equal terms, and compare them"
    ),
    "resume": Command(
        train.resume, "RUN", "go on with a run or sweep that was stopped, or make a run longer"
    ),
    "eval": Command(
        results.evaluate, "RUN", "measure whole episodes under the policy that was learnt"
    ),
    "plot": Command(results.plot, "RUN...", "draw learning curves into a PNG"),
    "robustness": Command(
        robustness.robustness,
        "RUN...",
        "draw returns over a grid of parameters of the environment",
    ),
    "report": Command(
        results.report,
        "RUN...",
        "write a page about runs, sweeps and comparisons, which opens offline",
    ),
    "render": Command(
        results.render, "RUN", "draw episodes of the policy that was learnt, as GIF or MP4"
    ),
    "export": Command(results.export, "RUN", "write the policy that was learnt into one file"),
    "list": Command(catalogue.overview, "", "agents, environments, and which go together"),
    "runs": Command(table.runs, "[FOLDER]", "runs and sweeps in a folder, and what they reached"),
    "show": Command(one.show, "RUN", "what a run was asked for, and what came of it"),
    "status": Command(one.status, "RUN", "how far a run is that is going on"),
    "completion": Command(completion, "SHELL", "a script: bash, zsh or fish completes"),
}

ROWS = "".join(f"  {f'{k} {c.arguments}':<18}{c.summary}\n" for k, c in COMMANDS.items())
GONE = 128 + 13  # as a shell reports a process that SIGPIPE ended
USAGE = f"""\
usage: jaxpg COMMAND ...

{ROWS}
`jaxpg COMMAND --help` says more, `jaxpg train AGENT ENV --help` has every setting
of the agent, with the values that it is tuned to for the environment, `jaxpg
--version` says the version. Compiled programs are kept in ~/.cache/jaxpg;
JAX_ENABLE_COMPILATION_CACHE=0 turns that off.
"""


@common.end_by_signal
def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 1 if the run failed, 2 for bad input, 141 if
    nobody reads its output; if a signal ended it 128 and its number: 130 for Ctrl-C, 143 for
    SIGTERM, 129 for SIGHUP, 138 for SIGUSR1 on Linux. Raises SystemExit after --help.
    """
    if argv is not None:
        return _run(list(argv))
    # The process is ours. To start makes objects by the million, little garbage.
    gc.set_threshold(100_000, 20, 20)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a letter that it lacks is no error
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            return _run(sys.argv[1:])
        finally:
            with common.lost_terminal():
                sys.stdout.flush()  # or what is left fails when Python ends
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return GONE


def _run(argv: list[str]) -> int:
    """Runs a command; see `main`."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"jaxpg {__version__}")
        return 0
    name, *rest = argv
    try:
        with warnings.catch_warnings(), common.working_directory():
            warnings.showwarning = lambda text, *_, **__: common.say(f"warning: {text}")
            if name not in COMMANDS:
                from jaxpg.core.config import unknown

                raise unknown("command", name, COMMANDS)
            command = COMMANDS[name]
            if command.parses:
                return command.function(rest)
            return parse(command.function, f"jaxpg {name}", rest)()
    except (ValueError, ImportError, OSError, MemoryError) as error:
        if isinstance(error, BrokenPipeError) and not _is_read():
            raise
        common.say(f"error: {error or 'there is not enough memory'}")
        return 2


def _is_read() -> bool:
    """True if somebody reads stdout: a broken pipe was another one then."""
    try:
        poll = select.poll()  # which Windows lacks
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return not any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (AttributeError, OSError):
        return False
