"""Commands have the options of the functions that they call, with the same defaults."""

import inspect

import pytest

import jaxpg
from jaxpg import sweep
from jaxpg.cli import sweep as cli_sweep
from jaxpg.cli import train as cli_train
from jaxpg.cli import tune as cli_tune

# What the command has in another form, or decides: names of the function's arguments.
OBJECTS = {"agent", "cfg", "env", "key", "total_steps", "callbacks"}
PAIRS = {
    # The command evaluates ten times also for a folder that it names itself; tags are --tag.
    "train": (cli_train._train, jaxpg.run, OBJECTS | {"tags"}, {"evaluations"}),
    "sweep": (
        cli_sweep._sweep,
        sweep.run,
        OBJECTS | {"points", "memory", "progress", "loggers", "settings", "tags"},
        {"log"},  # names of loggers there, a function in Python
    ),
    "tune": (
        cli_tune._tune,
        jaxpg.tune,
        OBJECTS - {"callbacks"} | {"space", "progress", "log"},
        set(),
    ),
}


@pytest.mark.parametrize("command", list(PAIRS))
def test_options_are_the_arguments_of_the_function(command):
    shown, function, other, differ = PAIRS[command]
    options, arguments = (inspect.signature(x).parameters for x in (shown, function))
    assert arguments.keys() - options.keys() <= other
    assert other - arguments.keys() == set(), "a name that is none any more"
    for name in arguments.keys() & options.keys() - other - differ:
        assert options[name].default == arguments[name].default, name
