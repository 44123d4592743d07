"""Settings of exploration.py: what is measured, where, and for how long."""

from typing import Any

from jaxpg.agents import get

SEEDS, SOLVED, MOST = 5, 0.985, 5000  # greedy return, its best 0.99; episodes
SIZES = (8, 10, 20, 30)
SEA: dict[str, dict[str, Any]] = {
    "ppo": {
        "num_envs": 16, "learning_rate": 1e-3, "learning_rate_schedule": "constant",
        "entropy_coef": 0.03, "bonus_weight": 0.3,
    },
    "dqn": {
        "num_envs": 1, "buffer_size": 20_000, "learning_starts": 100, "batch_size": 64,
        "updates_per_step": 2.0, "target_period": 20, "hidden": (64, 64),
    },
}  # fmt: skip
GREEDY = {"epsilon_start": 0.1, "epsilon_end": 0.1}  # with a bonus; else it falls from 1 to 0.05
ENSEMBLE = {"ensemble": 10, "epsilon_start": 0.0, "epsilon_end": 0.0, "updates_per_step": 1.0}
SEA_ROWS = [("dqn", b) for b in ("count", "bootstrapped", "none")]
SEA_ROWS += [("ppo", b) for b in ("count", "rnd", "icm", "none")]
CAR = "MountainCar-v0"
CAR_STEPS, CAR_POINTS = 500_000, 25
CAR_FIELDS: dict[str, Any] = {
    "num_envs": 16, "learning_rate": 7e-4, "learning_rate_schedule": "constant",
    "entropy_coef": 0.05, "normalize_obs": True, "bonus_weight": 100.0,
}  # fmt: skip
TV, TV_STEPS, TV_POINTS = "NoisyTV-jaxpg", 200_000, 24
TV_LENGTH, TV_PIXELS = 40, (8, 16)  # 256 pictures, which can be known by heart, and 65,536
TV_FIELDS: dict[str, Any] = {"num_envs": 16, "learning_rate": 1e-3, "bonus_weight": 1.0}
TV_BONUSES = ("none", "count", "icm", "rnd", "info_gain", "ngu_episodic")
# Environments with one reward, far away: name, parameters, seeds, steps, bonuses, and the settings
# of PPO, which are the same without a bonus.
PLACES: dict[str, tuple[str, dict[str, Any], int, int, tuple[str, ...], dict[str, Any]]] = {
    "maze": (
        "Maze-jaxpg", {}, SEEDS, 300_000, ("none", "count", "rnd", "icm"),
        {"num_envs": 16, "num_steps": 128, "learning_rate": 1e-3, "bonus_weight": 0.1},
    ),
    "door": (
        "navix/Navix-DoorKey-8x8-v0", {"observation": "symbolic_first_person"}, 3, 600_000,
        ("none", "rnd"),
        {"num_envs": 16, "num_steps": 128, "learning_rate": 1e-3, "bonus_weight": 0.1},
    ),
}  # fmt: skip
PLACE_POINTS = 24
SPEED_ROUNDS, SPEED_ITERATIONS = 7, 8  # of each bonus in turn, after one that compiles


def sea_config(agent: str, bonus: str, size: int):
    fields = SEA[agent] | {"num_steps": size}
    if bonus == "bootstrapped":  # no bonus: ten networks that disagree
        return get(agent).Config(**fields | ENSEMBLE)
    if agent == "dqn" and bonus != "none":
        fields |= GREEDY
    if agent == "dqn" and bonus == "none" and size >= 20:
        fields |= {"updates_per_step": 0.5}
    return get(agent).Config(**fields, bonus=bonus)
