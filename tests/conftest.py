"""What the tests share: tiny configs of every agent."""

import pytest

import jaxpg
from jaxpg import agents

TABLE = {
    "num_envs": 2, "num_steps": 4, "bins": (3,) * 4, "low": (-1.0,) * 4, "high": (1.0,) * 4,
}  # fmt: skip

# A new agent is one row: the smallest config that still goes through all of its code.
TINY = {
    "reinforce": {"num_envs": 2, "num_steps": 8, "hidden": (4,), "critic_updates": 2},
    "a2c": {"num_envs": 2, "num_steps": 4, "hidden": (4,)},
    "a3c": {"num_workers": 3, "lag": 2, "num_envs": 2, "num_steps": 4, "hidden": (4,)},
    "impala": {"num_envs": 2, "num_steps": 4, "hidden": (4,), "lag": 2},
    "npg": {
        "num_envs": 2,
        "num_steps": 4,
        "hidden": (4,),
        "critic_epochs": 2,
        "critic_minibatches": 2,
        "normalize_obs": True,
        "normalize_reward": True,
    },
    "trpo": {
        "num_envs": 2,
        "num_steps": 4,
        "hidden": (4,),
        "critic_epochs": 2,
        "critic_minibatches": 2,
        "normalize_obs": True,
        "normalize_reward": True,
    },
    "ppo": {
        "num_envs": 2,
        "num_steps": 4,
        "hidden": (4,),
        "minibatches": 2,
        "num_epochs": 2,
        "normalize_obs": True,
        "normalize_reward": True,
        "target_kl": 0.05,
    },
    "ddpg": {
        "num_envs": 2,
        "num_steps": 2,
        "hidden": (4,),
        "buffer_size": 16,
        "learning_starts": 5,
        "batch_size": 4,
        "noise": "parameter",
    },
    "td3": {
        "num_envs": 2,
        "num_steps": 2,
        "hidden": (4,),
        "buffer_size": 16,
        "learning_starts": 5,
        "batch_size": 4,
    },
    "sac": {
        "num_envs": 2,
        "num_steps": 2,
        "hidden": (4,),
        "buffer_size": 16,
        "learning_starts": 5,
        "batch_size": 4,
        "updates_per_step": 0.5,
    },
    "sac_discrete": {
        "num_envs": 2,
        "num_steps": 2,
        "hidden": (4,),
        "buffer_size": 16,
        "learning_starts": 5,
        "batch_size": 4,
    },
    "dqn": {
        "num_envs": 2,
        "num_steps": 2,
        "hidden": (4,),
        "buffer_size": 16,
        "learning_starts": 4,
        "batch_size": 4,
        "updates_per_step": 0.5,
        "dueling": True,
        "prioritized": True,
        "n_step": 2,
    },
} | dict.fromkeys(("q_learning", "sarsa", "expected_sarsa"), TABLE)

# Agents that take only discrete actions, or only continuous ones.
ONE_KIND = ("ddpg", "td3", "sac", "sac_discrete", "dqn", "q_learning", "sarsa", "expected_sarsa")

# Where an agent that does not take CartPole's discrete actions is tried.
ENV = dict.fromkeys(("ddpg", "td3", "sac"), "Pendulum-v1")

# The number that says how far the policy moves, where it is not the learning rate.
RATE = {"npg": "max_kl", "trpo": "max_kl"}


@pytest.fixture(params=agents.NAMES)
def agent(request):
    return agents.get(request.param)


@pytest.fixture
def tiny(agent):
    return agent.Config(**TINY[agent.name])


def short(name):
    """An agent's environment, with episodes that a tiny rollout of REINFORCE holds whole."""
    return jaxpg.make(ENV.get(name, "CartPole-v1"), max_steps_in_episode=8)


@pytest.fixture
def env(agent):
    return short(agent.name)
