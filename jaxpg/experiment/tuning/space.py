"""Search space of a tuning: fields of a config, and the values of each that are tried.

The standard space is one table for all agents: an agent has the rows whose fields its config has. A
row says how values follow from the config's own, and the limits of the field cut them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from jaxpg.core.config import label, plain, unknown
from jaxpg.experiment.sweeps.points import ENV, Range, field_names, grid, require_range

Space: TypeAlias = Mapping[str, Sequence | Range]


class Around(NamedTuple):
    """Range from a share of the config's value to a multiple of it, of uniform logarithm."""

    low: float
    high: float


class Times(NamedTuple):
    """Multiples of the config's value, an integer."""

    factors: tuple[float, ...]


# A list is of values that are tried beside the config's own.
STANDARD: dict[str, Around | Times | tuple] = {
    "learning_rate": Around(0.3, 30),
    "critic_learning_rate": Around(0.3, 10),
    "max_kl": Around(0.3, 5),
    "sigma": Around(0.1, 3),
    "gamma": (0.9, 0.97, 0.99, 0.995, 0.999),
    "gae_lambda": (0.8, 0.9, 0.95, 0.98, 1.0),
    "entropy_coef": (0.0, 0.001, 0.003, 0.01, 0.03),
    "tau": Around(0.5, 10),
    "alpha": Around(0.03, 1),
    "noise_std": Around(0.5, 3),
    "epsilon": (0.01, 0.03, 0.1, 0.3),
    "epsilon_end": (0.01, 0.05, 0.1),
    "exploration_fraction": (0.1, 0.2, 0.5),
    "normalize_obs": (False, True),
    "normalize_reward": (False, True),
    "learning_rate_schedule": ("constant", "linear"),
    "updates_per_step": Times((1, 2, 4)),
    "elites": Times((0.5, 1)),
}
ON_POLICY: dict[str, Around | Times | tuple] = {
    "num_envs": Times((1, 4)),
    "num_steps": Times((0.125, 0.25, 1)),
    "num_epochs": (4, 10),
}
TABULAR: dict[str, Around | Times | tuple] = {"learning_rate": (0.03, 0.1, 0.3, 0.6, 1.0)}
# The field by which agents that learn from rollouts, or in tables, are known.
SPECIAL = {"entropy_coef": ON_POLICY, "initial_value": TABULAR}


def standard_space(cfg: Any) -> dict[str, list | Range]:
    """The standard space around a config: field -> values, or Range."""
    fields = {f.name: f for f in dataclasses.fields(cfg)}
    rules = dict(STANDARD)
    for sign, own in SPECIAL.items():
        rules |= own if sign in fields else {}
    rules = {name: rule for name, rule in rules.items() if name in fields}
    found = {
        name: _apply(rule, plain(getattr(cfg, name)), fields[name].metadata)
        for name, rule in rules.items()
    }
    return {name: x for name, x in found.items() if isinstance(x, Range) or len(x) > 1}


def _apply(rule: Around | Times | tuple, value: Any, limits: Mapping[str, Any]) -> list | Range:
    """The values that a rule gives around one; [] for a number that is off, or at its limit."""
    if not isinstance(rule, (Around, Times)):
        return list(dict.fromkeys([value, *rule]))
    most = limits.get("le")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value or value == most:
        return []
    if isinstance(rule, Times):
        several = [x * value for x in rule.factors]
        if isinstance(value, int):
            several = [max(1, round(x)) for x in several]
        return list(dict.fromkeys([value, *several]))
    high = rule.high * value
    return Range(rule.low * value, high if most is None else min(high, most), log=True)


def make_space(cfg: Any, env: Any, given: Space) -> dict[str, list | Range]:
    """The standard space, with the values that are given in the place of its own; one value keeps
    the field as it is. Raises ValueError for an unknown field, one of the environment, a range that
    is none or of a static field, no values, and nothing but the values that the config has."""
    names = [name for name in field_names(cfg, env) if not name.startswith(ENV)]
    for name, values in given.items():
        if str(name).startswith(ENV):
            raise ValueError(
                f"search {name}: allowed are fields of the config: a preset has no {ENV}"
            )
        if name not in names:
            raise unknown("field to search", name, names)
        if isinstance(values, Range):
            require_range(values, name, cfg)
    mine: dict[str, list | Range] = {
        name: x if isinstance(x, Range) else [point[name] for point in grid({name: x})]
        for name, x in given.items()
    }
    space = standard_space(cfg) | mine
    if all([*map(plain, x)] == [plain(getattr(cfg, name))] for name, x in space.items()):
        raise ValueError(
            f"{label(type(cfg))}: no field is searched, allowed is a space with another value than "
            "the config has, of one field at least"
        )
    return space
