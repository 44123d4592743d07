"""Policy heads: what turns a network's outputs into a distribution over actions.

A distribution is built and consumed inside one function; only arrays leave it. A policy is
learnt through its `draw`, the sample before it is squashed and stretched to the space: that keeps
densities exact at saturation, where the way back from the action would be infinite.
"""

from collections.abc import Callable
from typing import NamedTuple

import distrax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxpg.core import env as E
from jaxpg.core.types import Array, Key

HEADS = (
    "auto",
    "categorical",
    "gaussian",
    "gaussian_state_std",
    "tanh_gaussian",
    "tanh_gaussian_state_std",
)
LOG_STD_RANGE = (-20.0, 2.0)


class Policy(NamedTuple):
    """A distribution over actions, as functions of the network's outputs `out` [..., size]."""

    outputs: int  # of the network, from the observation
    free_outputs: int  # learnt, but the same for every observation
    sample: Callable  # (out, key) -> draw [..., *action], log_prob [...]
    log_prob: Callable  # (out, draw) -> [...]
    entropy: Callable  # (out) -> [...]
    mode: Callable  # (out) -> draw
    kl: Callable  # (out, other_out) -> [...] KL(out || other_out)
    action: Callable  # (draw) -> action in the units of the environment's space


def make(head: str, env: E.Env, temperature=1.0) -> Policy:
    """The policy head for an environment's actions; "auto" is categorical or Gaussian.

    temperature: divides the logits of a categorical head, in sampling and log-probabilities
    alike. Raises ValueError for a head that does not fit the action space.
    """
    space = env.action_space
    if not hasattr(space, "n") and not (hasattr(space, "low") and len(space.shape) == 1):
        raise ValueError(f"{env.name} has actions {space}: allowed are Discrete and flat Box")
    allowed = HEADS[:2] if env.discrete else (HEADS[0], *HEADS[2:])
    if head not in allowed:
        kind = "discrete" if env.discrete else "continuous"
        raise ValueError(
            f"head={head!r} on {env.name}, whose actions are {kind}: "
            f"allowed is one of {', '.join(map(repr, allowed))}"
        )
    if env.discrete:
        return _categorical(space.n, temperature)
    squash, state_std = head.startswith("tanh"), head.endswith("state_std")
    return _gaussian(env, space.shape[0], squash, state_std)


def _categorical(n: int, temperature) -> Policy:
    def dist(out: Array) -> distrax.Categorical:
        return distrax.Categorical(logits=out / temperature, dtype=jnp.int32)

    return Policy(
        outputs=n,
        free_outputs=0,
        sample=lambda out, key: dist(out).sample_and_log_prob(seed=key),
        log_prob=lambda out, draw: dist(out).log_prob(draw),
        entropy=lambda out: dist(out).entropy(),
        mode=lambda out: dist(out).mode(),
        kl=lambda out, other: dist(out).kl_divergence(dist(other)),
        action=lambda draw: draw,
    )


def _gaussian(env: E.Env, size: int, squash: bool, state_std: bool) -> Policy:
    def dist(out: Array) -> distrax.Independent:
        mean, log_std = jnp.split(out, 2, -1)
        return distrax.Independent(
            distrax.Normal(mean, jnp.exp(jnp.clip(log_std, *LOG_STD_RANGE))), 1
        )

    def log_det(draw: Array) -> Array:
        """log |d tanh(x) / dx|, summed over dimensions; finite for every finite draw."""
        return 2 * (jnp.log(2.0) - draw - nn.softplus(-2 * draw)).sum(-1) if squash else 0.0

    def sample(out: Array, key: Key) -> tuple[Array, Array]:
        draw, log_prob = dist(out).sample_and_log_prob(seed=key)
        return draw, log_prob - log_det(draw)

    def entropy(out: Array) -> Array:
        base = dist(out)
        if not squash:
            return base.entropy()
        # No closed form: E[log_det] by Gauss-Hermite quadrature, dimension by dimension.
        z, weight = np.polynomial.hermite_e.hermegauss(24)
        normal = base.distribution
        draws = normal.loc + normal.scale * z.reshape(-1, *[1] * out.ndim).astype(out.dtype)
        mean = jnp.tensordot(jnp.asarray(weight / weight.sum(), out.dtype), log_det(draws), 1)
        return base.entropy() + mean

    return Policy(
        outputs=2 * size if state_std else size,
        free_outputs=0 if state_std else size,
        sample=sample,
        log_prob=lambda out, draw: dist(out).log_prob(draw) - log_det(draw),
        entropy=entropy,
        mode=lambda out: dist(out).mode(),
        kl=lambda out, other: dist(out).kl_divergence(dist(other)),  # a bijection leaves it alone
        action=lambda draw: E.to_space(env, jnp.tanh(draw) if squash else draw),
    )
