"""Bootstrapped Q-learning: K networks, of which each acts for whole episodes; Osband et al. (2016),
arXiv:1602.04621, with priors that are not learnt; Osband et al. (2018), arXiv:1806.03335.

    Q_k(s, a) = f_k(s, a) + prior_scale p_k(s, a),      f_k is learnt, p_k stays as it was drawn

A network is drawn at the start of each episode, for each environment by itself, and followed to the
end. Where the data do not say what an action is worth the K disagree, so that one of them will go
and see; a single step of chance would be undone by the next one. Each stored step is learnt by a
network with probability 1/2, drawn once: the double-or-nothing bootstrap.

Deviation from the first paper: the networks share nothing, as in the second.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jaxpg.core.config import label
from jaxpg.core.types import Array, Key, Tree
from jaxpg.nets.networks import Network

PROBABILITY = 0.5  # that a network learns from a step
MARK = "bootstrap"  # name of the masks beside a stored step


def require_fields(cfg) -> None:
    """Raises ValueError for what an ensemble goes without."""
    for name, only in {"memory": "none", "dropout": 0.0, "hindsight": "none"}.items():
        if cfg.ensemble > 1 and getattr(cfg, name) != only:
            raise ValueError(
                f"{label(type(cfg))} {name}={getattr(cfg, name)!r}: with ensemble={cfg.ensemble} "
                f"allowed is {only!r}"
            )


def init(net: Network, count: int, obs: Tree, key: Key) -> tuple[Tree, Tree]:
    """Parameters of the networks and of their priors, leaves [K, ...] both. obs: one [*obs]."""
    k_params, k_prior = jax.random.split(key)

    def several(key: Key) -> Tree:
        return jax.vmap(lambda k: net.init(k, obs))(jax.random.split(key, count))

    return several(k_params), several(k_prior)


def values(net: Network, params: Tree, prior: Tree, scale: Any, obs: Tree) -> Array:
    """Q_k(s, .) of observations [B, *obs]: [K, B, actions]."""
    each = jax.vmap(lambda p: net.apply(p, obs))
    return each(params) + scale * jax.lax.stop_gradient(each(prior))


def follow(q: Array, carry: Tree, key: Key, greedy: bool) -> tuple[Array, Tree]:
    """Q of the network in force [N, actions], of all [K, N, actions]; and the carry [N] int32: its
    number + 1, zero where an episode begins and a network is still to be drawn.

    greedy: the votes in its place, of how many networks an action is the best; Osband et al.
    (2016), section 6.1.
    """
    count, lanes, actions = q.shape
    if greedy:
        return jax.nn.one_hot(q.argmax(-1), actions, dtype=float).sum(0), carry
    carry = jnp.zeros(lanes, jnp.int32) if isinstance(carry, tuple) else carry
    drawn = jax.random.randint(key, (lanes,), 1, count + 1, jnp.int32)
    carry = jnp.where(carry == 0, drawn, carry)
    return q[carry - 1, jnp.arange(lanes)], carry


def masks(count: int, shape: tuple[int, ...], key: Key) -> dict[str, Array]:
    """Draws the networks that learn from each of the steps [*shape]: [*shape, K] float, 0 or 1."""
    learns = jax.random.bernoulli(key, PROBABILITY, (*shape, count))
    return {MARK: learns.astype(float)}
