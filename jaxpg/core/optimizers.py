"""Optimisers by name, with options, or as a callable that takes a learning rate.

The names are optax's. Left out are those that need the loss at every update (lbfgs, polyak_sgd,
momo, sophia), that read the rate once alone (rprop), whose acting parameters are not those that
learn (schedule_free), whose noise is the same for every seed (noisy_sgd), and sm3, which takes no
scalar parameter.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxpg.core.config import hint_at_choice
from jaxpg.core.named_options import require_options, split_options, takes_argument
from jaxpg.core.names import Kind

# Each entry of these learns by itself: all parameters may lie in one vector.
ELEMENTWISE = (
    "adam", "adamw", "rmsprop", "sgd", "nadam", "nadamw", "radam", "amsgrad", "adamax", "adamaxw",
    "adabelief", "adagrad", "adadelta", "yogi", "adopt", "ademamix", "lion", "sign_sgd", "signum",
)  # fmt: skip
# These look at the parameters' shapes, or at norms of whole layers.
LAYERWISE = ("muon", "adafactor", "lamb", "lars", "novograd", "fromage", "adan")
OPTIMIZERS = (*ELEMENTWISE, *LAYERWISE)

RATE = ("learning_rate", "lr")  # how the argument of a callable is called


def find_optimizer(value: Any, defaults: Mapping[str, dict[str, Any]] | None = None) -> Callable:
    """Finds the callable `learning_rate -> optax.GradientTransformation` of an optimiser.

    value: a name, a name with options, or the callable itself. defaults: options of names, which
    those of the value are over. Raises ValueError for a name or an option that there is not.
    """
    if not isinstance(value, str):
        return value
    import optax  # which agents that learn by gradients have imported

    name, options = split_options(value)
    if name not in OPTIMIZERS:
        near = hint_at_choice(name, OPTIMIZERS)
        raise ValueError(f"{near}allowed is one of {', '.join(OPTIMIZERS)}")
    function = getattr(optax, name, None) or getattr(optax.contrib, name)
    require_options(function, 1, options)
    return functools.partial(function, **((defaults or {}).get(name, {}) | options))


def is_optimizer(value: Any) -> bool:
    """True for what `find_optimizer` finds and what gives an optimiser for a traced rate.

    Raises ValueError, with what is wrong, for options that do not fit.
    """
    import optax

    named = isinstance(value, str)
    if not named and not takes_argument(value, RATE):
        return False
    build, found = find_optimizer(value), []

    def use(rate):
        """Builds it, and uses it if it has a name: others may want parameters of their own."""
        found.append(build(rate))
        if named:
            params = {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}
            found[0].update(params, found[0].init(params), params)

    try:
        jax.eval_shape(use, jax.ShapeDtypeStruct((), jnp.result_type(float)))
    except Exception as error:
        told = str(error).partition("\n")[0]
        raise ValueError(f"with a traced rate it gave {type(error).__name__}: {told}") from error
    return isinstance(found[0], optax.GradientTransformation)


OPTIMIZER = Kind(
    "a callable learning_rate -> optax.GradientTransformation, such as optax.adamw or "
    "functools.partial(optax.adamw, weight_decay=0.01), or a name with options, as in "
    "adamw(weight_decay=0.01)",
    is_optimizer,
)
