"""Scale of observations as the networks of a bonus see them, and the steps before there is one.

Without a scale a number that is large by its unit alone is new for ever; with one of too few steps
a number that has not moved yet is divided by nearly nothing once it does, and its bonus explodes.
So no bonus is given, and nothing learnt, before the scale has seen `warmup` steps.
"""

from typing import Any

import jax.numpy as jnp

from jaxpg.core.env import Env
from jaxpg.core.observations import array_leaves
from jaxpg.core.types import Array, Tree
from jaxpg.ops import normalize

Scale = normalize.RunningStats
CLIP = 5.0  # of an observation in its deviations; Burda et al. (2018), section 2.4


def init_scale(env: Env) -> Scale:
    """Scale of the observations' leaves, without data yet."""
    return normalize.init_stats(array_leaves(env.example_obs))


def update_scale(scale: Scale, obs: Tree, until: float | None = None) -> Scale:
    """Takes in observations [..., *obs]; nothing more from `until` of them on."""
    return normalize.update_stats(scale, array_leaves(obs), until)


def is_warm(scale: Scale, warmup: float) -> Array:
    """True once the scale has seen so many observations. [] bool"""
    return scale.count >= warmup


def whiten_leaves(scale: Scale, obs: Tree) -> list[Array]:
    """Leaves of observations [..., *obs] in deviations from their mean, at most CLIP of them."""
    leaves: Any = normalize.whiten(scale, array_leaves(obs), CLIP)
    return [jnp.asarray(x, float) for x in leaves]
