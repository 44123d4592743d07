"""Equations as MathML, made when the site is built: a browser sets them by itself, without a script
or a font from elsewhere. On GitHub the same `$...$` and `$$...$$` are set by GitHub."""

import re

import latex2mathml.converter
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import SphinxError


def set_equation(latex: str, block: bool) -> str:
    """MathML of an equation. Raises SphinxError for a command that is not known."""
    found = latex2mathml.converter.convert(latex, display="block" if block else "inline")
    if unknown := re.search(r">\s*(\\\w+)", found):
        raise SphinxError(f"no equation has {unknown[1]}: {latex}")
    return found


def visit_math(self, node: nodes.math) -> None:
    self.body.append(f'<span class="equation">{set_equation(node.astext(), False)}</span>')
    raise nodes.SkipNode


def visit_block(self, node: nodes.math_block) -> None:
    self.body.append(f'<div class="equation">{set_equation(node.astext(), True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
