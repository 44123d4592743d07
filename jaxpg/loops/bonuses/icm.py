"""The intrinsic curiosity module, Pathak et al. (2017), arXiv:1705.05363."""

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core import fields
from jaxpg.core.config import number, static
from jaxpg.core.env import Env
from jaxpg.core.types import Array, Key, Metrics, Transition, Tree
from jaxpg.loops.bonuses import fit
from jaxpg.loops.bonuses.scales import Scale, init_scale, is_warm, update_scale, whiten_leaves
from jaxpg.nets.dynamics import Embedding, Joint, action_error, action_width, encode_action
from jaxpg.nets.networks import MLP, Network


class Curious(NamedTuple):
    fitted: fit.Fitted  # the embedding, the inverse and the forward model
    scale: Scale


@dataclasses.dataclass(frozen=True)
class ICM:
    """The error of a forward model, 1/2 ||f(phi(s), a) - phi(s')||^2 (eq. 6), in features phi from
    which an inverse model tells the action (eq. 3).

    What is learnt descends (1 - forward_share) L_I + forward_share L_F (eq. 7), the features by
    both, as in the paper. features: their number.
    """

    features: int = static(32, ge=1)
    hidden: tuple[int, ...] = fields.hidden((64, 64))
    net: fields.Net = fields.net(MLP)  # noqa: RUF009  a field, as the others
    forward_share: float = number(0.2, ge=0, le=1)
    learning_rate: float = fields.learning_rate(1e-3)
    epochs: int = static(1, ge=1)
    minibatches: int = static(4, ge=1)
    warmup: int = static(1000, ge=0)
    scaled: ClassVar[bool] = True
    ordered: ClassVar[bool] = False

    def nets(self, env: Env) -> tuple[Network, Network, Network]:
        """The embedding, the inverse model of phi(s), phi(s') and the forward one of phi(s), a."""
        torso = functools.partial(self.net, self.hidden, "relu")
        phi = Embedding(env.obs_shapes, self.features, torso)
        return phi, Joint(action_width(env)), Joint(self.features)

    def init(self, key: Key, env: Env, num_envs: int) -> Curious:
        """Raises ValueError for actions that are neither discrete nor continuous."""
        k_phi, k_inverse, k_forward, key = jax.random.split(key, 4)
        scale, (phi, inverse, forward) = init_scale(env), self.nets(env)
        obs = [x[None] for x in whiten_leaves(scale, env.example_obs)]
        x, a = jnp.zeros((1, self.features), float), jnp.zeros((1, action_width(env)), float)
        params = {
            "phi": phi.init(k_phi, obs),
            "inverse": inverse.init(k_inverse, x, x),
            "forward": forward.init(k_forward, x, a),
        }
        return Curious(fit.init(params, self.learning_rate, key), scale)

    def losses(
        self, params: Tree, env: Env, obs: list[Array], action: Array, next_obs: list[Array]
    ) -> tuple[Array, Array]:
        """L_I and L_F of whitened steps [...]: [...] each."""
        phi, inverse, forward = self.nets(env)
        x, y = (phi.apply(params["phi"], o) for o in (obs, next_obs))
        told = inverse.apply(params["inverse"], x, y)
        foretold = forward.apply(params["forward"], x, encode_action(env, action, x.ndim - 1))
        return action_error(env, told, action), 0.5 * jnp.square(foretold - y).sum(-1)

    def bonus(self, state: Curious, env: Env, t: Transition) -> Array:
        obs, next_obs = (whiten_leaves(state.scale, x) for x in (t.obs, t.next_obs))
        _, error = self.losses(state.fitted.params, env, obs, t.action, next_obs)
        return jnp.where(is_warm(state.scale, self.warmup), error, 0)

    def update(self, state: Curious, env: Env, t: Transition) -> Curious:
        scale = update_scale(state.scale, t.next_obs)
        obs, next_obs = (whiten_leaves(scale, x) for x in (t.obs, t.next_obs))

        def loss(params, steps, key):
            of_inverse, of_forward = self.losses(params, env, *steps)
            share = self.forward_share
            return (1 - share) * of_inverse.mean() + share * of_forward.mean()

        fitted = fit.descend(
            loss, state.fitted, (obs, t.action, next_obs), t.reward.shape, self,
            is_warm(state.scale, self.warmup),
        )  # fmt: skip
        return Curious(fitted, scale)

    def metrics(self, state: Curious) -> Metrics:
        return {"bonus/loss": state.fitted.loss}
