"""Trains, resumes and loads: `jaxpg.run`, `jaxpg.resume` and `jaxpg.load`.

A folder may hold a run (experiment/run) or a sweep (experiment/sweeps); neither room knows the
other's folders, this module looks which it is.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxpg.core import run as loop
from jaxpg.core.checks import require_bool
from jaxpg.core.env import Env
from jaxpg.core.run import Callbacks, Result
from jaxpg.core.types import Agent, C, Key, Tree
from jaxpg.experiment.run import folder
from jaxpg.experiment.run.folder import Settings
from jaxpg.experiment.run.provenance import is_sweep, is_tuning
from jaxpg.presets import find_objects
from jaxpg.presets import preset as read_preset


def run(
    agent: Agent[C] | str,
    cfg: C | None,
    env: Env | str,
    key: Key,
    *,
    total_steps: int,
    callbacks: Callbacks = (),
    out: str | Path | None = None,
    chunk: int | None = None,
    evaluations: int | None = None,
    episodes: int = 128,
    checkpoints: int = 5,
    keep: int = 3,
    target: float | None = None,
    data_parallel: bool = False,
    log: Sequence[str] = (),
    tensorboard: bool = False,
    keep_best: bool = False,
    checkpoint_minutes: float | None = 10.0,
    log_every: int | None = None,
    name: str | None = None,
    tags: Sequence[str] = (),
    preset: str | Path | None = None,
    init_from: str | Path | Result | Tree | None = None,
    init_parts: Sequence[str] = (),
) -> Result[C]:
    """Trains an agent, with host code between jitted chunks of iterations; `out` is a run folder.

    key: one key, or [seeds] of them: then all seeds are one vmapped program, laid over as many
    devices as divide their number, and every array of the result gets a leading [seeds]. callbacks:
    functions of an `Event`, or `Callback`s, called after each chunk. chunk: iterations of one; the
    result does not depend on it, to the byte. data_parallel: lay the environments of one key over
    all devices, which have to divide `num_envs`.

    agent, env: the objects, or their names as `jaxpg train` takes them; cfg=None is the preset of
    the two, the general profile of the agent, or its defaults. evaluations: how many, spread evenly
    over the run, of `episodes` episodes each, greedy and sampled; None is 10 with `out` or a
    `target`, and none of a run that is only to be fast.
    `result.evaluations` has them by name: `iteration` and `env_steps` [k]; `greedy`, `greedy_std`
    (over episodes), `sampled` and `sampled_std`, [k] or [seeds, k]. target: the run ends with the
    chunk after the one in which the greedy evaluation of every seed reaches it.

    The folder gets metrics, evaluations and `checkpoints` checkpoints, spread evenly over the run,
    of which the newest `keep` stay; a NaN or infinity in what is learnt ends it with
    NonFiniteError. `resume` goes on with a run that was stopped, in whatever way. Of lanes (see
    core/parallel/lanes.py) one that is not finite stands still instead, and so does one that
    reaches `target`. log: loggers to write to as well: "tensorboard", "wandb" and "mlflow", each an
    extra, with a series for each seed, which goes on when the run is resumed; "jsonl", the rows of
    metrics.csv as JSON lines. tensorboard: the same as "tensorboard" in `log`. log_every:
    iterations of a row of the metrics, in the folder and in the result, which are means over a
    block of them and sums of what counts; None is 1 or, for more than 10,000 iterations, as few as
    give no more rows a seed. keep_best: keep the checkpoint with the best greedy evaluation too, by
    the mean over seeds, for `load(out, best=True)`. checkpoint_minutes: between checkpoints by the
    clock, beside the others, and the first of them after a minute; None is none. name, tags: labels
    by which `jaxpg runs` finds it. preset: a file, such as `jaxpg tune` writes, which cfg=None
    stands for, or "defaults" for no preset; run.json names it, also beside a config, which began
    with it.

    init_from: another run, whose parameters this one begins with: its folder (the newest
    checkpoint), a Result, or a training state, of as many seeds, or of one for all. It takes all
    that is learnt: parameters and targets, and statistics of observations and rewards, but no
    optimiser, environments, replay buffer, iteration or key. init_parts: names of what is taken, if
    that is less, as the parameters' tree has them: "actor_torso", "critic/q"; then the other run
    may be of another agent. run.json says where they are from (docs/transfer.md).

    SIGTERM, SIGUSR1 and SIGHUP end a run as Ctrl-C does, after the chunk in hand and with a
    checkpoint; a second one ends it at once.

    Of several processes process 0 writes the folder; of several seeds each process writes the
    metrics of its own into process-0/, process-1/, ... beside.

    Raises ValueError before anything is compiled or written for what cannot work, and for an
    `out` that is not a new or empty folder.

    >>> env, cfg = jaxpg.make("Cliff-jaxpg"), jaxpg.q_learning.Config()
    >>> key = jax.random.key(0)
    >>> result = jaxpg.run(jaxpg.q_learning, cfg, env, key, total_steps=1000, out="runs/cliff")
    >>> result.metrics["episode/return"].shape  # [iterations]
    (10,)
    >>> result.evaluations["greedy"].shape  # [evaluations]
    (10,)
    """
    require_bool("tensorboard", tensorboard)
    log = (*log, "tensorboard") if tensorboard else log
    asked = Settings(
        chunk, evaluations, episodes, checkpoints, keep, target, data_parallel, log_every, log,
        name, tags, keep_best, checkpoint_minutes, None if preset is None else str(preset),
    )  # fmt: skip
    given = cfg
    agent, cfg, env = find_objects(agent, cfg, env)
    if preset is not None and given is None:
        cfg = read_preset(agent, env.name, preset)
    return folder.run(
        out, agent, cfg, env, key, total_steps, asked, callbacks, draw_curve, init_from, init_parts
    )


def resume(
    out: str | Path,
    *,
    callbacks: Callbacks = (),
    total_steps: int | None = None,
    target: float | None = None,
    agent: Agent | None = None,
    env: Env | None = None,
    trust: bool = False,
) -> Result | Any:
    """Resumes a run from its folder's newest checkpoint, or from the beginning if it has none; a
    sweep's folder as `jaxpg.sweep.resume` does, and that of a tuning.

    Files and final state are, to the byte, those of a run that was never stopped, on the same
    versions and devices (else it warns). total_steps: of the whole run, if it shall be longer
    now; annealing is stretched to it. target: another one than the run had. A run that is complete,
    or has reached its target, is only loaded. Where the rows of the newest checkpoint are not there
    it goes on from the newest that has them, and warns. agent, env, trust: as for `load`. Several
    processes go on together, and each has to see the folder. Raises CheckpointError for a damaged,
    missing or foreign folder, ValueError for a name that is not trusted, a folder that another
    process writes, for fewer `total_steps` than are done, or for any with a sweep. To a type
    checker the answer is a Result; `jaxpg.sweep.resume` is typed as a Sweep.

    >>> jaxpg.resume("runs/cliff", total_steps=2000).env_steps
    2000
    """
    tuning = is_tuning(out)
    if not tuning and not is_sweep(out):
        return folder.resume(
            out, callbacks=callbacks, total_steps=total_steps, target=target, agent=agent, env=env,
            trust=trust, draw=draw_curve,
        )  # fmt: skip
    for name, value in {"total_steps": total_steps, "target": target}.items():
        if value is not None:
            what = "tuning" if tuning else "sweep"
            raise ValueError(f"{name}={value}: allowed is None for a {what}")
    if tuning:
        from jaxpg.experiment.tuning import resume as resume_tuning

        if loop.as_callbacks(callbacks):
            raise ValueError(f"callbacks={callbacks!r}: allowed is () for a tuning")
        return resume_tuning(out, agent=agent, env=env, trust=trust)
    from jaxpg.experiment import sweeps  # which a run does not need

    return sweeps.resume(out, callbacks=callbacks, agent=agent, env=env, trust=trust)


def load(
    out: str | Path,
    agent: Agent | None = None,
    env: Env | None = None,
    *,
    trust: bool = False,
    best: bool = False,
) -> Result | Any:
    """Loads a run from its folder: the newest checkpoint, and the metrics up to it. The folder of a
    sweep or a comparison gives its tables, see experiment/sweeps/tables.py.

    best: the checkpoint with the best greedy evaluation, of a run with keep_best=True. agent, env:
    the objects, if they are your own and not to be had by name, or by another one now. trust:
    import any module that the folder names, which runs its code. Without it that is jaxpg's own,
    one that is imported already, of a package that announces it, in the environment variable
    JAXPG_TRUST, or a file of yours, in no run's folder, whose source is as it was (docs/trust.md).

    `stopped` is "error" for a run that was killed, and `seconds` NaN. Raises CheckpointError, with
    the path, for a damaged, missing or foreign folder, one without a checkpoint, or one of whose
    checkpoints only older ones are left; ValueError for a name that is not trusted. To a type
    checker the answer is a Result; `jaxpg.sweep.load` is typed as a Sweep.

    >>> result = jaxpg.load("runs/cliff")
    >>> result.agent.name, result.stopped
    ('q_learning', 'done')
    """
    if not is_sweep(out):
        return folder.load(out, agent, env, trust, best)
    if best is not False:
        raise ValueError(f"best={best!r}: allowed is False for a sweep")
    from jaxpg.experiment import sweeps  # which a run does not need

    return sweeps.load(out)


def draw_curve(path: Path) -> None:
    """Draws the learning curve of a run into a file of its folder: whole, or not at all."""
    from jaxpg.experiment.figures.learning_curve import learning_curve  # matplotlib takes a while

    draft = path.with_name(f".{path.name}")
    try:
        learning_curve([path.parent], draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
