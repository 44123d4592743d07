"""Checks of what a caller gives: a ValueError in one line, before anything compiles."""

import difflib
import errno
import inspect
import itertools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def show(value: Any) -> str:
    """A value in one line, for an error; the middle of a long one is left out. Of the shape of an
    array that is yet to come it is dtype[shape]."""
    if isinstance(value, jax.ShapeDtypeStruct):
        return f"{value.dtype}{list(value.shape)}"
    return _in_one_line(repr(value))


def show_numbers(value: Any) -> str:
    """A number or an array in one line, for an error: its digits alone; the middle of a long one is
    left out."""
    return _in_one_line(str(value))


def _in_one_line(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:120]} ... {text[-60:]}"


def require_bool(name: str, value: Any) -> None:
    """Raises ValueError unless a value is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}={show(value)}: allowed is True or False")


def require_integer(name: str, value: Any, minimum: int, maximum: int | None = None) -> None:
    """Raises ValueError unless a value is an integer in these limits; True and False are none."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < minimum or (maximum is not None and value > maximum):
        most = "" if maximum is None else f" and <= {maximum}"
        raise ValueError(f"{name}={show(value)}: allowed is an integer >= {minimum}{most}")


def require_index(name: str, value: Any, count: int) -> None:
    """Raises ValueError unless a value is the index of one of `count` things."""
    if type(value) is not int or not 0 <= value < count:
        raise ValueError(f"{name}={show(value)}: allowed is an integer >= 0 and <= {count - 1}")


def require_number(name: str, value: Any) -> None:
    """Raises ValueError unless a value is one finite number; True and False are none."""
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not real or not abs(value) < np.inf:
        raise ValueError(f"{name}={show(value)}: allowed is a finite number")


def require_path(name: str, value: Any, room: str = "") -> None:
    """Raises ValueError unless a value can be the path of a file or folder, here or not yet. room:
    what is going to be appended, for a while."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str) or not text:
        raise ValueError(f"{name}={show(value)}: allowed is a path, as text or as a Path")
    try:
        os.lstat(text + room)
    except ValueError as error:  # a null byte, half a letter
        allowed = "a path of whole letters, without null bytes"
        raise ValueError(f"{name}={show(text)}: allowed is {allowed}") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            allowed = "a path as long as the file system can hold, most often 255 bytes a name"
            raise ValueError(f"{name}={show(text)}: allowed is {allowed}") from error


def require_folder(name: str, value: Any) -> Path:
    """Path of a folder that is to be written, there or still to be made. Raises ValueError unless
    what is there of the way to it is folders, and this process may write in the last one."""
    require_path(name, value, room=os.sep + "x" * 200)
    path = Path(value)
    there = next((p for p in (path, *path.absolute().parents) if os.path.lexists(p)), path)
    if not there.is_dir():
        allowed = "a new or empty folder" if there == path else f"a folder; {there} is none"
        raise ValueError(f"{name}={show(str(path))}: allowed is {allowed}")
    if not os.access(there, os.W_OK | os.X_OK):
        allowed = f"a folder where this process may write; in {there} it may not"
        raise ValueError(f"{name}={show(str(path))}: allowed is {allowed}")
    return path


def require_file(name: str, value: Any, *endings: str) -> Path:
    """The path of a file that is to be written. Raises ValueError unless its folder is there, it is
    no folder itself, and its name has one of the endings, if there are any."""
    require_path(name, value, room="x" * 32)  # the name of a draft
    path = Path(value)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"{name}={str(path)!r}: allowed is a file in a folder that is there")
    if endings and path.suffix.lower() not in endings:
        raise ValueError(f"{name}={str(path)!r}: allowed are the endings {', '.join(endings)}")
    return path


def require_key(key: Any, *, seeds: bool = False) -> None:
    """Raises ValueError unless `key` is one key, or, with `seeds`, at least one of them [seeds].

    The words of `jax.random.PRNGKey` are none: code that takes keys apart by their axes would cut
    them in half. A tracer has a dtype too, so keys are judged inside `jit` as well.
    """
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        several = ", or an array of them" if seeds else ""
        raise ValueError(f"key={show(key)}: allowed is jax.random.key(seed){several}")
    if key.ndim > seeds or not key.size:
        allowed = "one key, or [seeds] of them" if seeds else "one key; `jax.vmap` is for several"
        raise ValueError(f"key of shape {key.shape}: allowed is {allowed}")


def require_env(env: Any) -> None:
    """Raises ValueError unless a value is an `Env` whose parameters JAX can count with. It is known
    by what no environment of other suites has: `Env` is built on this file."""
    if not hasattr(type(env), "example_obs"):
        raise ValueError(
            f"env={show(env)}: allowed is what jaxpg.make gives, or jaxpg.Env(params, core) of an "
            "environment of your own"
        )
    for path, value in jax.tree_util.tree_leaves_with_path(env.params):
        if not isinstance(value, (int, float, np.ndarray, np.generic)):
            continue  # JAX has it already
        x, own = np.asarray(value), jnp.result_type(int)
        allowed = ""
        if x.dtype.kind in "iuO" and np.any(abs(x) > np.iinfo(own).max):
            allowed = f"an integer <= {np.iinfo(own).max}, what an {own} counts"
        elif x.dtype.kind == "f" and np.any(np.isfinite(x) & (abs(x) > _largest_float())):
            allowed = f"a finite number <= {_largest_float():g}"
        if allowed:
            name = jax.tree_util.keystr(path).lstrip(".")
            raise ValueError(f"{env.name} {name}={show(value)}: allowed is {allowed}")


def _largest_float() -> float:
    return float(jnp.finfo(jnp.result_type(float)).max)


def why_not_called(function: Callable, count: int) -> str | None:
    """Python's words on why a function cannot be called with so many arguments by position; None if
    it can, or does not say what it takes."""
    try:
        inspect.signature(function).bind(*range(count))
    except ValueError:  # of C, which has none
        return None
    except TypeError as error:
        return str(error)
    return None


def hint_at(name: Any, options: Sequence[str]) -> str:
    """Question whether the nearest of the options was meant; "" if none is near."""
    near = nearest(str(name), options)
    return f"did you mean {near[0]!r}? " if near else ""


def nearest(name: str, options: Sequence[str], cutoff: float = 0.5) -> list[str]:
    """The options that are most like a name, in whatever case, three at most, the nearest first. Of
    equals it is the one that begins like it for longer.

    >>> nearest("PPO", ["dqn", "ppo", "trpo"])
    ['ppo', 'trpo']
    """
    word, known = name.lower(), {option.lower(): option for option in options}
    alike = {x: difflib.SequenceMatcher(None, x, word).ratio() for x in known}

    def order(x: str) -> tuple[float, int, str]:
        same = itertools.takewhile(lambda both: both[0] == both[1], zip(x, word, strict=False))
        return alike[x], len(list(same)), x

    best = sorted(known, key=order, reverse=True)[:3]
    return [known[x] for x in best if alike[x] >= cutoff]
