"""Novelty within an episode, of never give up, Badia et al. (2020), arXiv:2002.06038."""

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
from jaxpg.nets.dynamics import Embedding, Joint, action_error, action_width
from jaxpg.nets.networks import MLP, Network
from jaxpg.ops import novelty


class Memory(NamedTuple):
    """Features that an episode has met, of each environment."""

    features: Array  # [N, slots, F]
    count: Array  # [N] int32 how many were met; the newest stand over the oldest


class Episodic(NamedTuple):
    fitted: fit.Fitted  # the embedding and the inverse model
    memory: Memory
    mean: Array  # [] running mean of the squared distances to the k nearest neighbours
    scale: Scale


@dataclasses.dataclass(frozen=True)
class NGUEpisodic:
    """1 / (sqrt(sum of K(phi(s'), phi_i) over the k nearest phi_i of the episode) + c), algorithm 1
    of the paper, with features from which an inverse model tells the action: what the agent has no
    hand in is not new to them.

    This is the bonus of an episode alone, without the factor of RND over a life (eq. 1). The newest
    `slots` steps of an episode are remembered.
    """

    neighbours: int = static(10, ge=1)
    slots: int = static(256, ge=1)
    features: int = static(16, ge=1)
    hidden: tuple[int, ...] = fields.hidden((64,))
    net: fields.Net = fields.net(MLP)  # noqa: RUF009  a field, as the others
    eps: float = number(1e-3, gt=0)
    closest: float = number(8e-3, ge=0)
    constant: float = number(1e-3, gt=0)
    most: float = number(8.0, gt=0)
    rate: float = number(1e-3, gt=0, le=1)  # of the running mean
    learning_rate: float = fields.learning_rate(1e-3)
    epochs: int = static(1, ge=1)
    minibatches: int = static(4, ge=1)
    warmup: int = static(1000, ge=0)
    scaled: ClassVar[bool] = True
    ordered: ClassVar[bool] = True

    def nets(self, env: Env) -> tuple[Network, Network]:
        """The embedding, and the inverse model of phi(s), phi(s')."""
        torso = functools.partial(self.net, self.hidden, "relu")
        return Embedding(env.obs_shapes, self.features, torso), Joint(action_width(env))

    def init(self, key: Key, env: Env, num_envs: int) -> Episodic:
        """Raises ValueError for actions that are neither discrete nor continuous."""
        k_phi, k_inverse, key = jax.random.split(key, 3)
        scale, (phi, inverse) = init_scale(env), self.nets(env)
        obs = [x[None] for x in whiten_leaves(scale, env.example_obs)]
        x = jnp.zeros((1, self.features), float)
        params = {"phi": phi.init(k_phi, obs), "inverse": inverse.init(k_inverse, x, x)}
        kept = jnp.zeros((num_envs, self.slots, self.features), float)
        return Episodic(
            fit.init(params, self.learning_rate, key),
            Memory(kept, jnp.zeros(num_envs, jnp.int32)),
            jnp.zeros((), float),
            scale,
        )

    def embed(self, state: Episodic, env: Env, obs: Tree) -> Array:
        """Features [..., F] of observations [..., *obs]."""
        phi, _ = self.nets(env)
        return phi.apply(state.fitted.params["phi"], whiten_leaves(state.scale, obs))

    def recall(
        self, state: Episodic, env: Env, t: Transition
    ) -> tuple[tuple[Memory, Array], Array]:
        """The memory and the running mean after a rollout [T, N], and its bonuses [T, N]."""
        k = min(self.neighbours, self.slots)

        def one(loop, x):
            (kept, count), mean = loop
            new, ended = x
            there = jnp.arange(self.slots) < count[:, None]
            squared = jnp.square(kept - new[:, None]).sum(-1)
            near = -jax.lax.top_k(-jnp.where(there, squared, jnp.inf), k)[0]  # [N, k]
            known = jnp.isfinite(near)
            found = jnp.where(known, near, 0).sum() / jnp.maximum(known.sum(dtype=jnp.int32), 1)
            moved = jnp.where(mean > 0, mean + self.rate * (found - mean), found)
            mean = jnp.where(known.any(), moved, mean)
            similar = novelty.similarity(near, mean, self.eps, self.closest)
            bonus = novelty.episodic_bonus(similar, self.constant, self.most)
            # Of nothing to compare with the formula says 1 / c: a number without a meaning.
            bonus = jnp.where(count > 0, bonus, 0)
            at = (jnp.arange(self.slots) == (count % self.slots)[:, None])[..., None]
            kept = jnp.where(at, new[:, None], kept)
            return (Memory(kept, jnp.where(ended, 0, count + 1)), mean), bonus

        x = self.embed(state, env, t.next_obs), t.terminated | t.truncated
        return jax.lax.scan(one, (state.memory, state.mean), x)

    def bonus(self, state: Episodic, env: Env, t: Transition) -> Array:
        return jnp.where(is_warm(state.scale, self.warmup), self.recall(state, env, t)[1], 0)

    def update(self, state: Episodic, env: Env, t: Transition) -> Episodic:
        (memory, mean), _ = self.recall(state, env, t)
        scale = update_scale(state.scale, t.next_obs, until=self.warmup)
        obs, next_obs = (whiten_leaves(scale, x) for x in (t.obs, t.next_obs))

        def loss(params, steps, key):
            phi, inverse = self.nets(env)
            obs, action, next_obs = steps
            x, y = (phi.apply(params["phi"], o) for o in (obs, next_obs))
            return action_error(env, inverse.apply(params["inverse"], x, y), action).mean()

        fitted = fit.descend(
            loss, state.fitted, (obs, t.action, next_obs), t.reward.shape, self,
            is_warm(state.scale, self.warmup),
        )  # fmt: skip
        return Episodic(fitted, memory, mean, scale)

    def metrics(self, state: Episodic) -> Metrics:
        return {"bonus/loss": state.fitted.loss}
