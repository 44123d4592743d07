"""Actors that see what is their own, and critics that see the game and what all do in it.

A group's actors are policies on the observations of its players, and its critics judge the joint
actions of `loops.joint`. Parameters of both stand side by side, by the group's name; each player
has its own, or those of a group share theirs, see `loops.sharing`.

Actions of a Box come from tanh, with Gaussian noise that explores. Where they are integers an actor
gives logits, and acts by a draw of softmax(logits). Critics see one-hot vectors: of the buffer, of
such a draw of the copies in a target, and in an actor's update of a draw through which the gradient
of the Gumbel-softmax flows (`ops.relax`).
"""

import functools
import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core.env import Env
from jaxpg.core.games import Group, central_observation
from jaxpg.core.types import Array, Key, Metrics, Tree
from jaxpg.loops import descent, joint, sharing
from jaxpg.nets.actor_critic import ActorCritic
from jaxpg.nets.networks import Network, torso
from jaxpg.nets.values import critics
from jaxpg.ops import explore


class Params(NamedTuple):
    actor: Tree
    critic: Tree


Groups = dict[str, Params]  # leaves [P_g, ...] where each player has its own


def init_params(cfg: Any, env: Env, key: Key) -> Groups:
    """Parameters of the actors and critics of all groups."""
    found = sharing.teams(cfg, env)
    every, params = jnp.zeros(sum(g.size * joint.size(cfg, g) for g in found), float), {}
    for group, k_group in zip(found, jax.random.split(key, len(found)), strict=True):
        seen = central_observation(env, env.example_obs, group)[0]

        def begin(key, group=group, seen=seen) -> Params:
            k_actor, k_critic = jax.random.split(key)
            actor, example = actor_network(cfg, group), group.env.example_obs
            return Params(
                actor.init(k_actor, example, method="policy"),
                critics(cfg, env, cfg.critics).init(k_critic, seen, every),
            )

        params[group.name] = sharing.init_each(cfg, group, begin, k_group)
    return params


def actor_network(cfg: Any, group: Group) -> Network:
    """Network of an actor of a group."""
    size = joint.size(cfg, group)
    return ActorCritic(group.env.obs_shapes, size, 0, torso(cfg), cfg.kernel_init)


def outputs(cfg: Any, group: Group, actor: Tree, obs: Tree) -> Array:
    """Outputs of a group's actors [B, P_g, D] on observations [B, ...] of the game."""
    apply = functools.partial(actor_network(cfg, group).apply, method="policy")
    return sharing.apply_each(cfg, apply, actor, group.env.core.observe(obs))


def policies(cfg: Any, env: Env, params: Groups, obs: Tree, key: Key) -> list[Array]:
    """Joint action of all actors on observations [B, ...] of the game, see `loops.joint`: of a Box
    what they say, of integers a draw, through which a gradient flows."""
    found, t = sharing.teams(cfg, env), cfg.gumbel_temperature
    return [
        joint.propose(g, outputs(cfg, g, params[g.name].actor, obs), k, t)
        for g, k in zip(found, jax.random.split(key, len(found)), strict=True)
    ]


def play(cfg: Any, env: Env, params: Groups, obs: Tree, key: Key, greedy: bool) -> Array:
    """Actions of a game on observations [B, ...], as the buffer holds them; unless `greedy` draws,
    or with noise."""
    found = sharing.teams(cfg, env)
    discrete = bool(joint.choices(found[0]))
    if discrete and not greedy:
        return joint.to_buffer(env, found, policies(cfg, env, params, obs, key))
    every = [outputs(cfg, g, params[g.name].actor, obs) for g in found]
    action = joint.to_buffer(env, found, every)
    if discrete:
        return action
    action = jnp.tanh(action)
    return action if greedy else explore.gaussian(key, action, cfg.noise_std)


def values(cfg: Any, env: Env, critic: Tree, seen: Array, actions: Array) -> Array:
    """Q of every critic of the players of a group: [critics, B, P_g].

    seen: [B, P_g, ...] of the game. actions: [B, P_g, ...] of all, see `joint.as_seen`.
    """
    net = critics(cfg, env, cfg.critics)
    return sharing.apply_each(cfg, net.apply, critic, seen, actions, out_axis=2)


def descend_each(
    rules: Params,
    part: str,
    loss: Callable,
    params: Groups,
    opt_state: Groups,
    found: list[Group],
    keys: Iterable = itertools.repeat(()),
) -> tuple[Groups, Groups, list[Tree], Metrics]:
    """One step of the part called `part` of each group: parameters and optimisers' states after it,
    errors [B] as means over its players, and metrics.

    loss: (the part's parameters, number of the group, its Params, its key) -> loss, (errors
    [B, P_g] or (), metrics). keys: of each group, where a loss draws.
    """
    params, opt_state, errors, info = dict(params), dict(opt_state), [], {}
    for i, (group, key) in enumerate(zip(found, keys, strict=False)):
        own, its = params[group.name], opt_state[group.name]
        grads, (error, said) = jax.grad(loss, has_aux=True)(getattr(own, part), i, own, key)
        params[group.name], opt_state[group.name] = descent.descend(rules, part, grads, own, its)
        errors.append(jax.tree.map(lambda x: x.mean(1), error))
        info |= sharing.named(group, found, said)
    return params, opt_state, errors, info
