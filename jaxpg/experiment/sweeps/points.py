"""Points of a sweep: what differs from one config to the next.

A point is a dict: field -> value. A field is one of the agent's config, or "env.NAME", a parameter
of the environment. Which of them are static need not be known: `group_by_program`
puts together what one compiled program can serve.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpg.core import config
from jaxpg.core import env as E
from jaxpg.core.callables import names_in
from jaxpg.core.checks import require_integer, require_key, show, show_numbers
from jaxpg.core.games import require_score
from jaxpg.core.names import Trust
from jaxpg.core.parallel.lanes import stack
from jaxpg.core.plan import plan_run
from jaxpg.core.train import require_objects
from jaxpg.core.types import Agent, C, Key
from jaxpg.envs import registry
from jaxpg.envs.recipes import fields_of

ENV = "env."
MOST = 1_000_000  # points, and runs, of a sweep
Point = dict[str, Any]


class Range(NamedTuple):
    """Range of numbers to draw from."""

    low: float
    high: float
    log: bool = False  # whether their logarithms are uniform

    def quantile(self, share: float) -> float:
        """Quantile: the number below which `share` of the range lies, rounded."""
        low, high = (math.log(x) if self.log else x for x in (self.low, self.high))
        x = low + share * (high - low)
        return self.round(math.exp(x) if self.log else x)

    def round(self, x: float) -> float:
        """Rounds to four digits, so that a table can show a number and a person can type it
        again."""
        return min(max(float(f"{x:.4g}"), self.low), self.high)


def uniform(low: float, high: float) -> Range:
    """Range of numbers. Raises ValueError unless low < high, both finite."""
    require_range(Range(low, high))
    return Range(float(low), float(high))


def loguniform(low: float, high: float) -> Range:
    """Range of numbers whose logarithms are uniform. Raises ValueError unless 0 < low < high."""
    require_range(Range(low, high, log=True))
    return Range(float(low), float(high), log=True)


def require_range(x: Range, name: str = "", cfg: Any = None) -> None:
    """Raises ValueError for a Range that no number can be drawn from.

    name: of its field, for the error. cfg: whose field it is; a static one has no range.
    """
    low, high, log = x
    text, sign = f"{show_numbers(low)} .. {show_numbers(high)}", f"{name}=" if name else ""
    numbers = all(isinstance(end, (int, float, np.number)) for end in (low, high))
    if not (numbers and np.isfinite([low, high]).all() and low < high):
        allowed = "allowed are two finite numbers, the lower one first"
        raise ValueError(f"{sign}range {text}: {allowed}")
    if log and not low > 0:
        raise ValueError(f"{sign}loguniform {text}: allowed are numbers > 0")
    if cfg is not None and name in config.static_fields(type(cfg)):
        raise ValueError(
            f"{config.label(type(cfg))} {name}={low:g} .. {high:g}: it is static, a part of the "
            "compiled program: allowed is a list of values, not a range of numbers"
        )


def grid(fields: Mapping[str, Sequence] | None = None, /, **more: Sequence) -> list[Point]:
    """Combines the values of all fields, each with each; the last field changes fastest.

    Parameters of the environment have a dot in their names: grid({"env.gravity": [5, 10]}).
    Raises ValueError for a field without values or with one of them twice, and for more points than
    a sweep can have.
    """
    lists = {name: _list_values(name, x) for name, x in {**(fields or {}), **more}.items()}
    if (count := math.prod(map(len, lists.values()))) > MOST:
        raise ValueError(f"a grid of {count} points: allowed are at most {MOST}")
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def random(
    count: int, fields: Mapping[str, Sequence | Range] | None = None, /, *, seed: int = 0,
    **more: Sequence | Range,
) -> list[Point]:  # fmt: skip
    """Draws `count` points, each field from its Range or its list, independently.

    Raises ValueError for a count below 1 or above what a sweep can have, a seed that is none, a
    range that is none, and a field without values.
    """
    require_integer("count", count, 1, MOST)
    require_integer("seed", seed, 0)
    rng = np.random.default_rng(seed)
    every = {**(fields or {}), **more}
    for name, x in every.items():
        if isinstance(x, Range):
            require_range(x, name)
    drawn = {
        name: [x.quantile(u) for u in rng.random(count)]
        if isinstance(x, Range)
        else [x[i] for i in rng.integers(len(_list_values(name, x)), size=count)]
        for name, x in every.items()
    }
    return [dict(zip(drawn, values, strict=True)) for values in zip(*drawn.values(), strict=True)]


def require_runs(points: int, seeds: int) -> None:
    """Raises ValueError unless so many points can have so many seeds each."""
    require_integer("seeds", seeds, 1)
    if points * seeds > MOST:
        raise ValueError(f"seeds={seeds} of {points} points: allowed are {MOST} runs in all")


def _list_values(name: str, values: Sequence) -> list:
    if isinstance(values, Range):
        require_range(values, name)
        text = f"{name}={values.low:g} .. {values.high:g}"
        raise ValueError(f"{text}: a range can be drawn from or searched, here allowed is a list")
    if isinstance(values, str) or not isinstance(values, (Sequence, np.ndarray)):
        raise ValueError(f"{name}={show(values)}: allowed is a list of values")
    texts = list(map(repr, values))
    if not texts or len(set(texts)) < len(texts):
        raise ValueError(
            f"{name}={show(values)}: allowed is a list of values, at least one, none twice"
        )
    return list(values)


def field_names(cfg, env: E.Env) -> list[str]:
    """Names of the fields that a point may have."""
    own = [f.name for f in dataclasses.fields(cfg) if f.name != "total_steps"]
    return own + [ENV + name for name in (*fields_of(env.params), *registry.arguments(env))]


def apply_point(cfg, env: E.Env, point: Point, trust: Trust = False) -> tuple[Any, E.Env]:
    """Returns config and environment of a point. trust: as of `core.config.updated`.

    Raises ValueError for an unknown field, with the nearest one, and for a value that is not
    allowed.
    """
    statics, names = config.static_fields(type(cfg)), field_names(cfg, env)
    for name, value in point.items():
        if name not in names:
            raise config.unknown("field of a sweep", name, names)
        whole = name in statics and not isinstance(getattr(cfg, name), float)
        if whole and isinstance(value, float):
            raise ValueError(
                f"{config.label(type(cfg))} {name}={value!r}: it is static, a part of the compiled "
                "program: allowed is a list of values, not a range of numbers"
            )
        if name not in statics and np.ndim(value):
            raise ValueError(f"{name}={value!r}: allowed is one value in each point")
    own = {name: x for name, x in point.items() if not name.startswith(ENV)}
    of_env = {name.removeprefix(ENV): x for name, x in point.items() if name.startswith(ENV)}
    return config.updated(cfg, own, trust), registry.with_params(
        env, trust, **of_env
    ) if of_env else env


def require_names(cfg: Any, points: Sequence[Point]) -> None:
    """Raises ValueError for a function that no file can name, and so no sweep can find again."""
    for name, value in (item for point in points for item in point.items()):
        if any("<" in text for text in names_in(config.plain(value))):
            raise ValueError(
                f"{config.label(type(cfg))} {name}={show(value)}: no file can name it, allowed is "
                "a function of a module (that which makes an initialiser, say, not the one that it "
                "made), or a functools.partial of one"
            )


def group_by_program(
    pairs: Sequence[tuple[Any, E.Env]], agents: Sequence[Agent] | None = None
) -> list[list[int]]:
    """Groups configs and environments that one program can serve: those of one structure, static
    fields included, of the same shapes, and of one agent. Indices into `pairs`, in the order of the
    first ones. agents: of each pair; None if that is the same for all."""
    found: dict[Any, list[int]] = {}
    for i, pair in enumerate(pairs):
        leaves, structure = jax.tree.flatten(pair)
        agent = agents and agents[i]
        found.setdefault((agent, structure, *map(np.shape, leaves)), []).append(i)
    return list(found.values())


def batch(cfg: C, env: E.Env, points: Sequence[Point]) -> tuple[C, E.Env]:
    """Stacks config and environment to leaves [points], to `vmap` a train function over.

    Raises ValueError if the points differ in a static field, which no `vmap` can vary.
    """
    pairs = [apply_point(cfg, env, point, trust=True) for point in points]  # the caller's
    if not pairs:
        raise ValueError("points=[]: allowed is a list of at least one")
    if len(group_by_program(pairs)) > 1:
        statics = config.static_fields(type(cfg))
        names = [n for n in points[0] if n in statics or n.startswith(ENV)] or list(points[0])
        raise ValueError(
            f"{', '.join(names)}: static, a part of the compiled program, so allowed is one value; "
            "`sweep.run` takes several, a program each"
        )
    return stack(pairs)


def check_points(
    agent: Agent,
    cfg,
    env: E.Env,
    key: Key,
    points: Sequence[Point],
    total_steps: int,
    seeds: int,
) -> None:
    """Raises ValueError for what cannot work in any point."""
    require_objects(agent, cfg, env)
    require_key(key)  # seeds are split off it
    known = isinstance(points, Sequence) and all(isinstance(p, Mapping) for p in points)
    if not known or not points:
        raise ValueError(f"points={show(points)}: allowed is a list of dicts, at least one")
    require_runs(len(points), seeds)
    require_names(cfg, points)
    pairs = [apply_point(cfg, env, point, trust=True) for point in points]  # the caller's
    for _, its in pairs:
        require_score(its)
    for group in group_by_program(pairs):
        # An agent's own judgement takes a trace. Its limits are bounds: the ends of every field.
        leaves = np.array([[float(np.mean(x)) for x in jax.tree.leaves(pairs[i])] for i in group])
        ends = {*leaves.argmin(0), *leaves.argmax(0)} if leaves.size else {0}
        for i in sorted(group[end] for end in ends):
            plan_run(agent, *pairs[i], key, total_steps=total_steps)
