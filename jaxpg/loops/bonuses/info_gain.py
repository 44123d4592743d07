"""Information gain by the disagreement of models, Pathak et al. (2019), arXiv:1906.04161, and Sekar
et al. (2020), arXiv:2005.05960."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core import fields
from jaxpg.core.config import static
from jaxpg.core.env import Env
from jaxpg.core.types import Array, Key, Metrics, Transition, Tree
from jaxpg.loops.bonuses import fit
from jaxpg.loops.bonuses.scales import Scale, init_scale, is_warm, update_scale, whiten_leaves
from jaxpg.nets.dynamics import Joint, action_width, encode_action
from jaxpg.nets.networks import Network
from jaxpg.ops.novelty import disagreement


class Ensemble(NamedTuple):
    fitted: fit.Fitted  # leaves of the parameters [members, ...]
    scale: Scale


@dataclasses.dataclass(frozen=True)
class InfoGain:
    """The variance of the predictions that several models make of the successor (eq. 1): of what
    none can know they agree on the mean, once they have learnt it.

    Each model sees an observation, whitened and flat, and an action, and predicts the next one; it
    learns from a random half of the steps, so that they differ where there are few.
    """

    members: int = static(5, ge=2)
    hidden: tuple[int, ...] = fields.hidden((64, 64))
    learning_rate: float = fields.learning_rate(1e-3)
    epochs: int = static(1, ge=1)
    minibatches: int = static(4, ge=1)
    warmup: int = static(1000, ge=0)
    scaled: ClassVar[bool] = True
    ordered: ClassVar[bool] = False

    def init(self, key: Key, env: Env, num_envs: int) -> Ensemble:
        """Raises ValueError for actions that are neither discrete nor continuous."""
        k_params, key = jax.random.split(key)
        scale = init_scale(env)
        obs = flatten(whiten_leaves(scale, env.example_obs), 0)[None]
        action = jnp.zeros((1, action_width(env)), float)
        net = self.net(obs.shape[-1])
        params = jax.vmap(lambda k: net.init(k, obs, action))(
            jax.random.split(k_params, self.members)
        )
        return Ensemble(fit.init(params, self.learning_rate, key), scale)

    def net(self, size: int) -> Network:
        """A model of observations of so many numbers."""
        return Joint(size, self.hidden)

    def predict(self, params: Tree, env: Env, obs: Array, action: Array) -> Array:
        """Next observations by each model: [..., D], [..., *action] -> [members, ..., D]."""
        net = self.net(obs.shape[-1])
        action = encode_action(env, action, obs.ndim - 1)
        return jax.vmap(lambda p: net.apply(p, obs, action))(params)

    def bonus(self, state: Ensemble, env: Env, t: Transition) -> Array:
        obs = flatten(whiten_leaves(state.scale, t.obs), t.reward.ndim)
        found = disagreement(self.predict(state.fitted.params, env, obs, t.action))
        return jnp.where(is_warm(state.scale, self.warmup), found, 0)

    def update(self, state: Ensemble, env: Env, t: Transition) -> Ensemble:
        scale = update_scale(state.scale, t.next_obs)
        both = (flatten(whiten_leaves(scale, x), t.reward.ndim) for x in (t.obs, t.next_obs))
        obs, next_obs = both

        def loss(params: Tree, steps: Any, key: Key) -> Array:
            obs, action, next_obs = steps
            error = jnp.square(self.predict(params, env, obs, action) - next_obs).mean(-1)
            half = jax.random.bernoulli(key, shape=error.shape)
            return (error * half).mean(1).sum()

        fitted = fit.descend(
            loss, state.fitted, (obs, t.action, next_obs), t.reward.shape, self,
            is_warm(state.scale, self.warmup),
        )  # fmt: skip
        return Ensemble(fitted, scale)

    def metrics(self, state: Ensemble) -> Metrics:
        return {"bonus/loss": state.fitted.loss}


def flatten(leaves: list[Array], lead: int) -> Array:
    """Leaves [..., *shape] side by side, behind so many axes: [..., D]."""
    return jnp.concatenate([x.reshape(*x.shape[:lead], -1) for x in leaves], -1)
