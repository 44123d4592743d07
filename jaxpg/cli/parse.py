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
    """Writes the parts of tyro's box behind each other."""
    lines = [re.sub("[│╯╰]", " ", line).strip() for line in box.splitlines()]
    text = " ".join(line for line in lines if line and not line.startswith("╭"))
    parts = [" ".join(part.split()) for part in re.split("─+", text)]
    return "; ".join(part for part in parts if part)
