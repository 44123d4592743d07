"""Memory that a program takes, at least, and what there is of it: judged before it is compiled."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
from jax.extend import core
from jax.extend.core import DropVar, Literal

from jaxpg.core.config import label
from jaxpg.core.types import Tree

# What these read and write lies in memory as a whole; XLA may fuse away what others make.
WHOLE = {"scan", "while", "dot_general", "conv_general_dilated", "sort", "scatter", "scatter-add"}
LIMIT = Path("/sys/fs/cgroup/memory.max")  # of a container, on Linux
USUAL = 500  # of integers that are None by default, as steps of an episode are


def tree_bytes(tree: Tree) -> int:
    """Bytes of the arrays of a tree, or of those that its shapes stand for."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def program_bytes(program: core.ClosedJaxpr) -> int:
    """Bytes that a traced program takes on all its devices together; a lower bound, for only those
    arrays count that XLA cannot do without."""
    whole = program.jaxpr
    return max(_bytes(whole.invars), _bytes(whole.outvars), _largest_step(whole))


def _largest_step(jaxpr: core.Jaxpr) -> int:
    """The most bytes that one step of a program has to have at the same time."""
    most = 0
    for eqn in jaxpr.eqns:
        inner = max(map(_largest_step, core.jaxprs_in_params(eqn.params)), default=0)
        if eqn.primitive.name == "shard_map":  # in there shapes are those of one device
            inner *= eqn.params["mesh"].size
        own = 0
        if eqn.primitive.name == "scan":
            [body] = core.jaxprs_in_params(eqn.params)
            both = zip(eqn.outvars, body.outvars, strict=True)
            # The carry may lie where it came from; what is stacked up has an axis more.
            own = _bytes(eqn.invars) + _bytes([x for x, y in both if _shape(x) != _shape(y)])
        elif eqn.primitive.name in WHOLE:
            own = max(_bytes(eqn.invars), _bytes(eqn.outvars))
        most = max(most, inner, own)
    return most


def _shape(variable) -> tuple[int, ...] | None:
    return getattr(variable.aval, "shape", None)


def _bytes(variables) -> int:
    """Bytes of different variables of a program, without those that nothing reads."""
    different = {id(v): v.aval for v in variables if not isinstance(v, (DropVar, Literal))}
    return tree_bytes([x for x in different.values() if hasattr(x, "dtype")])


def device_memory(devices: int = 1) -> int:
    """Bytes that so many devices have, all together; of CPUs those of the machine, or what a
    container may take of them."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] * devices
    import psutil

    limit = LIMIT.read_text().strip() if LIMIT.is_file() else "max"
    total = psutil.virtual_memory().total
    total = min(total, int(limit)) if limit.isdigit() else total
    return total * jax.process_count()  # which are taken to be on machines of their own


def free_memory() -> int:
    """Bytes that are free on each device."""
    stats = jax.devices()[0].memory_stats()
    if stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    import psutil

    return psutil.virtual_memory().available // jax.local_device_count()


def require_memory(need: int, what: str, devices: int = 1) -> None:
    """Raises ValueError if `what`, a field and its value, takes more bytes than there are."""
    if need > (there := device_memory(devices)):
        raise ValueError(
            f"{what}: it takes at least {_gigabytes(need)} of memory, allowed are the "
            f"{_gigabytes(there)} that there are"
        )


def _gigabytes(count: int) -> str:
    size, unit = (10**12, "TB") if count >= 10**12 else (10**9, "GB")
    return f"{count / size:.3g} {unit}"


def largest_number(cfg: Any, **others: tuple[int, int]) -> str:
    """The integer that is most times what is usual, as an error names it: of a config's fields,
    compared with their defaults, and of others, each with what is usual."""
    found = {f"{name}={value}": value // usual for name, (value, usual) in others.items()}
    for field in dataclasses.fields(cfg):
        value = getattr(cfg, field.name)
        usual = USUAL if field.default is None else _largest_integer(field.default)
        many = _largest_integer(value) // max(usual, 1)
        found[f"{label(type(cfg))} {field.name}={value}"] = many
    name = max(found, key=lambda name: found[name])
    return name if found[name] > 1 else "the run"


def _largest_integer(value: Any) -> int:
    values = value if isinstance(value, tuple) else (value,)
    return max((x for x in values if type(x) is int), default=0)
