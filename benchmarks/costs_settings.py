"""Settings of costs.py: tasks, limits, and the configs that were found for them."""

from typing import Any

AGENTS = ("ppo_lagrangian", "cpo")
ALLOWED = 1.05  # of a limit

# Tables: name, parameters, gamma, limits of the discounted cost.
TABLES: dict[str, tuple[str, dict, float, tuple[float, ...]]] = {
    "cliff": ("CliffCost-jaxpg", {"slip": 0.1}, 0.95, (0.1, 0.06)),
    "lake": ("FrozenLakeCost-jaxpg", {}, 0.99, (0.1, 0.05)),
}
TABLE_SEEDS = 5
TABLE_SHARED: dict[str, Any] = {
    "hidden": (), "critic_learning_rate": 1e-2, "cost_unit": "discounted",
}  # fmt: skip
TABLE_CONFIGS: dict[tuple[str, str], dict[str, Any]] = {
    ("ppo_lagrangian", "cliff"): {
        "total_steps": 3_000_000, "num_envs": 64, "num_steps": 64, "learning_rate": 1e-2,
        "multiplier_p": 2.0, "multiplier_i": 0.2,
    },
    ("cpo", "cliff"): {
        "total_steps": 3_000_000, "num_envs": 64, "num_steps": 64, "entropy_coef": 0.05,
        "max_kl_schedule": "linear",
    },
    ("ppo_lagrangian", "lake"): {
        "total_steps": 5_000_000, "num_envs": 256, "num_steps": 64, "learning_rate": 2e-2,
        "multiplier_p": 1.0, "multiplier_i": 0.2, "entropy_coef": 0.02,
        "entropy_coef_schedule": "linear",
    },
    ("cpo", "lake"): {
        "total_steps": 5_000_000, "num_envs": 32, "num_steps": 512, "damping": 0.01,
        "entropy_coef": 0.01, "entropy_coef_schedule": "linear", "normalize_advantage": False,
        "recovery": 0.7, "max_kl_schedule": "linear", "critic_epochs": 4,
    },
}  # fmt: skip

# Points and carts: name, parameters, limit of the cost of an episode, weights of penalties.
POINTS: dict[str, tuple[str, dict, float, tuple[float, ...]]] = {
    "goal": ("PointHazards-jaxpg", {"task": "goal"}, 2.0, (1.0, 3.0, 10.0)),
    "circle": ("PointHazards-jaxpg", {"task": "circle"}, 5.0, (0.3, 1.0, 3.0)),
    "run": ("PointHazards-jaxpg", {"task": "run"}, 5.0, (0.3, 0.6, 1.0)),
    "cart": ("CartPoleCost-jaxpg", {}, 50.0, ()),
}
POINT_SHARED: dict[str, Any] = {
    "total_steps": 300_000, "num_envs": 32, "num_steps": 100, "hidden": (32, 32),
}  # fmt: skip
PPO: dict[str, Any] = {"learning_rate": 3e-3, "entropy_coef": 0.0}
POINT_CONFIGS: dict[tuple[str, str], dict[str, Any]] = {
    ("ppo", "goal"): PPO,
    ("ppo", "circle"): PPO,
    ("ppo", "run"): PPO,
}
POINT_SEEDS = 3

BANDIT_LIMIT = 0.3
BANDIT_GAINS = ((0.0, 0.05), (1.0, 0.05), (5.0, 0.05))
