"""Policy and critic of an agent, wherever its state keeps them.

For every agent whose networks `nets.actor_critic` makes.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from jaxpg.core import env as E
from jaxpg.core.config import label
from jaxpg.core.types import Tree
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.nets.heads import ActionHead
from jaxpg.ops import normalize

_CONFIG = ("head", "temperature", "net", "hidden", "activation", "kernel_init", "shared", "memory")
LEARNT = ("params", "actor", "critic", "obs_stats", "reward_scale")  # what is read of a state


class Parts(NamedTuple):
    """Policy and critic of an agent, wherever its state keeps them."""

    pi: ActionHead
    actor: Tree  # the policy's parameters; a torso that it shares with the critic is part of them
    policy: Callable  # (actor, obs [..., *obs]) -> the head's inputs [..., size]
    value: Callable | None  # obs -> [...], in units of the reward; None if none is learnt


def parts(cfg, env: E.Env, state: Tree) -> Parts:
    """Finds an agent's policy and critic in its state.

    Raises ValueError for a state that has neither `params`, nor `actor` and `critic`, for the
    network that `actor_critic(cfg, env)` makes, and for a memory; one of many seeds must be vmapped
    over.
    """
    fields = getattr(state, "_fields", ())
    split = {"actor", "critic"} <= {*fields}
    whole = isinstance(getattr(state, "params", None), Mapping)  # a search has a vector there
    if not (split or whole) or not all(hasattr(cfg, name) for name in _CONFIG):
        raise ValueError(
            f"{label(type(cfg))} has a state of {fields}: allowed is one with `params`, or with "
            "`actor` and `critic`, of the network that nets.actor_critic makes"
        )
    if cfg.memory != "none":
        raise ValueError(
            f"{label(type(cfg))} memory={cfg.memory!r}: allowed is 'none', for diagnostics ask a "
            "policy for one observation at a time"
        )
    net, pi = actor_critic(cfg, env)
    actor, critic = (state.actor, state.critic) if split else (state.params, state.params)
    if not split:
        own = {k: v for k, v in actor["params"].items() if not k.startswith("critic")}
        actor = {**actor, "params": own}
    shapes = functools.partial(jax.tree.map, lambda x: x.shape)
    example = jax.eval_shape(
        functools.partial(net.init, method="policy"), jax.random.key(0), env.example_obs
    )
    if shapes(actor) != shapes(example):
        raise ValueError(
            f"{label(type(cfg))} has an actor of shapes {shapes(actor)}: allowed is the network of "
            f"actor_critic, {shapes(example)}; vmap over a state of many seeds"
        )
    whiten = functools.partial(normalize.whiten, getattr(state, "obs_stats", ()))
    scale: Any = getattr(state, "reward_scale", ())
    unit = 1.0 if scale == () else normalize.std(scale.stats)  # what rewards were divided by
    return Parts(
        pi,
        actor,
        lambda actor, obs: net.apply(actor, whiten(obs), method="policy"),
        None if critic == () else lambda obs: unit * net.apply(critic, whiten(obs), method="value"),
    )


def learnt_params(state: Tree) -> Tree:
    """Drops from a state what `parts` does not read: less to copy, and one program for all
    agents."""
    if not hasattr(state, "_fields"):
        return state  # `parts` has the words for it
    return state._replace(**{name: () for name in state._fields if name not in LEARNT})
