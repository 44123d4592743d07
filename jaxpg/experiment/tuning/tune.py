"""Tunings: the search for settings of an agent in an environment, and whether they are better.

    found = jaxpg.tune("ppo", None, "MountainCar-v0", key, total_steps=240_000, out="tunings/car")

Rounds of successive halving over a standard search space, each a sweep; then the best points beside
the config that it began with, on seeds that no round has seen. A tuning's folder holds

tune.json     what was asked for, the space, the programs, what came of it
rounds/0 ...  sweeps: a round each, and behind them the comparison on held-out seeds
preset.toml   the winner, if there is one: `jaxpg train AGENT ENV --preset FILE` takes it
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from jaxpg.core.checks import require_bool, require_key, require_path, show
from jaxpg.core.config import plain, to_dict, updated
from jaxpg.core.env import Env
from jaxpg.core.episodes import require_episodes
from jaxpg.core.games import require_score
from jaxpg.core.interrupt import catch_signals
from jaxpg.core.plan import plan_run
from jaxpg.core.train import require_objects
from jaxpg.core.types import Agent, C, Key
from jaxpg.experiment.files import TUNE, lock
from jaxpg.experiment.files.atomic import write_atomically, write_json
from jaxpg.experiment.run import provenance
from jaxpg.experiment.sweeps import Sweep
from jaxpg.experiment.sweeps.points import Point, Range, apply_point, require_names
from jaxpg.experiment.text import printable
from jaxpg.experiment.tuning import design, judge
from jaxpg.experiment.tuning.budget import Asked, Clock, require_asked, require_budget
from jaxpg.experiment.tuning.judge import Finalist
from jaxpg.experiment.tuning.space import Space, make_space
from jaxpg.experiment.tuning.stages import (
    Tuning,
    Watch,
    compare_finalists,
    is_over,
    train_round,
)
from jaxpg.presets import find_objects
from jaxpg.presets.file import format_file

PRESET = "preset.toml"


class Tuned(NamedTuple):
    """Result of a tuning, or of the part before it was stopped."""

    folder: Path
    about: dict[str, Any]  # tune.json
    rounds: list[Sweep]
    held_out: Sweep | None  # None before all rounds are over
    before: Any  # [held_out] scores of the config that it began with
    finalists: list[Finalist]
    winner: Finalist | None  # None if no finalist is better
    config: Any  # of the winner, else the one that it began with
    preset: Path | None  # file of the winner; None without one, or without a folder to keep it in

    @property
    def over(self) -> bool:
        """True unless it was stopped."""
        return self.held_out is not None and is_over(self.held_out)


def tune(
    agent: Agent[C] | str,
    cfg: C | None,
    env: Env | str,
    key: Key,
    *,
    total_steps: int,
    minutes: float | None = 10.0,
    budget_steps: int | None = None,
    space: Space | None = None,
    seeds: int = 2,
    held_out: int = 10,
    rounds: int = 2,
    keep: int = 4,
    programs: int = 4,
    finalists: int = 3,
    episodes: int = 128,
    out: str | Path | None = None,
    progress: bool = False,
    log: Callable[[str], None] = lambda text: None,
) -> Tuned:
    """Searches for settings that reach a higher greedy return, and compares them on fresh seeds.

    agent, cfg, env: as of `jaxpg.run`; the search begins with the config, and its winner has to be
    better. total_steps: of one training. minutes: what the search may take, about, compiling
    included; or budget_steps: environment steps of all trainings. space: field -> list of values,
    or Range, in the place of the standard values of the field; one value keeps it fixed. seeds: of
    every point in every round. held_out: seeds of the comparison. rounds: each keeps one of `keep`
    points, and trains it for `keep` times the steps. programs: combinations of static fields, which
    take a compilation each. finalists: points that are compared. episodes: of an evaluation in the
    comparison; the search plays a quarter. out: a new folder; None keeps nothing on disk. progress,
    log: as of `sweep.run`.

    A finalist is better if the mean of its scores less the config's, seed by seed, has an interval
    above 0; the intervals of all finalists hold at once with 95 %. Raises ValueError before
    anything compiles or is written for what cannot work.

    >>> env, cfg, key = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config(), jax.random.key(0)
    >>> space = {"learning_rate": [0.001, 0.5], "gamma": [1.0]}
    >>> few = {"budget_steps": 60_000, "held_out": 3, "finalists": 1, "episodes": 4}
    >>> found = jaxpg.tune("q_learning", cfg, env, key, total_steps=5000, space=space, **few)
    >>> len(found.before)  # a score for each held-out seed
    3
    """
    agent, cfg, env = find_objects(agent, cfg, env)
    require_objects(agent, cfg, env)
    own: Any = cfg
    require_score(env)
    require_key(key)
    require_bool("progress", progress)
    plan_run(agent, own, env, key, total_steps=total_steps)
    asked = Asked(
        int(total_steps), minutes, budget_steps, seeds, held_out, rounds, keep, programs, finalists,
        episodes,
    )  # fmt: skip
    require_asked(asked)
    if budget_steps is not None:
        asked = asked._replace(minutes=None)  # the clock has no say then
    require_episodes(env, "episodes", episodes)
    if not (space is None or isinstance(space, Mapping)):
        raise ValueError(f"space={show(space)}: allowed is a dict of fields")
    if not callable(log):
        raise ValueError(f"log={show(log)}: allowed is a function of a text")
    full = make_space(cfg, env, space or {})
    preset_fields(agent, cfg)  # what TOML has no word for is found out now
    check = make_check(agent, cfg, env, key)
    for name, values in (space or {}).items():
        for value in (values.low, values.high) if isinstance(values, Range) else values:
            check({name: value})
    chosen = design.choose_programs(cfg, full, programs, check)
    every = {agent.steps_per_iter(apply_point(cfg, env, x, trust=True)[0]) for x in ({}, *chosen)}
    asked = asked._replace(iterations=tuple(sorted(every)))
    require_budget(asked)
    with provenance.lasting(out):
        about = {"kind": "tuning", **provenance.describe_run(agent, cfg, env, key)}
    told = {
        n: x._asdict() if isinstance(x, Range) else list(map(plain, x)) for n, x in full.items()
    }
    record = provenance.add_sources(about | asked._asdict(), told)
    record |= {"space": told, "programs": chosen, "seconds": 0.0}
    with provenance.lasting(out), lock.hold_new_folder(out) as folder:
        write_json(folder / TUNE, record)
        found = _go_on(Tuning(folder, agent, cfg, env, key, record), progress, log)
    return found if out is not None else found._replace(preset=None)  # it went with the folder


def resume(
    out: str | Path,
    *,
    progress: bool = False,
    log: Callable[[str], None] = lambda text: None,
    agent: Agent | None = None,
    env: Env | None = None,
    trust: bool = False,
) -> Tuned:
    """Resumes a tuning that was stopped, in whatever way; one that is over is only loaded.

    One with a budget in steps ends as if it had never been stopped; with one in minutes the time
    decides how many points there are. agent, env, trust: as of `jaxpg.load`. Raises as that.
    """
    require_path("out", out)
    path = Path(out) / TUNE
    record = provenance.read_record(path, "tuning")
    objects = provenance.restore_objects(path, agent, env, trust)
    with lock.hold(Path(out)):
        return _go_on(Tuning(Path(out), *objects, record), progress, log)


def make_check(agent: Agent, cfg: Any, env: Env, key: Key) -> Callable[[Point], None]:
    """Makes a function that raises ValueError for a point that the agent cannot begin with."""

    def check(point: Point) -> None:
        require_names(cfg, [point])
        own, _ = apply_point(cfg, env, point, trust=True)  # the caller's
        preset_fields(agent, own)
        jax.eval_shape(lambda key: agent.init(own, env, key), key)

    return check


def _go_on(this: Tuning, progress: bool, log: Callable[[str], None]) -> Tuned:
    """Trains what is missing, and judges it. It ends early if a signal asks for it."""
    record = this.record
    clock = Clock(this.asked.minutes, record["seconds"], len(record["programs"]))
    watch, done, last = Watch(clock, progress, log), [], None
    with catch_signals() as signals:
        for i in range(this.asked.rounds + 1):
            if signals.asked or (done and not is_over(done[-1])):
                break
            if i < this.asked.rounds:
                done.append(train_round(this, i, done[-1] if done else None, watch))
            else:
                last = compare_finalists(this, done[-1], watch)
            if "winner" not in record:
                record = record | {"seconds": clock.spent()}
                write_json(this.out / TUNE, record)
    found = Tuned(this.out, record, done, last, (), [], None, this.cfg, None)
    if not found.over or last is None:
        return found
    before, finalists = judge.judge_finalists(last)
    winner = judge.choose_winner(finalists)
    record = record | {"winner": winner.point if winner else None}
    found = found._replace(about=record, before=before, finalists=finalists, winner=winner)
    if winner:
        found = found._replace(
            config=updated(this.cfg, winner.point, trust=True), preset=this.out / PRESET
        )
        _write_preset(this, found)
    write_json(this.out / TUNE, record)
    return found


def preset_fields(agent: Agent, cfg: Any) -> dict[str, Any]:
    """The fields of a config that differ from the defaults, as a preset has them. Raises ValueError
    for one that TOML cannot say."""
    usual = to_dict(agent.Config())
    fields = {name: x for name, x in to_dict(cfg).items() if x != usual[name]}
    format_file(agent.name, "", 1, fields, [])
    return fields


def _write_preset(this: Tuning, found: Tuned) -> None:
    """Writes the winner's file, once."""
    asked, winner = this.asked, found.winner
    if winner is None or (this.out / PRESET).exists():
        return
    gain, mean, env = winner.gain, winner.mean, this.env.name
    made = this.record["made_with"]
    about = [
        f"{this.agent.name} on {env}, found by jaxpg {made['jaxpg']}, jaxpg tune, "
        f"on {time.strftime('%Y-%m-%d')}",
        f"Mean greedy return at {asked.total_steps:,} env steps, {asked.held_out} held-out seeds:",
        f"{mean.value:.4g} (95 %: {mean.low:.4g} .. {mean.high:.4g}), "
        f"{found.before.mean():.4g} with the settings that it began with",
        f"Gain {gain.value:.4g} ({100 * winner.confidence:.3g} %: {gain.low:.4g} .. "
        f"{gain.high:.4g}), the best of {len(found.finalists)} on these seeds",
    ]
    fields = preset_fields(this.agent, found.config)
    lines = [*map(printable, about)]
    text = format_file(this.agent.name, env, asked.total_steps, fields, lines)
    write_atomically(this.out / PRESET, text.encode())
