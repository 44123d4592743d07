"""The last lines of a run's tables, without the rest of them."""

import math
from pathlib import Path

from jaxpg.experiment.files.rows import EVALUATIONS, METRICS

LAST = 2**15  # bytes that are read of a table's end; more for many seeds


def last_rows(path: Path, count: int) -> list[dict[str, str]]:
    """The last whole rows of a table, `count` at most; [] if there are none, or no such file.

    A row that is being written is left out. Nothing vouches for them: this is to look at, and
    `jaxpg.load` is what judges.
    """
    try:
        with path.open("rb") as file:
            header = file.readline()
            begin, size = file.tell(), path.stat().st_size
            length = LAST
            while True:
                start = max(begin, size - length)
                file.seek(start)
                lines = file.read(size - start).split(b"\n")[:-1]  # the last is not whole
                lines = lines if start == begin else lines[1:]
                if len(lines) >= count or start == begin:
                    break
                length *= 2
    except OSError:
        return []
    names = header.decode(errors="replace").strip().split(",")
    cells = [line.decode(errors="replace").split(",") for line in lines[-count:]]
    return [dict(zip(names, row, strict=True)) for row in cells if len(row) == len(names)]


def last_evaluation(folder: Path, seeds: int) -> tuple[int, dict[str, list[float]]] | None:
    """Environment steps and returns, greedy and sampled, [seeds], of a run's newest evaluation."""
    rows = last_rows(folder / EVALUATIONS, seeds)
    if len(rows) < seeds:
        return None
    means = {kind: [_number(row.get(kind, "")) for row in rows] for kind in ("greedy", "sampled")}
    return int(_number(rows[-1].get("env_steps", "")) if rows else 0), means


def progress(folder: Path) -> tuple[int, int]:
    """Iterations and environment steps of each seed that are in a run's tables."""
    for name in (METRICS, EVALUATIONS):
        for row in last_rows(folder / name, 1):
            done = [_number(row.get(x, "")) for x in ("iteration", "env_steps")]
            if not any(map(math.isnan, done)):
                return int(done[0]), int(done[1])
    return 0, 0


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
