"""The first import of gymnax: what it could draw episodes with loads when it is asked for."""

import importlib
import importlib.util
import sys
import types
from typing import Any

import jax


class _Later(types.ModuleType):
    """Stand-in for a module until it is looked into (`LazyLoader` loads at the next import)."""

    def __getattr__(self, name: str):
        if name.startswith("__") and name not in ("__path__", "__all__"):
            raise AttributeError(name)  # what only looks around in `sys.modules`
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        module = importlib.import_module(self.__name__)
        self.__dict__.update(vars(module))
        return getattr(module, name)


def import_later(*names: str) -> None:
    """Puts modules into `sys.modules` that load when something of theirs is first asked for.

    For the sake of others' imports: gymnax imports all that an episode could be drawn with, which
    takes three times as long as the rest of it. Modules that are there already are left alone.
    """
    for name in names:
        if name not in sys.modules and importlib.util.find_spec(name) is not None:
            module = _Later(name)
            module.__spec__ = importlib.util.spec_from_loader(name, None)
            sys.modules[name] = module


import_later("matplotlib.pyplot", "seaborn")


def inherits(core: Any, method: str) -> bool:
    """True if a method of an environment is that of gymnax's `Environment`."""
    with jax.ensure_compile_time_eval():  # its modules have arrays, also if a trace imports them
        from gymnax.environments.environment import Environment

    return getattr(type(core), method, None) is getattr(Environment, method)


def has_own_step(core: Any) -> bool:
    """True if an environment's `step` is not that of gymnax's `Environment`."""
    return not inherits(core, "step")
