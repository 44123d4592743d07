"""Docstrings of the package, which are plain text and Markdown, as Sphinx's reStructuredText."""

import inspect
import re
from typing import Any

NAME = r"[a-z_]\w*"


def escape(text: str) -> str:
    """Text in which only `code` means something."""
    parts = re.split(r"(`[^`\n]+(?:\n[^`\n]+)?`)", text)
    plain = (re.sub(r"([*|\\])|(?<=\w)_(?!\w)", lambda m: f"\\{m[0]}", x) for x in parts[::2])
    code = [f"``{x[1:-1]}``" for x in parts[1::2]]
    glued = (f"\\ {x}" if re.match(r"\w", x) else x for x in plain)  # `Callback`s
    merged = [x for pair in zip(["", *code], glued, strict=True) for x in pair]
    return "".join(merged).removeprefix("\\ ")


def list_parameters(paragraph: str, parameters: list[str]) -> str:
    """A paragraph in which each `name: what it is` of a parameter begins an item of a list, and so
    does what is raised."""
    words = " ".join(paragraph.split())
    name = "|".join(map(re.escape, parameters)) or "$."
    starts = rf"(?:^|(?<=[.;:] ))(?=(?:{name})(?:, (?:{name}))*: |Raises )"
    parts = [x.strip() for x in re.split(starts, words) if x.strip()]
    if len(parts) == 1 and not re.match(rf"(?:(?:{name})(?:, (?:{name}))*: |Raises )", words):
        return escape(paragraph)
    lines = []
    for part in parts:
        names, found, said = part.partition(": ")
        if found and all(x in parameters for x in names.split(", ")):
            bold = ", ".join(f"**{x}**" for x in names.split(", "))
            lines.append(f"- {bold}: {escape(said)}")
        elif part.startswith("Raises "):
            lines.append(f"- **Raises** {escape(part.removeprefix('Raises '))}")
        else:
            lines.append(f"{escape(part)}\n")
    text = "\n".join(lines)
    return re.sub(r"(?m)^(- .*)\n(?!- )", r"\1\n\n", text)


def as_rst(text: str, parameters: list[str]) -> str:
    """A docstring as reStructuredText: examples and what is aligned stay as they are."""
    done = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if paragraph.startswith(">>>"):
            done.append(paragraph)
        elif re.search(r"(?m)^\s|\S {3,}\S", paragraph):
            before, *after = re.split(r"(?m)^(?=\s)", paragraph, maxsplit=1)
            if re.search(r"\S {3,}\S", before):
                before, after = "", [paragraph]
            head = f"{escape(before).rstrip()}\n\n" if before.strip() else ""
            done.append(head + "::\n\n" + re.sub(r"(?m)^", "    ", "".join(after)))
        else:
            done.append(list_parameters(paragraph, parameters))
    return "\n\n".join(done)


def convert(app: Any, what: str, name: str, found: Any, options: Any, lines: list[str]) -> None:
    """Has Sphinx's autodoc read a docstring as it is meant."""
    try:
        parameters = [*inspect.signature(found).parameters]
    except (TypeError, ValueError):
        parameters = []
    lines[:] = as_rst("\n".join(lines), parameters).splitlines()
