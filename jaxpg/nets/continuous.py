"""Policy networks for bounded continuous actions, of which policies speak in [-1, 1]."""

import jax
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core.config import label
from jaxpg.core.types import Array, Tree
from jaxpg.nets.actor_critic import ActorCritic
from jaxpg.nets.networks import Network, torso


def actor(cfg, env: E.Env, outputs: int | None = None) -> Network:
    """A network whose method "policy" gives `outputs` numbers; None: one for each dimension of an
    action.

    Reads the fields of `networks.torso`. Raises ValueError unless actions are
    a Box with finite bounds (bounds that are traced cannot be judged).
    """
    size = action_size(cfg, env)
    outputs = size if outputs is None else outputs
    return ActorCritic(env.obs_shapes, outputs, 0, torso(cfg), cfg.kernel_init)


def deterministic(cfg, env: E.Env, actor_params: Tree, obs: Array) -> Array:
    """The actions mu(s) [..., D] in [-1, 1] of a policy without randomness; obs [..., *obs]."""
    return jnp.tanh(actor(cfg, env).apply(actor_params, obs, method="policy"))


def action_size(cfg, env: E.Env) -> int:
    """Number of dimensions of an action. Raises ValueError as `actor` does."""
    where, allowed = f"{label(type(cfg))} on {env.name}", "allowed is a Box with finite bounds"
    with jax.ensure_compile_time_eval():
        kind = env.action_kind
    if kind != "continuous":
        raise ValueError(f"{where}, whose actions are {kind}: {allowed}")
    if bound := E.first_infinite_bound(env):
        raise ValueError(f"{where}, whose actions have {bound}: {allowed}")
    return E.action_size(env)
