"""The commands of `jaxpg` that are about many runs, or show what came of them: sweep, compare,
report, render."""

import json
import math
import os
from pathlib import Path

import tyro
from tyro.conf import Positional

from jaxpg import cli

BEST = 12  # configs in the table; results.csv has them all


def sweep(argv: list[str]) -> int:
    """`jaxpg sweep AGENT ENV ...`: these two decide what else there is to say."""
    from jaxpg import agents, presets
    from jaxpg.core.config import from_dict

    names = [word for word in argv[:2] if not word.startswith("-")]
    if not names:
        print("usage: jaxpg sweep AGENT ENV --grid FIELD=VALUE,VALUE ... [OPTIONS]")
        print("`jaxpg sweep AGENT ENV --help` shows the options and the fields.")
        return 0 if argv else 2
    agent, env_name = agents.get(names[0]), (names[1:] or [None])[0]
    preset = presets.table(agent).get(env_name, {})
    shown = cli._shown(presets.preset(agent, env_name))

    def command(
        config: type(shown) = shown,
        grid: tuple[str, ...] = (),
        random: tuple[str, ...] = (),
        search: tuple[str, ...] = (),
        count: int = 32,
        batch: int = 8,
        param: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
        total_steps: int = preset.get("total_steps", cli.STEPS),
        seeds: int = 8,
        seed: int = 0,
        out: Path | None = None,
        evaluations: int | None = None,
        episodes: int = 128,
        target: float | None = None,
        lanes: int | None = None,
    ) -> int:
        """Trains an agent with every combination of settings and every seed, side by side.

        FIELD is one of the agent's config (learning_rate), or env.NAME, a parameter of the
        environment (env.gravity). A list of numbers, names or lists: learning_rate=1e-4,1e-3
        activation=tanh,relu hidden=[64],[64,64]. A range, for --random and --search: LOW:HIGH, or
        LOW:HIGH:log for numbers whose logarithms are uniform.

        Args:
            grid: FIELD=VALUE,VALUE ...: every combination of these.
            random: FIELD=LIST or FIELD=RANGE: drawn `count` times, each with all of the grid.
            search: FIELD=LIST or FIELD=RANGE: chosen by Optuna from what it has seen (extra
                `optuna`), `count` times, `batch` at once in one program. Without a grid.
            count: points that are drawn, or tried by a search.
            batch: points of a search that are trained side by side.
            param: NAME=NUMBER, a parameter of the environment; may be given several times.
            total_steps: environment steps of each seed.
            seeds: of every point; the same for all.
            seed: of all random numbers.
            out: the folder; None is a new one in sweeps/.
            evaluations: of each seed; None is 1, at its end, or 10 with a target.
            episodes: of an evaluation.
            target: a seed whose greedy evaluation reaches it ends there.
            lanes: how many seeds are trained at once, at most; None is as memory allows.
        """
        if env_name is None:
            raise ValueError(f"`jaxpg sweep {agent.name} ENV`: no ENV is given, see `jaxpg list`")
        if not (grid or random or search):
            raise ValueError("no field is swept: give --grid, --random or --search FIELD=VALUES")
        if search and (grid or random):
            raise ValueError("--search stands alone: it cannot go with --grid or --random")
        cfg = from_dict(agent.Config, vars(config))
        cli._set_up(len(os.sched_getaffinity(0)))
        import jaxpg
        from jaxpg.experiment.sweeps import points as P
        from jaxpg.experiment.sweeps import search as optuna
        from jaxpg.experiment.sweeps import sweep as S

        env, key = jaxpg.make(env_name, **dict(map(cli._parameter, param))), cli._key(seed)
        folder = out or cli._new(Path("sweeps", f"{agent.name}-{env_name}"))
        asked = {
            "total_steps": total_steps, "seeds": seeds, "out": folder, "episodes": episodes,
            "evaluations": evaluations, "target": target, "lanes": lanes,
            "progress": True, "log": print,
        }  # fmt: skip
        print(f"{agent.name} on {env_name}, sweeping; compiling ...")
        if search:
            space = dict(map(_values, search))
            found = optuna.search(agent, cfg, env, key, space, trials=count, batch=batch, **asked)
        else:
            drawn = P.random(count, dict(map(_values, random)), seed=seed) if random else [{}]
            every = [a | b for a in P.grid(dict(map(_values, grid))) for b in drawn]
            found = S.run(agent, cfg, env, key, every, **asked)
        return _sum_up(found)

    return tyro.cli(command, prog=" ".join(["jaxpg sweep", *names]), args=argv[len(names) :])


def compare(
    agents: Positional[tuple[str, ...]],
    env: tuple[str, ...],
    total_steps: int | None = None,
    seeds: int = 8,
    seed: int = 0,
    out: Path | None = None,
    evaluations: int = 10,
    episodes: int = 128,
) -> int:
    """Trains several agents on equal steps and seeds, each with its preset, and compares them.

    Args:
        agents: their names, see `jaxpg list`.
        env: environments, one or more.
        total_steps: of each seed; None is the most that any of the presets asks for.
        seeds: of every agent; the same for all.
        seed: of all random numbers.
        out: the folder; None is a new one in comparisons/.
        evaluations: of each seed, spread evenly over the run.
        episodes: of an evaluation.
    """
    if not agents:
        raise ValueError("`jaxpg compare AGENT ... --env ENV`: no AGENT is given")
    cli._set_up(len(os.sched_getaffinity(0)))
    from jaxpg.experiment.sweeps.compare import compare as go

    folder = out or cli._new(Path("comparisons", "-".join(env)))
    print(f"{', '.join(agents)} on {', '.join(env)}; compiling ...")
    found = go(
        agents, env, cli._key(seed),
        total_steps=total_steps, seeds=seeds, out=folder, evaluations=evaluations,
        episodes=episodes, progress=True, log=print,
    )  # fmt: skip
    return _sum_up(found)


def report(runs: Positional[tuple[Path, ...]], out: Path = Path("report.html")) -> int:
    """Writes one HTML page about runs, sweeps and comparisons, which opens offline.

    Args:
        runs: their folders.
        out: the page.
    """
    if not runs:
        raise ValueError("`jaxpg report RUN...`: no RUN is given")
    cli._set_up(1)
    from jaxpg.experiment.report.build import report as write

    print(f"{write(runs, out)}  {out.stat().st_size:,} bytes")
    return 0


def render(
    run: Positional[Path],
    out: Path,
    episodes: int = 1,
    sampled: bool = False,
    seed: int = 0,
    policy: int = 0,
    config: int | None = None,
    max_steps: int = 1000,
    fps: float | None = None,
) -> int:
    """Plays episodes with the policy of a run's newest checkpoint, into a GIF or MP4.

    Args:
        run: the folder of a run, or of a sweep or comparison.
        out: the file, whose ending says which: .gif or .mp4.
        episodes: how many, one after the other.
        sampled: draw actions from the policy, instead of its mode.
        seed: of the random numbers.
        policy: which, of a run of several seeds: 0, 1, ...
        config: of a sweep: which of its configs, as scores.csv numbers them.
        max_steps: where an episode is cut that has not ended.
        fps: environment steps a second; None is what suits the environment.
    """
    cli._set_up(1)
    import jaxpg
    from jaxpg.experiment.run.provenance import is_sweep

    source = run
    if is_sweep(run):
        if config is None:
            raise ValueError(f"{run}: holds many configs, say which: --config 0, 1, ...")
        source = jaxpg.sweep.result(run, config)
    elif config is not None:
        raise ValueError(f"config={config}: allowed is None for {run}, which is no sweep")
    done = jaxpg.render(
        source, out, episodes=episodes, seed=seed, policy=policy, greedy=not sampled,
        max_steps=max_steps, fps=fps,
    )  # fmt: skip
    for i, (total, steps, ending) in enumerate(zip(*done[:3], strict=True), 1):
        print(f"episode {i}: return {total:.4g} in {steps} steps, {ending}")
    print(f"{out}  {done.frames} pictures, {out.stat().st_size:,} bytes")
    return 0


def resume(folder: Path) -> int:
    """`jaxpg resume` of a sweep or a comparison."""
    cli._set_up(len(os.sched_getaffinity(0)))
    import jaxpg

    print(f"going on with {folder} ...")
    return _sum_up(jaxpg.sweep.resume(folder, progress=True))


def _values(text: str):
    """A field and its values: "a=1,2", "hidden=[64],[64,64]", or a Range: "a=1e-4:1e-2:log"."""
    from jaxpg.experiment.sweeps import points as P

    name, sign, rest = text.partition("=")
    if not (name and sign):
        raise ValueError(f"{text!r}: allowed is FIELD=VALUE,VALUE ... or FIELD=LOW:HIGH")
    parts = rest.split(":")
    if len(parts) in (2, 3) and parts[2:] in ([], ["log"]):
        try:
            low, high = map(float, parts[:2])
        except ValueError:
            pass  # "module:Name", a class
        else:
            return name, (P.loguniform if parts[2:] else P.uniform)(low, high)
    return name, [_value(x) for x in _split(rest)] if rest else []


def _split(text: str) -> list[str]:
    """At the commas that are outside of brackets."""
    words, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth:
            words.append("")
        else:
            words[-1] += letter
    return words


def _value(text: str):
    plain = {"True": True, "False": False, "None": None}
    if text in plain:
        return plain[text]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _sum_up(found) -> int:
    """Prints what a sweep found, the best first."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from jaxpg.experiment.analysis import scores
    from jaxpg.experiment.text import format_count

    about, folder = found.about, found.folder
    if not all(part["over"] for part in about["parts"]):
        cli._say(f"interrupted; go on with: jaxpg resume {folder}")
        return 130
    done = scores.final(found)
    ranked = sorted(done.scores, key=lambda c: -done.iqm([c]))
    table = Table(*found.fields, box=SIMPLE_HEAD)
    for name in ("IQM", "95 % interval", "diverged"):
        table.add_column(name, justify="right")
    ended = found.scores.groupby("config")["ended"].agg(list)
    for c in ranked[:BEST]:
        value, low, high = scores.estimate(done.runs([c]))
        interval = "-" if math.isnan(low) else f"{low:.4g} .. {high:.4g}"
        lost = ended[c].count("diverged")
        cells = [scores.text(about["points"][c].get(name)) for name in found.fields]
        table.add_row(*cells, f"{value:.4g}", interval, str(lost or ""))
    print(f"{done.what}: interquartile mean of {about['seeds']} seeds")
    Console().print(table)
    if len(ranked) > BEST:
        print(f"and {len(ranked) - BEST} more configs in scores.csv")
    lived, count = int(found.scores["env_steps"].sum()), about["compilations"]
    print(
        f"{len(found.scores)} runs, {format_count(lived)} env steps in {about['seconds']:.1f} s "
        f"and {count} compilation{'s'[: count != 1]} of a training program"
    )
    print(f"folder  {folder}\ntables  results.csv, evaluations.csv, scores.csv")
    print(f"report  jaxpg report {folder} --out report.html")
    return 0
