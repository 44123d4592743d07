"""Numbers, lists and names as text for people."""

import warnings


def format_count(number: float) -> str:
    """Formats a count for people: 950, 1.5k, 100k, 1.23M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def printable(text: object, keep: str = "") -> str:
    r"""Text in which what a terminal would obey, or not show, is written as an escape: control
    characters, marks that turn the direction of writing, bytes that are no text.

    keep: characters that stay as they are.

    >>> print(printable("runs/\x1b[2Ja"))
    runs/\x1b[2Ja
    """
    # Of one character this is \xhh, \uhhhh or \Uhhhhhhhh, half a surrogate pair too.
    escape = lambda x: x.encode("unicode_escape").decode("ascii")  # noqa: E731
    return "".join(x if x.isprintable() or x in keep else escape(x) for x in str(text))


def warn(text: str, stacklevel: int = 1) -> None:
    """Warns in one line, whose names cannot command a terminal. stacklevel: as for `warnings`."""
    warnings.warn(printable(text), stacklevel=stacklevel + 1)
