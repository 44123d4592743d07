"""Checkpoints of a whole training state that are either what was saved or an error.

Orbax stores the arrays and keeps the last few steps. It restores a file with a flipped byte
without a word, so every step has a manifest of ours beside its files: their digests, what every
leaf is, and which agent, config and environment it belongs to. The manifest is written last, in
one atomic move: a step without one was cut short, and does not exist.
"""

import hashlib
import json
import shutil
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import config
from jaxpg.core import env as E
from jaxpg.core.parallel.processes import broadcast_from_main, is_main_process, replicate
from jaxpg.core.run import Callback, Event, Result
from jaxpg.core.types import Agent, Tree
from jaxpg.envs import registry
from jaxpg.experiment.files import write_atomically
from jaxpg.experiment.text import printable

MANIFEST = "manifest.json"
PACKAGES = ("jaxpg", "jax", "jaxlib", "flax", "optax", "gymnax", "distrax", "orbax-checkpoint")


class CheckpointError(ValueError):
    """Error of a checkpoint or run folder that cannot be trusted: where, what was found, what
    expected.

    >>> try:
    ...     jaxpg.load("runs/nothing")
    ... except jaxpg.CheckpointError as error:
    ...     print(error)
    runs/nothing: found no such folder, expected the folder of a run
    """

    def __init__(self, text: str):
        super().__init__(printable(text))  # names in it are others'


def _add_digest(content: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, indent=1) + "\n"


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Writes JSON with its own digest, in one atomic move: a kill leaves all of it or nothing."""
    write_atomically(path, _add_digest(_to_json_values(content)).encode())


def read_json(path: str | Path) -> dict[str, Any]:
    """Reads what `write_json` wrote. Raises CheckpointError if it is not there or a byte has
    changed."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: found no such file, expected one that jaxpg wrote")
    try:
        text = path.read_text()
        content = json.loads(text)
        del content["sha256"]
        intact = text == _add_digest(content)
    except (ValueError, TypeError, KeyError):  # not text, not JSON, or not ours
        intact = False
    if not intact:
        raise CheckpointError(f"{path}: found a changed or cut file, expected what jaxpg wrote")
    return content


def _to_json_values(content):
    """Converts to what JSON gives back: tuples are lists, NumPy numbers are numbers."""
    return json.loads(json.dumps(content, default=lambda x: np.asarray(x).tolist()))


def package_versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    return {name: metadata.version(name) for name in PACKAGES}


def describe(agent: Agent, cfg, env: E.Env) -> dict[str, Any]:
    """Describes what a checkpoint belongs to, as plain JSON values."""
    if env.made_of:
        environment = registry.to_dict(env)
    else:  # the user's own: its parameters by path
        params = jax.tree_util.tree_leaves_with_path(env.params)
        environment = {"name": env.name} | {jax.tree_util.keystr(p): x for p, x in params}
    return _to_json_values(
        {"agent": agent.name, "config": config.to_dict(cfg), "environment": environment}
    )


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
    arrays = dict(zip(leaves, map(np.array, jax.device_get(raw)), strict=True))
    return Snapshot(arrays, _leaf_types(state), keys)


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


def save(folder: str | Path, snap: Snapshot, iteration: int, about: dict, keep: int = 3) -> None:
    """Saves a checkpoint, and removes what a kill left behind and all but the newest `keep`.

    about: from `describe`.
    """
    import orbax.checkpoint as ocp  # takes a second

    folder = Path(folder).resolve()  # Orbax insists
    folder.mkdir(parents=True, exist_ok=True)
    for step in folder.iterdir():  # "40", or "40." and what Orbax calls a draft
        if step.name.partition(".")[0].isdigit() and not (step / MANIFEST).is_file():
            shutil.rmtree(step)
    options = ocp.CheckpointManagerOptions(
        enable_async_checkpointing=False,
        multiprocessing_options=_one_process_options(),
        create=False,
    )
    with ocp.CheckpointManager(folder, options=options) as manager:
        # Orbax refuses arrays without elements; their kind says all about them.
        arrays = {name: x for name, x in snap.arrays.items() if x.size}
        manager.save(iteration, args=ocp.args.StandardSave(arrays))
        step = folder / str(iteration)
        manifest = {"iteration": iteration, **about, "versions": package_versions()}
        manifest |= {"leaves": snap.kinds, "keys": snap.keys, "files": _file_digests(step)}
        write_json(step / MANIFEST, manifest)
        for old in sorted(manager.all_steps())[:-keep]:  # not sooner: one is whole at all times
            manager.delete(old)


def _one_process_options():
    """Options by which Orbax saves or restores in this process without waiting for others."""
    import orbax.checkpoint as ocp

    me = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process-{me}"
    )


def newest(folder: str | Path) -> int | None:
    """Iteration of the newest finished checkpoint; None if there is none."""
    steps = [path.parent.name for path in Path(folder).glob(f"*/{MANIFEST}")]
    return max((int(step) for step in steps if step.isdigit()), default=None)


def restore(folder: str | Path, like: Tree, about: dict[str, Any]) -> tuple[Tree, int]:
    """Restores the newest finished checkpoint: its state and iteration.

    like: the state's structure, from `jax.eval_shape`. about: from `describe`. Raises
    CheckpointError, with the first difference, if there is none, a byte of it has changed, or it
    belongs to another agent, config, environment or state. It never turns to an older one.
    """
    import orbax.checkpoint as ocp  # takes a second

    folder = Path(folder)
    iteration = newest(folder)
    if iteration is None:
        raise CheckpointError(f"{folder}: found no finished checkpoint, expected one")
    step = folder / str(iteration)
    manifest = read_json(step / MANIFEST)
    files, saved = _file_digests(step), manifest["files"]
    for name in {**files, **saved}:
        if files.get(name) != saved.get(name):
            found, digest = files.get(name, "no file"), saved.get(name, "no file")
            raise CheckpointError(f"{step / name}: found {found}, expected {digest} (sha256)")
    expected = {"iteration": iteration, **about, "leaves": _leaf_types(like)}
    for part, value in expected.items():
        if differs := first_difference(manifest[part], value, part):
            raise CheckpointError(f"{step}: {differs}")

    with ocp.StandardCheckpointer(multiprocessing_options=_one_process_options()) as checkpointer:
        arrays = checkpointer.restore((step / "default").resolve())

    def leaf(name: str, x):
        raw = jnp.asarray(arrays[name] if name in arrays else np.zeros(x.shape, x.dtype))
        return jax.random.wrap_key_data(raw, impl=manifest["keys"][name]) if _is_key(x) else raw

    leaves = [leaf(name, x) for name, x in _leaves_by_path(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves), iteration


def first_difference(found, expected, path: str) -> str | None:
    """Finds the first place where two JSON values differ."""
    if not (isinstance(found, dict) and isinstance(expected, dict)):
        return None if found == expected else f"{path}: found {found!r}, expected {expected!r}"
    parts = ((name, found.get(name), expected.get(name)) for name in {**found, **expected})
    return next((d for n, f, e in parts if (d := first_difference(f, e, f"{path}.{n}"))), None)


def checkpoints(
    folder: str | Path, agent: Agent, cfg, env: E.Env, every: int, keep: int = 3
) -> Callback:
    """Saves a checkpoint at the first chunk end at or after each multiple of `every` iterations,
    and when the run ends or is stopped, but not when it fails.

    A state with a NaN or infinity is not saved, with a warning, so that the last good one stays.
    The copy is made while the state is in hand, and written one chunk later, with the metrics:
    give this after the callbacks that write files, and a checkpoint has all of its rows in them.
    Of several processes process 0 writes. Raises CheckpointError, after the first chunk, if the
    folder has checkpoints of another run.
    """
    about, folder = describe(agent, cfg, env), Path(folder)
    last, handed, waiting = broadcast_from_main(lambda: newest(folder)) or 0, 0, {}

    def write(snap: Snapshot, iteration: int) -> None:
        if not is_main_process():
            return
        for name, x in snap.arrays.items():
            if jnp.issubdtype(x.dtype, jnp.inexact) and not np.isfinite(x).all():
                where = f"{folder}: iteration {iteration} is not saved"
                warnings.warn(f"{where}: {name} has a NaN or infinity", stacklevel=2)
                return
        save(folder, snap, iteration, about, keep)

    def on_chunk(event: Event) -> None:
        nonlocal last
        if event.iteration <= last:
            raise CheckpointError(
                f"{folder}: found a checkpoint of iteration {last}, expected none that this run, "
                f"at iteration {event.iteration}, has still to reach"
            )
        if event.iteration // every > last // every:
            last = event.iteration
            waiting[last] = take_snapshot(event.state)

    def on_metrics(event: Event) -> None:
        nonlocal handed
        handed = event.iteration
        if handed in waiting:
            write(waiting.pop(handed), handed)

    def on_end(result: Result) -> None:
        # Not the same iteration if a second Ctrl-C came between the last state and its rows.
        if result.stopped != "error" and handed == result.iteration != last:
            write(take_snapshot(result.state), handed)

    return Callback(on_chunk, on_metrics, on_end)
