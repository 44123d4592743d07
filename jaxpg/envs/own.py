"""Environments of one's own, by "module:Object": a class, an instance, or what makes one.

What a folder of someone else names is called only if that can do no more than make an environment.
"""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jaxpg.core import sources
from jaxpg.core.calls import judge_call
from jaxpg.core.checks import show
from jaxpg.core.env import Env
from jaxpg.core.names import Kind, Trust, UntrustedError, resolve_name

METHODS = ("reset", "step", "action_space", "observation_space")
WORDS = (
    f"an environment: a class or an object with {', '.join(METHODS)} and default_params, or a "
    "function that returns one, or a jaxpg.Env"
)


class Given(NamedTuple):
    """Environment that is there already, in the place of what makes one."""

    core: Any  # or an Env

    def __call__(self) -> Any:
        return self.core


def find_factory(name: str, trust: Trust, params: Mapping[str, Any]) -> Callable:
    """Finds what makes an environment: what "module:Object" names, or what returns that.

    params: the arguments that it may be called with. Raises ValueError for what is none,
    UntrustedError for what may not be imported, or called with these.
    """
    found = resolve_name(name, Kind(WORDS, _makes_one), trust)
    if isinstance(found, Env) or _is_core(type(found)):
        return Given(found)
    judge_factory(name, found, trust, params)
    return found


def judge_factory(name: str, factory: Callable, trust: Trust, params: Mapping[str, Any]) -> None:
    """Raises UntrustedError for what may not be called with these arguments."""
    if isinstance(factory, Given) or ":" not in name or _may_be_called(name, factory):
        return
    try:
        judge_call(name, factory, params.values(), trust, installed=False)
    except UntrustedError as error:
        raise UntrustedError(f"{error}, or where it is annotated `-> jaxpg.Env`") from error


def _is_core(kind: type) -> bool:
    return all(hasattr(kind, method) for method in METHODS)


def _makes_one(found: Any) -> bool:
    if isinstance(found, type):
        return _is_core(found)
    return isinstance(found, Env) or _is_core(type(found)) or callable(found)


def _may_be_called(name: str, found: Any) -> bool:
    """True for what makes an environment and can do nothing else: a class with gymnax's attributes,
    what an installed package announces, and a function that says that it returns an Env (of jaxpg's
    own some do, and import what they are told to)."""
    if isinstance(found, type) and hasattr(found, "default_params"):
        return True
    if name in sources.announced(sources.ENVS).values():
        return True
    top, home = name.partition(":")[0].partition(".")[0], getattr(found, "__module__", None) or ""
    said = getattr(found, "__annotations__", {}).get("return")
    returns_env = said is Env or (isinstance(said, str) and said.strip("'\"").endswith("Env"))
    return returns_env and "jaxpg" != top == home.partition(".")[0]


def take_apart(name: str, made: Any) -> tuple[Any, Any, str]:
    """Splits what was made into the core and its usual parameters, and the name of which it is a
    version. Raises ValueError for what is no environment."""
    if isinstance(made, Env):
        return made.core, made.params, made.name if made.made_of else name
    if not _is_core(type(made)) or not hasattr(made, "default_params"):
        lacks = [x for x in (*METHODS, "default_params") if not hasattr(made, x)]
        without = f" without {', '.join(lacks)}" if lacks else ""
        raise ValueError(f"environment {name!r} is {show(made)}{without}: allowed is {WORDS}")
    return made, made.default_params, name


def name_of_core(core: Any) -> str | None:
    """The "module:Object" by which a core is found again: that of itself, if a module has it, or of
    its class, if that makes the same without arguments. None for what is made in a function or in
    the script itself, and for a class of gymnax's or jaxpg's, whose environments have names."""
    kind = type(core)
    module = sys.modules.get(kind.__module__)
    if module is None or kind.__module__.partition(".")[0] in ("__main__", "jaxpg", "gymnax"):
        return None
    for name, value in vars(module).items():
        if value is core or (isinstance(value, Env) and value.core is core):
            return f"{kind.__module__}:{name}"
    if vars(module).get(kind.__qualname__) is not kind:
        return None
    try:
        alike = vars(kind()) == vars(core)
    except Exception:  # of many kinds: it needs arguments, or has arrays
        return None
    return f"{kind.__module__}:{kind.__qualname__}" if alike else None


def arguments(factory: Callable) -> dict[str, inspect.Parameter]:
    """Arguments of what makes an environment, but for those of any name."""
    try:
        known = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # of a class in C
        return {}
    rest = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {name: x for name, x in known.items() if x.kind not in rest}
