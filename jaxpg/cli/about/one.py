"""`jaxpg show` and `jaxpg status`: one run, or sweep, that lies in a folder."""

import math
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from jaxpg.cli import common
from jaxpg.cli.about.table import find_named, number
from jaxpg.cli.about.usage import wrap
from jaxpg.experiment.text import format_count, printable

if TYPE_CHECKING:
    from jaxpg.experiment.listing.entries import Entry

ASKED = ("evaluations", "episodes", "target", "checkpoints", "checkpoint_minutes", "keep")
ASKED += ("keep_best", "chunk", "log", "log_every", "data_parallel")
WIDE = 14  # columns of what a line is about


def show(run: Positional[Path]) -> int:
    """Shows what a run or sweep was asked for, and what came of it.

    Of the settings it lists those that differ from the agent's defaults, or from its preset for the
    environment, which is the general profile where there is no other.

    Args:
        run: its folder, or its name.
    """
    from jaxpg.experiment.run.origin import describe_origin

    entry, record = _open(run)
    run = entry.folder
    _tell("what", f"{entry.agent} on {entry.environment}, {entry.kind}")
    if entry.given or entry.tags:
        _tell("labels", " ".join([entry.given, *(f"#{tag}" for tag in entry.tags)]).strip())
    _tell("state", _state(entry))
    _tell("begun", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.when)))
    seeds = f"{entry.seeds} seed{'s'[: entry.seeds != 1]}"
    _tell("steps", f"{entry.env_steps:,} of {entry.total_steps:,}, {seeds}")
    best = "the best point" if entry.kind != "run" else "the last greedy evaluation"
    _tell("result", f"{number(entry.result)}, mean over seeds of {best}")
    if record.get("preset"):
        _tell("settings of", record["preset"])
    if begun := describe_origin(record):
        _tell("begun with", begun)
    asked = {name: record.get(name) for name in ASKED}
    told = [f"{name}={value}" for name, value in asked.items() if value not in (None, False, [])]
    _tell("asked for", ", ".join(told))
    if entry.kind != "run":
        _tell("points", f"{len(record['points'])} of {', '.join(record['fields'])}")
    _show_settings(record)
    _show_versions(record["made_with"])
    common.tell("", f"files of {run}, {format_count(entry.size)}B")
    for path in sorted(run.iterdir()):
        what = "/" if path.is_dir() else f"  {path.lstat().st_size:,} bytes"
        common.tell(f"  {path.name}{what}")
    return 0


def status(run: Positional[Path]) -> int:
    """Says how far a run or sweep is that goes on: its pace, its last evaluation, the time left.

    Args:
        run: its folder, or its name.
    """
    from jaxpg.experiment.listing.pace import measure_pace

    entry, record = _open(run)
    run = entry.folder
    _tell("what", f"{entry.agent} on {entry.environment}, {entry.kind}")
    _tell("state", _state(entry))
    folder = run
    if entry.kind != "run":
        over = [part["over"] for part in record["parts"]]
        _tell("parts", f"{sum(over)} of {len(over)} are over")
        if all(over):
            return 0
        folder = run / "parts" / str(over.index(False))
        if not (folder / "run.json").is_file():
            return 0
    pace = measure_pace(folder, entry.holder)
    share = min(1.0, pace.env_steps / pace.total_steps)
    count = f"{pace.iteration:,} of {pace.num_iters:,}" if pace.num_iters else "0"
    _tell("iteration", count)
    _tell("steps", f"{pace.env_steps:,} of {pace.total_steps:,} of each seed, {share:.1%}")
    going = entry.state == "going on"
    if going:
        known = not math.isnan(pace.rate)
        _tell("speed", f"{format_count(pace.rate)} steps/s" if known else "not known yet")
        _tell("time left", str(timedelta(seconds=round(pace.left))) if known else "not known yet")
    if not math.isnan(pace.age):
        _tell("last row", f"{timedelta(seconds=round(max(0, pace.age)))} ago")
    if pace.evaluated is None:
        _tell("evaluation", "none yet")
    else:
        common.tell(f"mean return of whole episodes at {pace.evaluated:,} env steps")
        common.print_table(pace.returns)
    return 0


def _open(run: Path) -> "tuple[Entry, dict[str, Any]]":
    """The entry and the record of a folder, or of the run of that name in runs/ or sweeps/. Raises
    ValueError for what is none, or damaged."""
    from jaxpg.experiment.files import RUN, SWEEP
    from jaxpg.experiment.files.atomic import read_json
    from jaxpg.experiment.files.kinds import tell_kind
    from jaxpg.experiment.listing.entries import find_entries, read_entry

    if not run.exists():
        run = find_named(find_entries(), str(run)).folder
    record = next((run / x for x in (SWEEP, RUN) if (run / x).is_file()), None)
    if record is None:
        other = tell_kind(run, RUN)
        raise ValueError(f"{run}: found no {RUN}, allowed is the folder of a run or a sweep{other}")
    entry = read_entry(run)
    if entry.state == "damaged":
        raise ValueError(entry.problem)
    return entry, read_json(record)


def _state(entry: "Entry") -> str:
    """The state, and what explains it."""
    if entry.state == "going on":
        return f"going on, {entry.holder}"
    if entry.state == "failed":
        return f"failed: {entry.problem}"
    if entry.state == "interrupted":
        return f"interrupted; go on with: jaxpg resume {entry.folder}"
    return entry.state


def _tell(what: str, text: str) -> None:
    common.tell(*wrap(printable(text), WIDE, what).splitlines())


def _show_settings(record: dict[str, Any]) -> None:
    """Prints the settings that differ from the usual ones."""
    from jaxpg.experiment.analysis.scores import text
    from jaxpg.experiment.listing.settings import has_profile, list_differences

    if "configs" in record:  # a comparison: every agent with its preset
        return
    common.tell("")
    try:
        found = [x for x in list_differences(record) if x.name not in record.get("fields", ())]
    except ValueError as error:
        config = {f"{name}={value}" for name, value in record["config"].items()}
        common.tell(*wrap(printable(f"settings: {error}")).splitlines())
        _tell("", ", ".join(sorted(config)))
        return
    if not found:
        common.tell("settings: all as they are by default")
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    tuned = "profile" if has_profile(record) else "preset"
    table = Table("setting", "here", tuned, "default", box=SIMPLE_HEAD)
    for x in found:
        preset = "" if x.preset is None and x.name.startswith("env.") else str(x.preset)
        own = text(x.value) if isinstance(x.value, dict) else str(x.value)  # a partial: Net(size=3)
        table.add_row(*map(printable, (x.name, own, preset, str(x.default))))
    common.console().print(table)


def _show_versions(made_with: dict[str, Any]) -> None:
    """Prints the versions that a run was made with, and where those here are others."""
    from jaxpg.experiment.listing.settings import list_versions

    versions = list_versions(made_with)
    told = [
        f"{name} {theirs}" + f" (here {ours})" * (theirs != ours)
        for name, (theirs, ours) in versions.items()
    ]
    _tell("made with", ", ".join(told))
