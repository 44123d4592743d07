"""Single environments: what one `reset` and one `step` of a core give."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, Var

from jaxpg.core.gymnax_import import has_own_step, inherits
from jaxpg.core.types import Array, Key, Tree

Value = TypeVar("Value")

RESET = ("obs", "state")
STEP = ("obs", "state", "reward", "terminated", "truncated", "info")
PARTS = ("obs", "state", "reward", "terminated", "info")  # of gymnax's `step_env`


class CountError(ValueError):
    """Error of a method that gives another number of values than it should, or of another kind."""


class HostError(ValueError):
    """Error of an environment on the host, while it is stepped or reset."""


def name_of(core: Any) -> str:
    """Name of an environment's code: its own, or that of its class."""
    name = getattr(core, "name", None)
    return name if isinstance(name, str) and name else type(core).__name__


def is_batched(core: Any) -> bool:
    """True for a core whose `reset` and `step` take all lanes at once, keys, states and actions
    [N, ...], and are never vmapped: it says `batched = True`, and is on the host."""
    return getattr(core, "batched", False)


def most_seeds(core: Any) -> int | None:
    """The most seeds that a process can train at once, of a core on the host: its `most_seeds`;
    None for as many as there is memory for."""
    return getattr(core, "most_seeds", None) if is_batched(core) else None


@contextlib.contextmanager
def host_errors(core: Any) -> Iterator[None]:
    """Context in which an error of an environment on the host is raised as its own HostError, and
    not as what JAX makes of one in a callback."""
    try:
        yield
    except jax.errors.JaxRuntimeError:
        own = core.take_error() if is_batched(core) else None
        if own is None:
            raise
        raise own from own.__cause__


def wait_for_host(core: Any, key: Key, call: Callable[[], Value]) -> Value:
    """Calls a function, and waits for what it computes of an environment on the host, so that an
    error there is a HostError here. key: what it draws from; in a trace nothing is computed."""
    if not is_batched(core) or isinstance(key, jax.core.Tracer):
        return call()
    with host_errors(core):
        return jax.block_until_ready(call())


def over_lanes(core: Any, function: Callable, axes: tuple[int | None, ...]) -> Callable:
    """A method of a core, as one of all lanes. axes: those of its arguments that have lanes."""
    return function if is_batched(core) else jax.vmap(function, in_axes=axes)


def _of_one(core: Any, method: str, *args: Any) -> Any:
    """Calls a method of a core for one lane; the last argument is its parameters."""
    if not is_batched(core):
        return getattr(core, method)(*args)
    *own, params = args
    given = getattr(core, method)(*jax.tree.map(lambda x: x[None], own), params)
    return jax.tree.map(lambda x: x[0], given)


def trace_step(core: Any, params: Tree) -> tuple[Any, Any]:
    """The shapes of what one environment's `reset` and `step` give; nothing is computed.

    Of a `step` that is gymnax's, those of its parts, before it selects. params: arrays, or their
    shapes. Raises CountError for another number of values.
    """

    def both(key, params):
        k_reset, k_step = jax.random.split(key)
        first = call_reset(core, k_reset, params)
        return first, call_step(core, k_step, first[1], example_action(core, params), params)

    return jax.eval_shape(both, jax.random.key(0), params)


def example_action(core: Any, params: Tree) -> Array:
    """Zeros in the shape and dtype of one action, in the units of the space."""
    space = core.action_space(params)
    return jnp.zeros(space.shape, float if jnp.issubdtype(space.dtype, jnp.floating) else jnp.int32)


def call_reset(core: Any, key: Key, params: Tree) -> tuple[Any, ...]:
    """Resets one environment. Raises CountError unless that gives obs and state."""
    method = "reset_env" if inherits(core, "reset") else "reset"
    return _require_count(core, method, _of_one(core, method, key, params), RESET)


def call_step(core: Any, key: Key, state: Tree, action: Array, params: Tree) -> tuple[Any, ...]:
    """Steps one environment: the six values of `step`. One that is gymnax's is put together from
    its parts, and does not reset. Raises CountError for another number of values."""
    if has_own_step(core):
        given = _of_one(core, "step", key, state, action, params)
        return _require_count(core, "step", given, STEP)
    given = core.step_env(key, state, action, params)
    obs, state, reward, terminated, info = _require_count(core, "step_env", given, PARTS)
    if not isinstance(info, dict):
        kind = type(info).__name__
        raise CountError(f"{name_of(core)}: step_env gives {kind} for info, allowed is a dict")
    truncated = core.is_truncated(state, params)
    return obs, state, reward, terminated, truncated, {**info, "final_observation": obs}


def _require_count(core: Any, method: str, given: Any, names: tuple) -> tuple[Any, ...]:
    """Raises CountError unless a method gives a tuple of as many values as there are names."""
    if isinstance(given, tuple) and len(given) == len(names):
        _require_arrays(core, dict(zip(names, given, strict=True)))
        return given
    several = isinstance(given, tuple)
    found = f"{len(given)} values" if several else type(given).__name__
    text = f"{name_of(core)}: {method} gives {found}, allowed are {', '.join(names)}"
    if several and (method, len(given)) == ("step", 5):
        text += "; in place of one done: terminated (the task ended) and truncated (it was cut)"
    if several and (method, len(given)) == ("step_env", 6):
        text += "; what cuts an episode short is a method of its own, is_truncated(state, params)"
    raise CountError(text)


def _require_arrays(core: Any, given: dict[str, Any]) -> None:
    """Raises CountError for what JAX cannot compute with in the values of a method, by name."""
    for name, value in given.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(value):
            numbers = isinstance(leaf, (bool, int, float, complex, np.ndarray, np.generic))
            text = numbers and np.asarray(leaf).dtype.kind in "OSU"
            if (not numbers and not isinstance(leaf, jax.Array)) or text:
                what = f"{name}{jax.tree_util.keystr(path)}"
                raise CountError(
                    f"{name_of(core)}: {what} is a {type(leaf).__name__}: allowed are arrays and "
                    "numbers"
                )


def kind_of(dtype: Any) -> Any:
    """Kind of a dtype: floats, integers or bools of any size; of others each is its own."""
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    return next((kind for kind in kinds if jnp.issubdtype(dtype, kind)), dtype)


def may_terminate(core: Any, params: Tree) -> bool:
    """True if actions or chance may end an episode: `terminated` depends on them, or on what they
    change of the state. False where it is always the same, or follows a clock.

    Looks at traces alone; of loops and branches within them all outputs depend on all inputs.
    """
    key, action = jax.random.key(0), example_action(core, params)
    leaves, tree = jax.tree.flatten(trace_step(core, params)[0][1])

    def begin(key):
        return jax.tree.leaves(call_reset(core, key, params)[1])

    def move(key, action, *leaves):
        given = call_step(core, key, jax.tree.unflatten(tree, leaves), action, params)
        return [given[3], *jax.tree.leaves(given[1])]

    first, after = (
        jax.make_jaxpr(begin)(key).jaxpr,
        jax.make_jaxpr(move)(key, action, *leaves).jaxpr,
    )
    open_, before = _depends(first, [True]), None
    ended = False
    while open_ != before:
        before = open_
        ended, *now = _depends(after, [True, True, *open_])
        open_ = [x or y for x, y in zip(open_, now, strict=True)]
    return ended


def _depends(jaxpr: Jaxpr, given: list[bool]) -> list[bool]:
    """Tells for each output of a trace whether it depends on those inputs that are given."""
    known = dict(zip(jaxpr.invars, given, strict=True))

    def look(x: Any) -> bool:
        return isinstance(x, Var) and known.get(x, False)

    for equation in jaxpr.eqns:
        inputs, inner = [look(x) for x in equation.invars], equation.params.get("jaxpr")
        if equation.primitive.name in ("jit", "pjit") and inner is not None:
            outputs = _depends(inner.jaxpr, inputs)
        else:
            outputs = [any(inputs)] * len(equation.outvars)
        known.update(zip(equation.outvars, outputs, strict=True))
    return [look(x) for x in jaxpr.outvars]
