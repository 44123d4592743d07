"""Scenes of games: worlds of several players, drawn from their states."""

import itertools

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
    TOP,
    draw_arrow,
    draw_disc,
    draw_rod,
    fit_window,
    pixels,
)  # fmt: skip


def spread(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws landmarks with the way to the agent next to each, agents (others where they touch), and
    forces, on as much of the plane as the episode needs."""
    from jaxpg.envs.games.spread import PUSHES  # gymnax takes a second

    pen, state, params = ImageDraw.Draw(image), episode.at(t), episode.env.params
    radius = float(params.agent_size)
    ever = np.concatenate([episode.states.position, episode.states.landmarks], 1).reshape(-1, 2)
    low, high = np.minimum(ever.min(0), -1) - radius, np.maximum(ever.max(0), 1) + radius
    at, unit = fit_window(low, high)
    pen.rectangle((*at(-1, 1), *at(1, -1)), None, PALE, pixels(1))  # where everything begins
    apart = np.linalg.norm(state.position - state.position[:, None], axis=-1)
    touch = (apart < 2 * radius).sum(1) > 1
    for mark in state.landmarks:
        nearest = np.linalg.norm(state.position - mark, axis=1).argmin()
        draw_rod(pen, [at(*mark), at(*state.position[nearest])], pixels(2), "#A9DCCB")
    for place, both in zip(state.position, touch, strict=True):
        draw_disc(pen, at(*place), unit * radius, ORANGE if both else BLUE)
    for mark in state.landmarks:
        draw_disc(pen, at(*mark), unit * 0.05 + pixels(1.5), PAPER)
        draw_disc(pen, at(*mark), unit * 0.05, GREEN)
    if (action := episode.action(t)) is not None:
        pushes = np.clip(action, -1, 1) if action.ndim > 1 else PUSHES[action]
        for place, push in zip(state.position, pushes, strict=True):
            draw_arrow(pen, [at(*place), at(*(place + 2.2 * radius * push))], INK, 3)


def pursuit(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws the torus: hunters, prey with the cells from which it is caught, who is out, moves."""
    from jaxpg.envs.games.pursuit import MOVES  # gymnax takes a second

    pen, state, core = ImageDraw.Draw(image), episode.at(t), core_of(episode.env)
    side = min(pixels(BOTTOM - TOP - 8), pixels(SIZE - 24)) // core.size
    left = pixels(SIZE / 2) - core.size * side // 2
    top = pixels((TOP + BOTTOM) / 2) - core.size * side // 2
    prey, there = state.cell[core.hunters :], state.alive[core.hunters :]
    reach = {tuple(c) for p in prey[there] for c in ((p + MOVES) % core.size).tolist()}
    for x, y in itertools.product(range(core.size), repeat=2):
        box = left + x * side, top + (core.size - 1 - y) * side
        colour = "#FBE6DA" if (x, y) in reach else PAPER
        pen.rectangle((*box, box[0] + side, box[1] + side), colour, "#D0D0D0", pixels(0.5))
    shift = _places_in_cells(state.cell)
    action = episode.action(t)
    for i, (x, y) in enumerate(state.cell + 0.5 + shift):
        middle = left + x * side, top + (core.size - y) * side
        colour = GREY if not state.alive[i] else BLUE if i < core.hunters else ORANGE
        draw_disc(pen, middle, side * (0.26 if state.alive[i] else 0.12), colour)
        if action is not None and state.alive[i]:
            end = np.add(middle, MOVES[action[i]] * (0.62 * side, -0.62 * side))
            draw_arrow(pen, [middle, end], INK, 3)


def _places_in_cells(cell: np.ndarray) -> np.ndarray:
    """Places [P, 2] of players about the middle of their cells [P, 2]: a ring, where several are in
    one."""
    places = np.zeros(cell.shape)
    for i, own in enumerate(cell):
        here = np.flatnonzero((cell == own).all(1))
        if len(here) > 1:
            turn = 2 * np.pi * (here.tolist().index(i) / len(here) + 1 / 8)
            places[i] = 0.22 * np.cos(turn), 0.22 * np.sin(turn)
    return places
