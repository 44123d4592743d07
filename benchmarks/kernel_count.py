"""Kernels that a compiled program launches, counted in its text: exact where times are not.

A GPU runs a program as a row of launches, of one to two microseconds each if they do little, so a
small network is bound by how many there are: the operations of the entry, and those of every loop's
body times the loop's trips. `count_kernels(jax.jit(f).lower(x).compile().as_text())` counts them.
"""

import functools
import re
from collections import Counter
from typing import NamedTuple

# A computation begins with `%name (parameters) -> type {` or `ENTRY %name {`, and of its lines each
# is `%name = type opcode(operands), attributes`; in no type a word stands before a parenthesis.
HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) (?:\(.*\) -> .* )?\{$")
INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?[\w.\-]+ = .*? ([a-z][\w\-]*)\((.*)$")
CALLED = re.compile(
    r"\b(condition|body|to_apply|calls|branch_computations|true_computation|false_computation)="
    r"(\{[^}]*\}|%?[\w.\-]+)"
)
PART = '"name":"dynamic_slice_fusion"'  # of a fusion that copies to or from a part of an array
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
NAME = re.compile(r"[\w.\-]+")
# What names or arranges values that are there, and launches nothing.
FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all",
    "add-dependency", "opt-barrier",
}  # fmt: skip


class Operation(NamedTuple):
    """An instruction of a compiled program."""

    opcode: str
    called: dict[str, list[str]]  # computations by what they are to it: body, condition, ...
    trips: int | None  # of a loop, if the compiler knows them


def count_kernels(text: str) -> Counter[str]:
    """Launches of a whole program by opcode: fusion, custom-call, copy, ...; `.total()` is all.

    text: a compiled program's, as `jax.stages.Compiled.as_text` gives it. A fusion, a custom call
    (a library's, too), a copy and whatever else computes is one launch, though a sort may be more.
    A loop is its body times the trips that the compiler knows; one whose trips are decided while it
    runs is a single trip, with its condition. Of a condition's branches the one with the most
    launches is counted. What a call names (a command buffer is one) is counted as it stands there.
    Raises ValueError for a text without an entry.

    >>> text = "ENTRY %main {\\n  %x = f32[] parameter(0)\\n  ROOT %y = f32[] copy(%x)\\n}"
    >>> count_kernels(text)
    Counter({'copy': 1})
    """
    entry, computations = _computations(text)

    @functools.cache
    def count(name: str) -> Counter[str]:
        found = Counter()
        for opcode, called, trips in computations[name]:
            if opcode == "while":
                one, times = count(called["body"][0]), trips
                if trips is None:
                    one, times = one + count(called["condition"][0]), 1
                found.update({kind: n * times for kind, n in one.items()})
            elif opcode == "conditional":
                branches = [count(x) for names in called.values() for x in names]
                found.update(max(branches, key=Counter.total))
            elif opcode in ("call", "async"):
                found.update(count(called["to_apply" if opcode == "call" else "calls"][0]))
            else:
                found[opcode] += 1
        return found

    return count(entry)


def _computations(text: str) -> tuple[str, dict[str, list[Operation]]]:
    """The name of the entry, and what every computation launches or calls."""
    entry, found, lines = None, {}, []
    for line in text.splitlines():
        if head := HEAD.match(line):
            lines = found[head[2]] = []
            entry = head[2] if head[1] else entry
        elif one := INSTRUCTION.match(line):
            opcode, rest = one.groups()
            if opcode not in FREE and not opcode.endswith(("-done", "-update")):
                opcode = "copy" if PART in rest else opcode.removesuffix("-start")
                called = {role: NAME.findall(names) for role, names in CALLED.findall(rest)}
                known = TRIPS.search(rest)
                lines.append(Operation(opcode, called, int(known[1]) if known else None))
    if entry is None:
        raise ValueError(f"text={text[:40]!r}: allowed is a compiled program's, with an ENTRY")
    return entry, found
