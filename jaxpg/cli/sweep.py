"""The commands that train many runs: `jaxpg sweep` and `jaxpg compare`."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tyro.conf import Positional, UseAppendAction

from jaxpg.cli import common, options
from jaxpg.experiment.text import printable

if TYPE_CHECKING:
    from rich.table import Table

    from jaxpg.core.types import Agent
    from jaxpg.experiment.analysis.scores import Final
    from jaxpg.experiment.sweeps import Sweep

BEST = 12  # configs in the table; results.csv has them all
EXAMPLES = (
    "jaxpg sweep ppo CartPole-v1 --grid learning_rate=1e-4,1e-3 gae_lambda=0.9,0.95",
    "jaxpg sweep ppo CartPole-v1 --random learning_rate=1e-5:1e-2:log --count 16",
)


def sweep(words: list[str]) -> int:
    """Sweeps the agent that the first word names in the environment of the second."""
    return options.call_with_agent("sweep", _sweep, EXAMPLES, words)


def _sweep(
    agent: "Agent",
    env_name: str,
    config: Any,
    preset: Path | None = None,
    grid: tuple[str, ...] = (),
    random: tuple[str, ...] = (),
    search: tuple[str, ...] = (),
    count: int = 32,
    batch: int = 8,
    param: UseAppendAction[tuple[str, ...]] = (),
    total_steps: int = options.STEPS,
    seeds: int = 8,
    seed: int = 0,
    out: Path | None = None,
    name: str | None = None,
    tag: UseAppendAction[tuple[str, ...]] = (),
    evaluations: int | None = None,
    episodes: int = 128,
    target: float | None = None,
    lanes: int | None = None,
    checkpoints: int = 5,
    checkpoint_minutes: float | None = 10.0,
    keep: int = 3,
    chunk: int | None = None,
    log_every: int | None = None,
    log: tuple[str, ...] = (),
) -> int:
    """Trains an agent with every combination of settings and every seed, side by side.

    FIELD is one of the agent's config (learning_rate), or env.NAME, a parameter of the
    environment (env.gravity). A list of numbers, names or lists: learning_rate=1e-4,1e-3
    activation=tanh,flax.linen:gelu hidden=[64],[64,64]. A range, for --random and --search:
    LOW:HIGH, or LOW:HIGH:log for numbers whose logarithms are uniform.

    Args:
        preset: a TOML file, such as `jaxpg tune` writes: its settings are the defaults of the other
            options. The word defaults: those of the agent, without its preset.
        grid: FIELD=VALUE,VALUE ...: every combination of these.
        random: FIELD=LIST or FIELD=RANGE: drawn `count` times, each with all of the grid.
        search: FIELD=LIST or FIELD=RANGE: chosen by Optuna from what it has seen (extra
            `optuna`), `count` times, `batch` at once in one program. Without a grid.
        count: points that are drawn, or tried by a search.
        batch: points of a search that are trained side by side.
        param: NAME=VALUE, a parameter of the environment or an argument of its constructor; may
            be given several times.
        total_steps: environment steps of each seed.
        seeds: of every point; the same for all.
        seed: of all random numbers.
        out: the folder; None is a new one in sweeps/.
        name: of the folder in sweeps/, if that shall not be called after agent and environment;
            `jaxpg runs` shows it.
        tag: a word by which `jaxpg runs` finds it; may be given several times.
        evaluations: of each seed; None is 1, at its end, or 10 with a target.
        episodes: of an evaluation.
        target: a seed whose greedy evaluation reaches it ends there.
        lanes: how many seeds are trained at once, at most; None is as memory allows.
        checkpoints: of each part, spread evenly over it.
        checkpoint_minutes: between checkpoints by the clock, beside those; None is none.
        keep: how many of the newest checkpoints stay, of each part.
        chunk: iterations between looks at what came of them, and after which a signal ends the
            sweep; None is a thirtieth of the run, at most 100.
        log_every: iterations of a row of results.csv; 1 is all rows, None as many as give no more
            than 10,000 rows a seed.
        log: loggers, as of `jaxpg train`; a series for every config and seed.
    """
    ways = Ways(grid, random, search, count, batch)
    asked = {
        "total_steps": total_steps, "seeds": seeds, "out": out, "episodes": episodes,
        "evaluations": evaluations, "target": target, "lanes": lanes, "checkpoints": checkpoints,
        "checkpoint_minutes": checkpoint_minutes, "keep": keep, "chunk": chunk,
        "log_every": log_every, "loggers": log, "name": name, "tags": tag,
    }  # fmt: skip
    return _run_sweep(agent, env_name, config, ways, param, seed, asked)


class Ways(NamedTuple):
    """Options that choose the points of a sweep."""

    grid: tuple[str, ...]
    random: tuple[str, ...]
    search: tuple[str, ...]
    count: int
    batch: int


def _run_sweep(
    agent: "Agent",
    env_name: str,
    config: Any,
    ways: Ways,
    param: tuple[str, ...],
    seed: int,
    asked: dict,
) -> int:
    """Trains every point and prints the best. asked: options of `jaxpg.sweep.run`, by name."""
    from jaxpg.core.checks import require_integer
    from jaxpg.core.config import from_dict

    if not (ways.grid or ways.random or ways.search):
        raise ValueError("no field is swept: give --grid, --random or --search FIELD=VALUES")
    if ways.search and (ways.grid or ways.random):
        raise ValueError("--search stands alone: it cannot go with --grid or --random")
    common.set_up(common.cores())  # before what is named is imported
    cfg = from_dict(agent.Config, vars(config), trust=True)  # the user has typed it
    import jaxpg
    from jaxpg.experiment.callbacks import make_loggers
    from jaxpg.experiment.run.record import check_labels
    from jaxpg.experiment.sweeps import points as P
    from jaxpg.experiment.sweeps import search, sweep

    env = jaxpg.make(env_name, **dict(map(options.parse_parameter, param)))
    key = common.random_key(seed)
    check_labels(asked["name"], asked["tags"])  # it becomes the name of a folder
    name = asked["name"] or f"{agent.name}-{common.short_name(env_name)}"
    with common.new_folder(asked["out"], Path("sweeps", name)) as folder:
        told = _tell_after(f"{agent.name} on {env_name}, sweeping; ")
        asked |= {"out": folder, "progress": True, "log": told}
        make_loggers(asked["loggers"], folder)  # refused before anything is printed
        grid, random, space = map(options.parse_fields, ways[:3])
        if ways.search:
            found = search.search(
                agent, cfg, env, key, space, trials=ways.count, batch=ways.batch, **asked
            )
        else:
            if ways.random:
                require_integer("count", ways.count, 1, P.MOST)
                P.require_runs(ways.count, asked["seeds"])
            drawn = P.random(ways.count, random, seed=seed) if ways.random else [{}]
            table = P.grid(grid)
            P.require_runs(len(table) * len(drawn), asked["seeds"])
            points = [a | b for a in table for b in drawn]
            found = sweep.run(agent, cfg, env, key, points, **asked)
    return _sum_up(found)


def compare(
    agents: Positional[tuple[str, ...]],
    env: tuple[str, ...],
    total_steps: int | None = None,
    seeds: int = 8,
    seed: int = 0,
    out: Path | None = None,
    name: str | None = None,
    tag: UseAppendAction[tuple[str, ...]] = (),
    evaluations: int = 10,
    episodes: int = 128,
    log_every: int | None = None,
    log: tuple[str, ...] = (),
) -> int:
    """Trains several agents on equal steps and seeds, each with its preset, and compares them.

    Args:
        agents: their names, see `jaxpg list`, or module:Object of your own.
        env: environments, one or more, by name or module:Object.
        total_steps: of each seed; None is the most that any of the presets asks for.
        seeds: of every agent; the same for all.
        seed: of all random numbers.
        out: the folder; None is a new one in comparisons/.
        name: of the folder in comparisons/, if that shall not be called after the environments;
            `jaxpg runs` shows it.
        tag: a word by which `jaxpg runs` finds it; may be given several times.
        evaluations: of each seed, spread evenly over the run.
        episodes: of an evaluation.
        log_every: iterations of a row of results.csv; 1 is all rows, None as many as give no more
            than 10,000 rows a seed.
        log: loggers, as of `jaxpg train`; a series for every agent, environment and seed.
    """
    if not agents:
        raise ValueError("`jaxpg compare AGENT ... --env ENV`: no AGENT is given")
    common.set_up(common.cores())
    from jaxpg.experiment.callbacks import make_loggers
    from jaxpg.experiment.run.record import check_labels
    from jaxpg.experiment.sweeps.compare import compare as go

    check_labels(name, tag)  # it becomes the name of a folder
    usual = "-".join(map(common.short_name, env))[:100]
    with common.new_folder(out, Path("comparisons", name or usual)) as folder:
        make_loggers(log, folder)  # refused before anything is printed
        found = go(
            agents, env, common.random_key(seed),
            total_steps=total_steps, seeds=seeds, out=folder, evaluations=evaluations,
            episodes=episodes, log_every=log_every, loggers=log, name=name, tags=tag,
            progress=True,
            log=_tell_after(f"{', '.join(agents)} on {', '.join(env)}; "),
        )  # fmt: skip
    return _sum_up(found)


def _tell_after(headline: str) -> Callable[[str], None]:
    """Prints what a sweep logs, the first line of it behind a headline: nothing is printed before
    all has been judged."""
    before = itertools.chain([headline], itertools.repeat(""))
    return lambda text: common.tell(next(before) + text)


def resume_sweep(folder: Path, agent: str | None, env: str | None, trust: bool) -> int:
    """Goes on with a sweep or a comparison, for `jaxpg resume`."""
    common.set_up(common.cores())
    import jaxpg
    from jaxpg.experiment.files import SWEEP
    from jaxpg.experiment.files.atomic import read_json

    if read_json(folder / SWEEP).get("kind") == "comparison":
        objects: dict[str, Any] = {"agents": [agent] if agent else (), "envs": [env] if env else ()}
    else:
        objects = common.own_objects(folder, agent, env, trust)
    common.tell(f"going on with {folder} ...")
    with common.resumable(folder):
        return _sum_up(jaxpg.sweep.resume(folder, progress=True, trust=trust, **objects))


def _sum_up(found: "Sweep") -> int:
    """Prints what a sweep found, the best first; returns 1 if nothing that it trained is finite."""
    from jaxpg.experiment.analysis import scores
    from jaxpg.experiment.text import format_count

    about, folder = found.about, found.folder
    if not all(part["over"] for part in about["parts"]):
        common.say(f"interrupted; go on with: jaxpg resume {folder}")
        return common.INTERRUPTED
    if failed := about.get("failed"):
        common.say(f"error: {failed}; its tables are in {folder}")
        return 1
    done = scores.final(found)
    ranked = sorted(done.scores, key=lambda c: -done.iqm([c]))
    common.tell(f"{done.what}: interquartile mean of {about['seeds']} seeds")
    common.console().print(_rank(found, done, ranked[:BEST]))
    if len(ranked) > BEST:
        common.tell(f"and {len(ranked) - BEST} more configs in scores.csv")
    lived, count = int(found.scores["env_steps"].sum()), about["compilations"]
    common.tell(
        f"{len(found.scores)} runs, {format_count(lived)} env steps in {about['seconds']:.1f} s "
        f"and {count} compilation{'s'[: count != 1]} of a training program"
    )
    common.tell(
        f"folder  {folder}",
        "tables  results.csv, evaluations.csv, scores.csv",
        f"report  jaxpg report {folder} --out report.html",
    )
    return 0


def _rank(found: "Sweep", done: "Final", configs: list[int]) -> "Table":
    """A table of configs and their scores. done: the scores at the end, see `scores.final`."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from jaxpg.experiment.analysis import scores

    table = Table(*map(printable, found.fields), box=SIMPLE_HEAD)
    for name in ("IQM", "95 % interval", "diverged"):
        table.add_column(name, justify="right")
    ended = found.scores.groupby("config")["ended"].agg(list)
    for c in configs:
        value, low, high = scores.estimate(done.runs([c]))
        interval = "-" if math.isnan(low) else f"{low:.4g} .. {high:.4g}"
        lost = ended[c].count("diverged")
        cells = [scores.text(found.about["points"][c].get(name)) for name in found.fields]
        table.add_row(*cells, f"{value:.4g}", interval, str(lost or ""))
    return table
