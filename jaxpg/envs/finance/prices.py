"""Returns of assets, from arrays and files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


def read(data: str | Path | Sequence | np.ndarray) -> np.ndarray:
    """Simple returns [rows, n] from an array, or from a CSV file with or without a line of names.

    Raises ValueError for a file that is none, what is not finite, or a loss of more than all.
    """
    name = "Portfolio-jaxpg data"
    if isinstance(data, (str, Path)):
        path = Path(data)
        if not path.is_file():
            raise ValueError(f"{name}={str(data)!r}: allowed is the path of a CSV file")
        try:
            first = path.read_text().split("\n", 1)[0].split(",")
            skip = int(not _number(first[0]))
            data = np.genfromtxt(path, delimiter=",", skip_header=skip, ndmin=2)
        except ValueError as error:  # no text, or rows of several lengths
            why = " ".join(str(error).split())
            raise ValueError(
                f"{name}={str(path)!r}: {why}; allowed is a CSV file of numbers"
            ) from error
    table = np.asarray(data, float)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or not table.size:
        raise ValueError(f"{name} of shape {table.shape}: allowed is [rows, assets]")
    if not np.isfinite(table).all():
        row = int(np.argwhere(~np.isfinite(table))[0, 0])
        raise ValueError(f"{name}: row {row} has what is not a finite number; allowed are numbers")
    if (table < -1).any():
        raise ValueError(f"{name}: the least is {table.min():g}; allowed are simple returns >= -1")
    return table


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
