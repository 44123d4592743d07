"""Usage of a command before an agent is named, and errors of words that do not fit."""

import dataclasses
import inspect
import re
import shutil
import textwrap
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WIDEST = 100  # columns of text that are read with ease
KINDS = {"INT": "an integer", "FLOAT": "a number", "STR": "text", "PATH": "a path"}


def width() -> int:
    """Columns of the terminal, or 80 if there is none, of which the last stays free."""
    return min(shutil.get_terminal_size((80, 24)).columns, WIDEST) - 1


def wrap(text: str, indent: int = 0, first: str = "") -> str:
    """Wraps a text at the terminal's width, indented; first: stands before it, in the indent."""
    lead = f"{first:<{indent}}" if len(first) < indent or not first else f"{first}\n{'':<{indent}}"
    lines = textwrap.wrap(
        " ".join(text.split()), max(width(), indent + 20), initial_indent=" " * indent,
        subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return lead + "\n".join(lines)[indent:]


def describe(name: str, function: Callable, names: Sequence[str], examples: Sequence[str]) -> str:
    """The help of a command that takes "AGENT ENV", where neither is named yet.

    function: has its options, and their help in its docstring. names: of the agents.
    """
    about, options = _parts_of(function)
    lines = [f"usage: jaxpg {name} AGENT ENV [OPTIONS]", "", wrap(about), ""]
    lines += [*(f"  {x}" for x in examples), ""]
    lines += [wrap(", ".join(names), 14, "agents"), ""]
    some = "CartPole-v1, Pendulum-v1, Breakout-MinAtar and others: `jaxpg list` has all"
    lines += [wrap(some, 14, "environments"), ""]
    lines += [
        wrap(f"options; `jaxpg {name} AGENT ENV --help` also has the agent's, --config.FIELD")
    ]
    lines += [wrap(told, 26, f"  {option}") for option, told in options.items()]
    return "\n".join(lines)


def _parts_of(function: Callable) -> tuple[str, dict[str, str]]:
    """Parses a docstring: the text on a function, and that on each of its options."""
    about, _, arguments = (inspect.getdoc(function) or "").partition("Args:\n")
    told = dict(re.findall(r"^    (\w+): (.*(?:\n     .*)*)", arguments, re.M))
    options = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in told:
            options[_written(name, parameter.annotation)] = told[name]
    return about.partition("\n\n")[0], options


def _written(name: str, kind: Any) -> str:
    """An option with the kind of its value: "--seeds INT"."""
    words = {bool: "", int: " INT", float: " FLOAT", Path: " PATH", str: " TEXT"}
    known = [words[x] for x in (kind, *typing.get_args(kind)) if x in words]
    return f"--{name.replace('_', '-')}{known[0] if known else ' ...'}"


def options_of(function: Callable) -> dict[str, Any]:
    """Options of a parsed command, as they are written, with the kinds of their values."""
    found = {}
    for parameter in inspect.signature(function).parameters.values():
        name, kind = f"--{parameter.name.replace('_', '-')}", parameter.annotation
        if dataclasses.is_dataclass(kind):
            for field in dataclasses.fields(kind):
                found[f"{name}.{field.name.replace('_', '-')}"] = field.type
        elif parameter.kind is not parameter.POSITIONAL_ONLY:
            found[name] = kind
    return found


def explain(said: str, function: Callable, prog: str, words: Sequence[str]) -> str:
    """Says in one line why words do not fit, and what would, from what tyro says of them."""
    said = re.sub(r"; For full helptext,.*$", "", said)
    said = re.sub(r"; Perhaps you meant:.*$", "", said)
    if told := re.match(r"Error parsing (--[\w.-]+): .*; Argument helptext: \S+ (.*)", said):
        return _explain_value(told[1], _value_of(told[1], words), told[2])
    if said.startswith("Unrecognized options: "):
        return f"{said}{_explain_option(said, options_of(function), words)}; see `{prog} --help`"
    return f"{said}; see `{prog} --help`"


def _value_of(option: str, words: Sequence[str]) -> str:
    """The words that an option was given."""
    for i, word in enumerate(words):
        name, sign, value = word.partition("=")
        if name.replace("_", "-") == option:
            rest = [value] if sign else list(words[i + 1 :])
            ends = [n for n, x in enumerate(rest) if x.startswith("--")]
            return " ".join(rest[: ends[0]] if ends else rest)
    return ""


def _explain_value(option: str, value: str, helptext: str) -> str:
    """helptext: the kind of the value, what the option means, and its default."""
    kind = re.match(r"(?:\{[^}]*\}|[A-Z]+)(?:\|(?:\{[^}]*\}|[A-Z]+))*|\[.*?\]\]?", helptext)
    shape = kind[0] if kind else ""
    allowed = [KINDS.get(x, x.strip("{}")) for x in shape.split("|")]
    if shape.startswith("["):
        inner = re.findall("[A-Z]+", shape)
        allowed = [f"{(KINDS.get(inner[0]) or inner[0]).split()[-1]}s with blanks between"]
    meaning = helptext[len(shape) :].strip()
    such = _as_integer(value) if shape.endswith("INT") else ""
    return f"{option}={value}: allowed is {' or '.join(allowed[::-1])}{such}: {meaning}"


def _as_integer(value: str) -> str:
    """ ", such as 2000", for a number like 2e3."""
    try:
        number = float(value)
        return f", such as {int(number)}" if number.is_integer() else ""
    except (ValueError, OverflowError):
        return ""


def _explain_option(said: str, options: dict[str, Any], words: Sequence[str]) -> str:
    """Guesses the meaning of the first unknown word: a misspelt option, or a flag's value."""
    from jaxpg.core.config import nearest

    word = re.split(r"[,;]", said.removeprefix("Unrecognized options: "))[0].strip()
    if not word.startswith("--"):
        before = words[words.index(word) - 1] if word in words else ""
        if options.get(before) is bool:
            no = re.sub(r"^(--(?:\w+\.)?)", r"\1no-", before)
            return f": {before} takes no value; allowed is {before} or {no}"
        repeated = [x for x in words[: words.index(word)] if x.startswith("--")][-1:]
        if repeated == ["--param"] and options.get("--param") is not None:
            return f": each has its own --param: `--param {word}`"
        return ""
    last = {option.rpartition(".")[2].lstrip("-"): option for option in options}
    name = word.partition("=")[0].rpartition(".")[2].lstrip("-").replace("_", "-")
    near = [last[x] for x in nearest(name, list(last), cutoff=0.6)]
    if near:
        return f"; did you mean {near[0]}?" + f" Near are also {', '.join(near[1:])}" * (
            len(near) > 1
        )
    listed = [last[x] for x in nearest(name, list(last), cutoff=0.0)]
    return f"; of the {len(options)} that there are the nearest are {', '.join(listed)}"
