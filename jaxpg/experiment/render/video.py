"""Episodes of a trained policy as a moving picture: GIF or MP4."""

import math
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxpg.core import env as E
from jaxpg.core.checks import require_bool, require_index, require_integer, require_path
from jaxpg.core.run import Result
from jaxpg.core.types import Agent, Tree
from jaxpg.experiment.extras import require_extra
from jaxpg.experiment.render.episode import play_episode
from jaxpg.experiment.render.files import write_gif, write_mp4

ENDINGS = (".gif", ".mp4")
HOLD = 1.0  # seconds for which an episode's last picture stays
GIF_RATE, MP4_RATE = 25, 60  # pictures a second at most; viewers slow down faster GIFs
PICTURES = 350  # in a GIF, about: so that it stays below a megabyte
MOST_EPISODES, MOST_STEPS = 1000, 1_000_000
_RENDER = 0xF11  # folded into the seed's key: no episode shares a key with training


class Rendered(NamedTuple):
    """Summary of the episodes that were drawn."""

    returns: np.ndarray  # [episodes] undiscounted
    lengths: np.ndarray  # [episodes] steps
    endings: tuple[str, ...]  # of each: "terminated", "time limit", or "not ended"
    frames: int  # pictures in the file


def render(
    run: str | Path | Result,
    out: str | Path,
    *,
    episodes: int = 1,
    seed: int = 0,
    policy: int = 0,
    greedy: bool = True,
    max_steps: int = 1000,
    fps: float | None = None,
    agent: Agent | None = None,
    env: E.Env | None = None,
    trust: bool = False,
) -> Rendered:
    """Plays episodes with a run's policy and writes them to `out`, a .gif or .mp4.

    run: a folder, whose newest checkpoint is taken, or a Result. seed: of the random numbers.
    policy: which, of a run of several seeds. greedy: the mode of the policy, else a sample. An
    episode that has not ended after `max_steps` is cut. fps: environment steps a second; None is
    what suits the environment. Beyond 25 pictures a second or about 350 in a GIF, and 60 a second
    in an MP4, only every second, third, ... step is drawn, and always an episode's last. agent,
    env, trust: as of `jaxpg.load`.

    Raises ValueError for another ending, a folder that is not there, or a number that cannot be,
    ImportError for an MP4 without the extra `video`, CheckpointError for a run without a
    checkpoint; all before anything is compiled. A file that was there stays until the new one is
    whole.

    >>> jaxpg.render("runs/cliff", "cliff.gif", max_steps=20).returns.shape
    (1,)
    """
    require_path("out", out, room="x" * 32)  # the name of a draft
    out = Path(out)
    _check_settings(out, episodes, seed, max_steps, fps, greedy)
    agent, cfg, env, state = _load_policy(run, policy, agent, env, trust)

    from jaxpg.experiment.render.frames import draw_frame  # Pillow takes a while
    from jaxpg.experiment.render.scenes import scene_for

    view = scene_for(env)
    key = jax.random.fold_in(jax.random.key(seed), _RENDER)
    played = [
        play_episode(
            agent, cfg, env, state, k, greedy=greedy, max_steps=max_steps, states=view.states
        )
        for k in jax.random.split(key, episodes)
    ]
    lengths, movie = [len(p.actions) for p in played], out.suffix.lower() == ".mp4"
    shown = schedule_frames(lengths, fps or view.pace, movie)
    pictures = (
        draw_frame(view, played[i], t, f"{i + 1} of {episodes}" if episodes > 1 else "")
        for i, t, _ in shown
    )
    draft = out.with_name(f".{out.stem}.{os.getpid()}{out.suffix.lower()}")
    try:
        (write_mp4 if movie else write_gif)(draft, pictures, [seconds for *_, seconds in shown])
        os.replace(draft, out)  # all of it or nothing
    finally:
        draft.unlink(missing_ok=True)
    returns = np.array([p.rewards.sum() for p in played])
    endings = tuple(p.ending for p in played)
    return Rendered(returns, np.array(lengths), endings, len(shown))


def _check_settings(
    out: Path, episodes: int, seed: int, max_steps: int, fps: float | None, greedy: bool
) -> None:
    """Raises ValueError or ImportError for a file or a number that cannot be."""
    if out.suffix.lower() not in ENDINGS:
        raise ValueError(f"out={str(out)!r}: allowed are the endings {' and '.join(ENDINGS)}")
    if not out.parent.is_dir() or out.is_dir():
        raise ValueError(f"out={str(out)!r}: allowed is a file in a folder that is there")
    require_bool("greedy", greedy)
    require_integer("episodes", episodes, 1, MOST_EPISODES)
    require_integer("max_steps", max_steps, 1, MOST_STEPS)
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r}: allowed is an integer >= 0 and < 2**32")
    if fps is not None and not (isinstance(fps, (int, float)) and 0.1 <= fps <= 1000):
        raise ValueError(f"fps={fps!r}: allowed is a number >= 0.1 and <= 1000")
    if out.suffix.lower() == ".mp4":
        require_extra("video", "imageio_ffmpeg", "MP4")


def _load_policy(
    run: str | Path | Result, policy: int, agent: Agent | None, env: E.Env | None, trust: bool
) -> tuple[Agent, Any, E.Env, Tree]:
    """Returns agent, config, environment and the state of one of a run's policies."""
    if not isinstance(run, Result):
        from jaxpg.experiment.run import folder as run_folder

        run = run_folder.load(run, agent, env, trust)
    agent, cfg, env, state = run[:4]
    seeds = next(iter(run.metrics.values())).shape[:-1]
    require_index("policy", policy, math.prod(seeds))
    if seeds:
        state = jax.jit(lambda s: jax.tree.map(lambda x: x[policy], s))(state)  # one program
    return agent, cfg, env, state


def schedule_frames(lengths, fps: float, movie: bool) -> list[tuple[int, int, float]]:
    """Chooses the pictures that are drawn: the episode, the time in it, and the seconds it is
    shown.

    Of each episode the first, the last, and every k-th between them.
    """
    k = max(1, int(np.ceil(fps / (MP4_RATE if movie else GIF_RATE))))
    if not movie:
        k = max(k, -(-sum(lengths) // PICTURES))
    shown = []
    for i, length in enumerate(lengths):
        # One that would be there only for a moment before the last is left out.
        times = [t for t in range(0, length, k) if t == 0 or length - t > k / 2]
        seconds = np.diff([*times, length]) / fps
        shown += [(i, t, s) for t, s in zip([*times, length], [*seconds, HOLD], strict=True)]
    return shown
