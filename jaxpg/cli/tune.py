"""`jaxpg tune`: settings that are better than those that `jaxpg train` has."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import UseAppendAction

from jaxpg.cli import common, options
from jaxpg.cli.about.usage import wrap
from jaxpg.experiment.text import printable

if TYPE_CHECKING:
    from jaxpg.core.types import Agent
    from jaxpg.experiment.tuning import Tuned

EXAMPLES = (
    "jaxpg tune ppo MountainCar-v0 --minutes 10",
    "jaxpg tune dqn Acrobot-v1 --total-steps 100000 --search gamma=0.99 n_step=1,3",
)


def tune(words: list[str]) -> int:
    """Tunes the agent that the first word names to the environment of the second."""
    return options.call_with_agent("tune", _tune, EXAMPLES, words)


def _tune(
    agent: "Agent",
    env_name: str,
    config: Any,
    preset: Path | None = None,
    search: tuple[str, ...] = (),
    param: UseAppendAction[tuple[str, ...]] = (),
    total_steps: int = options.STEPS,
    minutes: float = 10.0,
    budget_steps: int | None = None,
    seeds: int = 2,
    held_out: int = 10,
    rounds: int = 2,
    keep: int = 4,
    programs: int = 4,
    finalists: int = 3,
    episodes: int = 128,
    seed: int = 0,
    out: Path | None = None,
) -> int:
    """Searches for better settings, and compares them on seeds that the search has not seen.

    It begins with the settings that `jaxpg train` would have. The best points of a few rounds are
    trained beside them on held-out seeds. The winner, if one is better, is written into a file that
    `jaxpg train AGENT ENV --preset FILE` takes.

    Args:
        preset: a TOML file, such as `jaxpg tune` writes: its settings are the defaults of the other
            options. The word defaults: those of the agent, without its preset.
        search: FIELD=LIST or FIELD=RANGE in the place of the standard values of the field, such as
            gamma=0.9,0.99 learning_rate=1e-4:1e-2:log; one value keeps it fixed.
        param: NAME=VALUE, a parameter of the environment or an argument of its constructor; may
            be given several times.
        total_steps: environment steps of one training, in the last round and the comparison.
        minutes: what it may take, about, compiling included.
        budget_steps: environment steps of all trainings, in place of the minutes.
        seeds: of every point in every round; each round has its own.
        held_out: seeds of the comparison at the end, which no round has seen.
        rounds: of the search; 1 trains every point to the end.
        keep: a round goes on with one of so many points, for so many times the steps.
        programs: combinations of static fields that are tried; each takes seconds to compile.
        finalists: points that are compared on the held-out seeds.
        episodes: of an evaluation in the comparison; the search plays a quarter of them.
        seed: of all random numbers.
        out: the folder; None is a new one in tunings/.
    """
    from jaxpg.core.config import from_dict

    common.set_up(common.cores(), vars(config))  # before what is named is imported
    cfg = from_dict(agent.Config, vars(config), trust=True)  # the user has typed it
    import jaxpg

    env = jaxpg.make(env_name, **dict(map(options.parse_parameter, param)))
    key = common.random_key(seed)
    space = options.parse_fields(search)
    name = f"{agent.name}-{common.short_name(env_name)}"
    with common.new_folder(out, Path("tunings", name)) as folder:
        found = jaxpg.tune(
            agent, cfg, env, key,
            total_steps=total_steps, minutes=minutes, budget_steps=budget_steps, space=space,
            seeds=seeds, held_out=held_out, rounds=rounds, keep=keep, programs=programs,
            finalists=finalists, episodes=episodes, out=folder, progress=True,
            log=_tell,
        )  # fmt: skip
    return _sum_up(found)


def resume_tuning(folder: Path, agent: str | None, env: str | None, trust: bool) -> int:
    """Goes on with a tuning, for `jaxpg resume`."""
    common.set_up(common.cores())
    from jaxpg.experiment import tuning

    objects = common.own_objects(folder, agent, env, trust)
    common.tell(f"going on with {folder} ...")
    with common.resumable(folder):
        found = tuning.resume(folder, progress=True, log=_tell, trust=trust, **objects)
    return _sum_up(found)


def _sum_up(found: "Tuned") -> int:
    """Prints what a tuning found: the finalists beside the settings that it began with; returns 1
    if no seed of the comparison has a greedy return."""
    from jaxpg.experiment.text import format_count

    about, folder = found.about, found.folder
    if not found.over or found.held_out is None:
        common.say(f"interrupted; go on with: jaxpg resume {folder}")
        return common.INTERRUPTED
    env = about["environment"]["name"]
    runs = sum(len(x.scores) for x in found.rounds)
    points = len(found.rounds[0].about["points"])
    points = f"{points} point{'s'[: points != 1]}"
    steps = sum(int(x.scores["env_steps"].sum()) for x in [*found.rounds, found.held_out])
    _tell(
        f"{points}, {runs} trainings in the search, {format_count(steps)} env steps in all, "
        f"{about['seconds'] / 60:.1f} minutes"
    )
    if len(found.held_out.about["points"]) == 1:
        _tell("The best point of the last round is the settings that it began with: no preset.")
        return 0
    if not found.finalists:
        failed = found.held_out.about.get("failed", "no greedy episode of the comparison ended")
        common.say(f"error: {failed}; the tables are in {folder}/rounds")
        return 1
    _tell(
        f"mean greedy return at {about['total_steps']:,} env steps, of {about['held_out']} "
        "held-out seeds"
    )
    _print_finalists(found)
    if found.winner is None:
        _tell(
            "No finalist is better than the settings that it began with, as far as these seeds "
            "tell: there is no preset."
        )
    else:
        common.tell(
            f"preset  {found.preset}",
            f"train   jaxpg train {about['agent']} {env} \\",
            f"          --preset {found.preset}",
        )
    common.tell(f"report  jaxpg report {folder} --out report.html")
    return 0


def _print_finalists(found: "Tuned") -> None:
    """Prints a column for each finalist: what is searched, and what it came to."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from jaxpg.experiment.analysis.scores import text
    from jaxpg.experiment.tuning.judge import ERROR, estimate

    held_out, finalists = found.held_out, found.finalists
    if held_out is None:
        return
    table = Table("", box=SIMPLE_HEAD)
    for name in ("before", *(f"finalist {i + 1}" for i in range(len(finalists)))):
        table.add_column(name, justify="right")
    points = held_out.about["points"]
    for name in held_out.fields:
        table.add_row(printable(name), *(text(point[name]) for point in points))
    table.add_section()
    means = [estimate(found.before, 1 - ERROR), *(x.mean for x in finalists)]
    table.add_row("mean return", *(f"{x.value:.4g}" for x in means))
    table.add_row("  95 % from", *(f"{x.low:.4g}" for x in means))
    table.add_row("  to", *(f"{x.high:.4g}" for x in means))
    table.add_row("gain", "", *(f"{x.gain.value:.4g}" for x in finalists))
    share = f"  {100 * finalists[0].confidence:.3g} % from"
    table.add_row(share, "", *(f"{x.gain.low:.4g}" for x in finalists))
    table.add_row("  to", "", *(f"{x.gain.high:.4g}" for x in finalists))
    table.add_row("better", "", *("yes" if x.better else "no" for x in finalists))
    common.console().print(table)


def _tell(text: str) -> None:
    common.tell(*wrap(printable(text)).splitlines())
