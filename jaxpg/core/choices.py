"""Names that fields of networks and policies choose from; `nets` gives them their meaning.

An activation and an initialiser of weights may be the user's own, too: what fits is told by its
shapes alone.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxpg.core.names import Kind

ACTIVATIONS = (
    "tanh", "relu", "elu", "gelu", "silu", "leaky_relu",
    "selu", "celu", "softplus", "sigmoid", "soft_sign", "hard_tanh", "relu6",
)  # fmt: skip
INITS = ("orthogonal", "lecun", "he")
MEMORIES = ("none", "gru", "lstm", "attention")
BONUSES = ("none", "count", "pseudo_count", "rnd", "icm", "ngu_episodic", "info_gain")

# kind of action space -> its policy heads; the first is "auto"
HEADS_OF = {
    "discrete": ("categorical",),
    "multi-discrete": ("multi_categorical",),
    "multi-binary": ("bernoulli",),
    "continuous": (
        "gaussian",
        "gaussian_state_std",
        "tanh_gaussian",
        "tanh_gaussian_state_std",
        "beta",
        "mixture",
        "tanh_mixture",
        "flow",
        "gsde",
        "tanh_gsde",
    ),
}
GSDE = ("gsde", "tanh_gsde")  # of agents that hold noise over steps
HEADS = ("auto", *sum(HEADS_OF.values(), ()))
OTHER_HEADS = tuple(name for name in HEADS if name not in GSDE)
POINT_HEADS = (*OTHER_HEADS, "deterministic")  # of agents that need no density


def _is_activation(x: Any) -> bool:
    if isinstance(x, type):  # whatever it does when it is called
        return False
    given = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    try:
        found = jax.eval_shape(x, given)
    except Exception:  # whatever the user's function raises
        return False
    return _is_array(found, given)


def _is_array(found: Any, like: jax.ShapeDtypeStruct) -> bool:
    """True for the shape of one array of real numbers, as another one's."""
    shaped = isinstance(found, jax.ShapeDtypeStruct) and found.shape == like.shape
    return shaped and jnp.issubdtype(found.dtype, jnp.floating)


@functools.lru_cache  # a trace, asked for at every `apply` of a network
def is_initializer(x: Callable) -> bool:
    """True for an initialiser init(key, shape, dtype), as flax has them.

    One that factorises matrices is none: under `vmap` over seeds JAX's QR waits on a CPU for the
    pool of threads that it runs in, for ever.
    """
    like = jax.ShapeDtypeStruct((4, 3), jnp.float32)
    try:
        program, found = jax.make_jaxpr(
            lambda key: x(key, like.shape, like.dtype), return_shape=True
        )(jax.random.key(0))
    except Exception:  # whatever the user's function raises
        return False
    return _is_array(found, like) and not {"qr", "householder_product"} & _primitives(program.jaxpr)


def _primitives(jaxpr: Any) -> set[str]:
    """Names of the primitives of a program, those of the programs in it too."""
    inner = (_primitives(x) for eqn in jaxpr.eqns for x in core.jaxprs_in_params(eqn.params))
    return {eqn.primitive.name for eqn in jaxpr.eqns}.union(*inner)


def _makes_initializer(x: Any) -> bool:
    if isinstance(x, type):
        return False
    if is_initializer(x):
        return True
    try:
        made = x()
    except Exception:  # it needs arguments
        return False
    return callable(made) and is_initializer(made)


def _is_bonus(x: Any) -> bool:
    cls = x.func if isinstance(x, functools.partial) else x
    says = ("init", "bonus", "update", "metrics", "scaled", "ordered")
    return isinstance(cls, type) and all(hasattr(cls, name) for name in says)


BONUS = Kind(
    "a class with init, bonus, update, metrics, scaled and ordered (see loops.bonuses), or a "
    "functools.partial of one",
    _is_bonus,
)
ACTIVATION = Kind("a function of one array that gives one of the same shape", _is_activation)
INITIALIZER = Kind(
    "an initialiser init(key, shape, dtype) without a QR decomposition, or a function without "
    "arguments that makes one, such as jax.nn.initializers.xavier_uniform",
    _makes_initializer,
)
