"""Scenes of environments that are known: gymnax's and jaxpg's, drawn from their states."""

from typing import Any, cast

import numpy as np
from PIL import Image, ImageDraw

from jaxpg.core import env as E
from jaxpg.core.observations import array_leaves
from jaxpg.experiment.render import goals, players
from jaxpg.experiment.render.episode import Episode, core_of, has_states
from jaxpg.experiment.render.frames import (
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PAPER,
    SKY,
    Scene,
    draw_arrow,
    draw_cells,
    draw_disc,
    draw_map,
    draw_rod,
    draw_torque,
    draw_traces,
    fit_window,
    is_image,
    pixels,
)  # fmt: skip

COMPASS = ("up", "right", "down", "left")
MINATAR = ("stay", "left", "up", "right", "down", "fire")  # all of its actions, in its order
STEPS = {"up": (0, 1), "right": (1, 0), "down": (0, -1), "left": (-1, 0)}  # x and y
LAKE = "SFHG"  # FrozenLake's letters for its numbers


def scene_for(env: E.Env) -> Scene:
    """Chooses the scene of an environment: of its states if it is known, else of its
    observations."""
    from jaxpg.envs import tabular  # gymnax takes a second

    core = core_of(env)
    if has_states(env) and hasattr(core, "step_env") and core.name in KNOWN:
        return KNOWN[core.name]
    if has_states(env) and isinstance(core, tabular.Tabular) and _map_letters(env):
        return Scene(map_of_cells, 4, COMPASS if core.num_actions == 4 else COMPASS[::-2], True)
    names = NAMES.get(core.name, ())
    if core.name.endswith("-MinAtar"):
        names = tuple(MINATAR[int(i)] for i in cast(Any, core).action_set)
    if any(is_image(x) for x in array_leaves(env.example_obs)):
        return Scene(draw_cells, 30 if core.name == "Pong-misc" else 20, names)
    return Scene(draw_traces, 20, names)


# Classic control.


def cart_pole(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws the track with its limits, the angles within which an episode goes on, the push."""
    pen, state, params = ImageDraw.Draw(image), episode.at(t), episode.env.params
    limit, length = float(params.x_threshold), 2 * float(params.length)
    at, unit = fit_window((-limit - 0.45, -0.75), (limit + 0.45, max(length, 1) + 0.75))
    x, theta = float(state.x), float(state.theta)
    pivot = np.array([x, 0.0])

    def tip(angle, reach):
        return pivot + reach * np.array([np.sin(angle), np.cos(angle)])

    cone = float(params.theta_threshold_radians)
    fan = [tip(angle, length + 0.35) for angle in np.linspace(-cone, cone, 12)]
    pen.polygon([at(*p) for p in (pivot, *fan)], "#E3EFF6")
    draw_rod(pen, [at(-limit - 0.4, -0.3), at(limit + 0.4, -0.3)], pixels(1.5), GREY)
    for end in (-limit, limit):
        draw_rod(pen, [at(end, -0.42), at(end, -0.18)], pixels(3), ORANGE)
    (left, top), (right, base) = at(x - 0.28, 0.0), at(x + 0.28, -0.3)
    pen.rounded_rectangle((left, top, right, base), unit * 0.06, INK)
    draw_rod(pen, [at(*pivot), at(*tip(theta, length))], unit * 0.11, ORANGE)
    draw_disc(pen, at(*pivot), unit * 0.045, PAPER)
    action = episode.action(t)
    if action is not None:
        side = 1 if action else -1
        draw_arrow(pen, [at(x + side * 0.34, -0.15), at(x + side * 0.95, -0.15)])


def pendulum(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws the rod, upright at angle zero, and the torque."""
    pen, state, params = ImageDraw.Draw(image), episode.at(t), episode.env.params
    length, theta = float(params.l), float(state.theta)
    at, unit = fit_window((-1.25 * length,) * 2, (1.25 * length,) * 2)
    end = -length * np.sin(theta), length * np.cos(theta)
    draw_rod(pen, [at(0, 0), at(0, 1.1 * length)], pixels(1), PALE)
    draw_rod(pen, [at(0, 0), at(*end)], unit * length * 0.14, ORANGE)
    draw_disc(pen, at(0, 0), unit * length * 0.045, INK)
    action = episode.action(t)
    if action is not None:
        amount = float(action.ravel()[0]) / float(params.max_torque)
        draw_torque(pen, at(0, 0), unit * length * 0.45, amount)


def acrobot(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws both links, hanging at angle zero, the height to reach, and the torque between them."""
    pen, state, params = ImageDraw.Draw(image), episode.at(t), episode.env.params
    first, second = float(params.link_length_1), float(params.link_length_2)
    reach = 1.15 * (first + second)
    at, unit = fit_window((-reach, -reach), (reach, reach))
    angles = np.cumsum([float(state.joint_angle1), float(state.joint_angle2)])
    steps = np.array([first, second])[:, None] * np.stack([np.sin(angles), -np.cos(angles)], -1)
    joints = [(0.0, 0.0), *np.cumsum(steps, 0)]
    for x in np.arange(-reach, reach, 0.24):
        draw_rod(pen, [at(x, 1), at(x + 0.1, 1)], pixels(1.5), GREEN)  # the height is fixed
    draw_rod(pen, [at(*p) for p in joints[:2]], unit * 0.2, GREY)
    draw_rod(pen, [at(*p) for p in joints[1:]], unit * 0.2, ORANGE)
    for p in joints[:2]:
        draw_disc(pen, at(*p), unit * 0.05, PAPER)
    action = episode.action(t)
    if action is not None:
        draw_torque(
            pen, at(*joints[1]), unit * 0.45, float(params.available_torque[int(action)]) * 0.7
        )


def mountain_car(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws the valley, the flag and the push."""
    pen, state, params = ImageDraw.Draw(image), episode.at(t), episode.env.params
    low, high = float(params.min_position), float(params.max_position)
    at, unit = fit_window((low - 0.06, -0.05), (high + 0.06, 1.4))
    height = lambda x: 0.45 * np.sin(3 * x) + 0.55  # noqa: E731
    track = np.linspace(low, high, 120)
    hill = [at(x, height(x)) for x in track]
    base = at(low, 0)[1]
    pen.polygon([(hill[0][0], base), *hill, (hill[-1][0], base)], "#EEF3EE")
    pen.line(hill, GREY, pixels(2))
    goal = float(params.goal_position)
    pole, top = at(goal, height(goal)), at(goal, height(goal) + 0.28)
    draw_rod(pen, [pole, top], pixels(2), INK)
    pen.polygon([top, (top[0] + unit * 0.13, top[1] + unit * 0.05), (top[0], top[1] + unit * 0.1)],
                GREEN)  # fmt: skip

    x = float(state.position)
    ahead = np.array([1, 1.35 * np.cos(3 * x)])  # along the slope
    ahead /= np.hypot(*ahead)
    up = ahead[::-1] * (-1, 1)
    place = lambda a, b: at(*(np.array([x, height(x)]) + a * ahead + b * up))  # noqa: E731
    body = [(-0.08, 0.03), (-0.08, 0.075), (-0.05, 0.11), (0.035, 0.11), (0.08, 0.07), (0.08, 0.03)]
    pen.polygon([place(*p) for p in body], ORANGE)
    for wheel in (-0.045, 0.045):
        draw_disc(pen, place(wheel, 0.028), unit * 0.028, INK)
    action = episode.action(t)
    if action is not None:
        push = float(action) - 1 if episode.env.discrete else float(action.ravel()[0])
        side = np.sign(push)
        draw_arrow(
            pen, [place(side * 0.1, 0.07), place(side * 0.1 + 0.25 * np.clip(push, -1, 1), 0.07)]
        )


# Worlds of cells.


def map_of_cells(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws a map of letters (S start, G goal, # wall, C cliff or H hole), the way so far, the
    agent."""
    letters = np.array([list(row) for row in (_map_letters(episode.env) or "").split("/")])
    at_cell = lambda s: divmod(int(s), letters.shape[1])  # noqa: E731
    states = episode.states.s if hasattr(episode.states, "s") else episode.states.position
    draw_map(image, letters, [at_cell(s) for s in states[: t + 1]], _action_direction(episode, t))


def maze(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws FourRooms or MetaMaze: walls, the goal, the way so far, the agent."""
    letters = np.where(np.asarray(core_of(episode.env).env_map, bool), ".", "#")
    letters[tuple(episode.at(t).goal)] = "G"
    way = [tuple(map(int, p)) for p in episode.states.pos[: t + 1]]
    draw_map(image, letters, way, _action_direction(episode, t))


def generated_maze(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws Maze-jaxpg: walls, the goal, the way so far, the next move."""
    letters = np.where(episode.at(t).free, ".", "#")
    letters[-2, -2] = "G"
    way = [tuple(map(int, p)) for p in episode.states.position[: t + 1]]
    draw_map(image, letters, way, _action_direction(episode, t))


def deep_sea(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws the diver on the way down to the floor, and where the treasure is."""
    state, size = episode.at(t), core_of(episode.env).size
    letters = np.full((size + 1, size), ".")
    letters[size], letters[size - 1, size - 1] = "#", "G"
    draw_map(image, letters, [(int(state.row), int(state.column))], None)


def _map_letters(env: E.Env) -> str | None:
    """Map of a world of cells as letters, its rows parted by "/"; None if it has none."""
    from jaxpg.envs import registry, tabular

    if (core := core_of(env)).name == "FrozenLake-misc":
        return "/".join("".join(LAKE[i] for i in row) for row in np.asarray(core.desc))
    own = {"GridWorld-jaxpg": tabular.CORNERS, "Cliff-jaxpg": tabular.CLIFF}
    own |= {"ShortCorridor-jaxpg": "S..G"}
    return registry.options(env).get("map", own.get(env.name)) if env.made_of else None


def _action_direction(episode: Episode, t: int) -> tuple[int, int] | None:
    action = episode.action(t)
    return None if action is None else STEPS[scene_for(episode.env).names[int(action)]]


# Gymnax's other worlds in the plane.


def point_robot(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws the half circle of goals, the goal, the agent and its next move."""
    pen, state, params = ImageDraw.Draw(image), episode.at(t), episode.env.params
    radius = float(params.circle_radius)
    reach = max(1.3 * radius, np.abs(episode.states.pos).max() + 0.1)
    at, unit = fit_window((-reach, min(-0.3, episode.states.pos[:, 1].min() - 0.1)), (reach, reach))
    draw_rod(pen, [at(radius * np.cos(a), radius * np.sin(a)) for a in np.linspace(0, np.pi, 60)],
        pixels(2), PALE)  # fmt: skip
    draw_disc(pen, at(*state.goal), unit * float(params.goal_radius), "#A9DCCB")
    draw_disc(pen, at(*state.goal), pixels(3), GREEN)
    draw_disc(pen, at(*state.pos), pixels(8), ORANGE)
    action = episode.action(t)
    if action is not None:
        draw_arrow(pen, [at(*state.pos), at(*(state.pos + action * 3))])


def reacher(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws the arm, whose links have length 1 and angles against the horizontal, and the goal."""
    pen, state = ImageDraw.Draw(image), episode.at(t)
    joints = np.cumsum(np.stack([np.cos(state.angles), np.sin(state.angles)], -1), 0)
    reach = 1.1 * len(joints)
    at, unit = fit_window((-reach, -reach), (reach, reach))
    draw_disc(pen, at(*state.goal_xy), unit * 0.16, "#A9DCCB")
    draw_disc(pen, at(*state.goal_xy), pixels(3), GREEN)
    points = [at(0, 0), *(at(*p) for p in joints)]
    draw_rod(pen, points, unit * 0.14, ORANGE)
    for p in points[:-1]:
        draw_disc(pen, p, unit * 0.045, INK)


def swimmer(image: Image.Image, episode: Episode, t: int) -> None:
    """Draws the swimmer, the goal and the urchins, on as much of the plane as the episode needs."""
    pen, state, way = ImageDraw.Draw(image), episode.at(t), episode.states.xy
    low, high = np.minimum(way.min(0), -1) - 0.15, np.maximum(way.max(0), 1) + 0.15
    at, _ = fit_window(low, high)
    pen.rectangle((*at(-1, 1), *at(1, -1)), None, PALE, pixels(1))  # where everything begins
    draw_disc(pen, at(*state.goal_xy), pixels(10), "#A9DCCB")
    draw_disc(pen, at(*state.goal_xy), pixels(3), GREEN)
    for urchin in state.urchin_xys:
        draw_disc(pen, at(*urchin), pixels(6), INK)
    if t:
        pen.line([at(*p) for p in way[: t + 1]], SKY, pixels(2))
    draw_disc(pen, at(*state.xy), pixels(8), ORANGE)
    action = episode.action(t)
    if action is not None:
        draw_arrow(pen, [at(*state.xy), at(*(state.xy + 0.35 * np.clip(action, -1, 1)))])


KNOWN = {
    "CartPole-v1": Scene(cart_pole, 50, ("left", "right"), True),
    "Pendulum-v1": Scene(pendulum, 20, (), True),
    "Acrobot-v1": Scene(acrobot, 15, ("-1", "0", "+1"), True),
    "MountainCar-v0": Scene(mountain_car, 60, ("left", "coast", "right"), True),
    "MountainCarContinuous-v0": Scene(mountain_car, 60, (), True),
    "FrozenLake-misc": Scene(map_of_cells, 4, ("left", "down", "right", "up"), True),
    "DeepSea-bsuite": Scene(deep_sea, 4, (), True),
    "FourRooms-misc": Scene(maze, 10, COMPASS, True),
    "MetaMaze-misc": Scene(maze, 10, COMPASS, True),
    "Maze-jaxpg": Scene(generated_maze, 10, COMPASS, True),
    "PointRobot-misc": Scene(point_robot, 10, (), True),
    "Reacher-misc": Scene(reacher, 20, (), True),
    "Swimmer-misc": Scene(swimmer, 20, (), True),
    "Spread-jaxpg": Scene(players.spread, 10, (), True),
    "Pursuit-jaxpg": Scene(players.pursuit, 4, (), True),
    "BitFlip-jaxpg": Scene(goals.bit_flip, 2, (), True),
    "PointReach-jaxpg": Scene(goals.point, 10, (), True),
    "ArmReach-jaxpg": Scene(goals.arm, 10, (), True),
    "GoalRooms-jaxpg": Scene(goals.rooms, 4, COMPASS, True),
    "FourRooms-jaxpg": Scene(goals.rooms, 4, COMPASS, True),
}
NAMES = {"Catch-bsuite": ("left", "stay", "right"), "Pong-misc": ("stay", "up", "down")}
