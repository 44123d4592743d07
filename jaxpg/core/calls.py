"""Functions and classes that a file names to have them called: which may be, and with what.

A folder of someone else may name a function of a module that is here, and arguments for it. So that
`shutil:rmtree` and a path do nothing, such a function computes with arrays (NUMERIC), or it is none
of Python's, jaxpg's or JAX's, and gets no text.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxpg.core import sources
from jaxpg.core.names import Trust, UntrustedError, is_listed, split_name

# Modules whose functions, of these packages, compute with arrays, and do nothing else but FILES.
NUMERIC = ("jax.nn", "jax.numpy", "jax.lax", "optax", "flax.linen", "jaxpg.nets", "jaxpg.loops")
NUMERIC += ("jax.scipy", "jaxpg.core.schedules")
PACKAGES = ("jax", "jaxlib", "optax", "flax", "jaxpg")
FILES = ("save", "savez", "load", "fromfile")  # of jax.numpy


def judge_call(
    text: str, found: Any, arguments: Iterable[Any], trust: Trust, installed: bool = True
) -> None:
    """Raises UntrustedError for what "module:Name" names if a file may not have it called with
    these arguments. trust: True allows all, see `core.names`. installed: whether it may be of a
    package that is installed, and not only of the user's own files."""
    module, name = split_name(text)
    if trust is True or is_listed(module) or sources.is_announced(module):
        return
    if is_numeric(module, name, found) or _is_network(found):
        return
    if problem := _problem(found, arguments, installed):
        raise UntrustedError(
            f"{problem}: to call {text!r} could do anything, allowed with trust=True (--trust)"
        )


def is_numeric(module: str, name: str, found: Any) -> bool:
    """True for what computes with arrays, and does nothing else."""
    known = any(f"{module}.".startswith(f"{room}.") for room in NUMERIC)
    return known and _home(found).partition(".")[0] in PACKAGES and name not in FILES


def _home(found: Any) -> str:
    return getattr(found, "__module__", None) or ""


def _is_network(found: Any) -> bool:
    """True for a class of flax modules, which is called in a trace."""
    from flax import linen as nn  # which agents that have networks have imported

    return isinstance(found, type) and issubclass(found, nn.Module)


def _problem(found: Any, arguments: Iterable[Any], installed: bool) -> str | None:
    """Reason why it may not be called, in words; None if it may."""
    home = _home(found)
    file = Path(getattr(sys.modules.get(home), "__file__", None) or "")
    if not file.name or sources.is_of_python(file) or home.partition(".")[0] in PACKAGES:
        return f"it is of {home or 'no module'}"
    if sources.is_installed(file) and not installed:
        return f"it is of {home}, a package that does not announce it"
    if sources.run_folder_of(file):
        return f"it is of {file}, in the folder of a run"
    return "it gets text" if has_text(list(arguments)) else None


def has_text(value: Any) -> bool:
    """True for text, and for what holds one, at any depth."""
    if isinstance(value, dict):
        return has_text(list(value.values()))
    if isinstance(value, (tuple, list)):
        return any(map(has_text, value))
    return isinstance(value, (str, bytes))
