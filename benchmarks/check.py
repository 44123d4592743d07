"""Is it fast? Measures every bar of the project's speed and says pass or shortfall for each.

python benchmarks/check.py --rejax PYTHON --purejaxrl CHECKOUT --sb3 PYTHON
                           [--only 1 2 3 4 5] [--rounds 5] [--quick]

    1  PPO beside other libraries, with one seed and with 16, and what evaluations cost
    2  from the shell to eight solved seeds of CartPole, and whether fresh seeds are solved too
    3  import, compile, and a second start with the cache
    4  several devices and several processes: equal results, and the time that they save
    5  memory over the length of a run

The bars are for a machine with two cores and nothing else to do; it takes about 25 minutes there.
Where the libraries are is said as to peers.py, whose `--setup` makes and remembers their
interpreters. --quick is a trial of the command: its figures mean nothing. Ends with a table and a
count, writes everything that was measured to benchmarks/check.json, and exits with 1 if a bar is
missed.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import evaluation
import footprint
import peers
import startup
from harness import Failed, fresh, medians, save, short, spread, table
from peer_programs import EVERY, VMAPPED

ROOT = Path(__file__).resolve().parent.parent
JAX_PEERS = tuple(name for name in VMAPPED if name != "jaxpg")


class Line(NamedTuple):
    """One bar, and what was measured."""

    what: str
    measured: str
    bar: str
    held: bool


class Scale(NamedTuple):
    """Size of the measurements: `--quick` makes all of it small."""

    rounds: int
    steps: int = 977 * EVERY
    slow_steps: int = 100 * EVERY
    seeds: int = 16
    seed_steps: int = 200 * EVERY  # of each of these
    solving: int | None = None  # env steps of `jaxpg train`: the preset's
    fresh: int = 50
    iterations: int = 10_000
    chunks: int = 1_000


QUICK = Scale(1, 10 * EVERY, 5 * EVERY, 2, 10 * EVERY, 10 * EVERY, 4, 100, 100)


def missing(what: str, bar: str, why: str) -> Line:
    return Line(what, f"not measured: {why}", bar, False)


def fastest(runs: dict[str, list[dict]]) -> str | None:
    """The JAX library beside jaxpg with the highest median rate."""
    there = [name for name in JAX_PEERS if name in runs]
    return max(there, key=lambda name: medians(runs[name])["steps/s"], default=None)


def not_below(ours: list[float], theirs: list[float]) -> bool:
    """True if a mean is no lower than another but for chance: two standard errors."""
    errors = [statistics.variance(x) / len(x) if len(x) > 1 else 0.0 for x in (ours, theirs)]
    return statistics.mean(ours) >= statistics.mean(theirs) - 2 * math.sqrt(sum(errors))


def speed(scale: Scale, runs: dict[int, dict], record: dict) -> Iterator[Line]:
    """1: rates, returns, evaluations."""
    for seeds, least, aim in ((1, 1.0, 1.3), (scale.seeds, 1.8, 2.2)):
        found = runs[seeds]
        what, bar = f"PPO, {seeds} seed{'s' * (seeds > 1)}, over the fastest", f">= {least}"
        if peer := fastest(found):
            ratios = peers.ratios(found, peer)
            what = f"{what} ({peers.NAMES[peer]})"
            held = statistics.median(ratios) >= least
            yield Line(what, spread(ratios), f"{bar}, aim {aim}", held)
        else:
            yield missing(what, bar, "no peer ran")
    for peer in JAX_PEERS:
        what = f"return with sampled actions, beside {peers.NAMES[peer]}'s"
        if peer not in runs[1]:
            yield missing(what, "not below", "it did not run")
            continue
        ours, theirs = ([r["return"] for r in runs[1][name]] for name in ("jaxpg", peer))
        means = f"{statistics.mean(ours):.1f}, {statistics.mean(theirs):.1f}"
        yield Line(what, means, "not below", not_below(ours, theirs))
    what, bar = "PPO, 1 seed, over Stable-Baselines3", ">= 25"
    if "sb3" in runs[1]:
        ratios = peers.ratios(runs[1], "sb3")
        yield Line(what, spread(ratios), bar, statistics.median(ratios) >= 25)
    else:
        yield missing(what, bar, "it did not run")
    record["evaluations"] = parts = evaluation.cost(scale.rounds, scale.steps)
    part = statistics.median(parts)
    yield Line("part of the time that evaluations take", f"{part:.1%}", "< 10 %", part < 0.1)


def solving(scale: Scale, runs: dict[int, dict], record: dict) -> Iterator[Line]:
    """2: time to solve."""
    record["solve"] = found = startup.solve(scale.rounds, 8, scale.solving)
    cold, warm = found[0], medians(found[1:])
    lowest = min(r["lowest"] for r in found)
    what = "jaxpg train ppo CartPole-v1 --seeds 8"
    yield Line(
        f"{what}: seconds, warm cache", f"{warm['seconds']:.1f} (empty {cold['seconds']:.1f})",
        "<= 10, aim 8", warm["seconds"] <= 10,
    )  # fmt: skip
    record["training"] = startup.training(scale.rounds, 8, scale.solving)
    training = statistics.median(record["training"])
    whole = f"{training:.1f} ({warm['run']:.1f} with tracing, loading, evaluations)"
    yield Line("of which training, seconds", whole, "<= 3", training <= 3)
    yield Line("its lowest greedy return", f"{lowest:.1f}", ">= 475", lowest >= startup.SOLVED)
    record["fresh"] = startup.fresh_seeds(scale.fresh, scale.solving)
    greedy = record["fresh"]["greedy"]
    solved, least = sum(x >= startup.SOLVED for x in greedy), math.ceil(0.96 * len(greedy))
    what = f"of {len(greedy)} fresh seeds, at 475 or more"
    yield Line(what, str(solved), f">= {least}", solved >= least)


def starting(scale: Scale, runs: dict[int, dict], record: dict) -> Iterator[Line]:
    """3: import, compile, second start."""
    record["imports"] = startup.imports(scale.rounds)
    more = statistics.median(r["jaxpg"] - r["jax"] for r in record["imports"])
    yield Line("import jaxpg over import jax, seconds", f"{more:.2f}", "<= 0.5", more <= 0.5)
    seconds = statistics.median(r["compile s"] for r in runs[1]["jaxpg"])
    what, bar = f"cold compile ({seconds:.1f} s, aim 3) over rejax's", "<= 1"
    if "rejax" in runs[1]:
        ratios = peers.ratios(runs[1], "rejax", "compile s")
        yield Line(what, spread(ratios), bar, statistics.median(ratios) <= 1)
    else:
        yield missing(what, bar, "it did not run")
    record["second start"] = startup.second_start(scale.rounds)
    again = medians(record["second start"][1:])["seconds"]
    yield Line("second start to the first update, seconds", short(again), "<= 1.5", again <= 1.5)


def devices(scale: Scale, runs: dict[int, dict], record: dict) -> Iterator[Line]:
    """4: more than one device, more than one process."""
    yield data_parallel()
    yield two_processes()
    part = [1 / x for x in peers.ratios(runs[scale.seeds], "jaxpg-1")]
    what = f"{scale.seeds} seeds: time on all cores over time on one device"
    yield Line(what, spread(part), "<= 0.6", statistics.median(part) <= 0.6)


def data_parallel() -> Line:
    """Parameters after ten iterations over two devices, and on one."""
    return _tests("test_devices.py", "data parallel over 2 devices: as on one", "1e-5")


def two_processes() -> Line:
    """Parameters in two processes of one run."""
    return _tests("test_distributed.py", "two processes: the same parameters", "equal")


def _tests(file: str, what: str, bar: str) -> Line:
    """Runs a file of the test suite, which says so to the digit; true if it passes."""
    try:
        out = fresh([sys.executable, "-m", "pytest", f"tests/{file}"], 900, cwd=ROOT)
    except Failed as error:
        return Line(what, f"tests/{file}: {error}", bar, False)
    return Line(what, f"tests/{file}: {out.strip().splitlines()[-1]}", bar, True)


def memory(scale: Scale, runs: dict[int, dict], record: dict) -> Iterator[Line]:
    """5: memory over the length of a run. Equal processes differ by a few MB."""
    record["peaks"] = footprint.peaks(scale.rounds, scale.iterations)
    more = statistics.median(r["many"] - r["few"] for r in record["peaks"])
    what = f"peak MB, {scale.iterations:,} iterations over {footprint.FEW}"
    yield Line(what, f"{more:+.1f}", "<= 5", more <= 5)
    record["growth"] = grown = footprint.growth(scale.chunks)
    yield Line(f"resident MB over {scale.chunks:,} chunks", f"{grown:+.1f}", "<= 5", grown <= 5)


SECTIONS = {1: speed, 2: solving, 3: starting, 4: devices, 5: memory}
NEEDS = {1: (1, 16), 3: (1,), 4: (16,)}  # the runs beside peers: with one seed, with 16


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    peers.options(parser)
    parser.add_argument("--only", type=int, nargs="+", choices=SECTIONS, default=[*SECTIONS])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a trial, whose figures mean nothing")
    args = parser.parse_args()
    scale = QUICK if args.quick else Scale(args.rounds)
    found, lines, record, runs = peers.places(args), [], {}, {}

    def say(number: int, line: Line) -> None:
        lines.append((number, line))
        verdict = "pass" if line.held else "shortfall"
        print(f"{verdict}: {number}. {line.what}: {line.measured} (bar {line.bar})", flush=True)

    for number in args.only:
        try:
            for seeds in NEEDS.get(number, ()):
                seeds = 1 if seeds == 1 else scale.seeds
                if seeds not in runs:
                    steps = scale.steps if seeds == 1 else scale.seed_steps
                    every = peers.commands(
                        found, seeds, steps, scale.slow_steps, (*JAX_PEERS, "sb3")
                    )
                    runs[seeds] = peers.compare(every, scale.rounds)
            for line in SECTIONS[number](scale, runs, record):
                say(number, line)
        except (Failed, KeyError) as error:  # the rest of a section needs what failed
            say(number, missing((SECTIONS[number].__doc__ or "").strip(), "all", str(error)))

    print()
    table("", ("", "what", "measured", "bar", ""), [
        (n, x.what, x.measured, x.bar, "pass" if x.held else "SHORTFALL") for n, x in lines
    ], text=5)  # fmt: skip
    held = sum(line.held for _, line in lines)
    trial = " (a trial: the figures mean nothing)" * args.quick
    print(f"{held} of {len(lines)} pass, {len(lines) - held} short{trial}")
    if not args.quick:
        save(__file__, {
            "lines": [{"section": n, **line._asdict()} for n, line in lines],
            "peers": {f"{seeds} seeds": x for seeds, x in runs.items()},
            **record,
        })  # fmt: skip
    return int(held < len(lines))


if __name__ == "__main__":
    sys.exit(main())
