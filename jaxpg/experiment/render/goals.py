"""Scenes of environments with goals, drawn from their states. What is desired is green."""

import numpy as np
from PIL import Image, ImageDraw

from jaxpg.experiment.render.episode import Episode, core_of
from jaxpg.experiment.render.frames import (
    BLUE,
    BOTTOM,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PAPER,
    SIZE,
    SKY,
    TOP,
    draw_arrow,
    draw_disc,
    draw_map,
    draw_rod,
    fit_window,
    pixels,
    write_text,
)  # fmt: skip

SOFT_GREEN = "#A9DCCB"
MOVES = ((0, 1), (1, 0), (0, -1), (-1, 0))  # x and y of up, right, down, left


def bit_flip(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws the bits above those of the goal, a line where two are not alike, and the next flip."""
    pen, state = ImageDraw.Draw(image), episode.at(t)
    n, action = len(state.bits), episode.action(t)
    width = min((SIZE - 24) / n, 56)
    middle = (TOP + BOTTOM) / 2
    for i in range(n):
        x = SIZE / 2 + (i + 0.5 - n / 2) * width
        for bit, y, colour in (
            (state.bits[i], middle - 50, BLUE),
            (state.goal[i], middle + 50, GREEN),
        ):
            half = 0.42 * width
            box = [pixels(v) for v in (x - half, y - half, x + half, y + half)]
            pen.rounded_rectangle(box, pixels(3), colour if bit else PAPER, colour, pixels(1.5))
        if state.bits[i] != state.goal[i]:
            draw_rod(pen, [(pixels(x), pixels(middle + y)) for y in (-14, 14)], pixels(3), ORANGE)
        if action is not None and i == action:
            tip = middle - 54 - 0.42 * width
            draw_arrow(pen, [(pixels(x), pixels(y)) for y in (tip - 34, tip)], INK, 3)
    differ = int((state.bits != state.goal).sum())
    write_text(pen, (SIZE / 2, middle + 104), f"{differ} of {n} bits differ", 15, GREY, "mm")


def point(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws the square with its walls, the goal as far as its tolerance reaches, the way so far,
    and how far the next move would go."""
    pen, state, params = ImageDraw.Draw(image), episode.at(t), episode.env.params
    at, unit = fit_window((-1.12, -1.12), (1.12, 1.12))
    pen.rectangle((*at(-1, 1), *at(1, -1)), PAPER, PALE, pixels(1))
    for left, bottom, right, top in np.clip(core_of(episode.env).boxes, -1, 1):
        pen.rectangle((*at(left, top), *at(right, bottom)), "#4A4A4A", "#4A4A4A", pixels(1))
    _draw_goal(pen, at, unit, state.goal, float(params.tolerance))
    way = episode.states.position[: t + 1]
    if t:
        draw_rod(pen, [at(*p) for p in way], pixels(2), SKY)
    draw_disc(pen, at(*state.position), pixels(6), ORANGE)
    if (action := episode.action(t)) is not None:
        move = 2 * float(params.step_size) * np.clip(action, -1, 1)  # twice as long, to be seen
        draw_arrow(pen, [at(*state.position), at(*(state.position + move))], INK, 3)


def arm(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws the arm, all that it reaches, the goal as far as its tolerance reaches, and the way of
    the fingertip so far."""
    pen, params = ImageDraw.Draw(image), episode.env.params
    at, unit = fit_window((-1.12, -1.12), (1.12, 1.12))
    pen.ellipse((*at(-1, 1), *at(1, -1)), PAPER, PALE, pixels(1))
    _draw_goal(pen, at, unit, episode.at(t).goal, float(params.tolerance))
    places = [_joint_places(angles) for angles in episode.states.angles[: t + 1]]
    if t:
        draw_rod(pen, [at(*p[-1]) for p in places], pixels(2), SKY)
    points = [at(0, 0), *(at(*p) for p in places[-1])]
    draw_rod(pen, points, unit * 0.07, ORANGE)
    for p in points[:-1]:
        draw_disc(pen, p, unit * 0.025, INK)
    draw_disc(pen, points[-1], pixels(5), BLUE)


def _joint_places(angles: np.ndarray) -> np.ndarray:
    """Places [n, 2] at which the links of an arm with angles [n] end."""
    heading = np.cumsum(angles)
    return np.cumsum(np.stack([np.cos(heading), np.sin(heading)], -1), 0) / len(angles)


def rooms(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws the cells of a world of rooms, the goal, the way so far, the next move."""
    state, grid = episode.at(t), core_of(episode.env).grid
    goal = state.goal if hasattr(state, "goal") else episode.env.params.goal
    letters = np.where(grid.free, ".", "#")
    letters[tuple(grid.cells[int(goal)])] = "G"
    way = [tuple(map(int, grid.cells[s])) for s in episode.states.s[: t + 1]]
    action = episode.action(t)
    draw_map(image, letters, way, None if action is None else MOVES[int(action)])


def _draw_goal(pen: ImageDraw.ImageDraw, at, unit: float, goal: np.ndarray, reach: float) -> None:
    draw_disc(pen, at(*goal), unit * reach, SOFT_GREEN)
    draw_disc(pen, at(*goal), pixels(3), GREEN)
