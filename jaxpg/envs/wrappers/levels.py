"""Rule of levels: parameters that are drawn together for each episode, as one row of several."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.checks import show_numbers
from jaxpg.core.types import Array, Key, Tree
from jaxpg.envs.recipes import is_traced, take
from jaxpg.envs.wrappers.layer import Move, Rule, State
from jaxpg.envs.wrappers.params import CHANCES, Params
from jaxpg.envs.wrappers.randomized import randomized


def levels(core: Any, **how: str) -> Rule:
    """Rule that draws a level. Its memory: the number of the running episode's level, [] int32.

    how: of each parameter "choice"; its values of all levels are NAME_choices, as of `randomized`.
    """
    each = randomized(core, **how)

    def draw(key: Key, params: Params) -> Tree:
        chances = jnp.asarray(params.own[CHANCES])
        return jax.random.choice(key, len(chances), p=chances).astype(jnp.int32)

    def inner(params: Params, level: Tree) -> Any:
        rows = {name: jnp.asarray(params.own[f"{name}_choices"])[level] for name in how}
        like = {name: jnp.asarray(take(each.own, f"{name}_choices")).dtype for name in how}
        return each.inner(params, {name: x.astype(like[name]) for name, x in rows.items()})

    def step(move: Move, key: Key, state: State, action: Array, params: Params):
        new = move(key, state.inner, action, inner(params, state.memory))
        # One entry and no number: a sum of it over an episode would mean nothing.
        return new._replace(info={**new.info, "level": state.memory[None]}), state.memory

    return each._replace(
        step=step,
        draw=draw,
        inner=inner,
        own={**each.own, CHANCES: np.ones(1)},
        limits={**each.limits, CHANCES: (0, 1)},
        judge=lambda params: each.judge(params) or _judge(params.own, how),
        signals=("level",),
    )


def _judge(own: Mapping[str, Any], how: Mapping[str, str]) -> str | None:
    """Words on levels of which some parameter or the probability is missing."""
    sizes = {name: len(own[name]) for name in [*(f"{name}_choices" for name in how), CHANCES]}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{size} in {name}" for name, size in sizes.items())
        return f"levels: {told}: allowed is as many in each"
    chances = own[CHANCES]
    if not is_traced(chances) and not np.isclose(np.sum(np.asarray(chances)), 1, atol=1e-4):
        return f"{CHANCES}={show_numbers(chances)}: allowed are numbers whose sum is 1"
    return None
