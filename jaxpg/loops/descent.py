"""Gradient steps on parameters that come in parts, each with an optimiser of its own.

Parameters, optimisers (`rules`) and their states are NamedTuples with the same fields.
"""

from typing import Any, TypeVar

import optax

from jaxpg.core.types import Tree

P = TypeVar("P", bound=Any)


def init(rules: P, params: P) -> P:
    """State of each optimiser, for its part."""
    return type(params)(*(r.init(p) for r, p in zip(rules, params, strict=True)))


def descend(rules: P, name: str, grads: Tree, params: P, opt_state: P) -> tuple[P, P]:
    """One step of the part called `name`: the parameters and the optimisers' states after it."""
    old = getattr(params, name)
    updates, new = getattr(rules, name).update(grads, getattr(opt_state, name), old)
    part = optax.apply_updates(old, updates)
    return params._replace(**{name: part}), opt_state._replace(**{name: new})
