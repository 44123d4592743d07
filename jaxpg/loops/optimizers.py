"""Optimisers of agents, as the field `optimizer` says, and what they see of the parameters."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
import optax
from jax.flatten_util import ravel_pytree

from jaxpg.core.named_options import split_options
from jaxpg.core.optimizers import ELEMENTWISE, find_optimizer
from jaxpg.core.packing import pack, unpack
from jaxpg.core.types import Tree

Rule = optax.GradientTransformation

# Options of agents that learn from rollouts. Their gradients are small: Adam's usual 1e-8 below the
# square root would divide noise by noise.
ON_POLICY: Mapping[str, dict[str, Any]] = {
    name: {"eps": 1e-5} for name in ("adam", "adamw", "nadam", "nadamw", "radam", "amsgrad")
} | {"rmsprop": {"decay": 0.99, "eps": 1e-5}}


def build_optimizer(
    optimizer: str | Callable,
    learning_rate: Any,
    max_grad_norm: Any = None,
    defaults: Mapping[str, dict[str, Any]] | None = None,
    *,
    ravel: bool = False,
    stacked: bool = False,
    unravel: Callable[[jax.Array], Tree] | None = None,
) -> Rule:
    """Builds the optimiser that a config's field names. It is pure and costs nothing in a trace, so
    that the learning rate may be traced: build it anew in every `step`.

    optimizer: the field. learning_rate: [] may be traced. max_grad_norm: the global norm that
    gradients are clipped to before; None is off. defaults: an agent's own options of names.

    What works element by element (`core.optimizers.ELEMENTWISE`, by name) may have all parameters
    in one vector, which is faster: `ravel` makes them one. Every other optimiser sees parameters in
    their shapes: where they are `stacked`, networks side by side along the first axis, each network
    by itself; where they are one vector [D], the tree that `unravel` makes of it.

    >>> rule = build_optimizer("adamw(weight_decay=0.01)", 1e-3, max_grad_norm=0.5)
    >>> state = rule.init({"kernel": jax.numpy.ones((3, 2))})
    >>> jax.tree.map(jax.numpy.shape, state[1][0].mu)
    {'kernel': (3, 2)}
    """
    rule: Rule = find_optimizer(optimizer, defaults)(learning_rate)
    any_shape = isinstance(optimizer, str) and split_options(optimizer)[0] in ELEMENTWISE
    if not any_shape:
        rule = for_each_network(rule) if stacked else rule
        rule = for_vector(rule, unravel) if unravel else rule
    if max_grad_norm is not None:
        rule = optax.chain(optax.clip_by_global_norm(max_grad_norm), rule)
    return optax.flatten(rule) if ravel and any_shape else rule


def apply_updates(params: Tree, updates: Tree) -> Tree:
    """Parameters plus updates, as `optax.apply_updates`; on a GPU one sum for all small leaves."""
    return unpack(optax.apply_updates(pack(params), pack(updates)))


def for_each_network(rule: Rule) -> Rule:
    """An optimiser of networks that are stacked along the first axis: one for each."""

    def update(updates: Tree, state: Tree, params: Tree = None) -> tuple[Tree, Tree]:
        return jax.vmap(rule.update)(updates, state, params)

    return optax.GradientTransformation(jax.vmap(rule.init), update)


def for_vector(rule: Rule, unravel: Callable[[jax.Array], Tree]) -> Rule:
    """An optimiser of a vector [D] that sees the tree which `unravel` makes of it."""

    def init(params: Any) -> Tree:
        return rule.init(unravel(params))

    def update(updates: Any, state: Tree, params: Any = None) -> tuple[Any, Tree]:
        tree, new = rule.update(
            unravel(updates), state, None if params is None else unravel(params)
        )
        return ravel_pytree(tree)[0], new

    return optax.GradientTransformation(init, update)


def actor_critic(cfg) -> Rule:
    """One transformation an update: the critic's parameters and the rest have their own rates.

    Reads the fields `learning_rate` (also a shared torso's), `critic_learning_rate`, of options
    `termination_learning_rate`, `optimizer` and `max_grad_norm`, the global norm that gradients are
    clipped to.
    """

    def label(path, _):
        name = path[1].key
        return next((part for part in rules if name.startswith(part)), "actor")

    def rule(learning_rate):
        return build_optimizer(cfg.optimizer, learning_rate, defaults=ON_POLICY)

    rules: dict[Hashable, Rule] = {
        "actor": rule(cfg.learning_rate),
        "critic": rule(cfg.critic_learning_rate),
    }
    if hasattr(cfg, "termination_learning_rate"):
        rules["termination"] = rule(cfg.termination_learning_rate)
    return optax.chain(
        optax.clip_by_global_norm(cfg.max_grad_norm),
        optax.multi_transform(rules, lambda params: jax.tree.map_with_path(label, params)),
    )
