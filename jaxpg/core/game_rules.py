"""Rules of games: faults that shapes show in its players, groups, observations, actions and
signals. `core.games` says what is meant, and refuses what has one; `jaxpg.check_env` tells all."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxpg.core import signals
from jaxpg.core.env import Env
from jaxpg.core.observations import Masked
from jaxpg.core.types import Tree

ALL, ENTRY, STATE = "players", "observation", "global_state"


def is_game(core: Any) -> bool:
    """True for a core with an axis of players."""
    return hasattr(core, "players")


def sizes_of(core: Any) -> dict[str, int]:
    """Names of a game's groups, and how many players each has."""
    return dict(getattr(core, "groups", {ALL: core.players}))


def entry_of(group: str) -> str:
    """Name of a group's observations, where a game's observation is a dict."""
    return ENTRY if group == ALL else group


def find_game_faults(env: Env) -> Iterator[str]:
    """Finds what is wrong with a game, in sentences. What comes first keeps the rest from being
    looked at.

    Raises ValueError for signals that are none, see `core.signals.shapes`.
    """
    for look in (_find_in_groups, _find_in_rows, _find_in_actions, _find_in_signals):
        if found := list(look(env)):
            yield from found
            return


def _is_count(x: Any) -> bool:
    return isinstance(x, (int, np.integer)) and not isinstance(x, bool) and bool(x >= 1)


def _find_in_groups(env: Env) -> Iterator[str]:
    """Looks whether players are a number, and groups such numbers that sum to it."""
    players = env.core.players
    if not _is_count(players):
        yield f"{env.name} players={players!r}: allowed is an integer >= 1"
        return
    sizes = getattr(env.core, "groups", {ALL: players})
    fits = isinstance(sizes, Mapping) and all(isinstance(name, str) for name in sizes)
    if not fits or not all(map(_is_count, sizes.values())) or sum(sizes.values()) != players:
        yield (
            f"{env.name} groups={sizes!r}: allowed are {players} players in all, as in "
            '{"hunters": 3, "prey": 2}, integers >= 1'
        )


def _find_in_rows(env: Env) -> Iterator[str]:
    """Looks whether each group has observations with a row for each player, and what stands beside
    them is known."""
    seen: Tree = env.example_obs
    seen = seen.obs if isinstance(seen, Masked) else seen
    sizes = sizes_of(env.core)
    entries = {entry_of(name): size for name, size in sizes.items()}
    if not isinstance(seen, dict):
        if len(sizes) > 1 or not hasattr(seen, "shape"):
            kind = f"of shape {seen.shape}" if hasattr(seen, "shape") else type(seen).__name__
            yield f"{env.name} observation is {kind}: allowed is a dict of {sorted(entries)}"
            return
        [entry] = entries
        seen = {entry: seen}
    missing, more = entries.keys() - seen.keys(), seen.keys() - entries.keys() - {STATE}
    if missing or more:
        yield (
            f"{env.name} observation has {sorted(seen)}: allowed are {sorted(entries)}, "
            f"'action_mask' and {STATE!r}"
        )
        return
    for name, size in sizes.items():
        shape = getattr(seen[entry_of(name)], "shape", None)
        if shape is None or len(shape) < 2 or shape[0] != size:
            found = f"shape {shape}" if shape is not None else "several arrays"
            yield (
                f"{env.name}: observations of {name} have {found}, allowed is [{size}, D], or more "
                "axes: a row for each player"
            )
    if STATE in seen and len(getattr(seen[STATE], "shape", ())) != 1:
        found = getattr(seen[STATE], "shape", "several arrays")
        yield f"{env.name} {STATE} is {found}: allowed is one array of shape [G]"


def _find_in_actions(env: Env) -> Iterator[str]:
    """Looks whether each player has an action of its own, of one kind in a group, and masks have
    an entry for each."""
    space, kind, players, first = env.action_space, env.action_kind, env.core.players, 0
    for size in sizes_of(env.core).values():
        if kind == "multi-discrete":
            own = set(space.nvec[first : first + size])
            allowed = len(space.nvec) == players and len(own) == 1
        else:
            allowed = kind == "continuous" and space.shape[:1] == (players,)
        if not allowed:
            yield (
                f"{env.name} has actions {space}: allowed are MultiDiscrete, an entry for each of "
                f"the {players} players and alike in a group, or a Box [{players}, ...]"
            )
            return
        first += size
    if isinstance(env.example_obs, Masked):
        entries = sum(space.nvec) if kind == "multi-discrete" else 0
        if (shape := env.example_obs.mask.shape) != (entries,):
            allowed = f"({entries},), the choices of all players" if entries else "none of a Box"
            yield f"{env.name} has an action_mask of shape {shape}: allowed is {allowed}"


def _find_in_signals(env: Env) -> Iterator[str]:
    """Looks whether there are rewards of all players, and of all who is there."""
    found, players = signals.shapes(env.core, env.params), env.core.players
    if "rewards" not in found:
        yield (
            f"{env.name} has the signals {tuple(found)}: allowed here is one 'rewards' of shape "
            f"({players},)"
        )
    of_each = ["rewards", "alive", "leaves"]
    of_each += ["actions"] if env.action_kind == "multi-discrete" else []
    for name in of_each:
        if name in found and found[name].shape != (players,):
            yield (
                f"{env.name} has the signal {name!r} of shape {found[name].shape}: allowed is "
                f"({players},), an entry for each player"
            )
