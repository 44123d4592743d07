"""Words of the command line as the arguments of a function; what cannot be parsed is one line."""

import contextlib
import functools
import io
import re
import sys
from collections.abc import Callable, Sequence

import tyro


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
        raise ValueError(_in_one_line(said.getvalue())) from None
    print(said.getvalue(), end="", file=sys.stderr)
    return call


def _in_one_line(box: str) -> str:
    """Writes the parts of tyro's box, of lines or of ASCII, behind each other; not its title."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)  # without colours
    lines = [re.sub("[│╯╰]", " ", line).strip() for line in plain.strip().splitlines()]
    text = " ".join(lines[1:] or lines)
    parts = [" ".join(part.split()) for part in re.split("─+|-{8,}", text)]
    return "; ".join(part for part in parts if part)
