"""`jaxpg runs`: the runs and sweeps below a folder, and how to be rid of some."""

import json as json_text
import math
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from jaxpg.cli import common
from jaxpg.cli.about.usage import width
from jaxpg.experiment.text import format_count, printable

if TYPE_CHECKING:
    from jaxpg.experiment.listing.entries import Entry

NUMBERS = ("steps", "seeds", "result", "when", "size")
LEAST, WORD = 12, 16  # columns of the name, at least, and of agent and environment, at most
Column = Literal["when", "name", "agent", "environment", "steps", "result", "size", "state"]
State = Literal["done", "interrupted", "failed", "going-on", "damaged"]


def runs(
    folder: Positional[Path | None] = None,
    sort: Column = "when",
    agent: str | None = None,
    env: str | None = None,
    state: State | None = None,
    tag: str | None = None,
    delete: tuple[str, ...] = (),
    yes: bool = False,
    json: bool = False,
) -> int:
    """Lists runs and sweeps: what they are, how far they came, and what they reached.

    The result is the last greedy evaluation, its mean over seeds; of a sweep that of its best
    point. The steps are those of one seed; of a sweep, of all that it trains.

    Args:
        folder: where they lie; None is runs/, sweeps/ and comparisons/ here.
        sort: by this column; what is newest, or largest, comes last.
        agent: only those of this agent.
        env: only those of this environment.
        state: only those that are so.
        tag: only those that were given it, by `jaxpg train --tag`.
        delete: remove these, by name: what jaxpg wrote there, and nothing else.
        yes: without asking.
        json: print them as JSON, for programs.
    """
    from jaxpg.experiment.listing.entries import find_entries

    found = find_entries(folder)
    if delete:
        return _delete(found, delete, yes)
    wanted = {"agent": agent, "environment": env, "state": state and state.replace("-", " ")}
    for name, value in wanted.items():
        if value is not None:
            found = [x for x in found if value in getattr(x, name).split(", ")]
    if tag is not None:
        found = [x for x in found if tag in x.tags]
    found.sort(key=lambda entry: _order(entry, sort))
    if json:
        common.tell(*json_text.dumps([_as_json(x) for x in found], indent=1).splitlines())
    elif found:
        common.console().print(_table(found))
    else:
        some = any(x is not None for x in (agent, env, state, tag))
        where = folder or "runs/, sweeps/ and comparisons/ here"
        common.tell(f"no runs{' of that kind' * some} in {where}")
    return 0


def _order(entry: "Entry", column: str) -> tuple:
    """Sort key of entries; those without a number come first."""
    value = getattr(entry, {"steps": "env_steps"}.get(column, column))
    known = not (isinstance(value, float) and math.isnan(value))
    return known, value if known else 0, entry.when


def _as_json(entry: "Entry") -> dict[str, Any]:
    values = entry._asdict() | {"folder": str(entry.folder)}
    return {k: None if x != x else x for k, x in values.items()}


def _table(entries: "list[Entry]") -> Any:
    from rich.table import Table

    rows = []
    for x in entries:
        name = x.name + "".join(f" #{tag}" for tag in x.tags)
        steps = format_count(x.env_steps) if x.total_steps else ""
        size = f"{format_count(x.size)}B"
        cells = (name, x.agent, x.environment, steps, str(x.seeds or ""), number(x.result))
        rows.append([*map(printable, (*cells, moment(x.when), size, _state(x)))])
    heads = ["name", "agent", "env", *NUMBERS, "state"]
    room = width() - _width([heads, *rows], 1)
    if room < max(len(row[0]) for row in rows):  # agent above environment, long names in lines
        both = lambda row: "\n".join(break_name(x, WORD) for x in row[1:3])  # noqa: E731
        rows = [[row[0], both(row), *row[3:]] for row in rows]
        heads[1:3] = ["agent, env"]
        room = max(LEAST, width() - _width([heads, *rows], 1))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for head in heads:
        table.add_column(head, justify="right" if head in NUMBERS else "left", overflow="fold")
    for name, *rest in rows:
        table.add_row(break_name(name, room), *rest)
    return table


def _width(rows: list[list[str]], first: int) -> int:
    """Columns of the terminal that a table takes, from its column `first` on."""
    wide = [
        max(len(line) for x in column for line in x.split("\n"))
        for column in zip(*rows, strict=True)
    ]
    return sum(wide[first:]) + len(wide)


def break_name(name: str, room: int) -> str:
    """Breaks a long name into lines where a word of it ends."""
    lines = [""]
    for word in re.findall(r"[^/_., -]*[/_., -]*", name):
        for piece in [word[i : i + room] for i in range(0, len(word), room)]:
            if len(lines[-1]) + len(piece.rstrip()) > room:
                lines.append("")
            lines[-1] += piece
    return "\n".join(line.strip() for line in lines)


def _state(entry: "Entry") -> str:
    """The state; of one that is going on, how much is done."""
    share = entry.env_steps / max(entry.total_steps, 1)
    return entry.state + (f" {share:.0%}" if entry.state == "going on" else "")


def number(x: float) -> str:
    """A result, "-" if there is none."""
    return "-" if math.isnan(x) else f"{x:.4g}"


def moment(seconds: float) -> str:
    """A time as short as it can be told from others: "10:42" today, else "Nov 28", or the year."""
    if not seconds:
        return ""
    then, now = time.localtime(seconds), time.localtime()
    if then[:3] == now[:3]:
        return time.strftime("%H:%M", then)
    return time.strftime("%b %d" if then[0] == now[0] else "%Y-%m", then)


def _delete(found: "list[Entry]", names: tuple[str, ...], yes: bool) -> int:
    """Removes entries by name, if the user says so."""
    from jaxpg.experiment.listing.remove import remove_run

    chosen = list(dict.fromkeys(find_named(found, name) for name in names))
    for x in chosen:
        if x.holder:
            raise ValueError(
                f"{x.name}: is being written by {x.holder}, allowed is one that is not"
            )
    if not (yes or sys.stdin.isatty()):
        raise ValueError("delete: nobody is there to be asked, allowed is it with --yes")
    size = f"{format_count(sum(x.size for x in chosen))}B"
    common.tell(*(f"{x.name}  {x.state}, {format_count(x.size)}B" for x in chosen))
    if not yes and not _agrees(f"remove {len(chosen)} of them, {size}? [y/N] "):
        common.tell("nothing is removed")
        return 1
    for x in chosen:
        left = remove_run(x.folder)
        kept = f", but not what jaxpg did not write: {', '.join(left)}" if left else ""
        common.tell(f"removed {x.name}{kept}")
    return 0


def _agrees(question: str) -> bool:
    """Asks the user."""
    return input(question).strip().lower() in ("y", "yes")


def find_named(found: "list[Entry]", name: str) -> "Entry":
    """The entry of a name: its path, its folder's name, or what --name said. Raises ValueError for
    none, for several, and for a link."""
    from jaxpg.core.config import unknown

    if Path(name).is_symlink():
        raise ValueError(f"{name}: is a link, allowed is the folder of a run or a sweep")
    same = [x for x in found if Path(name) == x.folder]
    same = same or [x for x in found if name in (x.folder.name, x.given)]
    if len(same) > 1:
        raise ValueError(f"{name}: allowed is one of {', '.join(x.name for x in same)}")
    if not same:
        if not found:
            raise ValueError(f"{name}: found nothing, allowed is the folder of a run or a sweep")
        raise unknown(
            "run", name, {*(x.folder.name for x in found), *(x.given for x in found)} - {""}
        )
    return same[0]
