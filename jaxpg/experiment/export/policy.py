"""Trained policies to act with: from a run, or from one file that needs JAX and nothing else of
what trains.

A policy is an agent's `act` and those leaves of the training state that it reads. Which these are
is read off the lowered program, so that optimisers, critics and replay buffers stay behind whatever
the agent. A file holds, one after the other,

    jaxpolicy 1 DIGEST     a line: the SHA-256 of everything after it
    {"agent": ...}         a line of JSON: what the file is, see `Policy.about`
    weights                raw numbers, row by row
    greedy, sampled        two programs for any size of batch, as `jax.export` writes them

This module imports neither gymnax, flax, distrax nor optax, unless it loads a run.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jaxpg.core.checks import require_file, require_index, require_key, require_path, show
from jaxpg.core.types import Agent, Array, Key, Tree
from jaxpg.experiment.export.program import read_program
from jaxpg.experiment.extras import require_extra
from jaxpg.experiment.files.atomic import write_atomically

MAGIC, FORMAT = b"jaxpolicy", b"1"
PLATFORMS = ("cpu", "cuda", "tpu")
GENERATOR = "threefry2x32"  # of the keys that sample, as two words
WORDS = jax.ShapeDtypeStruct((2,), np.uint32)


class Policy(NamedTuple):
    """Policy that has been learnt: `policy(obs)` is the greedy action.

    about says what it is, as plain JSON values: `agent`, `config`, `environment`, `iteration` and
    `seed` of the run; `observation`, a shape and dtype by path in the observation ("" if it is one
    array); `states`, the number of discrete observations, or None; `action`, a shape and dtype;
    `carry`, those of what the policy remembers, [] for one without memory; `versions`.

    >>> policy = jaxpg.Policy.load("runs/cliff")
    >>> int(policy(36)) in range(4)  # of an observation, here a state
    True
    """

    about: dict[str, Any]
    weights: Sequence[Array]  # the leaves of the state that the policy reads
    act: Callable  # (weights, obs and carry as leaves [B, ...], words or None) -> action, carry

    @staticmethod
    def load(
        run: str | Path, *, seed: int = 0, agent: Agent | None = None, env: Any = None,
        trust: bool = False, best: bool = False,
    ) -> "Policy":  # fmt: skip
        """Loads the policy of a run folder's newest checkpoint.

        seed: which, in a run of several. agent, env, trust, best: as for `jaxpg.load`. Raises
        CheckpointError for a damaged or missing folder or one without a checkpoint, ValueError for
        no such seed or a network that is not trusted.
        """
        from jaxpg.experiment.run import folder as run_folder  # brings what trains

        return Policy.of(run_folder.load(run, agent, env, trust, best), seed=seed)

    @staticmethod
    def of(result: Any, *, seed: int = 0) -> "Policy":
        """Extracts the policy of a Result: what `jaxpg.run` and `jaxpg.load` return."""
        from jaxpg.core.run import Result
        from jaxpg.experiment.run import checkpoint

        if not isinstance(result, Result):
            raise ValueError(f"result={show(result)}: allowed is a Result, as `jaxpg.run` gives it")
        agent, cfg, env, state = result[:4]
        seeds = next(iter(result.metrics.values())).shape[:-1]
        require_index("seed", seed, math.prod(seeds))
        if seeds:
            state = jax.jit(lambda s: jax.tree.map(lambda x: x[seed], s))(state)  # one program
        act, obs, action, carry = _flatten_act(agent, cfg, env, state)
        space = env.core.observation_space(env.core.default_params)
        about = checkpoint.describe(agent, cfg, env) | {
            "iteration": result.iteration,
            "seed": seed,
            "observation": _types_by_path(obs),
            "states": int(space.n) if hasattr(space, "n") else None,
            "action": _type_to_dict(action, 1),
            "carry": [_type_to_dict(x, 1) for x in carry],
            "versions": checkpoint.package_versions(),
        }
        leaves, obs = jax.tree.leaves(state), jax.tree.leaves(obs)
        weights, act = _prune_weights(act, leaves, obs, carry)
        _require_finite(weights, f"the policy of {agent.name}, seed {seed}")
        return Policy(about, weights, act)

    def __call__(self, obs: Tree, carry: Tree = None, *, key: Key | None = None) -> Any:
        """Returns the action for one observation [*obs], or actions [B, *action] for a batch [B,
        *obs].

        With a key a sample, else the mode of the policy. A policy with memory returns also its
        carry, to be passed with the next observation; None begins an episode. Observations are as
        the agent saw them in training; discrete ones may be integers too. Each new size of a batch
        compiles once. Raises ValueError for another shape, integer, carry or key, and where an
        observation or the answer is not finite.
        """
        leaves, single = _to_batch(self.about, obs)
        size = len(leaves[0])
        kinds = _types_from_dicts(self.about["carry"], size)
        if carry is None:
            carry = [np.zeros(x.shape, x.dtype) for x in kinds]
        if [np.shape(x) for x in carry] != [x.shape for x in kinds]:
            raise ValueError(
                f"carry of shapes {[np.shape(x) for x in carry]}: allowed are "
                f"{[x.shape for x in kinds]}, what the policy returned for {size} observations"
            )
        words = None if key is None else _key_words(key)
        action, carry = self.act(self.weights, leaves, list(carry), words)
        _require_finite([action, *carry], "the policy's answer")
        action = np.asarray(action)[0] if single else np.asarray(action)
        return (action, carry) if kinds else action

    def export(self, path: str | Path, platforms: Sequence[str] = PLATFORMS) -> None:
        """Writes the policy into one file, for `Policy.from_file`. Needs flatbuffers.

        platforms: that it shall run on, among "cpu", "cuda", "rocm", "tpu". Raises what JAX raises
        for a policy that cannot be traced with a batch of unknown size.
        """
        path = require_file("path", path)
        (size,) = jax_export.symbolic_shape("batch")
        rest = (
            _types_from_dicts(self.about["observation"].values(), size),
            _types_from_dicts(self.about["carry"], size),
        )
        weights = [np.asarray(x) for x in self.weights]
        parts = {"weights": b"".join(x.tobytes() for x in weights)}
        for name, words in {"greedy": None, "sampled": WORDS}.items():
            program = jax_export.export(jax.jit(self.act), platforms=platforms)
            parts[name] = bytes(program(_types_of(weights), *rest, words).serialize())
        about = {k: v for k, v in self.about.items() if k not in ("platforms", "weights", "parts")}
        about |= {
            "platforms": list(platforms),
            "weights": [_type_to_dict(x, 0) for x in weights],
            "parts": {name: len(part) for name, part in parts.items()},
        }
        body = b"".join([json.dumps(about).encode(), b"\n", *parts.values()])
        head = b" ".join([MAGIC, FORMAT, hashlib.sha256(body).hexdigest().encode()])
        write_atomically(path, head + b"\n" + body)

    def export_onnx(self, path: str | Path) -> None:
        """Writes the greedy policy as an ONNX model. Needs the extra `onnx`.

        Inputs `obs [batch, *obs]` (of several parts: `obs` and the path of each) and `carry0`, ...
        if it has a memory; outputs `action [batch, *action]` and `next_carry0`, ... Raises
        ValueError for a program that has no rule, naming the primitive, ImportError without onnx.
        """
        require_extra("onnx", "onnx", "ONNX")
        from jaxpg.experiment.export import onnx

        onnx.write(self, require_file("path", path))

    @staticmethod
    def from_file(path: str | Path) -> "Policy":
        """Reads a policy that `export` wrote. Needs jax, numpy and flatbuffers.

        A digest guards the file against accidents, not against malice. Raises ValueError if it is
        another kind of file, a byte of it has changed, its programs call what is no arithmetic, or
        it needs `jax_enable_x64`.
        """
        require_path("path", path)
        head, _, body = Path(path).read_bytes().partition(b"\n")
        magic, *words = head.split(b" ")
        if magic != MAGIC:
            raise ValueError(f"{path}: found another kind of file, expected an exported policy")
        if words != [FORMAT, hashlib.sha256(body).hexdigest().encode()]:
            raise ValueError(
                f"{path}: found a changed or cut file, or one of another format, expected what "
                f"jaxpg wrote in format {FORMAT.decode()}"
            )
        line, _, rest = body.partition(b"\n")
        about = json.loads(line)
        kinds = [*about["weights"], *about["observation"].values(), about["action"]]
        if any("64" in kind["dtype"] for kind in kinds) and not jax.config.values["jax_enable_x64"]:
            raise ValueError(f"{path}: was made under jax_enable_x64, which is off here")
        parts = {}
        for name, length in about["parts"].items():
            parts[name], rest = rest[:length], rest[length:]
        weights, raw = [], parts["weights"]
        for x in _types_from_dicts(about["weights"]):
            length = math.prod(x.shape) * x.dtype.itemsize
            weights.append(jnp.asarray(np.frombuffer(raw[:length], x.dtype).reshape(x.shape)))
            raw = raw[length:]
        _require_finite(weights, str(path))
        greedy, sampled = (read_program(path, parts[name]) for name in ("greedy", "sampled"))

        def act(weights, obs, carry, words):
            return (greedy if words is None else sampled).call(weights, obs, carry, words)

        return Policy(about, weights, jax.jit(act))


def _flatten_act(agent, cfg, env, state: Tree):
    """Returns `agent.act` on leaves, act(leaves, obs, carry, words), and what it takes and gives
    for a batch of one: an observation, an action, and the leaves of its carry.

    The carry has the structure that `act` answers () with, which begins an episode as zeros do.
    """
    structure = jax.tree.structure(state)
    obs = jax.tree.map(lambda x: x[None], env.example_obs)
    obs_structure = jax.tree.structure(obs)

    def whole(state, obs, carry, words):
        raw = jnp.zeros(2, np.uint32) if words is None else words
        key = jax.random.wrap_key_data(raw, impl=GENERATOR)
        return agent.act(cfg, env, state, obs, carry, key, words is None)

    action, carry = jax.eval_shape(lambda state, obs: whole(state, obs, (), None), state, obs)
    carry, carry_structure = jax.tree.flatten(carry)

    def act(leaves, obs, carry, words):
        state = jax.tree.unflatten(structure, leaves)
        obs = jax.tree.unflatten(obs_structure, obs)
        action, carry = whole(state, obs, jax.tree.unflatten(carry_structure, carry), words)
        return action, jax.tree.leaves(carry)

    return act, obs, action, carry


def _prune_weights(
    act: Callable, leaves: list[Array], obs: list, carry: list
) -> tuple[list, Callable]:
    """Returns the leaves that `act` reads, and `act` of these: JAX drops what a program does not
    read when it lowers it."""
    shapes = _types_of(leaves), _types_of(obs), _types_of(carry)
    kept = set()
    for words in (None, WORDS):
        program = jax_export.export(jax.jit(act))(*shapes, words)
        kept |= {i for i in program.module_kept_var_idx if i < len(leaves)}

    def small(weights, obs, carry, words):
        own = dict(zip(sorted(kept), weights, strict=True))
        # Zeros stand for the others: never made, for nothing reads them.
        full = [own.get(i, jax.lax.full_like(x, 0)) for i, x in enumerate(shapes[0])]
        return act(full, obs, carry, words)

    return [jnp.copy(leaves[i]) for i in sorted(kept)], jax.jit(small)


def _to_batch(about: dict, obs: Tree) -> tuple[list[np.ndarray], bool]:
    """Converts an observation to leaves with a batch axis; True beside them if it was a single
    one."""
    kinds, states = about["observation"], about["states"]
    if states and (x := np.asarray(obs)).dtype.kind in "iu" and x.ndim < 2:
        if x.size and (x.min() < 0 or x.max() >= states):
            raise ValueError(f"obs={obs!r}: allowed are integers >= 0 and < {states}")
        obs = np.eye(states)[x]
    # One array may come as a list of numbers, which is a tree to JAX.
    given = {"": obs} if list(kinds) == [""] else _leaves_by_path(obs)
    if given.keys() != kinds.keys():
        raise ValueError(f"obs with parts {list(given)}: allowed are {list(kinds)}")
    leaves, sizes = [], set()
    for path, kind in kinds.items():
        x, shape = np.asarray(given[path], jnp.dtype(kind["dtype"])), tuple(kind["shape"])
        single = x.shape == shape
        if not single and (x.shape[1:] != shape or not x.size or x.ndim != len(shape) + 1):
            what = f"{shape}, or {('B', *shape)} of a batch".replace("'", "")
            raise ValueError(f"obs{path} of shape {x.shape}: allowed is {what}")
        _require_finite([x], f"obs{path}")
        leaves.append(x[None] if single else x)
        sizes.add((len(leaves[-1]), single))
    if len(sizes) > 1:
        raise ValueError(f"obs with parts of batches {[len(x) for x in leaves]}: allowed is one")
    return leaves, single


def _require_finite(arrays: Sequence, what: str) -> None:
    """Raises ValueError if an array has a NaN or an infinity: an action would say nothing of it."""
    for x in arrays:
        if jnp.issubdtype(x.dtype, jnp.floating) and not np.isfinite(np.asarray(x, float)).all():
            raise ValueError(f"{what}={show(np.asarray(x))}: allowed are finite numbers")


def _key_words(key: Key) -> np.ndarray:
    """Words of a random key. Raises ValueError for another kind of key."""
    require_key(key)
    if str(jax.random.key_impl(key)) != GENERATOR:
        raise ValueError(f"key={show(key)}: allowed is one of {GENERATOR}")
    return np.asarray(jax.random.key_data(key))


def _leaves_by_path(tree: Tree) -> dict[str, Any]:
    return {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(tree)}


def _types_by_path(obs: Tree) -> dict[str, dict]:
    return {path: _type_to_dict(x, 1) for path, x in _leaves_by_path(obs).items()}


def _type_to_dict(x, lead: int) -> dict[str, Any]:
    """Shape and dtype as JSON values, without the leading axes."""
    return {"shape": list(x.shape[lead:]), "dtype": str(x.dtype)}


def _types_from_dicts(kinds, *lead) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct((*lead, *k["shape"]), jnp.dtype(k["dtype"])) for k in kinds]


def _types_of(leaves: Sequence) -> list[jax.ShapeDtypeStruct]:
    return [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves]
