"""The scorecard: of every kind of fault, how many were tried, held, were refused, or not."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

FILE = Path(__file__).with_name("scorecard.json")
OUTCOMES = ("held", "refused", "silent", "broken")
HEAD = "| kind of fault | tried | " + " | ".join(OUTCOMES) + " |"


def count(tried: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Counts of outcomes by kind, in the order in which they were tried."""
    found: dict[str, Counter] = {}
    for kind, outcome in tried:
        found.setdefault(kind, Counter())[outcome] += 1
    return {
        kind: {"tried": sum(n.values())} | {what: n[what] for what in OUTCOMES}
        for kind, n in found.items()
    }


def rows(card: dict[str, dict[str, int]]) -> list[str]:
    """The rows of the table, and their sum."""
    names = ("tried", *OUTCOMES)
    total = {name: sum(row[name] for row in card.values()) for name in names}
    return [
        f"| {kind} | " + " | ".join(f"{row[name]:,}" for name in names) + " |"
        for kind, row in {**card, "all": total}.items()
    ]


def write(card: dict[str, dict[str, int]]) -> None:
    FILE.write_text(json.dumps(card, indent=1) + "\n")


def read() -> dict[str, dict[str, int]]:
    return json.loads(FILE.read_text())


def scorecard_rows(found: list[str]) -> list[str]:
    """The rows of the page, of what the suite found when it was last run as a whole."""
    return rows(read())
