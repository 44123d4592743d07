"""Transfer of parameters: a training state that begins with what another run has learnt.

What is learnt is told by the names of a state's fields, in every agent the same. Parameters are
`params`, or `actor` and `critic`; statistics are `obs_stats` and `reward_scale`. Others follow
them: `target` and `acting_stats` are the other run's where it has them, else copies; copies are
the `history` of a lag, the members of a `league`, the `best` of a walk and the mean of a `search`.
All else stays as `init` made it: optimisers, environments, replay buffers, memories, scores, counts
of updates and visits, the iteration and the key.

A leaf is called by its path without the names that only hold others: "actor_torso/Dense_0/kernel",
"players/actor/bias", "log_alpha", "obs_stats/mean"; parameters that are one array are "params".
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core.checks import show
from jaxpg.core.config import unknown
from jaxpg.core.types import Array, Tree

Path: TypeAlias = tuple[str, ...]  # names on the way to a leaf

HOLDERS = ("state", "learner", "learners", "replay")  # fields that only hold others
PARAMS, STATS = ("params", "actor", "critic"), ("obs_stats", "reward_scale")
FOLLOWERS = {"target": "params", "acting_stats": "obs_stats"}
COPIES: dict[Path, Path] = {
    ("history",): ("params",),
    ("best",): ("params",),
    ("search", "mean"): ("params",),
    ("league", "members"): ("learner",),
}
_EPISODES = (("reward_scale", "returns"), ("reward_scale", "lost"))  # of those that run
_PART = re.compile(r"\.(\w+)|\[(?:'(.*?)'|\"(.*?)\"|(\d+))\]")


class Learnt(NamedTuple):
    """Learnt leaves of a state, by their paths."""

    leaves: dict[Path, Any]  # all of the state
    names: dict[Path, Path]  # what parameters and statistics are called
    followers: dict[Path, Path]  # and what each of them follows
    copies: dict[Path, Path]  # and of what each is a copy, or several along an axis more
    seeds: tuple[int, ...]  # (seeds,), or () of a single key


def leaves_by_path(state: Tree) -> dict[str, Any]:
    """Leaves of a state by their paths, as `jax.tree_util.keystr` writes them."""
    found = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path): x for path, x in found}


def learnt_by_path(state: Tree) -> dict[str, Any]:
    """Leaves by their paths, of what is learnt in a state and of its key: what another run can
    begin with. state: or its leaves by their paths. Raises ValueError for what has no parameters.
    """
    by_path = _as_leaves(state)
    found = _read_source(by_path)
    learnt = {*found.names, *found.followers, *found.copies}
    return {path: x for path, x in by_path.items() if _split(path) in learnt or _is_key(x)}


def begin_from(state: Tree, source: Tree, parts: Sequence[str] = ()) -> Tree:
    """State with what another one has learnt, copied.

    state: as an agent's `init` makes it; with a leading [seeds] the source has as many, or is of
    one seed, with which all of them begin. source: a state, also of another agent, or its leaves by
    their paths. parts: names of what is taken, such as "actor_torso" or "critic/q"; () is all that
    is learnt, and both have to learn the same. Raises ValueError, under `jax.eval_shape` too, for a
    name that is not there, for shapes that differ, and for another number of seeds.

    >>> from jaxpg.core.transfer import begin_from
    >>> env, cfg = jaxpg.make("CartPole-v1"), jaxpg.ppo.Config(hidden=(4,))
    >>> old, new = (jaxpg.ppo.init(cfg, env, jax.random.key(i)) for i in range(2))
    >>> state = begin_from(new, old, ["actor_torso"])
    >>> same = jax.tree.map(lambda x, y: (x == y).all(), state.params, old.params)["params"]
    >>> bool(same["actor_torso"]["Dense_0"]["kernel"]), bool(same["actor"]["kernel"])
    (True, False)
    """
    new, old = _read(leaves_by_path(state)), _read_source(_as_leaves(source))
    _check_seeds(new, old)
    wanted = _select(new, parts)
    _check_search(new, wanted)
    pairs = {path: _find(name, old) for path, name in wanted.items()}
    _require_there(new, old, pairs, parts)
    _require_fit(new, old, pairs)
    found = _fill(new, old, {path: there for path, there in pairs.items() if there is not None})
    leaves = [found.get(path, x) for path, x in new.leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(state), leaves)


def _as_leaves(state: Tree) -> Mapping[str, Any]:
    named = isinstance(state, Mapping) and all(_PART.match(str(path)) for path in state)
    return state if named else leaves_by_path(state)


def _read_source(by_path: Mapping[str, Any]) -> Learnt:
    arrays = all(hasattr(x, "dtype") and hasattr(x, "shape") for x in by_path.values())
    found = _read(by_path) if arrays else Learnt({}, {}, {}, {}, ())
    if not any(_field(path)[0] in PARAMS for path in found.names):
        raise ValueError(
            "init_from: found no parameters: allowed is the folder of a run, a Result, or a "
            "training state that keeps them under params, actor or critic"
        )
    return found


def _read(by_path: Mapping[str, Any]) -> Learnt:
    leaves = {_split(path): x for path, x in by_path.items()}
    found = Learnt(leaves, {}, {}, {}, _seeds(leaves))
    for path in leaves:
        field, at = _field(path)
        held, rest = path[:at], path[at:]
        if field in FOLLOWERS and (leader := _leader(path, at, leaves)):
            found.followers[path] = leader
        elif copied := next((x for x in COPIES if rest[: len(x)] == x), None):
            twin = (*held, *COPIES[copied], *rest[len(copied) :])
            if twin in leaves:
                found.copies[path] = twin
        # Of a scale of rewards the statistics are learnt; its returns are of running episodes.
        elif field in (*PARAMS, *STATS) and rest[:2] not in _EPISODES:
            found.names[path] = _name(path, at)
    return found


def _split(path: str) -> Path:
    return tuple(next(filter(None, found), "") for found in _PART.findall(path))


def _field(path: Path) -> tuple[str, int]:
    """Field of a state that a leaf is in, and its place in the path. `learners` holds groups of
    players by their names."""
    at = 0
    while at < len(path) and path[at] in HOLDERS:
        at += 2 if path[at] == "learners" else 1
    return (path[at] if at < len(path) else ""), at


def _name(path: Path, at: int) -> Path:
    group = path[1:2] if path[0] == "learners" else ()
    return (*group, *(x for x in path[at:] if x != "params")) or ("params",)


def _leader(path: Path, at: int, leaves: Mapping[Path, Any]) -> Path | None:
    """Finds the leaf that one follows: of the same name beside it, or in one of the networks there,
    as the targets of critics alone do."""
    held, rest, leads = path[:at], path[at + 1 :], FOLLOWERS[path[at]]
    inside = [p[at + 1 :] for p in leaves if p[: at + 1] == (*held, leads)]
    networks = dict.fromkeys(p[0] for p in inside if p)
    options = [(*held, leads, *rest), *((*held, leads, net, *rest) for net in networks)]
    return next((x for x in options if x in leaves), None)


def _seeds(leaves: Mapping[Path, Any]) -> tuple[int, ...]:
    """Leading axis of a state: that of its key."""
    keys = [x.shape for x in leaves.values() if _is_key(x)]
    return min(keys, key=len, default=())[:1]


def _is_key(x: Any) -> bool:
    return hasattr(x, "dtype") and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _check_seeds(new: Learnt, old: Learnt) -> None:
    if old.seeds and old.seeds != new.seeds:
        here = new.seeds[0] if new.seeds else 1
        raise ValueError(
            f"init_from: a run of {old.seeds[0]} seeds, here {here}: allowed is as many, or one, "
            "such as jax.tree.map(lambda x: x[0], result.state)"
        )


def _check_search(new: Learnt, wanted: Mapping[Path, Path]) -> None:
    """Raises ValueError for a search that no parameters can begin."""
    searches = any(_field(path)[0] == "search" for path in new.leaves)
    if searches and wanted and ("search", "mean") not in new.copies:
        raise ValueError(
            "init_from: a search without a mean is made of a population: allowed is an evosax "
            "strategy that has one, such as Open_ES"
        )


def _select(new: Learnt, parts: Sequence[str]) -> dict[Path, Path]:
    """Names of the leaves that the parts are made of; of all, without any. Raises ValueError for a
    part that there is not."""
    if isinstance(parts, str) or not all(isinstance(x, str) and x for x in parts):
        raise ValueError(f"init_parts={show(parts)}: allowed is a list of names")
    found = {}
    for part in parts:
        words = tuple(part.split("/"))
        of_part = {p: name for p, name in new.names.items() if _contains(name, words)}
        if not of_part:
            raise unknown("part in init_parts", part, _part_names(new.names.values()))
        found |= of_part
    return found if parts else dict(new.names)


def _contains(name: Path, words: Path) -> bool:
    return any(name[i : i + len(words)] == words for i in range(len(name)))


def _part_names(names: Iterable[Path]) -> list[str]:
    """Names of parts, from whole networks to their layers, without single arrays of a layer."""
    found = {}
    for name in names:
        stats = [i + 1 for i, x in enumerate(name) if x in STATS]
        above = name[: stats[0]] if stats else name[: max(1, len(name) - 1)]
        found |= dict.fromkeys(x for x in above if not x.isdigit())
    return list(found)


def _find(name: Path, old: Learnt) -> Path | None:
    """Finds what is called so in the other state, or so with more before it on one of the sides: an
    agent that has its networks apart calls "actor/actor_torso" what others call "actor_torso".
    None if there is none. Raises ValueError if there are several."""
    same = [path for path, known in old.names.items() if known == name]
    alike = {p: n for p, n in old.names.items() if _ends_with(n, name) or _ends_with(name, n)}
    if not same and len(alike) > 1:
        several = ", ".join("/".join(n) for n in alike.values())
        raise ValueError(
            f"init_from: {'/'.join(name)} is one of {several} there: allowed is what is there once"
        )
    return next(iter([*same, *alike]), None)


def _ends_with(name: Path, end: Path) -> bool:
    return name[-len(end) :] == end


def _require_there(
    new: Learnt, old: Learnt, pairs: Mapping[Path, Path | None], parts: Sequence[str]
) -> None:
    """Raises ValueError unless the other state has all that is taken and, if that is all, no
    more."""
    missing = [new.names[path] for path, there in pairs.items() if there is None]
    more = [] if parts else [name for p, name in old.names.items() if p not in pairs.values()]
    if missing or more:
        first = _part_names([*missing, *more])[0]
        has, learns = ("has no", "learns") if missing else ("has", "does not learn")
        allowed = _allowed("a run that learns the same", new, old)
        raise ValueError(
            f"init_from: the other run {has} {first}, which this one {learns}: {allowed}"
        )


def _require_fit(new: Learnt, old: Learnt, pairs: Mapping[Path, Path | None]) -> None:
    """Raises ValueError unless shapes are the same."""
    for path, there in pairs.items():
        if there is not None and not _fits(new, path, old, there):
            shapes = _shape(old.seeds, old.leaves[there]), _shape(new.seeds, new.leaves[path])
            raise ValueError(
                f"init_from: {'/'.join(new.names[path])} is {list(shapes[0])} there and "
                f"{list(shapes[1])} here: {_allowed('equal shapes', new, old)}"
            )


def _allowed(what: str, new: Learnt, old: Learnt) -> str:
    """Says what is allowed, and which parts fit, by the first words of their names."""
    fits: dict[str, bool] = {}
    for path, name in new.names.items():
        try:
            there = _find(name, old)
        except ValueError:
            there = None
        same = there is not None and _fits(new, path, old, there)
        fits[name[0]] = fits.get(name[0], True) and same
    fine = ", ".join(name for name, same in fits.items() if same)
    return f"allowed is {what}" + f", or init_parts of what fits: {fine}" * bool(fine)


def _shape(seeds: tuple[int, ...], x: Any) -> tuple[int, ...]:
    """Shape of a leaf in one of the seeds."""
    return x.shape[len(seeds) :]


def _fits(new: Learnt, path: Path, old: Learnt, there: Path) -> bool:
    return _shape(new.seeds, new.leaves[path]) == _shape(old.seeds, old.leaves[there])


def _fill(new: Learnt, old: Learnt, pairs: Mapping[Path, Path]) -> dict[Path, Array]:
    """Values of the leaves that are taken, and of those that go with them."""
    acting = {twin: path for path, twin in old.copies.items() if _field(path)[0] == "best"}
    theirs = {leader: path for path, leader in old.followers.items()}

    def copy(path: Path, x: Any, extra: int = 0) -> Array:
        """A leaf of the new state with these values, the same along axes that it has more."""
        to, lib = new.leaves[path], np if isinstance(x, np.ndarray) else jnp
        x = x.reshape((*old.seeds, *[1] * extra, *_shape(old.seeds, x)))
        # What another program has may not be given away, nor one array twice.
        return jnp.array(lib.broadcast_to(x, to.shape), to.dtype, copy=True)

    found = {p: copy(p, old.leaves[acting.get(there, there)]) for p, there in pairs.items()}
    for path, leader in new.followers.items():
        if (there := pairs.get(leader)) is not None:
            found[path] = copy(path, old.leaves[theirs.get(there, acting.get(there, there))])
    for path, twin in new.copies.items():
        if (there := pairs.get(twin)) is not None:
            extra = new.leaves[path].ndim - new.leaves[twin].ndim
            found[path] = copy(path, old.leaves[acting.get(there, there)], extra)
    return found
