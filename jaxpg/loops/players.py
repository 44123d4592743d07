"""Players of a game and their networks: what each group sees, and what comes out of it.

Reads the fields of `nets.actor_critic`, and of a config `share_parameters`, `player_id`,
`central_critic` and `opponent_model`; a config without one says so by a class constant.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core.config import label
from jaxpg.core.games import Group, central_observation, other_choices
from jaxpg.core.observations import Informed
from jaxpg.core.types import Array, Tree
from jaxpg.nets import memories
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.heads import ActionHead
from jaxpg.nets.networks import Network, torso
from jaxpg.nets.opponents import Modelling
from jaxpg.ops import normalize


def network(cfg: Any, env: E.Env, group: Group) -> tuple[Network, ActionHead]:
    """The network of a group's players, with its model of the others if there is one, and the
    policy's head."""
    shapes = None
    if cfg.central_critic:
        shapes = (central_observation(env, env.example_obs, group).shape[1:],)
    net, pi = actor_critic(cfg, group.env, shapes)
    if cfg.opponent_model == "none":
        return net, pi
    choices = other_choices(env, group, f"{label(type(cfg))} opponent_model={cfg.opponent_model!r}")
    inner: Any = net
    inner = inner.clone(obs_shapes=(*inner.obs_shapes, (sum(choices),)))
    remember = {"mlp": memories.Nothing, "gru": functools.partial(memories.GRU, cfg.memory_size)}
    return Modelling(inner, choices, torso(cfg), remember[cfg.opponent_model]), pi


def in_sequences(cfg: Any) -> bool:
    """Whether minibatches are of sequences, because something remembers."""
    return cfg.memory != "none" or cfg.opponent_model == "gru"


def split_out(pi: ActionHead, out: Array) -> tuple[Array, Array]:
    """The policy's outputs, and the logits of a model of the others behind them."""
    outputs, logits = jnp.split(out, [pi.outputs + pi.free_outputs], -1)
    return outputs, logits


def observe(cfg: Any, env: E.Env, group: Group, obs: Tree) -> Tree:
    """What the players of a group see of a game's observations [...], and what their critics do:
    leaves [..., P_g, ...]."""
    own = group.env.core.observe(obs)
    return Informed(own, central_observation(env, obs, group)) if cfg.central_critic else own


def apply(cfg: Any, net: Network, learner: Any, obs: Tree, carry: Tree) -> tuple[Any, ...]:
    """Outputs of the network, the value and the carry of a group's players [N, P_g, ...]. learner:
    with `params` and `obs_stats`."""

    def one(learner: Any, obs: Tree, carry: Tree) -> tuple[Any, ...]:
        return net.apply(learner.params, normalize.whiten(learner.obs_stats, obs), carry)

    if cfg.share_parameters:
        return one(learner, obs, carry)
    return jax.vmap(one, (0, 1, 1), 1)(learner, obs, carry)
