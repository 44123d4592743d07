"""Tables of sweeps and comparisons, in tidy form.

Each table is led by `config`, the fields that differ, and `seed`:

table         iteration, env_steps and the agent's metrics, a row per iteration or block of them
evaluations   iteration, env_steps, greedy, greedy_std, sampled, sampled_std, a row per evaluation
scores        env_steps, score (the last greedy evaluation), ended: done, target or diverged
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import env as E
from jaxpg.core.checks import require_index, require_path, show
from jaxpg.core.config import from_dict
from jaxpg.core.names import UntrustedError
from jaxpg.core.parallel.lanes import ACTIVE, stack, take_lane
from jaxpg.core.run import Result
from jaxpg.core.train import settle
from jaxpg.core.types import Agent, Key
from jaxpg.experiment.files import RUN, SWEEP
from jaxpg.experiment.files.atomic import CheckpointError, changed_file, read_json
from jaxpg.experiment.run import folder as run_folder
from jaxpg.experiment.run import provenance
from jaxpg.experiment.run.seal import read_rows, read_seal
from jaxpg.experiment.sweeps.entries import (
    Agents,
    Envs,
    Given,
    match_given,
    restore_agent,
    restore_env,
)
from jaxpg.experiment.sweeps.points import Point, apply_point
from jaxpg.experiment.text import printable

TABLES = {"table": "results", "evaluations": "evaluations", "scores": "scores"}  # files


class Sweep(NamedTuple):
    """Tables of a sweep or a comparison, or what there is of one that is under way."""

    folder: Path
    about: dict[str, Any]  # sweep.json
    fields: list[str]  # that were varied
    table: Any  # pandas.DataFrame, as the others
    evaluations: Any
    scores: Any


class SweepFolder(NamedTuple):
    """Open folder of a sweep, which resolves a point to what it stands for."""

    out: Path
    record: dict[str, Any]
    keys: Key  # [seeds]
    resolve: Callable[[Point], tuple[Agent, Any, E.Env]]  # agent, config, environment of a point
    trust: bool = False  # whether any module may be imported for that

    def part(self, i: int) -> tuple[Path, Agent, Any, E.Env, Key]:
        """Returns folder, agent, config, environment and keys of a part, by lane; the last lane
        fills it up to its width."""
        points, part = self.record["points"], self.record["parts"][i]
        lanes = part["lanes"] + part["lanes"][-1:] * (part["width"] - len(part["lanes"]))
        found = {p: self.resolve(points[p]) for p in {p for p, _ in lanes}}
        cfg, env = stack([found[p][1:] for p, _ in lanes])
        keys = self.keys[np.array([seed for _, seed in lanes])]
        return self.out / "parts" / str(i), found[lanes[0][0]][0], cfg, env, keys


def open_sweep(
    out: Path,
    agent: Agent,
    cfg,
    env: E.Env,
    key: Key,
    record: dict[str, Any],
    trust: bool = False,
) -> SweepFolder:
    """Opens the folder of a sweep: its points are what differs from a config and an environment.

    trust: whether they may name what is of any module: the caller's own may; see `core.names`.
    """
    keys = jax.random.split(key, record["seeds"])

    def of_point(point: Point) -> tuple[Agent, Any, E.Env]:
        own = apply_point(cfg, env, point, trust or provenance.recorded_sources(record))
        return agent, settle(agent, *own, record["total_steps"])[0], own[1]

    return SweepFolder(out, record, keys, of_point, trust)


def open_comparison(
    out: Path, key: Key, record: dict[str, Any], given: Given, trust: bool = False
) -> SweepFolder:
    """Opens the folder of a comparison: its points are agents and environments, whose settings are
    in the record. given: those that the user gives."""

    def of_point(point: Point) -> tuple[Agent, Any, E.Env]:
        allowed = trust or provenance.recorded_sources(record)
        agent = restore_agent(out, record, point["agent"], given, allowed)
        config = record["configs"][point["agent"]][point["env"]]
        try:
            cfg = from_dict(agent.Config, config, allowed)
        except ValueError as error:
            kind = UntrustedError if isinstance(error, UntrustedError) else CheckpointError
            raise kind(printable(f"{out / SWEEP}: {error}")) from error
        env = restore_env(out, record, point["env"], given, allowed)
        return agent, settle(agent, cfg, env, record["total_steps"])[0], env

    return SweepFolder(out, record, jax.random.split(key, record["seeds"]), of_point, trust)


def open_folder(
    out: Path,
    agent: Agent | None = None,
    env: E.Env | None = None,
    trust: bool = False,
    agents: Agents = (),
    envs: Envs = (),
) -> SweepFolder:
    """Opens the folder of a sweep or comparison. agent, env, trust: as of `jaxpg.load`; agents,
    envs: as of `compare`, those of a comparison that the user gives. Raises CheckpointError for a
    damaged, missing or foreign one, ValueError for a network that is not trusted, or for an object
    that is not of this folder."""
    path = out / SWEEP
    record = provenance.read_record(path, "sweep")
    if record["kind"] == "comparison":
        given = match_given(
            record, agents if agent is None else [agent], envs if env is None else [env]
        )
        return open_comparison(out, provenance.key_from_dict(record), record, given, trust)
    for name, value in {"agents": agents, "envs": envs}.items():
        if len(value):
            raise ValueError(f"{name}={show(value)}: allowed for a sweep is {name[:-1]}=...")
    return open_sweep(out, *provenance.restore_objects(path, agent, env, trust), record, trust)


def result(
    out: str | Path, config: int, agent: Agent | None = None, env: E.Env | None = None,
    *, trust: bool = False,
) -> Result:  # fmt: skip
    """Loads all seeds of one config of a sweep, as `jaxpg.load` gives a run.

    config: its number in the tables. agent, env, trust: as of `jaxpg.load`. Raises as that, and
    ValueError if there is no such config, CheckpointError if it has not been trained.
    """
    require_path("out", out)
    this = open_folder(Path(out), agent, env, trust)
    require_index("config", config, len(this.record["points"]))
    found: list[tuple[Result, np.ndarray]] = []
    for i, part in enumerate(this.record["parts"]):
        rows = np.array([n for n, (p, _) in enumerate(part["lanes"]) if p == config], int)
        if len(rows):
            folder, agent, _, envs, _ = this.part(i)
            check_part(out, part, i)
            found.append((run_folder.load(folder, agent, envs, trust), rows))
    longest = max((x for x, _ in found), key=lambda x: x.iteration)
    cfg, env = take_lane((found[0][0].cfg, found[0][0].env), found[0][1][0])
    states = [jax.tree.map(lambda x, r=r: x[r], x.state.state) for x, r in found]
    names = [name for name in longest.metrics if name != ACTIVE]
    return longest._replace(
        agent=agent, cfg=cfg, env=env, state=jax.tree.map(lambda *x: jnp.concatenate(x), *states),
        metrics={n: _join_seeds([x.metrics[n][r] for x, r in found]) for n in names},
        evaluations=_join_evaluations([(x.evaluations, r) for x, r in found]),
    )  # fmt: skip


def _join_evaluations(parts: list[tuple[Mapping[str, np.ndarray], np.ndarray]]) -> dict:
    """Evaluations of the seeds of one config, from the lanes of its parts."""
    longest = max((x for x, _ in parts), key=lambda x: len(x.get("iteration", ())))
    joined = {name: longest[name] for name in ("iteration", "env_steps") if name in longest}
    for name in longest.keys() - joined.keys():
        none = longest[name][:, :0]
        joined[name] = _join_seeds([x[name][r] if name in x else none[r * 0] for x, r in parts])
    return joined


def _join_seeds(parts: list[np.ndarray]) -> np.ndarray:
    """Joins [seeds, k] of parts: those that were over sooner end with no data."""
    count, kind = max(x.shape[-1] for x in parts), parts[0].dtype
    none = np.nan if np.issubdtype(kind, np.floating) else 0
    pad = lambda x: ((0, 0), (0, count - x.shape[-1]))  # noqa: E731
    return np.concatenate([np.pad(x, pad(x), constant_values=none) for x in parts])


def check_part(out: str | Path, part: dict[str, Any], i: int) -> Path:
    """Returns the folder of a part. Raises CheckpointError if a part that is over is not there, or
    if the run in it is not the one that sweep.json has on record."""
    folder = Path(out, "parts", str(i))
    if part["over"] or (folder / RUN).exists():
        seal = read_seal(folder)
        if "run" in part:
            seal.check(Path(out, SWEEP), part["run"])
    return folder


def load(out: str | Path) -> Sweep:
    """Loads a sweep's tables. For a running sweep they cover what has been written so far.

    Raises CheckpointError for a damaged, missing or foreign folder.
    """
    require_path("out", out)
    out = Path(out)
    record = provenance.read_record(out / SWEEP, "sweep")
    if "digests" not in record:
        return read_tables(out, record)
    import pandas as pd  # takes a while

    found = []
    for name, digest in record["digests"].items():
        path = out / f"{name}.csv"
        data = path.read_bytes() if path.exists() else b""
        if (now := hashlib.sha256(data).hexdigest()) != digest:
            mend = "put the file back as it was; its rows are also in parts/"
            raise CheckpointError(changed_file(path, now, digest, mend))
        found.append(pd.read_csv(io.BytesIO(data)))
    return Sweep(out, record, record["fields"], *found)


def read_tables(out: Path, record: dict[str, Any]) -> Sweep:
    """Reads the tables from the run folders of the parts: what is on record. Raises CheckpointError
    if a byte of it has changed, or a part is another sweep's."""
    import pandas as pd  # takes a while

    folders = [check_part(out, part, i) for i, part in enumerate(record["parts"])]

    def gather(file: str) -> pd.DataFrame:
        texts = [read_rows(folder / file) for folder in folders]
        frames = [
            _add_point_columns(
                _end_with_lanes(pd.read_csv(io.StringIO(text)), folder, part["env_steps"]),
                part["lanes"], record["points"], record["fields"],
            )
            for folder, text, part in zip(folders, texts, record["parts"], strict=True)
            if text
        ]  # fmt: skip
        if not frames:
            return pd.DataFrame(columns=["config", *record["fields"], "seed"])
        whole = pd.concat(frames, ignore_index=True)
        return whole.sort_values(["config", "seed", "iteration"], ignore_index=True)

    table = gather("metrics.csv")
    if ACTIVE in table:
        table = table[table[ACTIVE] > 0].drop(columns=ACTIVE).reset_index(drop=True)
    evaluations = gather("evaluations.csv")
    if "greedy" in evaluations:
        evaluations = evaluations.dropna(subset="greedy", ignore_index=True)
    return Sweep(
        out, record, record["fields"], table, evaluations, _score_table(table, evaluations, record)
    )


def _end_with_lanes(frame, folder: Path, env_steps: int):
    """Ends the row of a block within which a lane ended at the iteration at which that did.
    env_steps: of an iteration."""
    every = read_json(folder / RUN).get("log_every", 1)
    if every == 1 or ACTIVE not in frame:
        return frame
    beyond = (frame["iteration"] - 1) % every + 1 - frame[ACTIVE]
    beyond = beyond.where(frame[ACTIVE] > 0, 0)
    iteration, steps = frame["iteration"] - beyond, frame["env_steps"] - beyond * env_steps
    return frame.assign(iteration=iteration, env_steps=steps)


def _add_point_columns(frame, lanes: list, points: list[dict], fields: list[str]):
    """Puts config and fields in front of a part's table, without the lanes that fill it up."""
    frame = frame[frame["seed"] < len(lanes)].reset_index(drop=True)
    point, seed = np.array(lanes)[frame["seed"]].T.reshape(2, -1)
    frame = frame.assign(seed=seed)
    for name in reversed(fields):
        frame.insert(0, name, [_format_cell(points[p].get(name)) for p in point])
    frame.insert(0, "config", point)
    return frame


def _format_cell(value):
    """Formats a value for a table: hidden sizes as "[64, 64]", a partial as JSON."""
    if isinstance(value, dict):
        return json.dumps(value)
    return str(list(value)) if isinstance(value, (list, tuple)) else value


def _score_table(table, evaluations, record: dict[str, Any]):
    """Makes the table of scores: a row per config and seed that has been begun."""
    import pandas as pd

    def last(frame, column: str) -> dict[tuple[int, int], Any]:
        if column not in frame:
            return {}
        return frame.groupby(["config", "seed"])[column].last().to_dict()

    iteration, steps, score = (
        last(frame, name)
        for frame, name in ((table, "iteration"), (table, "env_steps"), (evaluations, "greedy"))
    )
    rows = []
    for part in record["parts"]:
        for lane in map(tuple, part["lanes"]):
            reached, value = iteration.get(lane, 0), score.get(lane, np.nan)
            ended = "diverged" if part["over"] else "running"
            if record["target"] is not None and value >= record["target"]:
                ended = "target"
            elif reached == part["iterations"]:
                ended = "done"
            value = np.nan if ended == "diverged" else value
            rows.append((*lane, steps.get(lane, 0), value, ended))
    frame = pd.DataFrame(rows, columns=["config", "seed", "env_steps", "score", "ended"])
    for name in reversed(record["fields"]):
        values = [_format_cell(record["points"][p].get(name)) for p in frame["config"]]
        frame.insert(1, name, values)
    return frame.sort_values(["config", "seed"], ignore_index=True)
