"""Faults that two traces of `reset` and `step` show: what is kept in the object, and what is drawn
from elsewhere than the key. Nothing is compiled."""

import functools
import gc
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

from jaxpg.core import single
from jaxpg.core.env import Env
from jaxpg.core.gymnax_import import has_own_step
from jaxpg.core.protocol import Fault

RANDOM = ("random_", "threefry2x32", "rng_")  # how primitives that draw begin


def find_faults(env: Env) -> list[Fault]:
    """Finds them in an environment whose `reset` and `step` were traced, once."""
    name, before = single.name_of(env.core), _look_at(env.core)
    if found := list(_find_kept(name, env.core, before)):  # by that first trace
        return found
    try:
        one, two = _trace_twice(env)
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        text = (
            f"{name}: a trace of reset or step cannot be repeated, {type(error).__name__}: {said}"
        )
        text += "; allowed is to keep nothing that is traced in the object or a global"
        return list(_find_kept(name, env.core, before)) or [Fault("pure", text)]
    if found := list(_find_kept(name, env.core, before)):
        return found
    for method, first in one.items():
        if not _same(first, two[method]):
            text = (
                f"{name}: {method} is traced to another program the second time: it reads a clock,"
            )
            text += " NumPy's or Python's random numbers, or a global that changes; allowed are its"
            found.append(Fault("pure", f"{text} arguments, and draws from its key"))
        elif _draws_elsewhere(first.jaxpr):
            text = (
                f"{name}: {method} draws random numbers and not from its key: they are the same in"
            )
            text += " every episode; draw from `key`, or in the constructor if that is meant"
            found.append(Fault("keys", text))
    return found


def _trace_twice(env: Env) -> list[dict[str, Any]]:
    """The programs of the methods, twice. Raises JAX's error if a traced value outlives them.

    JAX's own caches do not count. They keep a function that is a static argument of `jax.jit`, with
    all that it closes over, and are no part of an environment.
    """
    try:
        with jax.checking_leaks():
            return [_trace_methods(env) for _ in range(2)]
    except Exception as error:  # JAX has no class of its own for a leak
        if not str(error).startswith("Leaked"):
            raise
        leak = Exception(str(error))  # without its frames, which hold traced values
    others = _find_tracers()  # such as those of the trace that was broken off
    programs = [_trace_methods(env) for _ in range(2)]
    jax.clear_caches()
    gc.collect()
    if {id(x) for x in _find_tracers()} - {id(x) for x in others}:
        raise leak
    return programs


def _find_tracers() -> list[jax.core.Tracer]:
    """All traced values that are alive."""
    return [x for x in gc.get_objects() if isinstance(x, jax.core.Tracer)]


def _trace_methods(env: Env) -> dict[str, Any]:
    """The programs of `reset` and `step`, or of gymnax's parts of them, by name."""
    core, key = env.core, jax.random.key(0)
    parts = "" if has_own_step(core) else "_env"
    reset, step = (_unjitted(core, f"{method}{parts}") for method in ("reset", "step"))
    state = jax.eval_shape(lambda *args: reset(*args), key, env.params)[1]
    action = jax.eval_shape(lambda params: single.example_action(core, params), env.params)
    return {
        f"reset{parts}": jax.make_jaxpr(lambda *args: reset(*args))(key, env.params),
        f"step{parts}": jax.make_jaxpr(lambda *args: step(*args))(key, state, action, env.params),
    }


def _unjitted(core: Any, method: str) -> Callable:
    """A method without the `jax.jit` around it, which would remember its first trace."""
    function = getattr(type(core), method, None)
    plain = getattr(function, "__wrapped__", None)
    return getattr(core, method) if plain is None else functools.partial(plain, core)


def _same(one: Any, other: Any) -> bool:
    """True for two traced programs that compute the same."""
    texts = [re.sub(r"0x[0-9a-f]+", "", str(x.jaxpr)) for x in (one, other)]
    if texts[0] != texts[1] or len(one.consts) != len(other.consts):
        return False
    return all(_equal(a, b) for a, b in zip(one.consts, other.consts, strict=True))


def _equal(a: Any, b: Any) -> bool:
    a, b = (_plain(x) for x in (a, b))
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def _plain(x: Any) -> np.ndarray:
    """An array on the host; of keys their words."""
    if hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x)


def _inner(eqn: Any) -> Iterator[Any]:
    """The programs within one operation."""
    for value in eqn.params.values():
        for one in value if isinstance(value, (tuple, list)) else [value]:
            if hasattr(one, "eqns"):
                yield one
            elif hasattr(one, "jaxpr"):
                yield one.jaxpr


def _draws_elsewhere(jaxpr: Any) -> bool:
    """True if what a program gives depends on random numbers, and not on the key that it is given,
    its first argument."""
    needed, used = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return not used[0] and _draws(needed)


def _draws(jaxpr: Any) -> bool:
    """True if a program has an operation that draws random numbers, or makes a key."""
    return any(
        str(eqn.primitive).startswith(RANDOM) or any(map(_draws, _inner(eqn))) for eqn in jaxpr.eqns
    )


def _look_at(core: Any) -> dict[str, Any]:
    """Attributes of an object, so that a change is seen: lists, dicts and NumPy's arrays by what is
    in them, all else by itself."""

    def mark(value: Any) -> Any:
        if isinstance(value, (list, dict, set)):
            return repr(value)
        return value.tobytes() if isinstance(value, np.ndarray) else value

    return {key: mark(value) for key, value in getattr(core, "__dict__", {}).items()}


def _find_kept(name: str, core: Any, before: dict[str, Any]) -> Iterator[Fault]:
    """Looks for what a trace has left in an object: traced values, and other changes."""
    allowed = "what changes belongs in the state, which reset and step return"
    for key, now in _look_at(core).items():
        if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(vars(core)[key])):
            yield Fault("pure", f"{name}: a trace leaves its values in self.{key}: {allowed}")
        elif isinstance(getattr(type(core), key, None), functools.cached_property):
            continue
        elif key not in before or not _is_same(before[key], now):
            yield Fault("pure", f"{name}: reset or step changes self.{key}: {allowed}")


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, (str, bytes, int, float)):
        return one is other or (type(one) is type(other) and one == other)
    return one is other
