"""The `jaxpg` command: the table of its commands, and `main`, which runs one of them.

An error that the user can mend is one line on stderr and exit code 2. JAX, gymnax and others take
seconds to import, so commands import them where they are needed.
"""

import gc
import io
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxpg.cli import catalogue, common, results, sweep, train
from jaxpg.cli.options import parse


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
}

ROWS = "".join(f"  {f'{k} {c.arguments}':<18}{c.summary}\n" for k, c in COMMANDS.items())
USAGE = f"""\
usage: jaxpg COMMAND ...

{ROWS}
`jaxpg COMMAND --help` says more. `jaxpg train AGENT ENV --help` has every setting
of the agent, with the values that it is tuned to for the environment. Compiled
programs are kept in ~/.cache/jaxpg; JAX_ENABLE_COMPILATION_CACHE=0 turns that off.
"""


@common.end_by_signal
def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0, 1 if the run failed, 2 for bad input; if a
    signal ended it 128 and its number: 130 for Ctrl-C, 143 for SIGTERM, 138 for SIGUSR1 on
    Linux. Raises SystemExit after --help.
    """
    if argv is None:  # the process is ours. To start makes objects by the million, little garbage
        gc.set_threshold(100_000, 20, 20)
        if isinstance(sys.stdout, io.TextIOWrapper):  # a letter that it lacks is no error
            sys.stdout.reconfigure(errors="backslashreplace")
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    name, *rest = argv
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda text, *_, **__: common.say(f"warning: {text}")
            if name not in COMMANDS:
                from jaxpg.core.config import unknown

                raise unknown("command", name, COMMANDS)
            command = COMMANDS[name]
            if command.parses:
                return command.function(rest)
            return parse(command.function, f"jaxpg {name}", rest)()
    except (ValueError, ImportError, OSError, MemoryError) as error:
        common.say(f"error: {error or 'there is not enough memory'}")
        return 2
