"""The `jaxpg` command.

Errors that a user can mend are one line on stderr and exit code 2. JAX, gymnax and the others
take seconds to import, so that is done where they are needed.
"""

import contextlib
import dataclasses
import json
import os
import sys
import time
import typing
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

USAGE = """\
usage: jaxpg COMMAND ...

  train AGENT ENV   train an agent in an environment, into a new run folder
  resume RUN        go on with a run that was stopped, or make it longer
  eval RUN          measure whole episodes under the policy that was learnt
  plot RUN...       draw learning curves into a PNG
  list              agents, environments, and which go together

`jaxpg COMMAND --help` says more, `jaxpg train AGENT ENV --help` also shows every
setting of the agent, as it is tuned for the environment.
"""
TRAIN = "jaxpg train AGENT ENV [OPTIONS]; agents are {}; see `jaxpg train AGENT --help`"
DEFAULT_STEPS = 500_000  # where there is no preset


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0, 1 for a run that failed, 2 for bad input,
    130 for one that was interrupted."""
    argv = list(sys.argv[1:] if argv is None else argv)
    commands = {"train": train, "resume": resume, "eval": evaluate, "plot": plot, "list": list_all}
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if argv else 2
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda text, *_: _say(f"warning: {text}")
            if argv[0] not in commands:
                from jaxpg.core.config import unknown

                raise unknown("command", argv[0], commands)
            return commands[argv[0]](argv[1:])
    except (ValueError, ImportError, OSError) as error:
        _say(f"error: {error}")
        return 2


def _say(text: str) -> None:
    print("jaxpg:", " ".join(text.split()), file=sys.stderr)


def _parse(command: Callable[..., int], name: str, argv: list[str]) -> int:
    """Calls a command with its arguments, as tyro reads them from its signature."""
    import tyro

    return tyro.cli(command, prog=f"jaxpg {name}", args=argv)


def train(argv: list[str]) -> int:
    """`jaxpg train AGENT ENV`: which agent it is decides which options there are."""
    import tyro

    from jaxpg import agents, presets
    from jaxpg.core.config import from_dict

    names = [word for word in argv[:2] if not word.startswith("-")]
    if not names and argv:
        print("usage:", TRAIN.format(", ".join(agents.NAMES)))
        return 0
    if not names:
        raise ValueError(TRAIN.format(", ".join(agents.NAMES)))
    agent, env_name = agents.get(names[0]), names[1] if len(names) == 2 else None
    tuned = presets.table(agent).get(env_name, {})
    shown = _shown(presets.preset(agent, env_name))

    def command(
        config: type(shown) = shown,
        param: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
        total_steps: int = tuned.get("total_steps", DEFAULT_STEPS),
        seeds: int = 1,
        seed: int = 0,
        out: Path | None = None,
        evaluations: int = 10,
        target: float | None = None,
        tensorboard: bool = False,
    ) -> int:
        """Trains an agent, and writes a run folder with its config, metrics, checkpoints and curve.

        Args:
            param: NAME=NUMBER, a parameter of the environment; may be given several times.
            total_steps: environment steps of each seed.
            seeds: how many independent runs to do at once.
            seed: of the random numbers.
            out: the run folder; if none is given, a new one in runs/.
            evaluations: how often to measure whole episodes, spread evenly over the run.
            target: stop when the greedy evaluation of every seed has reached this return.
            tensorboard: write TensorBoard files too.
        """
        if env_name is None:
            raise ValueError(f"jaxpg train {agent.name} needs an environment: see `jaxpg list`")
        if seeds < 1:
            raise ValueError(f"seeds={seeds}: allowed is an integer >= 1")
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed={seed}: allowed is an integer >= 0 and < 2**32")
        cfg = from_dict(agent.Config, vars(config))
        _set_up(seeds)
        import jax

        import jaxpg

        env = jaxpg.make(env_name, **dict(map(_parameter, param)))
        key = jax.random.key(seed)
        folder = out or _new(Path("runs", f"{agent.name}-{env.name}"))
        if not tuned:
            print(f"{agent.name} has no preset for {env.name}: these are its general defaults")
        return _watch(
            folder,
            lambda callbacks: jaxpg.run(
                agent, cfg, env, jax.random.split(key, seeds) if seeds > 1 else key,
                total_steps=total_steps, callbacks=callbacks, out=folder, evaluations=evaluations,
            ),
            target,
            tensorboard,
        )  # fmt: skip

    return _parse(command, " ".join(["train", *names]), argv[len(names) :])


def _shown(cfg):
    """The config as tyro shall show it: a class as "module:Name", and no `total_steps`, which
    the run fills in."""
    import tyro

    from jaxpg.core.config import to_dict

    hints, values = typing.get_type_hints(type(cfg)), {**vars(cfg)}
    own = {name: (name, str) for name, hint in hints.items() if hint is type}
    values |= {name: to_dict(cfg)[name] for name in own}
    if "total_steps" in hints:
        own["total_steps"] = ("total_steps", tyro.conf.Suppress[hints["total_steps"]], None)
    shown = dataclasses.make_dataclass(
        "Config", own.values(), bases=(type(cfg),), frozen=True, kw_only=True
    )
    return shown(**values)


def _parameter(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError as error:
        raise ValueError(f"param={text!r}: allowed is NAME=NUMBER") from error


def _new(folder: Path) -> Path:
    """The folder, or the first of folder-2, folder-3, ... that is not there."""
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free
