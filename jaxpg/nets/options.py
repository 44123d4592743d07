"""The network of agents with options: policies, terminations and values of all options at once."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpg.core.config import require
from jaxpg.core.env import Env
from jaxpg.core.observations import Masked, mask_illegal
from jaxpg.core.types import Array, Tree
from jaxpg.nets import heads
from jaxpg.nets.initializers import initializer
from jaxpg.nets.networks import MLP, Network, features, torso


class Outputs(NamedTuple):
    """Outputs of the network for O options in observations [..., *obs]."""

    out: Array  # [..., O, outputs] inputs of the policy head
    beta: Array  # [..., O] probability that the option ends there
    q: Array  # [..., O] what it is worth to begin the option there
    choice: Array  # [..., O] logits of a policy over options that is learnt; zeros without one


class OptionNetwork(nn.Module):
    """Options on two torsos: one of the actor (policies, terminations), one of the critic.

    Parameters are named `actor*`, `choice`, `termination` and `critic*`, so that optimisers can
    tell them apart. table: no biases, and zeros at the start, so that on one-hot observations,
    without hidden layers, all are tables with an entry for each state.
    """

    obs_shapes: tuple[tuple[int, ...], ...]
    options: int
    outputs: int  # what the policy head asks of the network, for each option
    free_outputs: int  # further ones, learnt but independent of the observation
    make_torso: Callable[[], nn.Module] = functools.partial(MLP, (64, 64))
    kernel_init: str | Callable = "orthogonal"
    make_critic_torso: Callable[[], nn.Module] | None = None  # None: as the actor's
    learnt_choice: bool = False
    table: bool = False

    @nn.compact
    def __call__(self, obs: Tree) -> Outputs:
        def torsos(make: Callable, name: str) -> list[nn.Module]:
            each = range(len(self.obs_shapes))
            return [make(name=f"{name}_torso_{i}" if i else f"{name}_torso") for i in each]

        def dense(size: int, scale: float, name: str) -> nn.Module:
            init = nn.initializers.zeros if self.table else initializer(self.kernel_init, scale)
            return nn.Dense(size, use_bias=not self.table, kernel_init=init, name=name)

        x = features(torsos(self.make_torso, "actor"), self.obs_shapes, obs)
        y = features(
            torsos(self.make_critic_torso or self.make_torso, "critic"), self.obs_shapes, obs
        )
        out = dense(self.options * self.outputs, 0.01, "actor")(x)
        out = out.reshape(*out.shape[:-1], self.options, self.outputs)
        if isinstance(obs, Masked):
            out = mask_illegal(out, obs._replace(mask=obs.mask[..., None, :]))
        if self.free_outputs:
            shape = self.options, self.free_outputs
            free = self.param("actor_free", nn.initializers.zeros, shape)
            out = jnp.concatenate([out, jnp.broadcast_to(free, (*out.shape[:-2], *shape))], -1)
        beta = jax.nn.sigmoid(dense(self.options, 0.01, "termination")(x))
        q = dense(self.options, 1.0, "critic")(y)
        choice = dense(self.options, 0.01, "choice")(x) if self.learnt_choice else jnp.zeros_like(q)
        return Outputs(out, beta, q, choice)


def is_table(cfg, env: Env) -> bool:
    """True for a linear network of discrete observations: each state has parameters of its own."""
    space = env.core.observation_space(env.core.default_params)
    linear = cfg.hidden == () and not cfg.critic_hidden and cfg.net is MLP
    return linear and cfg.critic_net in (None, MLP) and hasattr(space, "n")


def option_network(cfg, env: Env, learnt_choice: bool = False) -> tuple[Network, heads.ActionHead]:
    """The network of `cfg.options` options, and the policy head of each.

    learnt_choice: with a policy over options of its own. Reads the fields `options, head,
    temperature` and those of `networks.torso`, the critic's too. Raises ValueError for a field
    that is missing, and for a head that does not fit the environment's actions, or actions that no
    head fits.
    """
    require(cfg, "nets.options", "options", "head", "temperature")
    pi = heads.make(cfg.head, env, cfg.temperature)
    switches = ("layer_norm",)
    net = OptionNetwork(
        env.obs_shapes, cfg.options, pi.outputs, pi.free_outputs, torso(cfg, switches),
        cfg.kernel_init, torso(cfg, switches, critic=True), learnt_choice, is_table(cfg, env),
    )  # fmt: skip
    return net, pi
