"""Pictures of an episode, drawn with Pillow: what they all have, and scenes of observations.

A scene is a pure function (image, episode, t) that draws time t onto an image; `draw_frame` adds
the words above it and the action below. Everything is drawn SCALE times too large and then reduced,
which smooths the edges: lengths in points (`pt`) are those of the finished picture.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxpg.core.spaces import is_bound
from jaxpg.experiment.figures.style import COLOURS
from jaxpg.experiment.render.episode import Episode
from jaxpg.experiment.text import printable

SIZE, SCALE = 400, 3  # points of a picture's side; pixels of a point while it is drawn
TOP, BOTTOM = 56, 352  # points between which the scene is
BLUE, ORANGE, GREEN, PINK, SKY, AMBER, _ = COLOURS
INK, GREY, PALE, EMPTY, PAPER = "#222222", "#707070", "#E2E2E2", "#F2F2F2", "#FFFFFF"
CHANNELS = (*COLOURS, "#999999", "#882255", "#F0E442")  # of an image made of many
COLOUR = {
    "#": "#4A4A4A",
    "C": "#F3C9B0",
    "H": "#BFDDF0",
    "G": "#A9DCCB",
    "S": "#ECECEC",
}  # of cells, by their letters
ROWS, SPAN = 6, 150  # entries of an observation that are traced, and steps
BARS = 8  # entries of an action that are shown


class Scene(NamedTuple):
    """Scene: how an environment is drawn."""

    draw: Callable  # (image, episode, t) -> None
    pace: float  # environment steps a second that look natural
    names: tuple[str, ...] = ()  # of discrete actions
    states: bool = False  # whether it needs the environment's states


def draw_frame(scene: Scene, episode: Episode, t: int, note: str = "") -> Image.Image:
    """Draws the picture [SIZE, SIZE] of one time. note: what stands in the upper right corner."""
    image = Image.new("RGB", (pixels(SIZE), pixels(SIZE)), PAPER)
    scene.draw(image, episode, t)
    pen, right = ImageDraw.Draw(image), SIZE - 12
    pen.rectangle((0, 0, pixels(SIZE), pixels(TOP - 4)), PAPER)
    pen.rectangle((0, pixels(BOTTOM), pixels(SIZE), pixels(SIZE)), PAPER)
    write_text(pen, (12, 16), episode.env.name, 17)
    write_text(pen, (right, 16), note, 15, GREY, "rm")
    write_text(pen, (12, 39), f"step {t}", 16)
    digits = _count_decimals(episode.rewards)
    write_text(
        pen, (right, 39), f"return {episode.rewards[:t].sum() + 0.0:.{digits}f}", 16, INK, "rm"
    )
    action = episode.action(t)
    if action is None:
        write_text(pen, (SIZE / 2, 378), episode.ending, 17, ORANGE, "mm")
    elif episode.env.discrete:
        _draw_choice(pen, int(action), episode.env.action_space.n, scene.names)
    else:
        _draw_bars(pen, episode.env.action_space, action.ravel())
    return image.reduce(SCALE)


def _count_decimals(rewards: np.ndarray) -> int:
    """Number of decimals that a return needs: none if rewards are integers, else three digits in
    all."""
    if np.all(rewards == np.round(rewards)):
        return 0
    return int(np.clip(2 - np.log10(np.abs(rewards.cumsum()).max()), 1, 4))


def _draw_choice(pen: ImageDraw.ImageDraw, chosen: int, n: int, names: Sequence[str]) -> None:
    """Draws a row of buttons, of which one is pressed."""
    names = names or tuple(map(str, range(n)))
    width = min(90, (SIZE - 24) / n)
    for i in range(n):
        left = SIZE / 2 + (i - n / 2) * width
        box = (left + min(2, width / 8), 364, left + width - min(2, width / 8), 392)
        on = i == chosen
        pen.rounded_rectangle(
            [pixels(x) for x in box], pixels(min(5, width / 4)), BLUE if on else PALE
        )
        if pen.textlength(names[i], font(15)) < pixels(width - 6):
            write_text(pen, (left + width / 2, 378), names[i], 15, PAPER if on else GREY, "mm")


def _draw_bars(pen: ImageDraw.ImageDraw, space, action: np.ndarray) -> None:
    """Draws a bar for each entry of an action, from zero (or the lower bound) to its value."""
    if hasattr(space, "low"):
        low, high = (np.broadcast_to(x, space.shape).ravel() for x in (space.low, space.high))
    else:  # MultiDiscrete, MultiBinary
        low = np.zeros(action.size)
        high = np.maximum(np.subtract(getattr(space, "nvec", np.full(action.size, 2)), 1), 1)
    shown = min(action.size, BARS)
    width = (SIZE - 24) / shown
    for i in range(shown):
        least, most = float(low[i]), float(high[i])
        if not (is_bound(least) and is_bound(most)):  # those of the standard normal distribution
            least, most = -3.0, 3.0
        left, right = 12 + i * width + 4, 12 + (i + 1) * width - 4
        where = lambda x: left + (right - left) * np.clip((x - least) / (most - least), 0, 1)  # noqa: B023, E731
        zero, value = where(min(max(0.0, least), most)), where(float(action[i]))
        pen.rounded_rectangle([pixels(x) for x in (left, 364, right, 378)], pixels(3), PALE)
        pen.rectangle([pixels(x) for x in (min(zero, value), 364, max(zero, value), 378)], BLUE)
        pen.rectangle([pixels(x) for x in (zero - 0.75, 361, zero + 0.75, 381)], INK)
        if shown <= 4:
            label = f"action {action[i]:.2f}" if shown == 1 else f"{action[i]:.2f}"
            write_text(pen, ((left + right) / 2, 390), label, 14, GREY, "mm")


# What scenes are made of.


def pixels(length: float) -> int:
    """Converts points to pixels."""
    return round(length * SCALE)


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * SCALE)


def write_text(pen, at, words: str, size: int, colour: str = INK, anchor: str = "lm") -> None:
    """Writes words at a place in points, in one line."""
    pen.text((pixels(at[0]), pixels(at[1])), printable(words), colour, font(size), anchor)


def fit_window(low, high) -> tuple[Callable, float]:
    """Fits a world [low, high] into the scene, as large as it can be. Returns the function from a
    point (x, y) to its pixel, and the pixels of a unit of length."""
    spread = np.subtract(high, low)
    unit = min((SIZE - 24) / spread[0], (BOTTOM - TOP - 8) / spread[1]) * SCALE
    centre = np.add(low, high) / 2
    middle = pixels(SIZE / 2), pixels((TOP + BOTTOM) / 2)

    def at(x: float, y: float) -> tuple[float, float]:
        return middle[0] + (x - centre[0]) * unit, middle[1] - (y - centre[1]) * unit

    return at, unit


def draw_disc(pen: ImageDraw.ImageDraw, centre, radius: float, colour: str) -> None:
    """Draws a disc. radius: in pixels."""
    x, y = centre
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), colour)


def draw_rod(pen: ImageDraw.ImageDraw, points: Sequence, width: float, colour: str) -> None:
    """Draws a line through points, with round ends and joints."""
    pen.line([tuple(map(float, p)) for p in points], colour, round(width))
    for p in points:
        draw_disc(pen, p, (width - 1) / 2, colour)


def draw_arrow(pen: ImageDraw.ImageDraw, points: Any, colour: str = BLUE, width: float = 5) -> None:
    """Draws a line through points that ends in a head; nothing if it would be shorter than that."""
    points, head = np.asarray(points, float), pixels(2.4 * width)
    along = np.hypot(*np.diff(points, axis=0).T)
    if along.sum() < head / 2:
        return
    left = np.flatnonzero(np.hypot(*(points - points[-1]).T) >= head)
    body = points[: left[-1] + 1] if left.size else points[:1]
    ahead = (points[-1] - body[-1]) / np.hypot(*(points[-1] - body[-1]))
    neck = points[-1] - ahead * head
    pen.line([*map(tuple, body), tuple(neck + ahead * head / 4)], colour, pixels(width))
    side = ahead[::-1] * (1, -1) * head * 0.6
    pen.polygon([tuple(points[-1]), tuple(neck + side), tuple(neck - side)], colour)


def draw_torque(pen: ImageDraw.ImageDraw, centre, radius: float, amount: float) -> None:
    """Draws a bent arrow around a centre; amount: in [-1, 1], anticlockwise if positive."""
    bend = np.linspace(0, amount * 2.4, 24) + np.pi / 2
    points = np.stack([centre[0] + radius * np.cos(bend), centre[1] - radius * np.sin(bend)], -1)
    draw_arrow(pen, points)


# Scenes of what the agent observes.


def is_image(x) -> bool:
    """True if a leaf of an observation is drawn as an image: [H, W] or [H, W, channels]."""
    return x.ndim in (2, 3) and min(x.shape[:2]) >= 3


def draw_cells(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws the first image of an observation: a colour for each channel of zeros and ones, the
    first channel in front; else the colours it has, or the shades of its last channel."""
    whole = next(x for x in jax.tree.leaves(episode.obs) if is_image(x[0]))
    x = whole[t] if whole.ndim == 4 else whole[t][..., None]
    some = whole[:: max(1, len(whole) // 20)]  # large ones are slow to look through
    if np.isin(some, (0, 1)).all():
        palette = np.array([rgb(c) for c in CHANNELS], np.uint8)
        colours = palette[x.argmax(-1) % len(palette)]
        colours = np.where((x > 0).any(-1, keepdims=True), colours, np.array(rgb(EMPTY), np.uint8))
    else:
        x = x if x.shape[-1] == 3 else np.repeat(x[..., -1:], 3, -1)
        low, high = some.min(), some.max()
        colours = (np.clip((x - low) / max(high - low, 1e-9), 0, 1) * 255).astype(np.uint8)
    rows, columns = x.shape[:2]
    side = min(pixels(SIZE - 24) / columns, pixels(BOTTOM - TOP - 8) / rows)
    gaps = side >= pixels(6)
    if gaps:  # on whole points, so that all look alike
        side = side // SCALE * SCALE
    size = max(1, round(columns * side)), max(1, round(rows * side))
    middle = pixels(SIZE / 2), pixels((TOP + BOTTOM) / 2)
    left, top = ((m - s // 2) // SCALE * SCALE for m, s in zip(middle, size, strict=True))
    large = Image.fromarray(colours).resize(size, Image.Resampling.NEAREST)
    if gaps:
        pen = ImageDraw.Draw(large)
        for x in np.arange(1, columns) * side:
            pen.rectangle((x, 0, x + SCALE - 1, size[1]), PAPER)
        for y in np.arange(1, rows) * side:
            pen.rectangle((0, y, size[0], y + SCALE - 1), PAPER)
    image.paste(large, (left, top))


def rgb(colour: str) -> tuple[int, ...]:
    """Parses a colour "#RRGGBB" to three numbers."""
    return tuple(bytes.fromhex(colour[1:]))


def draw_traces(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws the entries of an observation, the action and the reward, on sheets of SPAN steps."""
    pen, rows = ImageDraw.Draw(image), trace_series(episode)
    height = (BOTTOM - TOP - 4) / len(rows)
    left, right = 118, SIZE - 16
    span = min(max(len(episode.actions), 1), SPAN)
    since = max(0, t - 1) // span * span  # a new sheet, for what scrolls makes a GIF large
    for i, (name, values) in enumerate(rows):
        top, base = TOP + 4 + i * height, TOP + (i + 1) * height - 4
        colour = CHANNELS[i % len(COLOURS)]
        low, high = float(values.min()), float(values.max())
        write_text(pen, (12, (top + base) / 2 - 8), name, 13)
        pen.rectangle([pixels(x) for x in (left, top, right, base)], EMPTY)
        begin = int(name == "reward")  # the first is there at time 1
        x = left + (right - left) * (begin - since + np.arange(len(values))) / span
        part = (values - low) / (high - low) if high > low else np.full(len(values), 0.5)
        y = base - 4 - (base - top - 8) * part
        seen = min(max(0, t + 1 - begin), len(values))
        points = SCALE * np.stack([x, y], -1)[max(0, since - begin) : seen]
        if seen:
            pen.line(points.ravel().tolist(), colour, pixels(1.5))
            draw_disc(pen, points[-1], pixels(3), colour)
            write_text(pen, (12, (top + base) / 2 + 8), f"{values[seen - 1]:.4g}", 13, colour)


def trace_series(episode: Episode) -> list[tuple[str, np.ndarray]]:
    """Names and values [T + 1], or [T], of what is traced."""
    rows = []
    for path, x in jax.tree_util.tree_leaves_with_path(episode.obs):
        name = "obs" + jax.tree_util.keystr(path, simple=True, separator=".")
        flat = x.reshape(len(x), -1)
        rows += [(f"{name}[{i}]" if x.ndim > 1 else name, flat[:, i]) for i in range(flat.shape[1])]
    space = episode.env.core.observation_space(episode.env.core.default_params)
    if hasattr(space, "n"):  # of a one-hot observation
        rows = [("state", episode.obs.argmax(-1))]
    rows = rows[:ROWS]
    actions = episode.actions.reshape(len(episode.actions), -1)[:, :2].T
    names = ["action"] if len(actions) == 1 else ["action[0]", "action[1]"]
    return [*rows, *zip(names, actions, strict=True), ("reward", episode.rewards)]


def draw_map(image: Image.Image, letters: np.ndarray, way: list, move) -> None:
    """Draws cells. way: the rows and columns so far. move: the action in x and y, None at the
    end."""
    pen, (rows, columns) = ImageDraw.Draw(image), letters.shape
    side = int(min(pixels(SIZE - 24) / columns, pixels(BOTTOM - TOP - 8) / rows, pixels(72)))
    left = pixels(SIZE / 2) - columns * side // 2
    top = pixels((TOP + BOTTOM) / 2) - rows * side // 2
    middle = lambda p: (left + (p[1] + 0.5) * side, top + (p[0] + 0.5) * side)  # noqa: E731
    for (i, j), letter in np.ndenumerate(letters):
        box = left + j * side, top + i * side, left + (j + 1) * side, top + (i + 1) * side
        pen.rectangle(box, COLOUR.get(letter, PAPER), "#D0D0D0", max(1, pixels(0.5)))
    for a, b in itertools.pairwise(way):
        if abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1:  # not where it was put back to the start
            draw_rod(pen, [middle(a), middle(b)], max(2, side * 0.1), SKY)
    size = round(min(side / SCALE * 0.42, 22))
    for cell, letter in np.ndenumerate(letters):
        if letter in "SGH" and size >= 8:
            pen.text(middle(cell), letter, GREY, font(size), "mm")
    x, y = middle(way[-1])
    draw_disc(pen, (x, y), side * 0.3, BLUE)
    if move is not None:
        dx, dy = move[0], -move[1]
        reach, base, half = side * 0.58, side * 0.34, side * 0.22
        head = [(reach, 0), (base, half), (base, -half)]  # outside of the disc
        pen.polygon([(x + dx * a - dy * b, y + dy * a + dx * b) for a, b in head], ORANGE)
