"""Policy networks for bounded continuous actions, of which policies speak in [-1, 1]."""

import jax
import numpy as np

from jaxpg.core.config import label
from jaxpg.core.env import Env
from jaxpg.nets.networks import ActorCritic, torso


def actor(cfg, env: Env, outputs: int = 1) -> ActorCritic:
    """A network whose method "policy" gives `outputs` numbers for each dimension of an action.

    Reads the fields of `networks.torso`. Raises ValueError unless actions are
    a flat Box with finite bounds (bounds that are traced cannot be judged).
    """
    size = dimensions(cfg, env)
    return ActorCritic(env.obs_shapes, outputs * size, 0, torso(cfg), cfg.kernel_init)


def dimensions(cfg, env: Env) -> int:
    """How many numbers an action has. Raises ValueError as `actor` does."""
    with jax.ensure_compile_time_eval():
        space = env.action_space
    allowed = "allowed is a flat Box with finite bounds"
    if env.discrete:
        raise ValueError(f"{label(type(cfg))} on {env.name}, whose actions are discrete: {allowed}")
    if not hasattr(space, "low") or len(space.shape) != 1:
        raise ValueError(f"{label(type(cfg))} on {env.name}, whose actions are {space}: {allowed}")
    for name in ("low", "high"):
        bound = getattr(space, name)
        if not isinstance(bound, jax.core.Tracer) and np.any(~(np.abs(bound) < 1e30)):
            raise ValueError(
                f"{label(type(cfg))} on {env.name}, whose actions have {name}={bound}: {allowed}"
            )
    return space.shape[0]
