"""Parameters of a wrapped environment: the wrapper's own, over those of the environment in it."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxpg.core.checks import show_numbers

LIMIT = "max_steps_in_episode"
CHANCES = "level_probabilities"  # [K] of the levels, by which each episode draws one


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Params:
    """Parameters in two layers, which are read as one: `params.gravity` is that of the inner one.

    `max_steps_in_episode` is read as the most steps that the agent makes in an episode: the inner
    limit, divided by repeated actions, or the wrapper's `time_limit` if that is less.
    """

    own: dict[str, Any]  # of the wrapper
    inner: Any  # of the environment in it
    hidden: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})
    repeats: int = dataclasses.field(default=1, metadata={"static": True})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # what only looks around
        if name == LIMIT:
            return self._longest_episode()
        return self.own[name] if name in self.own else _attribute(self.inner, name)

    def replace(self, **values: Any) -> "Params":
        """The parameters with other values for some, in whichever layer they are."""
        own = {name: x for name, x in values.items() if name in self.own}
        rest = {name: x for name, x in values.items() if name not in self.own}
        inner = self.inner
        if rest and isinstance(inner, dict):
            inner = {**inner, **rest}
        elif rest and hasattr(inner, "_fields"):
            inner = inner._replace(**rest)
        elif rest and not isinstance(inner, Params):
            inner = dataclasses.replace(inner, **rest)
        elif rest:
            inner = inner.replace(**rest)
        return dataclasses.replace(self, own={**self.own, **own}, inner=inner)

    def _longest_episode(self) -> Any:
        """Steps of the longest episode. Raises AttributeError if nothing limits them."""
        if LIMIT in self.hidden:
            drawn = [x for name, x in self.own.items() if name.startswith(f"{LIMIT}_")]
            return _greatest(drawn)
        try:
            inner = _attribute(self.inner, LIMIT)
        except AttributeError:
            if "time_limit" not in self.own:
                raise
            return self.own["time_limit"]
        inner = inner if self.repeats == 1 else -(-inner // self.repeats)
        if "time_limit" not in self.own:
            return inner
        return _least(inner, self.own["time_limit"])


def repeats_of(params: Any) -> int:
    """Steps of the innermost environment in one of the agent's."""
    return params.repeats * repeats_of(params.inner) if isinstance(params, Params) else 1


def broadcasts(given: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """True for a shape that broadcasting makes `shape` of."""
    try:
        return np.broadcast_shapes(given, shape) == shape
    except ValueError:
        return False


def judge_shape(name: str, shapes: Sequence[tuple[int, ...]]) -> Callable[[Params], str | None]:
    """Judge of a rule whose own parameter is a number, or an array for each of these shapes."""

    def judge(params: Params) -> str | None:
        value = params.own[name]
        if _is_traced(value) or all(broadcasts(np.shape(value), shape) for shape in shapes):
            return None
        some = " and ".join(map(str, dict.fromkeys(shapes)))
        arrays = f", or an array for shapes {some}" if any(shapes) else ""
        return f"{name}={show_numbers(value)}: allowed is a number{arrays}"

    return judge


def _attribute(params: Any, name: str) -> Any:
    if isinstance(params, dict) and name in params:
        return params[name]
    return getattr(params, name)


def _is_traced(*values: Any) -> bool:
    return any(isinstance(x, jax.core.Tracer) for x in values)


def _least(a: Any, b: Any) -> Any:
    return jnp.minimum(a, b) if _is_traced(a, b) else np.minimum(a, b)


def _greatest(values: list[Any]) -> Any:
    xp: Any = jnp if _is_traced(*values) else np
    return xp.concatenate([xp.ravel(x) for x in values]).max()
