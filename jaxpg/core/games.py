"""Games: environments of several players, and what each of them sees.

A game's core says `players`, a number P. Observations, actions and the signal `rewards` have an
axis of players, [P, ...]; the reward is the mean of theirs, so that every agent for one player
can play a game, as a controller of all. Where players differ in kind they come in groups, one
after the other: `groups = {"hunters": 3, "prey": 1}`, and an observation is a dict with an entry
for each, [P_g, ...]. Beside them it may have

    action_mask   [sum of all players' choices] bool, one player after the other
    global_state  [G], which is nobody's observation, for a critic that may see it

(then the observations of a game without groups are the entry `observation`). Players that may leave
before the episode ends are told by two signals more: `alive` [P], who was there when it acted, and
`leaves` [P], for whom this step was the last one.

Every other environment is a game of one player.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import spaces
from jaxpg.core.env import Env
from jaxpg.core.game_rules import (
    ALL,
    ENTRY,
    STATE,
    entry_of,
    find_game_faults,
    is_game,
    sizes_of,
)
from jaxpg.core.observations import Masked
from jaxpg.core.types import Array, Key, Transition, Tree


class Group(NamedTuple):
    """Players of one kind."""

    name: str
    first: int  # number of the first one, among all
    size: int  # how many they are, P_g
    env: Env  # as one of them sees it: its observation, with its number in the group; its action


class Rows(NamedTuple):
    """Rewards, ends and presence of the players of a group in a rollout: leaves [T, N, P_g]."""

    reward: Array
    terminated: Array  # nothing follows for this player
    truncated: Array
    alive: Array  # bool: the row is of a player that was there


@dataclasses.dataclass(frozen=True)
class View:
    """Core of a game as one player of a group sees it. It is for shapes alone: nothing moves."""

    core: Any
    group: str
    first: int
    size: int
    with_id: bool
    ranks: Any  # axes of one player's observation: of a game a number, else of every leaf

    @property
    def name(self) -> str:
        return self.core.name

    @property
    def default_params(self) -> Any:
        return self.core.default_params

    def reset(self, key: Key, params: Any) -> tuple[Tree, tuple]:
        own = self.observe(Env(params, self.core).example_obs)
        one = jax.tree.map(lambda x: x[0], own)
        return {ENTRY: one.obs, "action_mask": one.mask} if isinstance(one, Masked) else one, ()

    def step(self, key: Key, state: tuple, action: Array, params: Any) -> tuple[Any, ...]:
        return *self.reset(key, params), jnp.zeros(()), jnp.zeros((), bool), jnp.zeros((), bool), {}

    def observe(self, obs: Tree) -> Tree:
        """Observations [..., P_g, ...] of the players of the group, from the game's [..., ...]."""
        if not is_game(self.core):
            leaves, structure = jax.tree.flatten(obs)
            each = zip(leaves, self.ranks, strict=True)
            return structure.unflatten([jnp.expand_dims(x, x.ndim - n) for x, n in each])
        rows = _rows(obs, self.group)
        if self.with_id and self.size > 1:
            lead = rows.shape[: rows.ndim - self.ranks]
            ids = jnp.broadcast_to(jnp.eye(self.size), (*lead, self.size))
            vector = self.ranks == 1
            rows = jnp.concatenate([rows, ids], -1) if vector else {ENTRY: rows, "id": ids}
        return Masked(rows, self._masks(obs.mask)) if isinstance(obs, Masked) else rows

    def _masks(self, mask: Array) -> Array:
        choices = self.core.action_space(self.core.default_params).nvec
        begin, n = sum(choices[: self.first]), choices[self.first]
        own = jax.lax.slice_in_dim(mask, begin, begin + n * self.size, axis=-1)
        return own.reshape(*mask.shape[:-1], self.size, n)

    def action_space(self, params: Any) -> Any:
        space = self.core.action_space(params)
        if not is_game(self.core):
            return space
        from gymnax.environments import spaces as gymnax_spaces  # it starts JAX

        if spaces.kind(space) == "multi-discrete":
            return gymnax_spaces.Discrete(space.nvec[self.first])
        low, high = (x if jnp.ndim(x) == 0 else x[self.first] for x in (space.low, space.high))
        return gymnax_spaces.Box(low, high, space.shape[1:], space.dtype)

    def observation_space(self, params: Any) -> Any:
        return None  # observations are as agents see them already


def require_score(env: Env) -> None:
    """Raises ValueError for a game of zero sum, of which settings cannot be ranked by the mean of
    the players' returns: it is 0 for all of them. A core says so by `zero_sum`."""
    if getattr(env.core, "zero_sum", False):
        raise ValueError(
            f"{env.name} is a game of zero sum, in which the mean return of the players, by which "
            "settings are ranked, is 0 whatever is learnt: allowed are games of another sum; here "
            "train each setting by itself, and measure it against others or by what is exact"
        )


def _rows(obs: Tree, group: str) -> Array:
    """Observations of a group's players, [..., P_g, *obs]."""
    obs = obs.obs if isinstance(obs, Masked) else obs
    return obs[entry_of(group)] if isinstance(obs, dict) else obs


def groups(env: Env, with_id: bool = False) -> list[Group]:
    """The groups of a game's players. with_id: an observation tells who of the group has made it,
    one-hot, at the end of a vector, beside what is none.

    Raises ValueError for a game that is not as this file says.
    """
    core, found, first = env.core, [], 0
    if not is_game(core):
        ranks = tuple(x.ndim for x in jax.tree.leaves(env.example_obs))
        view = View(core, ALL, 0, 1, False, ranks)
        return [Group(ALL, 0, 1, Env(env.params, view, env.made_of))]
    for fault in find_game_faults(env):
        raise ValueError(fault)
    for name, size in sizes_of(core).items():
        view = View(core, name, first, size, with_id, _rows(env.example_obs, name).ndim - 1)
        found.append(Group(name, first, size, Env(env.params, view, env.made_of)))
        first += size
    return found


def rows_of(group: Group, t: Transition) -> Rows:
    """Rewards, ends and presence of the players of a group, in the steps t [T, N]."""

    def own(name: str) -> Array:
        return t.signals[name][..., group.first : group.first + group.size]

    def of_each(x: Array) -> Array:
        return jnp.broadcast_to(x[..., None], (*x.shape, group.size))

    ended = of_each(t.terminated)
    return Rows(
        reward=own("rewards") if is_game(group.env.core.core) else t.reward[..., None],
        terminated=ended | (own("leaves") > 0) if "leaves" in t.signals else ended,
        truncated=of_each(t.truncated),
        alive=own("alive") > 0 if "alive" in t.signals else jnp.ones(ended.shape, bool),
    )


def join_actions(env: Env, actions: list[Array]) -> Array:
    """The action of a game [N, P, ...], from those of its groups [N, P_g, ...]."""
    return jnp.concatenate(actions, 1) if is_game(env.core) else actions[0][:, 0]


def central_observation(env: Env, obs: Tree, group: Group) -> Array:
    """Input of a central critic for each player of a group: the game's `global_state`, or the
    observations of all, and the player's number one-hot. [..., P_g, G + P]"""
    plain = obs.obs if isinstance(obs, Masked) else obs
    if isinstance(plain, dict) and STATE in plain:
        state, players = plain[STATE], env.core.players
    else:
        if is_game(env.core) and isinstance(plain, dict):  # of groups
            plain = {g.name: _rows(plain, g.name) for g in groups(env)}
        example = env.example_obs
        lead = jax.tree.leaves(obs)[0].ndim - jax.tree.leaves(example)[0].ndim
        parts = [x.reshape(*x.shape[:lead], -1) for x in jax.tree.leaves(plain)]
        state, players = jnp.concatenate(parts, -1), getattr(env.core, "players", 1)
    ids = jnp.eye(players)[group.first : group.first + group.size]
    lead = (*state.shape[:-1], group.size)
    state = jnp.broadcast_to(state[..., None, :], (*lead, state.shape[-1]))
    return jnp.concatenate([state, jnp.broadcast_to(ids, (*lead, ids.shape[-1]))], -1)


def other_choices(env: Env, group: Group, what: str) -> tuple[int, ...]:
    """Numbers of actions of all players but one of a group, in their order.

    Raises ValueError, for `what` asks for them, where there are no others, or no such numbers.
    """
    if not is_game(env.core) or env.core.players < 2 or env.action_kind != "multi-discrete":
        raise ValueError(
            f"{what} on {env.name}: allowed is 'none' but for games of two players or more, whose "
            "actions are discrete"
        )
    choices = env.action_space.nvec
    return (*choices[: group.first], *choices[group.first + 1 :])


def other_actions(env: Env, group: Group, t: Transition) -> Array:
    """Actions of all others, for each player of a group: [T, N, P_g, P - 1] int32, in the order
    of the players; -1 is nothing, as of one that has left. Where a game has a signal
    `actions` [P], it is what was really played: a scripted player learns nothing, yet it acts."""
    actions = t.action
    if "actions" in t.signals:
        actions = t.signals["actions"].astype(jnp.int32)
    elif "alive" in t.signals:
        actions = jnp.where(t.signals["alive"] > 0, actions, -1)
    everybody = range(env.core.players)
    own = range(group.first, group.first + group.size)
    return actions[..., np.array([[j for j in everybody if j != i] for i in own])]
