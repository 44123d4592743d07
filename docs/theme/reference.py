"""The reference: entries of the public names below the tables that list them, and at the end of an
agent's page its config, field by field, and its source."""

import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any

from docstrings import as_rst, convert
from sphinx.application import Sphinx

import jaxpg
from jaxpg import agents
from jaxpg.core.config import describe_allowed

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| `jaxpg\.(\w+)` \|", re.M)
LONG = 130  # letters of what is allowed
TABLE = re.compile(r"(?:^\|.*\n)+", re.M)


def rst(text: str) -> str:
    return f"```{{eval-rst}}\n{text}\n```\n"


def entry(name: str) -> str:
    """The directive that writes the entry of a public name."""
    found: Any = getattr(jaxpg, name)
    if inspect.ismodule(found):
        members = [x for x in public(found) if not inspect.ismodule(getattr(found, x))]
        parts = "".join(directive(f"{found.__name__}.{x}", getattr(found, x)) for x in members)
        said = as_rst((found.__doc__ or "").partition("\n\n")[0], [])
        return f"## jaxpg.{name}\n\n" + rst(f"{said}\n\n{parts}")
    return rst(directive(f"jaxpg.{name}", found))


def public(module: Any) -> list[str]:
    """Names that a module says are its own, or all that are defined in it."""
    own = [k for k, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
    return getattr(module, "__all__", [x for x in own if not x.startswith("_")])


def directive(path: str, found: Any) -> str:
    if inspect.isclass(found):
        return f".. autoclass:: {path}\n   :members:\n\n"
    kind = "function" if callable(found) else "data"
    return f".. auto{kind}:: {path}\n\n"


def shorten(words: str, config: type) -> str:
    """What is allowed, in a line or two."""
    if len(words) < LONG:
        return words
    agent = config.__module__.rpartition(".")[2]
    return f"{words[:LONG].rpartition(', ')[0]}, ...: all by `help(jaxpg.{agent}.Config)`"


def field_rows(config: type) -> str:
    """A row for each field of a config."""
    rows = ["| field | default | what it is | allowed |", "|---|---|---|---|"]
    for field in dataclasses.fields(config):
        default = getattr(field.default, "__name__", repr(field.default))
        allowed = shorten(describe_allowed(field.type, field.metadata), config)
        cells = f"`{default}`", field.metadata["help"], allowed
        said = " | ".join(x.replace("|", "&#124;") for x in cells)
        rows.append(f"| `{field.name}` | {said} |")
    return "\n".join(rows)


def agent_end(name: str) -> str:
    """What an agent's page ends with."""
    agent: Any = agents.get(name)
    path = f"jaxpg/agents/{name}.py"
    doc = as_rst(sys.modules[agent.Config.__module__].__doc__ or "", []).replace("\n", "\n   ")
    return (
        "\n\n## In the package\n\n"
        + rst(f".. py:data:: jaxpg.{name}\n   :type: Agent\n\n   {doc}\n")
        + f"\n### All fields of {name}.Config\n\n{field_rows(agent.Config)}\n\n### The source\n\n"
        + f"<details><summary>{path}</summary>\n\n"
        + f"```{{literalinclude}} /{path}\n:language: python\n```\n\n</details>\n"
    )


def add_entries(app: Sphinx, page: str, source: list[str]) -> None:
    """Writes entries below each table of the reference; ends the pages of agents."""
    name = page.removeprefix("docs/")
    if name.startswith("api"):
        source[0] = TABLE.sub(lambda m: m[0] + entries(m[0]), source[0] + "\n")
    elif name in agents.NAMES:
        source[0] += agent_end(name)


def entries(table: str) -> str:
    names = ROW.findall(table)
    return "\n" + "\n".join(map(entry, names)) if names else ""


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_entries)
    app.connect("autodoc-process-docstring", convert)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
