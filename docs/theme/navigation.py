"""The groups of the site, from the pages that list them: each `- [Title](page.md)`, and each row of
a table that begins with `name` and has a link, puts that page below the one that lists it, in this
order. So a page has one place in the menu, and leads to the one before it and the one after it. A
page that no list has is an error of the build, as Sphinx finds it in no toctree."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

LISTS = (
    "docs/index",
    "docs/course",
    "docs/how_to",
    "docs/reference",
    "docs/agents",
    "docs/explanation",
)
LISTED = re.compile(r"^(?:- |\| `\w+` \|.*)\[[^\]]+\]\(([\w/.]+)\.md\)")
HEADING = re.compile(r"^## (.+)$")


def find_groups(text: str, page: str) -> dict[str, list[str]]:
    """The pages that a page lists, below each of its headings."""
    groups: dict[str, list[str]] = {}
    heading = ""
    for line in text.splitlines():
        if match := HEADING.match(line):
            heading = match[1]
        elif match := LISTED.match(line):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(page), match[1]))
            groups.setdefault(heading, []).append(f"/{path}")
    return groups


def add_toctrees(app: Sphinx, page: str, source: list[str]) -> None:
    """Appends the toctrees of a page that lists others."""
    if page not in LISTS:
        return
    for heading, pages in find_groups(source[0], page).items():
        caption = f":caption: {heading}\n" if page != "docs/index" and heading else ""
        listed = "\n".join(pages)
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n{caption}\n{listed}\n```\n"


def write_entrance(app: Sphinx, error: Exception | None) -> None:
    """Writes the page by which the folder opens; the others lie in docs/, as in the repository."""
    if error is None:
        on = '<meta http-equiv="refresh" content="0; url=docs/index.html"><title>jaxpg</title>'
        text = f'<!doctype html><meta charset="utf-8">{on}<a href="docs/index.html">jaxpg</a>\n'
        Path(app.outdir, "index.html").write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", add_toctrees)
    app.connect("build-finished", write_entrance)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
