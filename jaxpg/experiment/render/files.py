"""Moving pictures as files: GIF by Pillow, MP4 by ffmpeg."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

GIF_COLOURS = 64


def write_gif(path: Path, pictures: Any, seconds: list[float]) -> None:
    """Writes pictures as a GIF, each shown for its `seconds`."""
    from PIL import Image

    pictures = list(pictures)
    some = pictures[:: max(1, len(pictures) // 10)] + pictures[-1:]
    strip = Image.new("RGB", (some[0].width, some[0].height * len(some)))
    for i, picture in enumerate(some):
        strip.paste(picture, (0, i * picture.height))
    # One palette for all: colours of its own would make a picture flicker against the next.
    palette = strip.quantize(GIF_COLOURS, dither=Image.Dither.NONE)
    # Areas of one colour keep it exactly, which else is mixed with those of edges. No other entry
    # may be within 8 of it: Pillow, which looks from the corners of boxes of 4, could take that.
    entries = np.reshape(palette.getpalette() or [], (-1, 3))
    free = np.ones(len(entries), bool)
    for _, colour in sorted(cast(Any, strip.getcolors(strip.width * strip.height)))[:-13:-1]:
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


def write_mp4(path: Path, pictures: Iterator, seconds: list[float]) -> None:
    """Writes pictures as an MP4, each shown for its `seconds`. Raises OSError if ffmpeg fails."""
    import imageio_ffmpeg

    from jaxpg.experiment.render.frames import SIZE

    rate = 1 / max(seconds[:-1])  # of equal pictures; the last of an episode is repeated
    # Not by imageio_ffmpeg's own writer, which forks, and JAX warns of that.
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error"]
    command += f"-f rawvideo -pix_fmt rgb24 -s {SIZE}x{SIZE} -r {rate} -i -".split()
    command += ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4"]
    with subprocess.Popen(
        [*command, f"file:{path}"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as p:
        with contextlib.suppress(BrokenPipeError):  # it says itself why it ended
            for picture, duration in zip(pictures, seconds, strict=True):
                for _ in range(max(1, round(duration * rate))):
                    cast(Any, p.stdin).write(picture.tobytes())
        _, said = p.communicate()
    if p.returncode:
        raise OSError(f"ffmpeg could not write {path}: {said.decode().strip()}")
