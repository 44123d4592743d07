"""An archive of cells: for each the state that reached it by the best way so far, and that way.

A cell is a number of observations that are much alike. The archive has a row for each number, so
that a cell is found by its index: of one-hot observations and grids the number is exact, others
share `slots` rows by a hash. A way is better if its return is higher, or equal and shorter.

These functions read the fields `cell, slots, bins, low, high, num_envs, num_steps, repeat` of a
config.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxpg.core import env as E
from jaxpg.core.checks import show, why_not_called
from jaxpg.core.config import label
from jaxpg.core.memory import require_memory, tree_bytes
from jaxpg.core.metrics import ended_episodes
from jaxpg.core.names import Kind
from jaxpg.core.observations import action_mask, random_actions
from jaxpg.core.types import Array, EnvState, Key, Tree
from jaxpg.loops import backward, tabular
from jaxpg.loops.bonuses.counts import flatten
from jaxpg.ops import novelty

CELL = Kind(
    "a function of one observation that gives an integer >= 0",
    lambda x: callable(x) and not isinstance(x, type),
)
MOST = 2**30  # steps of a cell that are counted


class Archive(NamedTuple):
    """Rows for C cells, of which some are empty."""

    is_met = True  # and not learnt
    state: EnvState  # [C, ...] with the return and the length of the way
    actions: Array  # [C, L, *action] of the way, as policies speak; zeros beyond its length
    filled: Array  # [C] bool
    seen: Array  # [C] int32: exploring steps that led to the cell


class Way(NamedTuple):
    """A trajectory from the start of an episode to its end."""

    is_met = True
    score: Array  # [] float: undiscounted return; -inf: none yet
    length: Array  # [] int32 steps
    actions: Array  # [L, *action]


class Found(NamedTuple):
    """Steps of the exploration: leaves [T, N, ...]."""

    state: EnvState  # after the step
    actions: Array  # [T, N, L, *action] of the way there
    ended: Array  # [T, N] bool: the episode, so that nothing can go on from there
    score: Array  # [T, N] float: return of the way, the step's reward included
    length: Array  # [T, N] int32


def num_cells(cfg, env: E.Env) -> int:
    """Rows of the archive. Raises ValueError for bins that do not fit the observation, for their
    ends without them, and for a function `cell` that gives something else than an integer."""
    if cfg.cell != "auto":
        _require_integer(cfg, env)
        return cfg.slots
    if cfg.bins:
        return tabular.num_rows(cfg, env)
    for name, value in {"low": cfg.low, "high": cfg.high}.items():
        if value:
            raise ValueError(f"{label(type(cfg))} {name}={value}: allowed is () without bins")
    return flatten(env, env.example_obs).shape[-1] + 1 + cfg.slots


def _require_integer(cfg, env: E.Env) -> None:
    """Raises ValueError unless `cell` takes one observation and gives one integer."""
    said = f"{label(type(cfg))} cell={show(cfg.cell)}"
    if wrong := why_not_called(cfg.cell, 1):
        raise ValueError(f"{said}: {wrong}; allowed is {CELL.words}")
    made = jax.eval_shape(lambda obs: cfg.cell(obs), env.example_obs)  # NumPy's have no weak ones
    dtype = getattr(made, "dtype", jnp.float32)
    if getattr(made, "shape", None) != () or jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{said}: of {env.name} it gives {show(made)}, allowed is {CELL.words}")


def cell_of(cfg, env: E.Env, obs: Tree) -> Array:
    """Cells of observations [B, *obs]: [B] int32."""
    if cfg.cell != "auto":
        return (jax.vmap(cfg.cell)(obs) % cfg.slots).astype(jnp.int32)
    if cfg.bins:
        return tabular.state_of(cfg, env, obs)
    x = flatten(env, obs)
    return novelty.table_index(x, hash_salt(x), cfg.slots)


def init(cfg, env: E.Env, state: EnvState, actions: Array) -> Archive:
    """An archive with the cells of first states [N, ...]. actions: zeros [L, *action].

    Raises ValueError for more cells than there is memory for.
    """
    count, num_envs = num_cells(cfg, env), len(state.episode_return)
    asked = f"bins={cfg.bins}" if cfg.bins and cfg.cell == "auto" else f"slots={cfg.slots}"
    row = tree_bytes(state) // num_envs + tree_bytes(actions)
    require_memory(count * row, f"{label(type(cfg))} {asked}: {count} cells")
    rows = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], (count, *x.shape[1:])), state)
    empty = jnp.zeros((count, *actions.shape), actions.dtype)
    no = jnp.zeros(count, bool)
    archive = Archive(rows, empty, no, jnp.zeros(count, jnp.int32))
    ways = jnp.broadcast_to(actions, (num_envs, *actions.shape))
    return add(archive, cell_of(cfg, env, state.obs), state, ways, jnp.ones(num_envs, bool))


def add(archive: Archive, cell: Array, state: EnvState, actions: Array, valid: Array) -> Archive:
    """Counts steps that led to cells [M], and keeps what reached a new one, or one by a better way.

    Of several the best is kept, of equals the first. valid: [M] bool, others are left out.
    """
    nowhere = len(archive.filled)  # what is written there is dropped
    cell = jnp.where(valid, cell, nowhere)
    score, length = state.episode_return, state.episode_length
    order = jnp.lexsort((length, -score, cell))  # stable
    cell, score, length = cell[order], score[order], length[order]
    first = jnp.append(True, cell[1:] != cell[:-1])
    old = archive.state.episode_return[cell], archive.state.episode_length[cell]
    new = first & (~archive.filled[cell] | is_better(score, length, *old))
    to = jnp.where(new, cell, nowhere)

    def put(rows: Array, x: Array) -> Array:
        return rows.at[to].set(x[order], mode="drop")

    return Archive(
        jax.tree.map(put, archive.state, state),
        put(archive.actions, actions),
        archive.filled.at[cell].set(True, mode="drop"),
        archive.seen.at[cell].add(1, mode="drop").at[cell].min(MOST, mode="drop"),
    )


def is_better(score: Array, length: Array, old_score: Array, old_length: Array) -> Array:
    """True for ways with a higher return, or the same in fewer steps."""
    return (score > old_score) | ((score == old_score) & (length < old_length))


def choose(archive: Archive, key: Key, count: int) -> Array:
    """Cells to go on from [count] int32, drawn with weights 1 / sqrt(steps that led there + 1);
    Ecoffet et al. (2021), arXiv:2004.12919."""
    weight = -0.5 * jnp.log(archive.seen.astype(float) + 1)
    weight = jnp.where(archive.filled, weight, -jnp.inf)
    return jax.random.categorical(key, weight, shape=(count,)).astype(jnp.int32)


def explore(
    cfg, env: E.Env, archive: Archive, chance: Array | tuple[()], key: Key
) -> tuple[Found, dict[str, Array]]:
    """`num_steps` random steps from cells of the archive; and sums of the episodes that ended.

    chance: seed of what the i-th step of every episode draws; (): each has a key of its own.
    """
    k_cell, k_first, k_steps = jax.random.split(key, 3)
    cell = choose(archive, k_cell, cfg.num_envs)
    begin, way = jax.tree.map(lambda x: x[cell], (archive.state, archive.actions))
    first = random_actions(k_first, env.action_space, way[:, 0], action_mask(begin.obs))
    lanes = jnp.arange(cfg.num_envs, dtype=jnp.int32)

    def go(loop: tuple[EnvState, Array, Array], key: Key):
        state, actions, last = loop
        k_action, k_repeat, k_env = jax.random.split(key, 3)
        legal = action_mask(state.obs)
        action = random_actions(k_action, env.action_space, last, legal)
        if legal is None:  # else the one before may be illegal now
            again = jax.random.uniform(k_repeat, (cfg.num_envs,)) < cfg.repeat
            action = jnp.where(again.reshape(-1, *[1] * (action.ndim - 1)), last, action)
        actions = actions.at[lanes, state.episode_length].set(action, mode="drop")
        if isinstance(chance, tuple):
            new, t = E.step_before_reset(env, state, E.to_space(env, action), k_env)
        else:
            new, t = backward.step_by_chance(env, state, E.to_space(env, action), chance)
        ended, sums = t.terminated | t.truncated, ended_episodes(state, t)
        score, length = state.episode_return + t.reward, state.episode_length + 1
        found = Found(new, actions, ended, score, length)
        new, actions = jax.tree.map(
            lambda old, x: jnp.where(ended.reshape(-1, *[1] * (x.ndim - 1)), old, x),
            (begin, way), (new, actions),
        )  # fmt: skip
        return (new, actions, action), (found, sums)

    keys = jax.random.split(k_steps, cfg.num_steps)
    _, (found, sums) = jax.lax.scan(go, (begin, way, first), keys)
    return found, {name: x.sum(0, dtype=x.dtype) for name, x in sums.items()}


def best_end(way: Way, found: Found) -> Way:
    """The best of a way and of the episodes that ended; those longer than L are left out."""
    steps = len(way.actions)
    flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found._replace(state=()))
    fits = flat.ended & (flat.length <= steps)
    score = jnp.where(fits, flat.score, -jnp.inf)
    best = jnp.lexsort((flat.length, -score))[0]
    new = Way(score[best], flat.length[best], flat.actions[best])
    better = is_better(new.score, new.length, way.score, way.length)
    return jax.tree.map(lambda x, old: jnp.where(better, x, old), new, way)


def last_visits(env: E.Env, obs: Tree, taken: Array) -> Array:
    """True for the steps [L] at whose observation, obs [L, *obs], no later step of a way is taken:
    what was done elsewhere before led back there, and is no part of the way."""
    x = flatten(env, obs)
    code = novelty.hash_exactly(x, hash_salt(x))
    later = jnp.triu((code[:, None] == code) & taken, 1)
    return taken & ~later.any(1)


def hash_salt(x: Array) -> Array:
    """Words [D] uint32 for hashes of vectors [..., D], always the same."""
    return jax.random.bits(jax.random.key(0), x.shape[-1:], jnp.uint32)


def require_restorable(cfg, env: E.Env) -> None:
    """Raises ValueError for an environment whose state cannot be put back, for it is elsewhere."""
    if getattr(env.core, "batched", False):
        raise ValueError(
            f"{label(type(cfg))} on {env.name}, whose state is on the host: allowed are "
            "environments in JAX, whose state can be restored"
        )
