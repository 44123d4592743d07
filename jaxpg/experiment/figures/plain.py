"""Figure whose text is text: a name is drawn as it is written.

matplotlib reads what stands between two dollar signs as a formula, all text as LaTeX if its
settings say so, and puts control characters into an SVG, where they are not allowed.
"""

from typing import Any

import matplotlib
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import ScalarFormatter

from jaxpg.experiment.text import printable

SETTINGS: Any = {
    "text.parse_math": False,
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
}


class PlainFigure(Figure):
    """Figure without formulas, whatever matplotlib's settings are where it is made or drawn."""

    def draw(self, renderer) -> None:
        for text in self.findobj(Text):
            text.set_parse_math(False)
            text.set_usetex(False)
            text.set_text(printable(text.get_text(), keep="\n"))
        for axis in self.findobj(Axis):
            form = axis.get_major_formatter()
            if isinstance(form, ScalarFormatter):
                form.set_useMathText(False)
                form.set_usetex(False)
        with matplotlib.rc_context(SETTINGS):  # of ticks that are made as they are drawn
            super().draw(renderer)
