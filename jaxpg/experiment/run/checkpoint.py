"""Checkpoints of a whole training state that are either what was saved or an error.

Orbax stores the arrays. It restores a file with a flipped byte without a word, so every step has a
manifest of ours beside its files: their digests, what every leaf is, and which agent, config and
environment it belongs to. A step is written as a draft, read back, and gets its name last, in one
atomic move: one without a manifest does not exist. Only what carries our mark is ever removed.
"""

import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import config
from jaxpg.core import env as E
from jaxpg.core.parallel.processes import replicate
from jaxpg.core.types import Agent, Tree
from jaxpg.envs import registry
from jaxpg.experiment.files import arrays
from jaxpg.experiment.files.atomic import (
    DRAFT,
    CheckpointError,
    changed_file,
    read_json,
    to_json_values,
    write_json,
)

MANIFEST = "manifest.json"
MARK = "made-by-jaxpg"  # a file in every step
SCORE = "greedy"  # in a manifest: the evaluation that was the best so far
PACKAGES = ("jaxpg", "jax", "jaxlib", "flax", "optax", "gymnax", "distrax", "orbax-checkpoint")


def package_versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    return {name: metadata.version(name) for name in PACKAGES}


def describe(agent: Agent, cfg, env: E.Env) -> dict[str, Any]:
    """Describes what a checkpoint belongs to, as plain JSON values."""
    told = to_json_values({"agent": agent.name, "config": config.to_dict(cfg)})
    return {**told, "environment": describe_env(env)}


def describe_env(env: E.Env) -> dict[str, Any]:
    """Describes an environment as plain JSON values; the user's own by the paths of its
    parameters."""
    if env.made_of:
        return to_json_values(registry.to_dict(env))
    params = jax.tree_util.tree_leaves_with_path(env.params)
    return to_json_values({"name": env.name} | {jax.tree_util.keystr(p): x for p, x in params})


RESTORE = "put the file back as it was, or remove the checkpoint and `resume` from an older one"


class Snapshot(NamedTuple):
    """Snapshot of a state in the host's memory, leaf by leaf; names are paths in the state."""

    arrays: dict[str, np.ndarray]  # random keys as their raw words
    kinds: dict[str, str]  # "float32[4, 2]"
    keys: dict[str, str]  # of the leaves that are random keys: the generator


def take_snapshot(state: Tree) -> Snapshot:
    """Copies a state to the host, to that of every process. Waits for the device."""
    leaves = _leaves_by_path(state)
    keys = {name: str(jax.random.key_impl(x)) for name, x in leaves.items() if _is_key(x)}
    raw = [jax.random.key_data(x) if name in keys else x for name, x in leaves.items()]
    if jax.process_count() > 1:  # leaf by leaf: all of them may be too much for a device
        raw = [jax.device_get(replicate(x)) for x in raw]
    # `device_get` may return views of the device's memory, which the next chunk is given.
    copies = dict(zip(leaves, map(np.array, jax.device_get(raw)), strict=True))
    return Snapshot(copies, _leaf_types(state), keys)


def _leaves_by_path(tree: Tree) -> dict[str, Any]:
    return {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)}


def _leaf_types(tree: Tree) -> dict[str, str]:
    return {name: f"{x.dtype}{list(x.shape)}" for name, x in _leaves_by_path(tree).items()}


def _is_key(x) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _file_digests(step: Path) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint but its manifest."""
    found = {}
    for path in sorted(step.rglob("*")):
        if path.is_file() and path != step / MANIFEST:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(step).as_posix()] = digest
    return found


_attempts = itertools.count()  # to save, of this process


def save(
    folder: str | Path, snap: Snapshot, iteration: int, about: dict, keep: int = 3,
    spare: int | None = None,
) -> None:  # fmt: skip
    """Saves a checkpoint, and removes what a kill left behind and all but the newest `keep`.

    about: from `describe`. spare: an iteration that is kept too. Raises CheckpointError if what was
    written cannot be read back, or if there is something else of that name.
    """
    folder = Path(folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if _is_leftover(path):  # a save that failed may still write there, in a thread of Orbax's
            shutil.rmtree(path, ignore_errors=True)
    # So no two attempts share a draft.
    name = f"{iteration}.{os.getpid()}-{next(_attempts)}{DRAFT}"
    step, draft = folder / str(iteration), folder / name
    if os.path.lexists(step):
        raise CheckpointError(f"{step}: found something there, expected a name that is free")
    draft.mkdir()
    (draft / MARK).write_text("jaxpg made this checkpoint, and removes it when there are newer.\n")
    # Orbax refuses arrays without elements; their kind says all about them.
    some = {name: x for name, x in snap.arrays.items() if x.size}
    arrays.write(draft, some)
    manifest = {"iteration": iteration, **about, "versions": package_versions()}
    manifest |= {"leaves": snap.kinds, "keys": snap.keys, "files": _file_digests(draft)}
    _check_arrays(draft, some)  # after the digests: what changes later is not as they say
    write_json(draft / MANIFEST, manifest)
    draft.rename(step)
    steps = [x for x in finished(folder) if x <= iteration]
    for old in steps[keep:]:  # not sooner: one is whole at all times
        if old != spare:
            _remove(folder, old)


def _is_iteration(name: str) -> bool:
    return bool(re.fullmatch("0|[1-9][0-9]*", name))


def _is_leftover(path: Path) -> bool:
    """True for a step of ours that was never finished, or is half removed; not for a link."""
    if path.is_symlink() or not path.is_dir():
        return False
    if path.name.endswith(DRAFT):
        return _is_iteration(path.name.removesuffix(DRAFT).partition(".")[0])
    marked = os.path.isfile(path / MARK) and not os.path.lexists(path / MANIFEST)
    return marked and _is_iteration(path.name)


def _remove(folder: Path, iteration: int) -> None:
    """Removes a checkpoint, if it is ours beyond doubt: no link, and its manifest is whole and says
    that iteration."""
    step = folder / str(iteration)
    with contextlib.suppress(CheckpointError):
        if not step.is_symlink() and read_manifest(folder, iteration)["iteration"] == iteration:
            rest = step.rename(folder / f"{iteration}{DRAFT}")  # or a kill would leave a half
            shutil.rmtree(rest)


def _check_arrays(step: Path, expected: dict[str, np.ndarray]) -> None:
    """Raises CheckpointError unless the arrays of a step are these, to the byte."""
    try:
        found = arrays.read(step)
    except Exception as error:  # of many kinds
        raise CheckpointError(
            f"{step}: found what cannot be read back, expected what was just written: {error}"
        ) from error
    for name, x in expected.items():
        if name not in found or np.asarray(found[name]).tobytes() != x.tobytes():
            raise CheckpointError(f"{step}: found another {name} than was just written")


def finished(folder: str | Path) -> list[int]:
    """Iterations of the finished checkpoints, the newest first."""
    steps = (path.parent for path in Path(folder).glob(f"*/{MANIFEST}"))
    ours = (x for x in steps if os.path.isfile(x / MARK) or os.path.isdir(x / "default"))
    return sorted((int(x.name) for x in ours if _is_iteration(x.name)), reverse=True)


def newest(folder: str | Path) -> int | None:
    """Iteration of the newest finished checkpoint; None if there is none."""
    return next(iter(finished(folder)), None)


def require_newest(folder: str | Path) -> int:
    """Iteration of the newest finished checkpoint. Raises CheckpointError if there is none."""
    iteration = newest(folder)
    if iteration is None:
        raise CheckpointError(f"{folder}: found no finished checkpoint, expected one")
    return iteration


def best(folder: str | Path) -> tuple[float, int] | None:
    """Score and iteration of the finished checkpoint with the best greedy evaluation, the first of
    equals; None if none was kept for its score."""
    scores = [(read_manifest(folder, x).get(SCORE), x) for x in finished(folder)]
    known = [(score, x) for score, x in scores if score is not None]
    return max(known, key=lambda pair: (pair[0], -pair[1]), default=None)


def read_manifest(folder: str | Path, iteration: int) -> dict[str, Any]:
    """Reads the manifest of a finished checkpoint."""
    return read_json(Path(folder, str(iteration), MANIFEST), ("iteration", "leaves", "files"))


def restore(
    folder: str | Path, like: Tree, about: dict[str, Any], iteration: int | None = None
) -> tuple[Tree, int]:
    """Restores a finished checkpoint, the newest if no iteration is given: its state and iteration.

    like: the state's structure, from `jax.eval_shape`. about: from `describe`. Raises
    CheckpointError, with the first difference, if there is none, a byte of it has changed, or it
    belongs to another agent, config, environment or state. It never turns to an older one. Fields
    that an earlier version's config did not have are not compared: the record of the run, which
    lacks them too, gives them their defaults.
    """
    folder = Path(folder)
    iteration = require_newest(folder) if iteration is None else iteration
    step, manifest = folder / str(iteration), _read_whole(folder, iteration)
    expected = {"iteration": iteration, **about, "leaves": _leaf_types(like)}
    if isinstance(told := manifest.get("config"), dict):
        expected["config"] = {name: x for name, x in about["config"].items() if name in told}
    for part, value in expected.items():
        if differs := first_difference(manifest.get(part), value, part):
            if part == "leaves":
                differs += "; a state of another version of jaxpg, or of the agent, does not load"
            raise CheckpointError(f"{step}: {differs}")

    found = arrays.read(step)

    def leaf(name: str, x):
        raw = jnp.asarray(found[name] if name in found else np.zeros(x.shape, x.dtype))
        return jax.random.wrap_key_data(raw, impl=manifest["keys"][name]) if _is_key(x) else raw

    leaves = [leaf(name, x) for name, x in _leaves_by_path(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves), iteration


def read_leaves(folder: str | Path, iteration: int) -> dict[str, Any]:
    """Reads the leaves of a finished checkpoint by their paths, without the objects that it belongs
    to: nothing is imported. Raises CheckpointError if there is none, or a byte of it has changed.
    """
    manifest = _read_whole(Path(folder), iteration)
    found, keys = arrays.read(Path(folder, str(iteration))), manifest["keys"]
    read = {name: np.asarray(x) for name, x in found.items() if name not in keys}
    for name, kind in manifest["leaves"].items():
        if name in keys:
            read[name] = jax.random.wrap_key_data(jnp.asarray(found[name]), impl=keys[name])
        elif name not in read:  # without elements
            dtype, _, shape = kind.partition("[")
            read[name] = np.zeros(json.loads(f"[{shape}"), jnp.dtype(dtype))
    return read


def _read_whole(folder: Path, iteration: int) -> dict[str, Any]:
    """Reads the manifest of a checkpoint. Raises CheckpointError for other files than it has."""
    step, manifest = folder / str(iteration), read_manifest(folder, iteration)
    files, saved = _file_digests(step), manifest["files"]
    for name in {**files, **saved}:
        if files.get(name) != saved.get(name):
            found, digest = files.get(name, "no file"), saved.get(name, "no file")
            raise CheckpointError(changed_file(step / name, found, digest, RESTORE))
    return manifest


def first_difference(found, expected, path: str) -> str | None:
    """Finds the first place where two JSON values differ."""
    if not (isinstance(found, dict) and isinstance(expected, dict)):
        return None if found == expected else f"{path}: found {found!r}, expected {expected!r}"
    parts = ((name, found.get(name), expected.get(name)) for name in {**found, **expected})
    return next((d for n, f, e in parts if (d := first_difference(f, e, f"{path}.{n}"))), None)


def remove_newer(folder: str | Path, iteration: int) -> None:
    """Removes the finished checkpoints after an iteration, from which a run goes on anew."""
    for later in finished(folder):
        if later > iteration:
            _remove(Path(folder), later)
