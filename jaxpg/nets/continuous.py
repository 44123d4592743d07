"""Policy networks for bounded continuous actions, of which policies speak in [-1, 1]."""

import jax
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core.config import label
from jaxpg.core.types import Array, Tree
from jaxpg.nets import heads, noise
from jaxpg.nets.actor_critic import ActorCritic
from jaxpg.nets.networks import Network, torso


def actor(cfg, env: E.Env, pi: heads.ActionHead | None = None) -> Network:
    """A network whose method "policy" gives what a head asks for; None: one number for each
    dimension of an action.

    Reads the fields of `networks.torso`, for a head gsde those of `noise.make`, too. Raises
    ValueError unless actions are a Box with finite bounds (traced ones cannot be judged).
    """
    size = action_size(cfg, env)
    if pi is None:
        return ActorCritic(env.obs_shapes, size, 0, torso(cfg), cfg.kernel_init)
    return ActorCritic(
        env.obs_shapes, pi.outputs, 0, torso(cfg), cfg.kernel_init, make_noise=noise.make(cfg, pi)
    )


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
