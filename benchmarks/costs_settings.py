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
        "total_steps": 2_000_000, "num_envs": 64, "num_steps": 64, "learning_rate": 1e-2,
        "multiplier_p": 2.0, "multiplier_i": 0.2,
    },
    ("cpo", "cliff"): {
        "total_steps": 2_000_000, "num_envs": 64, "num_steps": 64, "entropy_coef": 0.05,
        "recovery": 0.9, "max_kl_schedule": "linear",
    },
    ("ppo_lagrangian", "lake"): {
        "total_steps": 4_000_000, "num_envs": 256, "num_steps": 64, "learning_rate": 2e-2,
        "multiplier_p": 1.0, "multiplier_i": 0.2, "entropy_coef": 0.02,
    },
    ("cpo", "lake"): {
        "total_steps": 6_000_000, "num_envs": 128, "num_steps": 512, "max_kl": 0.02,
        "max_kl_schedule": "linear", "damping": 0.01, "critic_epochs": 2,
        "critic_minibatches": 16, "entropy_coef": 0.006, "normalize_advantage": False,
        "recovery": 0.95,
    },
}  # fmt: skip

# What is other at a limit.
AT_LIMIT: dict[tuple[str, str, float], dict[str, Any]] = {
    ("ppo_lagrangian", "cliff", 0.06): {"total_steps": 3_000_000, "multiplier_i": 0.6},
    ("ppo_lagrangian", "lake", 0.05): {
        "total_steps": 8_000_000, "num_envs": 128, "multiplier_i": 0.3,
    },
    ("cpo", "lake", 0.05): {"total_steps": 18_000_000, "num_envs": 256},
    ("cpo", "cliff", 0.06): {"recovery": 1.0, "max_kl_schedule": "constant"},
    ("ppo_lagrangian", "run", 90.0): {
        "multiplier_p": 1.0, "multiplier_i": 0.01, "head": "mixture", "total_steps": 600_000,
    },
    ("ppo_lagrangian", "run", 5.0): {"total_steps": 600_000},
    ("ppo_lagrangian", "circle", 30.0): {
        "multiplier_p": 0.06, "multiplier_i": 0.003, "multiplier_d": 0.0,
    },
}  # fmt: skip

# Points and carts: name, parameters, limits of the cost of an episode, weights of penalties. What
# each limit allows: costs_bounds.py.
POINTS: dict[str, tuple[str, dict, tuple[float, ...], tuple[float, ...]]] = {
    "goal": ("PointHazards-jaxpg", {"task": "goal"}, (5.0,), (3.0, 8.0, 12.0)),
    "circle": ("PointHazards-jaxpg", {"task": "circle"}, (30.0, 5.0), (0.3, 1.0, 3.0)),
    "run": ("PointHazards-jaxpg", {"task": "run"}, (90.0, 5.0), (0.3, 0.6, 1.0)),
    "cart": ("CartPoleCost-jaxpg", {}, (20.0,), (0.01, 0.1, 1.0)),
}
POINT_SHARED: dict[str, Any] = {
    "total_steps": 200_000, "num_envs": 32, "num_steps": 100, "hidden": (32, 32),
}  # fmt: skip
PPO: dict[str, Any] = {"learning_rate": 3e-3, "entropy_coef": 0.0}
CPO: dict[str, Any] = {
    "critic_learning_rate": 5e-3, "critic_epochs": 5, "max_kl": 0.03, "damping": 0.01,
    "max_kl_schedule": "linear", "recovery": 0.9,
}  # fmt: skip
# Among the hazards a way around is learnt from what the next ten steps bring.
GOAL: dict[str, Any] = {
    "total_steps": 1_500_000,
    "hidden": (64, 64),
    "activation": "relu",
    "gamma": 0.9,
}
GOAL_PPO = GOAL | {
    "learning_rate": 2e-3, "entropy_coef": 0.0, "num_epochs": 8, "minibatches": 8,
}  # fmt: skip
CIRCLE: dict[str, Any] = {"total_steps": 500_000, "gamma": 0.9}
CART = {"total_steps": 300_000}
POINT_CONFIGS: dict[tuple[str, str], dict[str, Any]] = {
    **{("ppo", task): PPO for task in POINTS},
    **{("cpo", task): CPO for task in POINTS},
    **{("ppo_lagrangian", task): PPO | {"critic_learning_rate": 3e-3} for task in POINTS},
    ("ppo", "goal"): GOAL_PPO | {"total_steps": 400_000},
    ("ppo", "circle"): PPO | CIRCLE,
    ("cpo", "circle"): CPO | CIRCLE,
    ("ppo_lagrangian", "circle"): PPO | CIRCLE | {
        "cost_gamma": 0.9, "critic_learning_rate": 3e-3,
    },
    ("ppo_lagrangian", "goal"): GOAL_PPO | {
        "cost_gamma": 0.9, "critic_learning_rate": 2e-3, "multiplier_p": 1.0, "multiplier_i": 0.1,
    },
    ("cpo", "goal"): GOAL | {
        "total_steps": 1_200_000, "num_envs": 128, "cost_gamma": 0.9, "critic_learning_rate": 5e-3,
        "critic_epochs": 5, "max_kl": 0.05, "max_kl_schedule": "linear", "damping": 0.01,
    },
}  # fmt: skip
GAINS = {"run": (0.1, 2e-4), "cart": (0.01, 3e-4)}  # circle: the defaults
for task, (p, i) in GAINS.items():
    POINT_CONFIGS["ppo_lagrangian", task] |= {
        "multiplier_p": p, "multiplier_i": i, "multiplier_d": 0.0,
    }  # fmt: skip
for name in ("ppo", *AGENTS):
    POINT_CONFIGS[name, "cart"] = POINT_CONFIGS[name, "cart"] | CART
POINT_CONFIGS["ppo_lagrangian", "cart"] |= {"total_steps": 600_000}
POINT_SEEDS = 3

BANDIT_LIMIT = 0.3
BANDIT_GAINS = ((0.0, 0.05), (1.0, 0.05), (5.0, 0.05))
