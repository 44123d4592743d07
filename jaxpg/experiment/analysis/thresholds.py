"""Thresholds: the mean return from which on an environment counts as solved."""

from typing import Any

from jaxpg.envs import registry

# Gymnasium's: `reward_threshold` in its registry, of the same environment (version 1.3).
_GYMNASIUM = {
    "CartPole-v1": 475.0,
    "Acrobot-v1": -100.0,
    "MountainCar-v0": -110.0,
    "MountainCarContinuous-v0": 90.0,
    "FrozenLake-misc": 0.7,  # FrozenLake-v1, the same map and slips
}
# The greatest return there is, which a good policy reaches in every episode.
_OPTIMUM = {
    "Catch-bsuite": 1.0,
    "FourRooms-misc": 1.0,
    "Cliff-jaxpg": -13.0,
}
# Conventions of jaxpg. The optima of the two tables are -2 and -6 - 4 sqrt(2), but starts or
# actions are drawn, so that a mean over episodes lies on both sides of them: 10 % are allowed for.
_OWN = {
    "Pendulum-v1": -200.0,  # has none; the best policies come to -150 on average
    "GridWorld-jaxpg": -2.2,
    "ShortCorridor-jaxpg": -12.8,
}
SOLVED = _GYMNASIUM | _OPTIMUM | _OWN
SOLVED |= {
    "CartPolePositions-jaxpg": SOLVED["CartPole-v1"],  # the same rewards
    "PendulumPositions-jaxpg": SOLVED["Pendulum-v1"],
}


def solved(environment: str | dict[str, Any]) -> float | None:
    """Mean return from which on an environment counts as solved; None where no source gives one.

    environment: a name, or what a run folder says of its environment, {"name": ..., **params}. It
    has a threshold only under its default parameters: 475 is out of reach where a pole may
    stand for 200 steps.
    """
    if isinstance(environment, str):
        return SOLVED.get(environment)
    name = environment.get("name")
    if name not in SOLVED:
        return None
    usual = registry.to_dict(registry.make(name))
    same = all(usual.get(key) == value for key, value in environment.items())
    return SOLVED[name] if same else None


def threshold_source(name: str) -> str:
    """Source of an environment's threshold, in a few words."""
    name = name.replace("Positions-jaxpg", "-v1")
    if name in _GYMNASIUM:
        return "Gymnasium's threshold"
    return "the best return there is" if name in _OPTIMUM else "jaxpg's convention"
