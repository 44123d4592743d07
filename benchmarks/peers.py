"""PPO on CartPole with the common default: jaxpg beside the libraries that people know.

python benchmarks/peers.py --setup FOLDER [--purejaxrl CHECKOUT] [--cleanrl CHECKOUT]
python benchmarks/peers.py [--seeds 16] [--steps 500224] [--rounds 5] [--only rejax sb3]

Every library runs in an interpreter of its own. `--setup FOLDER` makes one for each with `venv` and
`pip`, and writes down where they are (in the user's cache), so that it is done once; or name them,
as `--rejax PYTHON`. PureJaxRL and CleanRL are no packages: they need the path of a checkout.

Runs take turns: a round is one fresh process of each, with one seed of its own (with --seeds 16,
as many vmapped; jaxpg on all cores and on one device). Libraries that train some 5,000 steps a
second get --slow-steps: their rate does not depend on it, but what they reached does. Prints every
run, then medians and the ratios of jaxpg to each, round by round. Writes benchmarks/peers.json.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import harness
from harness import fresh, medians, own, save, short, spread, table, worker
from peer_programs import CHECKOUTS, EVERY, PROGRAMS, VMAPPED

PEERS = tuple(name for name in PROGRAMS if name != "jaxpg")
NAMES = {
    "jaxpg": "jaxpg", "jaxpg-1": "jaxpg, one device", "rejax": "rejax", "purejaxrl": "PureJaxRL",
    "sbx": "SBX", "sb3": "Stable-Baselines3", "cleanrl": "CleanRL",
}  # fmt: skip
REQUIREMENTS = {  # of the interpreters that --setup makes; PureJaxRL's takes rejax's
    "rejax": ("rejax==0.1.3", "gymnax==0.0.9", "distrax", "jax"),
    "sbx": ("sbx-rl",),
    "sb3": ("stable-baselines3",),
    "cleanrl": ("torch", "gymnasium<1", "numpy<2", "tyro", "tensorboard"),
}
TIMEOUT = 900  # seconds for one run
KNOWN = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "jaxpg", "peers.json")


def options(parser: argparse.ArgumentParser, names: Sequence[str] = PEERS) -> None:
    """Options that tell a command where the peers are."""
    for name in names:
        if name in CHECKOUTS:
            parser.add_argument(f"--{name}", metavar="CHECKOUT", help="its repository")
            parser.add_argument(f"--{name}-python", metavar="PYTHON", help="that it runs in")
        else:
            parser.add_argument(f"--{name}", metavar="PYTHON", help="an interpreter that has it")


def places(args: argparse.Namespace) -> dict[str, str]:
    """The options that were given, after those that `setup` wrote down."""
    known = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
    names = [*PEERS, *(f"{name}_python" for name in CHECKOUTS)]
    asked = {name: vars(args).get(name) for name in names}
    given = {name: str(Path(x).absolute()) for name, x in asked.items() if x}
    found = known | given
    if "rejax" in found:
        found.setdefault("purejaxrl_python", found["rejax"])
    return found


def setup(folder: Path, found: dict[str, str]) -> None:
    """Makes the interpreters that are missing in `folder`, and writes all places down."""
    for name, packages in REQUIREMENTS.items():
        python = folder.absolute() / name / "bin" / "python"
        if not python.exists():
            print(f"making {python.parent.parent} ...", flush=True)
            fresh([sys.executable, "-m", "venv", str(python.parent.parent)], 300)
            fresh([str(python), "-m", "pip", "install", "-q", *packages], 3600)
        found[f"{name}_python" if name in CHECKOUTS else name] = str(python)
    found.setdefault("purejaxrl_python", found["rejax"])
    KNOWN.parent.mkdir(parents=True, exist_ok=True)
    KNOWN.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written down in {KNOWN}")


def commands(
    found: dict[str, str], seeds: int, steps: int, slow_steps: int, names: Sequence[str] = PEERS
) -> dict[str, list[str]]:
    """The command of jaxpg and of every library named that can be run, without its seed."""
    args = ["--seeds", seeds, "--steps"]
    every = {"jaxpg": own("peer_programs.py", "jaxpg", *args, steps)}
    if seeds > 1:
        every["jaxpg-1"] = [*every["jaxpg"], "--devices", "1"]
    for name in names:
        python = found.get(f"{name}_python" if name in CHECKOUTS else name)
        if seeds > 1 and name not in VMAPPED:
            continue
        if python is None or name not in found:
            print(f"{NAMES[name]} is left out: no place is given for it")
            continue
        length = steps if name in VMAPPED else min(steps, slow_steps)
        every[name] = own("peer_programs.py", name, *args, length, python=python)
        if name in CHECKOUTS:
            every[name] += ["--checkout", found[name]]
    return every


def compare(every: dict[str, list], rounds: int, timeout: float = TIMEOUT) -> dict[str, list[dict]]:
    """Runs of every library, in turn: [rounds] each. One that fails is left out from then on."""
    runs = {name: [] for name in every}
    for i in range(rounds):
        for name in list(runs):
            try:
                row = worker([*every[name], "--seed", str(i)], timeout)
            except harness.Failed as error:
                print(f"{NAMES[name]} is left out: {error}", flush=True)
                del runs[name]
                continue
            runs[name].append(row)
            figures = "  ".join(f"{column} {short(x)}" for column, x in row.items())
            print(f"{NAMES[name]:18} {figures}", flush=True)
    return runs


def ratios(runs: dict[str, list[dict]], name: str, column: str = "steps/s") -> list[float]:
    """jaxpg's figure over another's, round by round."""
    return [a[column] / b[column] for a, b in zip(runs["jaxpg"], runs[name], strict=True)]


def show(runs: dict[str, list[dict]], seeds: int, every: dict[str, list]) -> None:
    rows = []
    for name, found in runs.items():
        row = medians(found)
        returns = [r["return"] for r in found]
        reached = None if None in returns else sum(returns) / len(returns)
        steps = every[name][every[name].index("--steps") + 1]
        rows.append([
            NAMES[name], short(row["steps/s"]), spread(ratios(runs, name)),
            *(short(row[column]) for column in ("compile s", "memory MB")),
            short(reached), short(float(steps)),
        ])  # fmt: skip
    print()
    table(
        f"PPO, CartPole-v1, 4 x 128, {seeds} seed{'s' * (seeds > 1)}: medians",
        ("", "steps/s", "jaxpg's speed-up", "compile s", "MB", "return", "at steps"),
        rows,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--setup", type=Path, metavar="FOLDER", help="make the interpreters there")
    options(parser)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=977 * EVERY, help=f"multiple of {EVERY}")
    parser.add_argument("--slow-steps", type=int, default=100 * EVERY)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=PEERS, help="beside jaxpg")
    args = parser.parse_args()
    for name in ("steps", "slow_steps"):
        if vars(args)[name] < EVERY or vars(args)[name] % EVERY:
            parser.error(f"{name}={vars(args)[name]}: allowed is a positive multiple of {EVERY}")
    found = places(args)
    if args.setup:
        try:
            setup(args.setup, found)
        except (harness.Failed, subprocess.SubprocessError) as error:
            parser.exit(1, f"{error}\n")
        return 0
    every = commands(found, args.seeds, args.steps, args.slow_steps, args.only or PEERS)
    runs = compare(every, args.rounds)
    if not runs.get("jaxpg"):
        return 1
    show(runs, args.seeds, every)
    path = Path(__file__).with_suffix(".json")
    records = json.loads(path.read_text()) if path.exists() else {}
    records[f"{args.seeds} seeds"] = {
        "steps": args.steps,
        "runs": runs,
        "ratios": {name: ratios(runs, name) for name in runs if name != "jaxpg"},
    }
    save(__file__, records)
    return 0


if __name__ == "__main__":
    sys.exit(main())
