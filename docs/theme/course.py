"""The lessons of the course are pages and notebooks from one source. A lesson is plain Markdown, as
GitHub shows it; when the site is built, its blocks of `python` become cells, which are executed.
What they print and draw is on the page, and in the notebook that it offers.

What is in <details>, the answers, is hidden on the page; so are its cells in a notebook.
"""

import hashlib
import re
from pathlib import Path

import nbformat
from jupyter_cache import get_cache
from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
LESSON = re.compile(r"docs/course/\d\d_\w+")
PARTS = re.compile(r"(?m)^(</?details>.*|```python\n)")
FRONT = """---
file_format: mystnb
kernelspec: {name: python3, display_name: Python 3}
---
"""


def as_notebook(text: str, name: str) -> str:
    """A lesson in the form that MyST-NB executes. name: of its notebook, without a suffix."""
    answers = False
    parts = PARTS.split(text)
    for i, part in enumerate(parts):
        if part.startswith(("<details>", "</details>")):
            answers = part.startswith("<details>")
        elif part == "```python\n":
            hidden = '---\njupyter: {"source_hidden": true}\n---\n'
            parts[i] = "```{code-cell} python\n" + hidden * answers
    title, _, rest = "".join(parts).partition("\n")
    link = f"{{nb-download}}`The lesson as a notebook <{name}.ipynb>`"
    return f"{FRONT}{title}\n\n{link}, with what its cells print.\n{rest}"


def read_lesson(app: Sphinx, page: str, source: list[str]) -> None:
    if LESSON.fullmatch(page):
        source[0] = as_notebook(source[0], page.rpartition("/")[2])


def fingerprint() -> str:
    """Of the package: what was executed is kept until a line of it changes."""
    files = sorted((ROOT / "jaxpg").rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def write_notebooks(app: Sphinx, error: Exception | None) -> None:
    """Writes what was printed into the notebooks that pages offer. MyST-NB leaves it out of those
    that it has executed in an earlier build, and doubles the end of what came in two parts."""
    if error or app.config.nb_execution_mode != "cache":
        return
    cache = get_cache(app.config.nb_execution_cache_path)
    for path in Path(app.outdir).glob("_downloads/*/[0-9][0-9]_*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        _, executed = cache.merge_match_into_notebook(notebook)
        nbformat.write(executed, path)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("source-read", read_lesson)
    app.connect("build-finished", write_notebooks)
    app.config.nb_execution_cache_path = str(ROOT / "build" / "course" / fingerprint())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
