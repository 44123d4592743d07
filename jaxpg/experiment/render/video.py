"""Episodes of a trained policy as a moving picture: GIF or MP4."""

import contextlib
import functools
import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpg.core import env as E
from jaxpg.core.config import require_index, require_integer
from jaxpg.core.observations import Masked
from jaxpg.core.run import Result
from jaxpg.core.train import without_weak_types
from jaxpg.core.types import Agent, Key, Tree
from jaxpg.experiment.extras import require_extra

ENDINGS = (".gif", ".mp4")
HOLD = 1.0  # seconds for which an episode's last picture stays
GIF_RATE, MP4_RATE = 25, 60  # pictures a second at most; viewers slow down faster GIFs
PICTURES = 350  # in a GIF, about: so that it stays below a megabyte
COLOURS = 64  # of a GIF
_RENDER = 0xF11  # folded into the seed's key: no episode shares a key with training


class Rendered(NamedTuple):
    """The episodes that were drawn."""

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
) -> Rendered:
    """Plays episodes with a run's policy and writes them to `out`, a .gif or .mp4.

    run: a folder, whose newest checkpoint is taken, or a Result. seed: of the random numbers.
    policy: which, of a run of several seeds. greedy: the mode of the policy, else a sample. An
    episode that has not ended after `max_steps` is cut. fps: environment steps a second; None is
    what suits the environment. Beyond 25 pictures a second or about 350 in a GIF, and 60 a second
    in an MP4, only every second, third, ... step is drawn, and always an episode's last.

    Raises ValueError for another ending, a folder that is not there, or a number that cannot be,
    ImportError for an MP4 without the extra `video`, CheckpointError for a run without a
    checkpoint; all before anything is compiled. A file that was there stays until the new one is
    whole.
    """
    out = Path(out)
    if out.suffix.lower() not in ENDINGS:
        raise ValueError(f"out={str(out)!r}: allowed are the endings {' and '.join(ENDINGS)}")
    if not out.parent.is_dir() or out.is_dir():
        raise ValueError(f"out={str(out)!r}: allowed is a file in a folder that is there")
    for name, value in {"episodes": episodes, "max_steps": max_steps}.items():
        require_integer(name, value, 1)
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r}: allowed is an integer >= 0 and < 2**32")
    if fps is not None and not 0.1 <= fps <= 1000:
        raise ValueError(f"fps={fps!r}: allowed is a number >= 0.1 and <= 1000")
    movie = out.suffix.lower() == ".mp4"
    if movie:
        require_extra("video", "imageio_ffmpeg", "MP4")
    if not isinstance(run, Result):
        from jaxpg.experiment.run import folder as run_folder

        run = run_folder.load(run)
    agent, cfg, env, state = run[:4]
    seeds = next(iter(run.metrics.values())).shape[:-1]
    require_index("policy", policy, math.prod(seeds))
    if seeds:
        state = jax.jit(lambda s: jax.tree.map(lambda x: x[policy], s))(state)  # one program

    from jaxpg.experiment.render.frames import frame
    from jaxpg.experiment.render.scenes import scene

    view = scene(env)
    key = jax.random.fold_in(jax.random.key(seed), _RENDER)
    played = [
        play(agent, cfg, env, state, k, greedy=greedy, max_steps=max_steps, states=view.states)
        for k in jax.random.split(key, episodes)
    ]
    lengths = [len(p.actions) for p in played]
    shown = timetable(lengths, fps or view.pace, movie)

    def pictures() -> Iterator:
        for i, t, _ in shown:
            yield frame(view, played[i], t, f"{i + 1} of {episodes}" if episodes > 1 else "")

    draft = out.with_name(f".{out.stem}.{os.getpid()}{out.suffix.lower()}")
    try:
        (_write_mp4 if movie else _write_gif)(draft, pictures(), [x[2] for x in shown])
        os.replace(draft, out)  # all of it or nothing
    finally:
        draft.unlink(missing_ok=True)
    returns = np.array([p.rewards.sum() for p in played])
    endings = tuple(p.ending for p in played)
    return Rendered(returns, np.array(lengths), endings, len(shown))


def play(
    agent: Agent, cfg, env: E.Env, state: Tree, key: Key, *,
    greedy: bool = True, max_steps: int = 1000, states: bool = True,
):  # fmt: skip
    """One episode as a frames.Episode. states: whether to record the environment's own states,
    which takes gymnax's `step_env`."""
    from jaxpg.experiment.render.frames import Episode

    first, steps, length, terminated = jax.device_get(
        _play(agent, cfg, env, state, key, greedy=greedy, max_steps=max_steps, states=states)
    )
    obs, inner = jax.tree.map(
        lambda x, rest: np.concatenate([x[None], rest[:length]]), first, steps[:2]
    )
    action, reward, ended = (x[:length] for x in steps[2:])
    ending = "terminated" if terminated else "time limit" if ended[-1] else "not ended"
    return Episode(env, inner, obs, action, reward, ending)


@functools.partial(jax.jit, static_argnames=("agent", "greedy", "max_steps", "states"))
def _play(agent, cfg, env, state, key, *, greedy, max_steps, states):
    """The first observation and state; then what follows each step, [max_steps, ...], of which the
    first `length` are filled; `length`; whether the episode terminated."""
    from jaxpg.experiment.render.scenes import core_of

    k_env, key = jax.random.split(key)
    begin = without_weak_types(E.reset(env, k_env, 1))

    def act(obs, carry, key):
        return agent.act(cfg, env, state, obs, carry, key, greedy)

    def seen(obs):
        return jax.tree.map(lambda x: x[0], obs.obs if isinstance(obs, Masked) else obs)

    first = jax.tree.map(lambda x: x[0], begin.inner)

    def reached(env_state, action, key):
        """The state that a step leads to: `step` itself gives the one after the reset."""
        k_step, _ = jax.random.split(jax.random.split(key, 1)[0])  # as `step` splits it
        before = jax.tree.map(lambda x: x[0], (env_state.inner, action))
        inner = core_of(env).step_env(k_step, *before, env.params)[1]
        return jax.tree.map(lambda x, f: jnp.asarray(x, f.dtype).reshape(f.shape), inner, first)

    def one(env_state, carry, key):
        k_policy, k_env = jax.random.split(key)
        action, carry = act(env_state.obs, carry, k_policy)
        after, t = E.step(env, env_state, action, k_env)
        inner = reached(env_state, action, k_env) if states else ()
        ended = (t.terminated | t.truncated)[0]
        step = seen(t.next_obs), inner, action[0], t.reward[0], ended
        return (without_weak_types(after), carry), step, t.terminated[0]

    carry = E.zero_carry(jax.eval_shape(lambda: act(begin.obs, (), key)[1]))
    like = jax.eval_shape(lambda: one(begin, carry, key)[1])
    buffers = jax.tree.map(lambda x: jnp.zeros((max_steps, *x.shape), x.dtype), like)

    def running(loop):
        count, ended = loop[0], loop[1]
        return (count < max_steps) & ~ended

    def advance(loop):
        count, _, _, now, key, buffers = loop
        key, k_step = jax.random.split(key)
        now, step, terminated = one(*now, k_step)
        buffers = jax.tree.map(lambda all_, x: all_.at[count].set(x), buffers, step)
        return count + 1, step[-1], terminated, now, key, buffers

    zero, no = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    loop = jax.lax.while_loop(running, advance, (zero, no, no, (begin, carry), key, buffers))
    return (seen(begin.obs), first if states else ()), loop[5], loop[0], loop[2]


def timetable(lengths, fps: float, movie: bool) -> list[tuple[int, int, float]]:
    """Which pictures are drawn: the episode, the time in it, and the seconds that it is shown.

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


def _write_gif(path: Path, pictures: Iterator, seconds: list[float]) -> None:
    from PIL import Image

    pictures = list(pictures)
    some = pictures[:: max(1, len(pictures) // 10)] + pictures[-1:]
    strip = Image.new("RGB", (some[0].width, some[0].height * len(some)))
    for i, picture in enumerate(some):
        strip.paste(picture, (0, i * picture.height))
    # One palette for all: colours of its own would make a picture flicker against the next.
    palette = strip.quantize(COLOURS, dither=Image.Dither.NONE)
    # Areas of one colour keep it exactly, which else is mixed with those of edges. No other entry
    # may be within 8 of it: Pillow, which looks from the corners of boxes of 4, could take that.
    entries = np.reshape(palette.getpalette(), (-1, 3))
    free = np.ones(len(entries), bool)
    for _, colour in sorted(strip.getcolors(strip.width * strip.height))[:-13:-1]:
        off = np.abs(entries - colour).max(1)
        if off[~free].min(initial=256) > 8:
            off = off + 256 * ~free
            own = (off <= 8) | (off == off.min())
            entries[own], free[own] = colour, False
    palette.putpalette(entries.ravel().tolist())
    first, *rest = (p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures)
    ends = np.round(
        np.cumsum(seconds) * 100
    )  # GIF counts in hundredths, and the sum shall be right
    durations = np.maximum(np.diff(ends, prepend=0), 2) * 10
    first.save(
        path, "GIF", save_all=True, append_images=rest, duration=durations.tolist(), loop=0,
    )  # fmt: skip


def _write_mp4(path: Path, pictures: Iterator, seconds: list[float]) -> None:
    import imageio_ffmpeg

    from jaxpg.experiment.render.frames import SIZE

    rate = 1 / max(seconds[:-1])  # of equal pictures; the last of an episode is repeated
    # Not by imageio_ffmpeg's own writer, which forks, and JAX warns of that.
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    command += f"-f rawvideo -pix_fmt rgb24 -s {SIZE}x{SIZE} -r {rate} -i -".split()
    command += ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4"]
    with subprocess.Popen(
        [*command, str(path)], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as p:
        with contextlib.suppress(BrokenPipeError):  # it says itself why it ended
            for picture, duration in zip(pictures, seconds, strict=True):
                for _ in range(max(1, round(duration * rate))):
                    p.stdin.write(picture.tobytes())
        _, said = p.communicate()
    if p.returncode:
        raise OSError(f"ffmpeg could not write {path}: {said.decode().strip()}")
