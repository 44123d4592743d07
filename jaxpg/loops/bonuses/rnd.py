"""Random network distillation, Burda et al. (2018), arXiv:1810.12894."""

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core import fields
from jaxpg.core.config import static
from jaxpg.core.env import Env
from jaxpg.core.types import Array, Key, Metrics, Transition, Tree
from jaxpg.loops.bonuses import fit
from jaxpg.loops.bonuses.scales import Scale, init_scale, is_warm, update_scale, whiten_leaves
from jaxpg.nets.dynamics import Embedding
from jaxpg.nets.networks import MLP, Network


class Distilled(NamedTuple):
    target: Tree  # random, and never moved
    fitted: fit.Fitted  # the predictor
    scale: Scale


@dataclasses.dataclass(frozen=True)
class RND:
    """The error with which a network predicts another one, which is random and stays as it is, of
    the successor: ||f(s') - g(s')||^2, section 2.2. Where it has learnt much the error is small.

    features: outputs of both. The target has one hidden layer less than the predictor.
    """

    features: int = static(64, ge=1)
    hidden: tuple[int, ...] = fields.hidden((64, 64))
    net: fields.Net = fields.net(MLP)  # noqa: RUF009  a field, as the others
    learning_rate: float = fields.learning_rate(1e-3)
    epochs: int = static(1, ge=1)
    minibatches: int = static(4, ge=1)
    warmup: int = static(1000, ge=0)
    scaled: ClassVar[bool] = True
    ordered: ClassVar[bool] = False

    def nets(self, env: Env) -> tuple[Network, Network]:
        """The predictor and its target."""
        predictor, target = (
            Embedding(env.obs_shapes, self.features, functools.partial(self.net, hidden, "relu"))
            for hidden in (self.hidden, self.hidden[:-1])
        )
        return predictor, target

    def init(self, key: Key, env: Env, num_envs: int) -> Distilled:
        k_target, k_predictor, key = jax.random.split(key, 3)
        scale = init_scale(env)
        obs = [x[None] for x in whiten_leaves(scale, env.example_obs)]
        predictor, target = self.nets(env)
        return Distilled(
            target.init(k_target, obs),
            fit.init(predictor.init(k_predictor, obs), self.learning_rate, key),
            scale,
        )

    def error(self, params: Tree, target: Tree, env: Env, obs: list[Array]) -> Array:
        """Squared distance of prediction and target [...] of whitened observations."""
        predictor, fixed = self.nets(env)
        return jnp.square(predictor.apply(params, obs) - fixed.apply(target, obs)).sum(-1)

    def bonus(self, state: Distilled, env: Env, t: Transition) -> Array:
        obs = whiten_leaves(state.scale, t.next_obs)
        error = self.error(state.fitted.params, state.target, env, obs)
        return jnp.where(is_warm(state.scale, self.warmup), error, 0)

    def update(self, state: Distilled, env: Env, t: Transition) -> Distilled:
        scale = update_scale(state.scale, t.next_obs)

        def loss(params, obs, key):
            return self.error(params, state.target, env, obs).mean()

        fitted = fit.descend(
            loss, state.fitted, whiten_leaves(scale, t.next_obs), t.reward.shape, self,
            is_warm(state.scale, self.warmup),
        )  # fmt: skip
        return Distilled(state.target, fitted, scale)

    def metrics(self, state: Distilled) -> Metrics:
        return {"bonus/loss": state.fitted.loss}
