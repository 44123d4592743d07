"""Number of updates that an iteration of an off-policy agent makes.

Reads the fields `num_envs, num_steps, updates_per_step` of a config.
"""

from fractions import Fraction

import jax
import jax.numpy as jnp

from jaxpg.core.schedules import unsigned
from jaxpg.core.types import Array


def per_iteration(cfg) -> Fraction:
    """Updates of an iteration, on average: `updates_per_step` for every environment step."""
    steps = cfg.num_envs * cfg.num_steps
    return (Fraction(cfg.updates_per_step) * steps).limit_denominator(10_000)


def in_iteration(cfg, iteration: Array) -> Array:
    """Number of updates of this iteration [] int32. A ratio r that is no whole number is spread
    evenly: floor((i + 1) r) - floor(i r)."""
    ratio = per_iteration(cfg)
    floor, rest = divmod(ratio.numerator, ratio.denominator)
    i = (unsigned(iteration) % ratio.denominator).astype(jnp.int32)
    return floor + ((i + 1) * rest) // ratio.denominator - (i * rest) // ratio.denominator


@jax.custom_batching.custom_vmap
def most_of_lanes(count: Array) -> Array:
    """Trip count of a loop; under `vmap` the maximum over lanes, unbatched.

    A batched count would turn all that the loop carries, the priorities of all rows too, into a
    `select` at every step.
    """
    return count


@most_of_lanes.def_vmap
def _(axis_size, in_batched, count):
    return most_of_lanes(count.max() if in_batched[0] else count), False
