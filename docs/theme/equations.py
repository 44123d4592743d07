"""Equations as MathML, made when the site is built: a browser sets them without a script. GitHub
sets the same `$...$` and blocks of `math`.

Not every machine has a font for mathematics, so the site brings what it needs of one: STIX Two
Math, as the package ziamath has it.
"""

import re
from importlib.resources import files
from pathlib import Path

import latex2mathml.converter
from docutils import nodes
from fontTools import subset
from fontTools.ttLib import TTFont
from sphinx.application import Sphinx
from sphinx.errors import SphinxError

# Code points of the font that are kept: Latin, Greek, signs, and letters that are slanted, doubled
# or in script. Larger forms of brackets and sums come along.
KEPT = (
    *range(0x20, 0x17F), *range(0x2B0, 0x3F6), *range(0x2010, 0x2064), *range(0x2100, 0x2310),
    *range(0x27E6, 0x27F0), *range(0x1D434, 0x1D468), *range(0x1D49C, 0x1D4D0),
    *range(0x1D538, 0x1D56C), *range(0x1D6E2, 0x1D71C),
)  # fmt: skip


def set_equation(latex: str, block: bool) -> str:
    """MathML of an equation. Raises SphinxError for a command that is not known."""
    plain = latex.replace(r"\_", "_").replace("{aligned}", "{align*}")
    plain = plain.replace(r"\log", r"\log\,")
    found = latex2mathml.converter.convert(plain, display="block" if block else "inline")
    if unknown := re.search(r"\\\w*|&amp;|&#x00026;", found):
        raise SphinxError(f"no equation has {unknown[0]}: {latex}")
    return re.sub(r'columnalign="(left|right)"', r'class="\1"', found)  # browsers go by styles


def read_blocks(app: Sphinx, page: str, source: list[str]) -> None:
    """Reads blocks of `math`, as GitHub writes them."""
    source[0] = re.sub(r"(?m)^```math$", "```{math}", source[0])


def visit_math(self, node: nodes.math) -> None:
    self.body.append(f'<span class="equation">{set_equation(node.astext(), False)}</span>')
    raise nodes.SkipNode


def visit_block(self, node: nodes.math_block) -> None:
    self.body.append(f'<div class="equation">{set_equation(node.astext(), True)}</div>')
    raise nodes.SkipNode


def write_font(app: Sphinx, error: Exception | None) -> None:
    """Writes what is needed of the font beside the style sheets."""
    if error is not None:
        return
    font = TTFont(str(files("ziamath.fonts") / "STIXTwoMath-Regular.ttf"))
    options = subset.Options(layout_features=["ssty", "dtls", "flac", "kern"], hinting=False)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=KEPT)
    cutter.subset(font)
    font.flavor = "woff"
    font.save(Path(app.outdir, "_static", "math.woff"))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_block, None))
    app.connect("source-read", read_blocks)
    app.connect("build-finished", write_font)
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
