"""Words of the command line as values: an agent's config, an environment's parameters, sweeps."""

import argparse
import contextlib
import dataclasses
import functools
import inspect
import io
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from jaxpg import agents
from jaxpg.cli import common
from jaxpg.cli.about import usage
from jaxpg.experiment.text import printable

if TYPE_CHECKING:
    from jaxpg.experiment.sweeps.points import Range

STEPS = 500_000  # of a run without a preset
PYTHON = {"True": True, "False": False, "None": None}  # beside the values of JSON


def call_with_agent(
    name: str, function: Callable[..., int], examples: Sequence[str], words: list[str]
) -> int:
    """Parses "AGENT ENV [OPTIONS]" and calls function(agent, env_name, config=..., ...).

    What follows the agent and the environment in the signature are the options. Of those `config`
    and `total_steps` get types and defaults here, as `presets.find` has them for the agent in the
    environment: of its preset, its general profile, or the file that --preset names.
    name: of the command. examples: of its use, shown where no agent is named.
    """
    names = [word for word in words[:2] if not word.startswith("-")]
    if not names:
        print(usage.describe(name, function, agents.NAMES, examples))
        return 0 if words else 2
    _require_order(name, words)
    from jaxpg import presets

    if names[0] not in agents.NAMES:  # its module may make JAX's devices: they are chosen before
        common.set_up_ahead(name, words)
    agent, env_name = agents.find(names[0], True), (names[1:] or [None])[0]
    cfg, total = agent.Config(), STEPS
    if env_name is not None:
        asked = agent, env_name, _find_preset(words)
        cfg = presets.preset(*asked)
        total = presets.find(*asked).settings.get("total_steps", STEPS)
    tuned = {"config": displayable(cfg), "total_steps": total}

    def bound(**options) -> int:
        if env_name is None:
            raise ValueError(f"`jaxpg {name} {agent.name} ENV`: no ENV is given, see `jaxpg list`")
        return function(agent, env_name, **options)

    parameters = list(inspect.signature(function).parameters.values())[2:]
    parameters = [
        p.replace(annotation=type(tuned[p.name]), default=tuned[p.name], kind=p.KEYWORD_ONLY)
        if p.name in tuned
        else p.replace(kind=p.KEYWORD_ONLY)
        for p in parameters
    ]
    bound.__doc__ = function.__doc__
    bound.__signature__ = inspect.Signature(parameters)
    bound.__annotations__ = {p.name: p.annotation for p in parameters}
    prog = printable(" ".join(["jaxpg", name, *names]))
    return parse(bound, prog, words[len(names) :])()


def _find_preset(words: Sequence[str]) -> Path | None:
    """The value of the option --preset, whose settings are the defaults of the others."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", type=Path)
    try:
        return parser.parse_known_args(words)[0].preset
    except (argparse.ArgumentError, SystemExit):  # words that the command will refuse
        return None


def _require_order(command: str, words: Sequence[str]) -> None:
    """Raises ValueError for an environment and an agent in each other's place."""
    env_name, agent = (*words[:2], "")[:2]
    if agent in agents.NAMES and env_name not in agents.NAMES:
        meant = " ".join(["jaxpg", command, agent, env_name])
        raise ValueError(f"the agent comes first, then the environment: did you mean `{meant}`?")


def parse(function: Callable[..., int], prog: str, words: Sequence[str]) -> Callable[[], int]:
    """Parses the words for a function and returns its call, still to be made.

    Raises ValueError for words that do not fit, SystemExit after --help.
    """

    @functools.wraps(function)  # so tyro sees its signature and its help
    def bound(*args, **named):
        return functools.partial(function, *args, **named)

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            call = tyro.cli(bound, prog=prog, args=words)
    except SystemExit as end:
        if end.code != 2:
            raise
        text = _in_one_line(said.getvalue())
        raise ValueError(usage.explain(text, function, prog, words)) from None
    print(said.getvalue(), end="", file=sys.stderr)
    return call


def _in_one_line(box: str) -> str:
    """Writes the parts of tyro's box, of lines or of ASCII, behind each other; not its title."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)  # without colours
    lines = [re.sub("[│╯╰]", " ", line).strip() for line in plain.strip().splitlines()]
    text = " ".join(lines[1:] or lines)
    parts = [" ".join(part.split()) for part in re.split("─+|-{8,}", text)]
    return "; ".join(part for part in parts if part)


def displayable(cfg: Any) -> Any:
    """The config in a class that tyro can show and parse, with the same help.

    A field with choices lists them, a class or a function is written "module:Name", a partial as
    JSON, and `total_steps`, which the run fills in, is hidden.
    """
    from jaxpg.core.config import class_fields, to_dict

    fields, values, named = [], dict(vars(cfg)), class_fields(type(cfg))
    for field in dataclasses.fields(cfg):
        kind = field.type
        if choices := field.metadata.get("choices"):
            kind = Literal[tuple(x for x in choices if x is not None)]
        if field.name in named:
            value = to_dict(cfg)[field.name]
            values[field.name] = json.dumps(value) if isinstance(value, dict) else value
            absent = None if field.default is None else str
            kind = (kind | str if choices else str) | absent
        elif field.name == "total_steps":
            kind = tyro.conf.Suppress[kind]
        same = dataclasses.field(default=field.default, metadata=field.metadata)
        fields.append((field.name, kind, same))
    return dataclasses.make_dataclass("Config", fields, frozen=True, kw_only=True)(**values)


def parse_parameter(text: str) -> tuple[str, Any]:
    """An environment's parameter: "gravity=9.8", "windy=True"."""
    name, _, value = text.partition("=")
    if value in PYTHON:
        return name, PYTHON[value]
    try:
        return name, json.loads(value)
    except ValueError as error:
        allowed = "NAME=VALUE, a number, True, False, a list, or text in double quotes"
        raise ValueError(f"param={text!r}: allowed is {allowed}") from error


def parse_fields(texts: Sequence[str]) -> "dict[str, list | Range]":
    """Fields and their values, as of `parse_values`. Raises ValueError for a field that is given
    twice."""
    found = {}
    for name, values in map(parse_values, texts):
        if name in found:
            raise ValueError(f"{name} is given twice: allowed is one list, or range, of a field")
        found[name] = values
    return found


def parse_values(text: str) -> "tuple[str, list | Range]":
    """A field and its values: "a=1,2", "hidden=[64],[64,64]", or a Range: "a=1e-4:1e-2:log"."""
    from jaxpg.experiment.sweeps import points as P

    name, sign, rest = text.partition("=")
    if not (name and sign):
        raise ValueError(f"{text!r}: allowed is FIELD=VALUE,VALUE ... or FIELD=LOW:HIGH")
    parts = rest.split(":")
    if len(parts) in (2, 3) and parts[2:] in ([], ["log"]):
        try:
            low, high = map(float, parts[:2])
        except ValueError:
            pass  # "module:Name", a class
        else:
            found = P.Range(low, high, log=bool(parts[2:]))
            P.require_range(found, name)
            return name, found
    return name, [_value(x) for x in _split(rest)] if rest else []


def _split(text: str) -> list[str]:
    """The parts between the commas that are outside of brackets."""
    words, depth = [""], 0
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and not depth:
            words.append("")
        else:
            words[-1] += letter
    return words


def _value(text: str) -> Any:
    """A Python constant, a JSON value, or the text itself."""
    if text in PYTHON:
        return PYTHON[text]
    try:
        return json.loads(text)
    except ValueError:
        return text
