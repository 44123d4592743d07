"""Seeds over devices: the total rate of PPO on CartPole with the common default.

python benchmarks/scaling.py [--seeds 1 2 4 16 64] [--devices 1 2] [--steps 100352] [--rounds 3]

Every run is a fresh process with so many host devices; the runs take turns. Prints the medians, and
the time beside that of the same seeds on the first number of devices. Writes
benchmarks/scaling.json.
"""

import argparse
import os
import sys

from harness import medians, own, save, short, table, worker
from peer_programs import EVERY

TIMEOUT = 900


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 4, 16, 64])
    parser.add_argument("--devices", type=int, nargs="+", default=[1, os.cpu_count()])
    parser.add_argument("--steps", type=int, default=196 * EVERY, help="of each seed")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    runs = {(s, d): [] for s in args.seeds for d in args.devices if s % d == 0}
    for _ in range(args.rounds):
        for (seeds, devices), rows in runs.items():
            command = own("peer_programs.py", "jaxpg", "--steps", args.steps, "--seeds", seeds)
            rows.append(worker([*command, "--devices", str(devices)], TIMEOUT))
            print(f"{seeds} seeds, {devices} devices: {short(rows[-1]['steps/s'])}/s", flush=True)
    middle = {key: medians(rows) for key, rows in runs.items()}
    table("seeds over devices", ("seeds", "devices", "steps/s", "time", "compile s", "MB"), [
        (
            seeds, devices, short(row["steps/s"]),
            f"{middle[seeds, args.devices[0]]['steps/s'] / row['steps/s']:.2f}",
            short(row["compile s"]), short(row["memory MB"]),
        )
        for (seeds, devices), row in middle.items()
    ], text=0)  # fmt: skip
    save(__file__, {
        "steps": args.steps,
        "runs": [{"seeds": s, "devices": d, "runs": rows} for (s, d), rows in runs.items()],
    })  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
