"""Experiments of the subject itself: what one setting does, everything else left alone.

python examples/studies.py [STUDY ...] [--seeds 8] [--out FOLDER]

The studies: learning_rate, gamma, network, batch, reward_scale, entropy; without names all of them.
Each is a sweep of PPO with its preset, whose folder stays in sweeps/, and a figure: the
interquartile mean of the final greedy returns against the setting, or learning curves where the
setting is no number. What they show is in docs/studies.md.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import jax

import jaxpg
from jaxpg import pictures, sweep


class Study(NamedTuple):
    env: str
    total_steps: int
    fields: dict[str, list]  # that are varied; the first is what the figure is about
    config: dict[str, Any] = {}  # noqa: RUF012  what else differs from the preset
    curves: bool = False  # whether the figure is of learning curves


STUDIES = {
    "learning_rate": Study(
        "CartPole-v1", 40_000, {"learning_rate": [1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1]}
    ),
    "gamma": Study("CartPole-v1", 40_000, {"gamma": [0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999]}),
    "network": Study(
        "CartPole-v1", 40_000, {"hidden": [[], [4], [16], [64], [64, 64], [128, 128, 128]]}
    ),
    "batch": Study("CartPole-v1", 40_000, {"num_steps": [8, 16, 32, 64, 128, 256, 512]}),
    "reward_scale": Study("Pendulum-v1", 300_000, {"normalize_reward": [False, True]}, curves=True),
    "entropy": Study(
        "Acrobot-v1", 200_000, {"entropy_coef": [0.0, 1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0]}
    ),
}


def run_studies(names: list[str], seeds: int, out: Path) -> None:
    jaxpg.use_all_cores()
    for name in names:
        study = STUDIES[name]
        cfg = jaxpg.preset("ppo", study.env, **study.config)
        points, folder = sweep.grid(study.fields), Path("sweeps", name)
        env, key = jaxpg.make(study.env), jax.random.key(0)
        settings = {"seeds": seeds, "total_steps": study.total_steps}
        print(f"{name}: {len(points)} configs x {seeds} seeds on {study.env}")
        found = (
            sweep.resume(folder, progress=True)
            if (folder / "sweep.json").exists()
            else sweep.run(
                jaxpg.ppo, cfg, env, key, points, out=folder, progress=True, log=print, **settings
            )
        )
        field = next(iter(study.fields))
        draw = pictures.curves(found, by=field) if study.curves else pictures.heat_map(found, field)
        pictures.save(draw, out / f"study-{name}.png")
        scores = found.scores.groupby(field, sort=False)["score"]
        print(scores.describe()[["count", "mean", "min", "max"]].to_string(), "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("studies", nargs="*", choices=[*STUDIES, []], help="all if none is named")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("."), help="of the figures")
    asked = parser.parse_args()
    run_studies(asked.studies or list(STUDIES), asked.seeds, asked.out)


if __name__ == "__main__":
    main()
