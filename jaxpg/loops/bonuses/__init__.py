"""Bonuses for what is new, as parts of any agent: one file each; see `loops.intrinsic` for how
agents learn from them.

A bonus is an object of numbers alone, and all that it learns is in a state, a pytree:

    init(key, env, num_envs) -> state
    bonus(state, env, t) -> [...]       of transitions t [...], by the state as it was before them
    update(state, env, t) -> state      from a rollout t [T, N, ...]
    metrics(state) -> dict of scalars

A transition is a `core.types.Transition`, observations as the environment gave them, `next_obs` the
true successor. A class says two things more: `scaled`, that its unit has no meaning, so that it is
divided by the deviation of its returns; and `ordered`, that it must see steps in their order, as
only agents that learn from rollouts do. The field `bonus` is a name of BONUSES, or such a class of
one's own, which is made without arguments; a `functools.partial` of either says numbers:

    bonus=functools.partial(bonuses.RND, learning_rate=1e-3)
"""

import inspect
from typing import Any

from jaxpg.core.checks import hint_at, show
from jaxpg.core.config import label, validate
from jaxpg.loops.bonuses.counts import Count, PseudoCount
from jaxpg.loops.bonuses.episodic import NGUEpisodic
from jaxpg.loops.bonuses.icm import ICM
from jaxpg.loops.bonuses.info_gain import InfoGain
from jaxpg.loops.bonuses.rnd import RND

BONUSES = {
    "count": Count,
    "pseudo_count": PseudoCount,
    "rnd": RND,
    "icm": ICM,
    "ngu_episodic": NGUEpisodic,
    "info_gain": InfoGain,
}


def make_bonus(cfg: Any) -> Any:
    """The bonus that a config's field `bonus` asks for; None for "none". Raises ValueError for a
    partial with arguments that its class does not take, and for a number that one of BONUSES does
    not allow."""
    if cfg.bonus == "none":
        return None
    made = BONUSES[cfg.bonus] if isinstance(cfg.bonus, str) else cfg.bonus
    try:
        bonus = made()
        if type(bonus) in BONUSES.values():
            validate(bonus)
    except (TypeError, ValueError) as error:
        more = _say_arguments(made) if isinstance(error, TypeError) else ""
        raise ValueError(f"{label(type(cfg))} bonus={show(made)}: {error}{more}") from error
    return bonus


def _say_arguments(made: Any) -> str:
    """Says what a class, or that of a partial, may be given, and which of it was meant."""
    names = list(inspect.signature(getattr(made, "func", made)).parameters)
    given = [name for name in getattr(made, "keywords", {}) if name not in names]
    hint = hint_at(given[0], names) if given else ""
    return f"; {hint}allowed are {', '.join(names) or 'no arguments'}"
