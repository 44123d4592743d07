"""A line for every run and sweep below a folder: what it is, and what it has come to."""

import contextlib
import csv
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxpg.experiment.files import FAILURE, RUN, SUMMARY, SWEEP
from jaxpg.experiment.files.atomic import CheckpointError, read_json
from jaxpg.experiment.files.lock import read_holder
from jaxpg.experiment.listing import ends

ROOTS = ("runs", "sweeps", "comparisons", "tunings")  # where the command puts what it trains
DEPTH = 4  # folders in folders that are looked into
LARGEST = 2**23  # bytes of a sweep's scores that are read
STATES = ("done", "interrupted", "failed", "going on", "damaged")


class Entry(NamedTuple):
    """Run, sweep or comparison as its folder tells of it."""

    folder: Path
    name: str  # the folder, as it was found
    kind: str  # "run", "sweep" or "comparison"
    state: str  # one of STATES
    agent: str = ""
    environment: str = ""
    seeds: int = 0
    env_steps: int = 0  # of each seed that are done
    total_steps: int = 0  # that are planned
    result: float = math.nan  # the last greedy evaluation, mean over seeds; of a sweep its best
    when: float = 0.0  # when it was begun, in seconds since 1970
    size: int = 0  # bytes
    tags: tuple[str, ...] = ()
    given: str = ""  # --name
    holder: str = ""  # who writes it, if it is going on
    problem: str = ""  # why it failed, or is damaged


def find_entries(root: str | Path | None = None) -> list[Entry]:
    """Finds the runs and sweeps below a folder, the oldest first.

    root: or the folder of one itself; None is runs/, sweeps/, comparisons/ and tunings/ here. Links
    are not followed, a sweep is one entry, and each round of a tuning is one. Raises ValueError for
    a folder that is not there.
    """
    if root is not None and not Path(root).is_dir():
        raise ValueError(f"folder={str(root)!r}: allowed is a folder that is there")
    roots = [Path(x) for x in ROOTS if Path(x).is_dir()] if root is None else [Path(root)]
    found = [read_entry(folder) for top in roots for folder in _folders(top, DEPTH)]
    return sorted(found, key=lambda entry: (entry.when, entry.name))


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    """The folder itself if it is a run's or a sweep's, else those below it."""
    if (folder / SWEEP).exists() or (folder / RUN).exists():
        yield folder
        return
    if depth:
        names = []
        with contextlib.suppress(OSError), os.scandir(folder) as inside:  # it may be gone by now
            names = [x.name for x in inside if x.is_dir(follow_symlinks=False)]
        for name in sorted(x for x in names if not x.startswith(".")):
            yield from _folders(folder / name, depth - 1)


def read_entry(folder: Path) -> Entry:
    """Reads what the folder of a run or sweep tells of it; one that is damaged says why."""
    sweep = (folder / SWEEP).exists()
    record = folder / (SWEEP if sweep else RUN)
    base = Entry(folder, str(folder), "sweep" if sweep else "run", "damaged")
    try:
        base = base._replace(when=record.stat().st_mtime, size=_size(folder))
        about = read_json(record, ("total_steps", "key"))
        return _read_sweep(base, about) if sweep else _read_run(base, about)
    except (CheckpointError, OSError) as error:
        return base._replace(problem=str(error))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        problem = f"{record}: found what is no record: {type(error).__name__} {error}"
        return base._replace(problem=problem)


def _read_run(entry: Entry, about: dict[str, Any]) -> Entry:
    folder, seeds = entry.folder, count_seeds(about)
    summary = read_json(folder / SUMMARY) if (folder / SUMMARY).exists() else {}
    measured = ends.last_evaluation(folder, seeds)
    steps = summary["env_steps"] if summary else ends.progress(folder)[1]
    holder = read_holder(folder) or ""
    problem = "" if holder else _failure(folder)
    stopped = {"done": "done", "callback": "done", "interrupt": "interrupted"}
    state = "going on" if holder else stopped.get(summary.get("stopped", ""), "interrupted")
    return entry._replace(
        state="failed" if problem else state,
        agent=about["agent"],
        environment=about["environment"]["name"],
        seeds=seeds,
        env_steps=int(steps),
        total_steps=int(about["total_steps"]),
        result=_mean(measured[1]["greedy"]) if measured else math.nan,
        tags=tuple(about.get("tags", ())),
        given=about.get("name") or "",
        holder=holder,
        problem=problem,
    )


def _read_sweep(entry: Entry, about: dict[str, Any]) -> Entry:
    """Of a sweep the steps are those of all that it trains, each seed of each point."""
    folder, parts = entry.folder, about["parts"]
    lanes = [len(part["lanes"]) for part in parts]
    steps = [part["iterations"] * part["env_steps"] for part in parts]
    planned = sum(n * s for n, s in zip(lanes, steps, strict=True))
    done = sum(n * s for n, s, x in zip(lanes, steps, parts, strict=True) if x["over"])
    holder = read_holder(folder) or ""
    state = "done" if "digests" in about else "going on" if holder else "interrupted"
    now = next((i for i, part in enumerate(parts) if not part["over"]), None)
    problem = about.get("failed", "")
    if now is not None and state != "done":
        done += lanes[now] * min(ends.progress(folder / "parts" / str(now))[1], steps[now])
        problem = "" if holder else _failure(folder / "parts" / str(now))
    names = {point.get("env") for point in about["points"]} - {None}
    agents = {point.get("agent") for point in about["points"]} - {None}
    return entry._replace(
        kind=about["kind"],
        state="failed" if problem else state,
        agent=about.get("agent") or ", ".join(sorted(agents)),
        environment=about.get("environment", {}).get("name") or ", ".join(sorted(names)),
        seeds=int(about["seeds"]),
        env_steps=int(done),
        total_steps=int(planned),
        result=_best_score(folder / "scores.csv"),
        tags=tuple(about.get("tags", ())),
        given=about.get("name") or "",
        holder=holder,
        problem=problem,
    )


def count_seeds(about: dict[str, Any]) -> int:
    """Seeds of a run, by its record."""
    words = about["key"]["words"]
    return len(words) if isinstance(words[0], list) else 1


def _failure(folder: Path) -> str:
    """Reason why a run ended with an error, if that is on record; "" if it did not."""
    path = folder / FAILURE
    return str(read_json(path, ("error",))["error"]) if path.exists() else ""


def _mean(values: Sequence[float]) -> float:
    known = [x for x in values if not math.isnan(x)]
    return sum(known) / len(known) if known else math.nan


def _best_score(path: Path) -> float:
    """The mean score of a sweep's best point, of the seeds that have one."""
    if not path.is_file() or path.stat().st_size > LARGEST:
        return math.nan
    scores: dict[str, list[float]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            scores.setdefault(row["config"], []).append(float(row["score"] or "nan"))
    means = [x for x in map(_mean, scores.values()) if not math.isnan(x)]
    return max(means, default=math.nan)


def _size(folder: str | Path) -> int:
    """Bytes of the files in a folder, links not followed; of drafts that go meanwhile, none."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as inside:
        for x in inside:
            if x.is_dir(follow_symlinks=False):
                total += _size(x.path)
            elif x.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    total += x.stat(follow_symlinks=False).st_size
    return total
