"""What `profiles.py` searches: environments, spaces of settings, and what is left out of them."""

from typing import NamedTuple

from jaxpg.experiment.sweeps.points import Range

# environment of a search -> a return that is known to be reached: see benchmarks/references.toml
BEST = {
    "CartPole-v1": 500, "MountainCar-v0": -105, "MountainCarContinuous-v0": 94,
    "Pendulum-v1": -150, "DeepSea-bsuite": 0.99, "DiscountingChain-bsuite": 1.1,
    "UmbrellaChain-bsuite": 1.0, "FourRooms-misc": 1.0, "MetaMaze-misc": 29, "Reacher-misc": 67.5,
    "BernoulliBandit-misc": 89, "Breakout-MinAtar": 40,
}  # fmt: skip
HELD_OUT = ["Acrobot-v1", "PointRobot-misc", "FrozenLake-misc", "Catch-bsuite"]
HELD_OUT += ["GridWorld-jaxpg", "Garnet-jaxpg", "AlmgrenChriss-jaxpg", "Cliff-jaxpg"]
FIRST = 4  # environments that all points are trained on
SEEDS = {"search": 3, "finals": 4, "refined": 4}
# agent -> changes of its profile that are tried over the whole search: of all that a search draws
# at random, no two points differ in one field alone.
REFINED = {
    "ppo": [
        {"entropy_coef": x, "entropy_coef_schedule": how}
        for how, several in {"constant": (0.003, 0.01, 0.03), "linear": (0.01, 0.03, 0.1)}.items()
        for x in several
    ]
}


class Search(NamedTuple):
    """Search of one agent's profile."""

    steps: dict[str, int]  # environment -> environment steps
    base: dict  # fields that all points have
    programs: list[dict]  # combinations of static fields
    numbers: dict[str, Range | list]  # fields that vary in each of them
    each: int  # points of a program
    finalists: int = 6  # points that go on


def ranged(low: float, high: float) -> Range:
    return Range(low, high, log=True)


# Steps of policy searches, which count episodes of full length.
OF_SEARCHES = {
    "CartPole-v1": 1_000_000, "MountainCar-v0": 1_000_000, "Pendulum-v1": 2_000_000,
    "MountainCarContinuous-v0": 2_000_000, "DiscountingChain-bsuite": 1_000_000,
    "FourRooms-misc": 4_000_000, "MetaMaze-misc": 2_000_000, "Reacher-misc": 1_000_000,
    "BernoulliBandit-misc": 1_000_000,
}  # fmt: skip
SEARCHES = {
    "ppo": Search(
        {
            "CartPole-v1": 100_000, "MountainCar-v0": 240_000, "MountainCarContinuous-v0": 240_000,
            "Pendulum-v1": 240_000, "DeepSea-bsuite": 60_000, "DiscountingChain-bsuite": 60_000,
            "UmbrellaChain-bsuite": 60_000, "FourRooms-misc": 120_000, "MetaMaze-misc": 240_000,
            "Reacher-misc": 240_000, "BernoulliBandit-misc": 120_000, "Breakout-MinAtar": 240_000,
        },
        # After the search came the entropy's weight, by --refine, and normalize_steps = 1000, for
        # Swimmer-misc: 420 in place of 190, and the same or better on MountainCar-v0, Pendulum-v1,
        # Reacher-misc and MetaMaze-misc.
        {"clip_value": False, "normalize_obs": True, "normalize_reward": True},
        [
            {"num_envs": 16, "num_steps": 16, "num_epochs": 4, "minibatches": 4},
            {"num_envs": 16, "num_steps": 64, "num_epochs": 4, "minibatches": 8},
            {"num_envs": 16, "num_steps": 128, "num_epochs": 10, "minibatches": 16},
            {"num_envs": 32, "num_steps": 32, "num_epochs": 10, "minibatches": 8},
            {
                "num_envs": 16, "num_steps": 64, "num_epochs": 4, "minibatches": 8,
                "normalize_reward": False,
            },
        ],
        {
            "learning_rate": ranged(3e-4, 4e-3),
            "gae_lambda": [0.9, 0.95, 0.98],
            "entropy_coef": [0.0, 0.003, 0.01],
            "gamma": [0.99],
        },
        4,
    ),
    "dqn": Search(
        {
            "CartPole-v1": 50_000, "MountainCar-v0": 120_000, "DeepSea-bsuite": 50_000,
            "DiscountingChain-bsuite": 50_000, "UmbrellaChain-bsuite": 50_000,
            "FourRooms-misc": 80_000, "MetaMaze-misc": 80_000, "BernoulliBandit-misc": 50_000,
        },
        {"buffer_size": 50_000, "hidden": [64, 64], "learning_rate_schedule": "linear"},
        [
            {"num_envs": 1, "num_steps": 16, "updates_per_step": 0.5, "double": False},
            {"num_envs": 8, "num_steps": 2, "updates_per_step": 0.5, "n_step": 3},
            {"num_envs": 4, "num_steps": 4, "updates_per_step": 0.25, "n_step": 10},
            {"num_envs": 8, "num_steps": 2, "updates_per_step": 0.5, "normalize_obs": True},
        ],
        {
            "learning_rate": ranged(5e-4, 4e-3),
            "exploration_fraction": [0.2, 0.5],
            "epsilon_end": [0.02, 0.07],
        },
        2,
        finalists=4,
    ),
    "cem": Search(
        OF_SEARCHES,
        {"normalize_obs": True},
        [
            {"population": 64, "elites": 8, "episodes": 4},
            {"population": 32, "elites": 8, "episodes": 1},
            {"population": 64, "elites": 16, "episodes": 2},
        ],
        {"sigma": ranged(0.3, 3.0), "extra_noise": [0.05, 0.1, 0.3]},
        4,
    ),
    "ars": Search(
        OF_SEARCHES,
        {"normalize_obs": True},
        [
            {"directions": 16, "top_directions": 8, "episodes": 4},
            {"directions": 32, "top_directions": 8, "episodes": 1},
            {"directions": 16, "top_directions": 16, "episodes": 2},
        ],
        {"sigma": ranged(0.03, 0.5), "learning_rate": ranged(0.02, 0.5)},
        4,
    ),
    "a2c": Search(
        {
            "CartPole-v1": 200_000, "MountainCar-v0": 400_000, "MountainCarContinuous-v0": 400_000,
            "Pendulum-v1": 400_000, "DeepSea-bsuite": 100_000, "DiscountingChain-bsuite": 100_000,
            "UmbrellaChain-bsuite": 100_000, "FourRooms-misc": 200_000, "Reacher-misc": 400_000,
        },
        {"normalize_obs": True, "normalize_reward": True},
        [
            {"num_envs": 16, "num_steps": 16},
            {"num_envs": 8, "num_steps": 8},
            {"num_envs": 16, "num_steps": 16, "normalize_advantage": True},
            {"num_envs": 16, "num_steps": 32, "learning_rate_schedule": "linear"},
        ],
        {
            "learning_rate": ranged(5e-4, 4e-3),
            "critic_learning_rate": ranged(1e-3, 6e-3),
            "gae_lambda": [0.9, 0.95],
            "entropy_coef": [0.0, 0.01],
        },
        4,
    ),
    "trpo": Search(
        {
            "CartPole-v1": 100_000, "MountainCar-v0": 150_000, "MountainCarContinuous-v0": 150_000,
            "Pendulum-v1": 150_000, "DeepSea-bsuite": 50_000, "FourRooms-misc": 100_000,
            "Reacher-misc": 150_000,
        },
        {"normalize_obs": True, "normalize_reward": True},
        [{"num_envs": 8, "num_steps": 128}, {"num_envs": 16, "num_steps": 128}],
        {"max_kl": ranged(0.005, 0.05), "gae_lambda": [0.9, 0.95, 0.98], "gamma": [0.99]},
        4,
    ),
}  # fmt: skip
