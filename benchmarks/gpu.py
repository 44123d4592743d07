"""Is it the fastest on a GPU too? jaxpg beside PureJaxRL and rejax on one GPU, in eight minutes.

python benchmarks/gpu.py --rejax PYTHON --purejaxrl CHECKOUT [--purejaxrl-python PYTHON]
                         [--minutes 8] [--rounds 1] [--again] [--json FILE] [--dry] [--bars]

Rows are PPO on CartPole with one seed, with 2048 seeds and with 2048 environments, PPO on Breakout,
SAC and DQN with rejax's settings, and jaxpg's presets; each library that is there takes its turn, a
fresh process each. Where they are is said as to peers.py; one that is not there is left out, and
its bars stay open. What a row tells: gpu_programs.py.

Every process is written to benchmarks/gpu.json at once, so that a second call measures only what is
missing, and of the newest sources on the same device and versions; --again begins anew. A row that
would not end within --minutes is left to it. Ends with the table and a verdict for each bar, and
exits with 1 if one is missed. It needs no network. Without a GPU it says so and measures nothing;
--dry tries all of it on a CPU, at a thousandth of the size, and writes only to --json. --bars
prints the bars and how they stand, and measures nothing.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import peers
from gpu_programs import PLAIN, ROWS
from harness import Failed, medians, own, save, short, table, worker

ROOT = Path(__file__).resolve().parent.parent
PEERS = ("purejaxrl", "rejax")
NAMES = peers.NAMES | {PLAIN: "without the call"}
START = 120  # seconds for JAX to start and tell its device
Runs = Mapping[str, Mapping[str, Sequence[dict]]]  # [row][library][round]


class Bar(NamedTuple):
    """One thing that has to hold, of a row's medians."""

    row: str
    figure: str  # a key of FIGURES
    bound: float


FIGURES = {
    "speed": ("steps/s over the faster peer's", ">="),
    "compile": ("cold compile over the shorter of the peers'", "<="),
    "kernels": ("kernels an iteration", "<="),
}
BARS = (
    Bar("one", "speed", 1.8), Bar("seeds", "speed", 1.3), Bar("envs", "speed", 1.3),
    Bar("breakout", "speed", 1.3), Bar("one", "compile", 1.1), Bar("seeds", "compile", 1.1),
    Bar("envs", "compile", 1.1), Bar("sac", "speed", 1.5), Bar("dqn", "speed", 1.5),
    Bar("one", "kernels", 1200),
)  # fmt: skip


def measured(bar: Bar, runs: Runs) -> float | None:
    """What a bar is about, from medians; None unless all libraries of its row are measured."""
    row = {library: medians(_numbers(found)) for library, found in runs.get(bar.row, {}).items()}
    if bar.figure == "kernels":
        return row["jaxpg"]["kernels"] if "jaxpg" in row else None
    if not set(ROWS[bar.row].libraries) <= set(row):
        return None
    others = [row[library] for library in PEERS if library in row]
    if bar.figure == "speed":
        return row["jaxpg"]["steps/s"] / max(x["steps/s"] for x in others)
    return row["jaxpg"]["compile s"] / min(x["compile s"] for x in others)


def held(bar: Bar, value: float) -> bool:
    return value <= bar.bound if FIGURES[bar.figure][1] == "<=" else value >= bar.bound


def verdicts(runs: Runs) -> Iterator[tuple[Bar, float | None, str]]:
    """Every bar with what was measured, and whether it is "pass", "shortfall" or "open"."""
    for bar in BARS:
        value = measured(bar, runs)
        word = "open" if value is None else "pass" if held(bar, value) else "shortfall"
        yield bar, value, word


def bar_lines(runs: Runs) -> list[str]:
    """The bars as a list: what has to hold, and how it stands."""
    return [
        f"- {ROWS[bar.row].what}: {_what(bar)} {FIGURES[bar.figure][1]} {bar.bound:g}: {word}"
        + ("" if value is None else f", {_figure(bar, value)}")
        for bar, value, word in verdicts(runs)
    ]


def _what(bar: Bar) -> str:
    """What a bar is about, in words."""
    alone = "purejaxrl" not in ROWS[bar.row].libraries
    return FIGURES[bar.figure][0].replace(
        "the faster peer", "rejax" if alone else "the faster peer"
    )


def _figure(bar: Bar, value: float) -> str:
    return f"{value:.0f}" if bar.figure == "kernels" else f"{value:.2f}"


def _numbers(found: Sequence[dict]) -> list[dict]:
    """Runs without what has no median."""
    return [{k: x for k, x in run.items() if not isinstance(x, (str, dict))} for run in found]


def recorded(path: Path | None) -> Runs:
    """What a file has measured; nothing if it is not there."""
    return json.loads(path.read_text())["runs"] if path and path.exists() else {}


def show(runs: Runs) -> None:
    """Prints medians of every library in every row that was measured, and then the bars."""
    lines = []
    for name, found in runs.items():
        for library, several in found.items():
            row = medians(_numbers(several))
            columns = ("steps/s", "compile s", "memory MB", "return", "kernels")
            what = ROWS[name].what if library == next(iter(found)) else ""
            lines.append((what, NAMES[library], *(short(row[column]) for column in columns)))
    print()
    head = ("", "", "steps/s", "compile s", "MB", "return", "kernels")
    table("medians; kernels are those of an iteration", head, lines, text=2)
    table("", ("", "", "measured", "bar", ""), [
        (ROWS[bar.row].what, _what(bar), "-" if x is None else _figure(bar, x),
         f"{FIGURES[bar.figure][1]} {bar.bound:g}", word if word != "shortfall" else "SHORTFALL")
        for bar, x, word in verdicts(runs)
    ], text=2)  # fmt: skip


def interpreters(found: Mapping[str, str]) -> dict[str, str]:
    """The interpreter of every library that is there."""
    every = {"jaxpg": sys.executable, PLAIN: sys.executable}
    for library in PEERS:
        python = found.get(f"{library}_python" if library in peers.CHECKOUTS else library)
        if library in found and python:
            every[library] = python
        else:
            print(f"{NAMES[library]} is left out: no place is given for it")
    return every


def sources() -> str:
    """A digest of the package and of what is measured: other sources, other figures."""
    files = [*(ROOT / "jaxpg").rglob("*.py"), *(ROOT / "jaxpg").rglob("*.toml")]
    names = "gpu_programs.py", "kernel_count.py", "peer_programs.py", "replay_throughput.py"
    files += [ROOT / "benchmarks" / name for name in names]
    text = b"\0".join(path.read_bytes() for path in sorted(files))
    return hashlib.sha256(text).hexdigest()[:16]


def begin(path: Path | None, of: dict, again: bool) -> dict:
    """The record to go on with: what the file has of the same device and sources, or an empty one.
    of: what figures depend on."""
    old = json.loads(path.read_text()) if path and path.exists() and not again else {}
    if old.get("of") == of:
        return old
    if old:
        changed = [key for key in of if old.get("of", {}).get(key) != of[key]]
        print(f"begins anew, for {path} is of other {', '.join(changed)}")
    return {"of": of, "runs": {}}


def missing(record: dict, every: Mapping[str, str], rounds: int) -> Iterator[tuple[str, str]]:
    """Row and library of every process that is to be run: rows by importance, libraries in turn."""
    for name, row in ROWS.items():
        for i in range(rounds):
            for library in row.libraries:
                runs = record["runs"].setdefault(name, {})
                if library in every and len(runs.get(library, [])) <= i:
                    yield name, library


def measure(
    record: dict, every: Mapping[str, str], places: Mapping[str, str], args, deadline: float
) -> Iterator[None]:
    """Runs what is missing until the deadline, and yields after every process. One that fails is in
    the record's `failed`, and only the next call of the command tries it again."""
    record["failed"] = {}
    environ = {"JAX_PLATFORMS": "cpu"} if args.dry else {}
    for name, library in missing(record, every, args.rounds):
        row, left, which = ROWS[name], deadline - time.monotonic(), f"{name} {library}"
        if which in record["failed"]:
            continue
        if left < row.seconds:
            print(f"{which} is left to the next call: {max(left, 0):.0f} s are left", flush=True)
            continue
        more = ["--dry"] * args.dry
        more += ["--checkout", places[library]] if library in peers.CHECKOUTS else []
        command = own("gpu_programs.py", library, name, *more, python=every[library])
        # What jaxpg's interpreter finds elsewhere, such as its gymnax, is not for the others.
        apart = {"PYTHONPATH": ""} if library in PEERS else {}
        try:
            run = worker(command, min(left, 4 * row.seconds), **environ, **apart)
        except Failed as error:
            record["failed"][which] = str(error)
            print(f"{which} failed: {error}", flush=True)
        else:
            record["runs"][name].setdefault(library, []).append(run)
            figures = "  ".join(f"{k} {short(x)}" for k, x in _numbers([run])[0].items())
            print(f"{which:20} {figures}", flush=True)
        yield


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    peers.options(parser, PEERS)
    parser.add_argument("--minutes", type=float, default=8, help="that all of it may take")
    parser.add_argument("--rounds", type=int, default=1, help="processes of each, in turn")
    parser.add_argument("--again", action="store_true", help="forget what was measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="what is read and written")
    parser.add_argument("--dry", action="store_true", help="a thousandth of the size, on a CPU")
    parser.add_argument("--bars", action="store_true", help="print the bars, and measure nothing")
    args = parser.parse_args()
    if not args.minutes > 0 or args.rounds < 1:
        parser.error(f"minutes={args.minutes}, rounds={args.rounds}: allowed are numbers above 0")
    args.json = args.json or (None if args.dry else Path(__file__).with_suffix(".json"))
    return args


def main() -> int:
    args = arguments()
    if args.bars:
        print(*bar_lines(recorded(args.json)), sep="\n")
        return 0
    deadline = time.monotonic() + 60 * args.minutes
    environ = {"JAX_PLATFORMS": "cpu"} if args.dry else {}
    try:
        on = worker(own("gpu_programs.py", "--device"), START, **environ)
    except Failed as error:
        print(f"JAX does not start: {error}")
        return 1
    if on["platform"] == "cpu" and not args.dry:
        print("no GPU: JAX sees a CPU alone; --dry tries the command there")
        return 0
    places = peers.places(args)
    record = begin(args.json, {**on, "sources": sources(), "dry": args.dry}, args.again)
    for _ in measure(record, interpreters(places), places, args, deadline):
        record["date"] = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        if args.json:
            save(__file__, record, args.json)
    show(record["runs"])
    words = [word for _, _, word in verdicts(record["runs"])]
    trial = " (a trial: the figures mean nothing)" * args.dry
    print(", ".join(f"{words.count(x)} {x}" for x in ("pass", "shortfall", "open")) + trial)
    return int(bool(record["failed"]) or ("shortfall" in words and not args.dry))


if __name__ == "__main__":
    sys.exit(main())
