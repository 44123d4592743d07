"""Noise that is a function of the state: gSDE, Raffin et al. (2021), arXiv:2005.05719.

    draw = mu(s) + theta' z(s),    theta [F, D],   theta_ji ~ N(0, sigma_ji^2)

The features z(s) are those that the policy's last layer reads. The matrix theta is held over steps:
the same state gets the same noise, and its neighbours nearly the same. Over all matrices the draw
is normal with mean mu(s) and

    variance_i(s) = sum_j sigma_ji^2 z_j(s)^2 + 1e-6,

which is all that learning needs: it sees single steps, in any order. The last summand, as the
field has it, keeps the density finite where the features are zero.

An environment holds no matrix but the key that it is drawn from, theta = sigma * normal(key):
three numbers in the policy's carry, whatever the sizes of the network; and the matrix follows
sigma, so that the density is that of the noise also after an update. A carry of zeros has no
matrix yet: so an episode begins.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpg.core.choices import GSDE
from jaxpg.core.config import require
from jaxpg.core.types import Array, Key
from jaxpg.nets.heads import LOG_STD_RANGE, ActionHead

LEAST_VARIANCE = 1e-6
GENERATOR = "threefry2x32"  # of the matrices: a key of two words, whatever the agent's own


class Held(NamedTuple):
    """Noise that every environment holds."""

    words: Array  # [..., 2] uint32: the key of its matrix
    age: Array  # [...] int32 steps that have had it; 0: there is none


class StateNoise(nn.Module):
    """Deviation of the noise in every state, and the noise itself where it is asked for."""

    size: int  # D, of an action
    log_std: Any  # log sigma at the start
    every: int | None  # steps with one matrix; None: an episode
    gradient: bool  # the features learn from the deviations

    @nn.compact
    def __call__(self, x: Array, held: Held | tuple[()]) -> tuple[Array, Held]:
        """The logarithm of the deviation [..., D] at features x [..., F], and what is held.

        In an `apply` with `rngs`, see `exploring`, matrices that are due are drawn anew, and beside
        the deviations stands the noise in units of them: [..., 2 D]. Held () has no matrices.
        """
        lead, shape = x.shape[:-1], (x.shape[-1], self.size)
        if not held:
            held = Held(jnp.zeros((*lead, 2), jnp.uint32), jnp.zeros(lead, jnp.int32))
        init = nn.initializers.constant(self.log_std)
        sigma = jnp.exp(jnp.clip(self.param("log_sigma", init, shape), *LOG_STD_RANGE))
        z = x if self.gradient else jax.lax.stop_gradient(x)
        log_std = jnp.log(jnp.square(z) @ jnp.square(sigma) + LEAST_VARIANCE) / 2
        if not self.has_rng("noise"):
            return log_std, held
        held = redraw(held, self.every, self.make_rng("noise"))
        normal = jax.vmap(lambda key: jax.random.normal(key, shape, x.dtype))
        keys = jax.random.wrap_key_data(held.words.reshape(-1, 2), impl=GENERATOR)
        theta = sigma * normal(keys).reshape(*lead, *shape)
        noise = jnp.einsum("...f,...fd->...d", z, theta) * jnp.exp(-log_std)
        return jnp.concatenate([log_std, noise], -1), held


def redraw(held: Held, every: int | None, key: Key) -> Held:
    """Draws a new key for each environment that has none, or has had its own `every` steps."""
    due = held.age == 0
    if every is not None:
        due |= held.age >= every
    words = jnp.where(
        due[..., None], jax.random.bits(key, held.words.shape, jnp.uint32), held.words
    )
    older = 1 if every is None else held.age + 1  # a long episode shall not count beyond int32
    return Held(words, jnp.where(due, 1, older).astype(jnp.int32))


def make(cfg, pi: ActionHead) -> Callable[[], nn.Module] | None:
    """Makes the noise that a config asks for by `noise_every, noise_log_std, noise_gradient`.

    None for a head that holds none. Raises ValueError for a field that is missing.
    """
    if not pi.held:
        return None
    require(cfg, "nets.noise.make", "noise_every", "noise_log_std", "noise_gradient")
    return functools.partial(
        StateNoise, pi.free_outputs, cfg.noise_log_std, cfg.noise_every, cfg.noise_gradient
    )


def exploring(cfg, key: Key) -> dict[str, Key]:
    """The `rngs` of an `apply` that acts, by the field `head`: {} for a head that holds no noise.

    key: the one that the head samples with, too, for with such noise it draws nothing itself.
    """
    return {"noise": key} if cfg.head in GSDE else {}
