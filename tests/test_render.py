"""Moving pictures: what is drawn is what was played, from the first state to the true last one."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxpg
from jaxpg.core import env as E
from jaxpg.core.run import Result
from jaxpg.core.spaces import MultiDiscrete
from jaxpg.experiment.files.atomic import CheckpointError, write_json
from jaxpg.experiment.render import frames, goals, players, scenes, video
from jaxpg.experiment.render.episode import Episode, play_episode
from jaxpg.experiment.render.files import write_gif
from tests.conftest import TINY
from tests.tabular import Odd, Picky, make

RUNS = importlib.util.find_spec("imageio_ffmpeg")


def agent_of(act):
    """As much of an agent as acts: act(env, obs, carry, key) -> action, carry."""

    def whole(cfg, env, state, obs, carry, key, greedy):
        return act(env, obs, carry, key)

    return jaxpg.Agent("mine", jaxpg.ppo.Config, None, None, whole, None)


def sample(env, obs, carry, key):
    size = len(jax.tree.leaves(obs)[0])
    return jax.vmap(env.action_space.sample)(jax.random.split(key, size)), carry


def ahead(env, obs, carry, key):
    """Action 1, which is to push right, or to go right."""
    return jnp.ones(len(jax.tree.leaves(obs)[0]), jnp.int32), carry


def count(env, obs, carry, key):
    """One more than what is remembered, in turns."""
    carry = (0 if isinstance(carry, tuple) else carry) + jnp.ones(len(obs), jnp.int32)
    return carry % 2, carry


RANDOM, RIGHT, TURNS = agent_of(sample), agent_of(ahead), agent_of(count)


def result_of(agent, env):
    metrics = {"episode/return": np.zeros(1)}
    return Result(agent, None, env, jnp.zeros(1), metrics, 1, 1, "done", 0.0)


def play(agent, env, key=0, **more):
    return play_episode(agent, None, env, jnp.zeros(1), jax.random.key(key), **more)


def near(image, at, colour, tolerance=12):
    found = np.asarray(image.convert("RGB"), int)[round(at[1]), round(at[0])]
    return np.abs(found - frames.rgb(colour)).max() <= tolerance


def cell(row, column, rows, columns):
    """The middle of a cell in a picture of so many."""
    side = int(min(1128 / columns, 288 * 3 / rows, 72 * 3)) / 3
    return 200 + (column + 0.5 - columns / 2) * side, 204 + (row + 0.5 - rows / 2) * side


# What is played.


@pytest.mark.parametrize(
    ("name", "more", "seen", "ending"),
    [
        (
            "CartPolePositions-jaxpg",
            {"max_steps_in_episode": 5},
            lambda s: np.stack([s.x, s.theta], -1),
            "time limit",
        ),
        ("FrozenLake-misc", {}, lambda s: np.eye(16)[s.position], "terminated"),  # slips
    ],
)
def test_states_are_those_that_were_observed(name, more, seen, ending):
    """At every time, the end included: there a step of the environment gives the next episode's."""
    episode = play(RANDOM, jaxpg.make(name, **more))
    length = len(episode.actions)
    assert length > 1
    np.testing.assert_array_equal(episode.states.time, np.arange(length + 1))
    np.testing.assert_allclose(seen(episode.states), episode.obs, rtol=1e-6)
    assert episode.ending == ending


@pytest.fixture(scope="module")
def fallen():
    """An episode of CartPole that always pushes right."""
    return play(RIGHT, jaxpg.make("CartPole-v1"))


def test_an_episode_ends_where_its_environment_does(fallen):
    assert 8 <= len(fallen.actions) <= 12
    assert fallen.rewards.tolist() == [1.0] * len(fallen.actions)
    limit = 12 * np.pi / 180
    angles = np.abs(fallen.states.theta)
    assert angles[-1] > limit
    assert (angles[:-1] <= limit).all()
    assert fallen.ending == "terminated"


def test_what_is_drawn_is_the_state(fallen):
    """The pole's angle, measured in the picture: at the beginning, and beyond the limit at the
    end."""
    scene = scenes.scene_for(fallen.env)
    for t in (0, len(fallen.actions)):
        image = np.asarray(frames.draw_frame(scene, fallen, t), int)
        pole = np.abs(image - frames.rgb(frames.ORANGE)).max(-1) < 40
        pole[:60] = pole[200:] = False  # without words and the track's ends
        rows, columns = np.nonzero(pole)
        slope = np.polyfit(-rows, columns, 1)[0]
        assert np.arctan(slope) == pytest.approx(float(fallen.states.theta[t]), abs=0.02)


def test_an_episode_that_goes_on_is_cut():
    """By a policy that remembers, from the episode's beginning on."""
    cut = play(TURNS, jaxpg.make("MountainCar-v0"), max_steps=5)
    assert cut.ending == "not ended"
    assert cut.actions.tolist() == [1, 0, 1, 0, 1]
    assert [len(x) for x in (cut.obs, cut.states.time, cut.rewards)] == [6, 6, 5]


# A real run, of two seeds.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    cfg, env = (
        jaxpg.hill_climbing.Config(**TINY["hill_climbing"]),
        jaxpg.make("CartPole-v1", max_steps_in_episode=20),
    )
    keys = jax.random.split(jax.random.key(0), 2)
    jaxpg.run(
        jaxpg.hill_climbing, cfg, env, keys, total_steps=600, out=out, evaluations=0, checkpoints=1
    )
    return out


def test_a_run_s_policy_plays(folder, tmp_path):
    result, out = jaxpg.load(folder), tmp_path / "a.gif"
    done = video.render(folder, out, policy=1, episodes=2, seed=5)
    again = video.render(result, tmp_path / "b.gif", policy=1, episodes=2, seed=5)
    assert out.read_bytes() == (tmp_path / "b.gif").read_bytes()
    np.testing.assert_array_equal(done.returns, again.returns)
    np.testing.assert_array_equal(done.returns, done.lengths)  # a reward of 1 each step
    assert set(done.endings) <= {"terminated", "time limit"}

    agent, cfg, env, state = result[:4]
    both = [jax.tree.map(lambda x: x[i], state) for i in (0, 1)]  # noqa: B023
    episode = play_episode(agent, cfg, env, both[1], jax.random.key(7))
    actions = [
        agent.act(cfg, env, s, episode.obs[:-1], (), jax.random.key(0), True)[0] for s in both
    ]
    np.testing.assert_array_equal(actions[1], episode.actions)
    assert (actions[0] != actions[1]).any()


# The files.


def durations(path):
    with Image.open(path) as image:
        assert image.format == "GIF"
        assert image.size == (400, 400)
        assert image.info["loop"] == 0  # for ever
        times = []
        for i in range(image.n_frames):
            image.seek(i)
            times.append(image.info["duration"])
        return times


@pytest.mark.parametrize(("fps", "every", "each"), [(10, 1, 100), (30, 2, 70), (25, 1, 40)])
def test_a_gif_has_every_step_for_its_time(tmp_path, fallen, fps, every, each):
    out = tmp_path / "a.GIF"
    env = fallen.env
    done = video.render(result_of(RIGHT, env), out, fps=fps)
    length = int(done.lengths[0])
    times = durations(out)
    if every == 1:
        assert times == [each] * length + [1000]
        assert len(times) == done.frames
    assert sum(times) == pytest.approx(1000 * length / fps + 1000, abs=10)
    assert list(tmp_path.iterdir()) == [out]
    with Image.open(out) as image:
        image.seek(image.n_frames - 1)
        last = image.convert("RGB")
    words = np.asarray(last, int)[365:390, 100:300]
    assert (np.abs(words - frames.rgb(frames.ORANGE)).max(-1) < 40).sum() > 100  # "terminated"
    assert out.stat().st_size < 50_000


@pytest.mark.parametrize("movie", [False, True])
@pytest.mark.parametrize("lengths", [[1], [9], [500], [999, 3], [5] * 20, [1000] * 5])
@pytest.mark.parametrize("fps", [1, 24, 50, 1000])
def test_the_timetable(lengths, fps, movie):
    shown = video.schedule_frames(lengths, fps, movie)
    assert sum(s for _, _, s in shown) == pytest.approx(
        sum(lengths) / fps + video.HOLD * len(lengths)
    )
    rate = video.MP4_RATE if movie else video.GIF_RATE
    for i, length in enumerate(lengths):
        times = [t for e, t, _ in shown if e == i]
        seconds = [s for e, _, s in shown if e == i]
        assert times[0] == 0
        assert times[-1] == length
        assert (np.diff(times) > 0).all()
        assert seconds[-1] == video.HOLD
        assert len(times) == 2 or min(seconds) > 0.49 / rate
        if fps <= rate and (movie or sum(lengths) <= video.PICTURES):
            assert times == list(range(length + 1))
    if not movie:
        assert len(shown) <= video.PICTURES + 2 * len(lengths)


def test_colours_are_exact(tmp_path, fallen):
    env = jaxpg.make("Breakout-MinAtar")
    x = np.zeros((30, 10, 10, 4), np.float32)
    x[:, 1:4, :, 3] = x[:, 9, 4, 0] = x[:, 7, 7, 1] = x[:, 6, 8, 2] = 1
    breakout = Episode(env, (), x, np.ones(29, int), np.zeros(29), "")
    for episode, at in [
        (fallen, {(5, 200): frames.PAPER, (220, 370): frames.BLUE, (150, 370): frames.PALE}),
        (
            breakout,
            {(5, 200): frames.PAPER, cell(5, 5, 10, 10): frames.EMPTY}
            | {cell(9, 4, 10, 10): frames.BLUE, cell(7, 7, 10, 10): frames.ORANGE}
            | {cell(6, 8, 10, 10): frames.GREEN, cell(2, 2, 10, 10): frames.PINK},
        ),
    ]:
        out, times = tmp_path / "a.gif", range(len(episode.obs))
        pictures = (frames.draw_frame(scenes.scene_for(episode.env), episode, t) for t in times)
        write_gif(out, pictures, [0.1] * len(episode.obs))
        with Image.open(out) as image:
            for place, colour in at.items():
                assert near(image, place, colour, 0)


@pytest.mark.skipif(not RUNS, reason="needs the extra")
@pytest.mark.filterwarnings("ignore:os.fork")  # of the reader
def test_an_mp4_has_every_step(tmp_path, fallen):
    import imageio_ffmpeg

    out = tmp_path / "a.mp4"
    done = video.render(result_of(RIGHT, fallen.env), out, fps=20)
    assert list(tmp_path.iterdir()) == [out]
    reader = imageio_ffmpeg.read_frames(str(out))
    about = next(reader)
    pictures = [np.frombuffer(x, np.uint8).reshape(400, 400, 3) for x in reader]
    assert about["fps"] == 20
    assert about["size"] == (400, 400)
    assert len(pictures) == done.frames - 1 + 20  # the last for a second
    episode = play(RIGHT, fallen.env, key=0)
    scene = scenes.scene_for(fallen.env)
    drawn = np.asarray(frames.draw_frame(scene, episode, 0), int)
    assert np.abs(pictures[0][60:350] - drawn[60:350]).mean() < 3


# Scenes.


def test_the_agent_stands_in_its_cell():
    """Along the edge of the cliff by a policy that knows the way, into the goal."""

    def walk(env, obs, carry, key):
        s = obs.argmax(-1)
        return jnp.where(s == 36, 0, jnp.where(s == 35, 2, 1)), carry

    episode = play(agent_of(walk), jaxpg.make("Cliff-jaxpg"))
    assert episode.rewards.sum() == -13
    np.testing.assert_array_equal(episode.states.s, episode.obs.argmax(-1))
    scene = scenes.scene_for(episode.env)
    for t, (row, column) in {0: (3, 0), 1: (2, 0), 7: (2, 6), 13: (3, 11)}.items():
        image = frames.draw_frame(scene, episode, t)
        assert near(image, cell(row, column, 4, 12), frames.BLUE)
        if t < 13:
            assert near(image, cell(3, 5, 4, 12), frames.COLOUR["C"])


def test_a_map_of_one_s_own():
    env = jaxpg.make("GridWorld-jaxpg", map="S#/.G")
    state, inner = E.reset(env, jax.random.key(0), 1).obs, None
    inner = E.reset(env, jax.random.key(0), 2).inner
    episode = Episode(env, inner, np.repeat(state, 2, 0), np.array([2]), np.zeros(1), "")
    image = frames.draw_frame(scenes.scene_for(env), episode, 0)
    assert near(image, cell(0, 0, 2, 2), frames.BLUE)
    assert near(image, cell(0, 1, 2, 2), frames.COLOUR["#"])
    assert near(image, (cell(1, 1, 2, 2)[0] + 25, cell(1, 1, 2, 2)[1] + 25), frames.COLOUR["G"])


def test_channels_have_colours_and_the_first_is_in_front():
    x = np.zeros((2, 10, 10, 4), np.float32)
    x[0, 9, 4, [0, 2]] = x[0, 3, 7, 1] = x[0, 0, 0, 3] = 1
    env = jaxpg.make("Breakout-MinAtar")
    episode = Episode(env, (), x, np.array([1]), np.zeros(1), "")
    image = frames.draw_frame(scenes.scene_for(env), episode, 0)
    for (row, column), channel in {(9, 4): 0, (3, 7): 1, (0, 0): 3}.items():
        assert near(image, cell(row, column, 10, 10), frames.CHANNELS[channel])
    assert near(image, cell(5, 5, 10, 10), frames.EMPTY)


@pytest.mark.parametrize("channels", [1, 3])
def test_other_images_have_shades_or_their_own_colours(channels):
    x = np.linspace(0, 200, 2 * 5 * 5 * channels).reshape(2, 5, 5, channels)
    env = jaxpg.make("Breakout-MinAtar")
    image = Image.new("RGB", (1200, 1200))
    frames.draw_cells(image, Episode(env, (), x, np.zeros(1), np.zeros(1), ""), 1)
    at = [3 * v for v in cell(4, 4, 5, 5)]
    expected = np.broadcast_to(x[1, 4, 4] / 200 * 255, 3).astype(int)
    assert np.abs(np.array(image.getpixel((int(at[0]), int(at[1])))) - expected).max() <= 1


DRAWN = {  # an environment for each scene
    "CartPole-v1": scenes.cart_pole,
    "PendulumPositions-jaxpg": scenes.pendulum,
    "Acrobot-v1": scenes.acrobot,
    "MountainCar-v0": scenes.mountain_car,
    "MountainCarContinuous-v0": scenes.mountain_car,
    "Catch-bsuite": frames.draw_cells,
    "Breakout-MinAtar": frames.draw_cells,
    "DeepSea-bsuite": scenes.deep_sea,
    "FrozenLake-misc": scenes.map_of_cells,
    "ShortCorridor-jaxpg": scenes.map_of_cells,
    "MetaMaze-misc": scenes.maze,
    "PointRobot-misc": scenes.point_robot,
    "Reacher-misc": scenes.reacher,
    "Swimmer-misc": scenes.swimmer,
    "Spread-jaxpg": players.spread,
    "Pursuit-jaxpg": players.pursuit,
    "BitFlip-jaxpg": goals.bit_flip,
    "PointReach-jaxpg": goals.point,
    "ArmReach-jaxpg": goals.arm,
    "GoalRooms-jaxpg": goals.rooms,
    "FourRooms-jaxpg": goals.rooms,
    "Garnet-jaxpg": frames.draw_traces,
    "BernoulliBandit-misc": frames.draw_traces,
}


@pytest.mark.parametrize("name", DRAWN)
def test_environments_are_drawn(name):
    """Two states as beginning and end."""
    env = jaxpg.make(name)
    begun = E.reset(env, jax.random.key(3), 2)
    obs, inner = jax.device_get((begun.obs, begun.inner))
    action = np.asarray(env.action_space.sample(jax.random.key(0)))[None]
    scene = scenes.scene_for(env)
    assert scene.draw == DRAWN[name]
    inner = inner if scene.states else ()
    episode = Episode(env, inner, obs, action, np.array([0.5]), "terminated")
    images = [np.asarray(frames.draw_frame(scene, episode, t)) for t in (0, 1)]
    for image in images:
        assert image.shape == (400, 400, 3)
        middle = image[60:350]
        assert (middle != 255).any(-1).mean() > 0.01  # something is drawn,
        assert (middle[:, [0, 1, 398, 399]] == 255).all()  # and all of it is on the picture
    assert (images[0] != images[1]).any()


def test_games_show_who_touches_and_who_is_out():
    """Two agents that touch, and one apart; a caught prey, and two hunters in one cell."""
    from jaxpg.envs.games import pursuit, spread

    def draw(name, states, action):
        env = jaxpg.make(name)
        states = jax.tree.map(lambda x: np.asarray(x)[None].repeat(2, 0), states)
        episode = Episode(env, states, None, np.array([action]), np.array([1.0]), "terminated")
        return frames.draw_frame(scenes.scene_for(env), episode, 1)

    place = np.array([[0.0, 0.0], [0.2, 0.0], [-0.8, 0.5]])
    marks = np.array([[0.0, -0.5], [0.5, 0.5], [-0.8, -0.8]])
    image = draw("Spread-jaxpg", spread.State(place, 0 * place, marks, 0), [0, 0, 0])
    at, _ = frames.fit_window((-1.15, -1.15), (1.15, 1.15))
    point = lambda x, y: tuple(v / frames.SCALE for v in at(x, y))  # noqa: E731
    colours = [frames.ORANGE, frames.ORANGE, frames.BLUE]
    for (x, y), colour in zip(place, colours, strict=True):
        assert near(image, point(x, y + 0.08), colour)
    for x, y in marks:
        assert near(image, point(x, y), frames.GREEN)
    assert near(image, point(0, -0.3), "#A9DCCB")  # the way to the nearest agent

    cell = np.array([[0, 0], [0, 0], [5, 5], [2, 2], [7, 3]])
    state = pursuit.State(cell, np.arange(5) != 3, 0)
    image = draw("Pursuit-jaxpg", state, [0] * 5)
    side = 288 // 8  # points
    centre = lambda x, y: (200 + (x - 3.5) * side, 204 - (y - 3.5) * side)  # noqa: E731
    assert near(image, centre(5, 5), frames.BLUE)
    assert near(image, centre(2, 2), frames.GREY)
    assert near(image, centre(7, 3), frames.ORANGE)
    for x, y in [(0, 3), (6, 3), (7, 4), (7, 2)]:  # from where it is caught, round the edge too
        assert near(image, centre(x, y), "#FBE6DA")
    assert near(image, centre(2, 3), "#FFFFFF")
    for turn in (1 / 8, 5 / 8):  # two in one cell
        x, y = 0.22 * np.cos(2 * np.pi * turn), 0.22 * np.sin(2 * np.pi * turn)
        assert near(image, centre(x, y), frames.BLUE)


@pytest.mark.parametrize(
    "env",
    [
        make(Picky()),  # a mask, an image, a Tuple
        make(Odd(discrete=True, parts=True)),
        make(Odd(actions=MultiDiscrete([2, 3]))),
    ],
    ids=["masked", "parts", "multi-discrete"],
)
def test_environments_of_one_s_own(env, tmp_path):
    out = tmp_path / "a.gif"
    if env.core.name == "Picky":  # punishes what is not legal
        legal = lambda env, obs, carry, key: (obs.mask.argmax(-1).astype(jnp.int32), carry)  # noqa: E731
        done = video.render(result_of(agent_of(legal), env), out, fps=10)
        assert done.returns == [6]
    else:
        done = video.render(result_of(RANDOM, env), out, fps=10)
    assert len(durations(out)) == done.lengths[0] + 1 in (7, 9)


def test_traces_are_the_numbers():
    """A line that rises over the episode, as far as it has come."""
    env = make(Odd())
    t = np.arange(11)
    obs = np.eye(11)[t][:, :5] * 0 + np.eye(5)[np.minimum(t // 2, 4)]
    episode = Episode(env, (), obs, np.zeros((10, 3)), np.ones(10), "")
    names = [name for name, _ in frames.trace_series(episode)]
    assert names == ["state", "action[0]", "action[1]", "reward"]
    assert frames.trace_series(episode)[0][1].tolist() == (np.minimum(t // 2, 4)).tolist()
    half = np.asarray(frames.draw_frame(scenes.scene_for(env), episode, 5), int)
    line = np.abs(half - frames.rgb(frames.BLUE)).max(-1) < 60
    line[:56] = line[120:] = line[:, :118] = False
    rows, columns = np.nonzero(line)
    assert columns.max() == pytest.approx(118 + (384 - 118) / 2, abs=5)
    assert rows[columns.argmin()] > rows[columns.argmax()]


# Errors.


def test_bad_input_is_an_error_before_anything_is_played(folder, tmp_path, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("played")

    monkeypatch.setattr(video, "play_episode", never)
    out = tmp_path / "a.gif"
    out.write_text("mine")
    other = tmp_path / "empty"
    other.mkdir()
    for words, run, where, more in [
        (r"out='.*a\.avi': allowed are the endings \.gif and \.mp4", folder, "a.avi", {}),
        (r"out='.*a': allowed are the endings", folder, "a", {}),
        ("nowhere/a.gif': allowed is a file in a folder", folder, "nowhere/a.gif", {}),
        ("episodes=0: allowed is an integer >= 1", folder, "a.gif", {"episodes": 0}),
        ("max_steps=0: allowed is an integer >= 1", folder, "a.gif", {"max_steps": 0}),
        ("max_steps=1.5: allowed is an integer", folder, "a.gif", {"max_steps": 1.5}),
        ("seed=-1: allowed is an integer >= 0 and < 2", folder, "a.gif", {"seed": -1}),
        ("policy=2: allowed is an integer >= 0 and <= 1", folder, "a.gif", {"policy": 2}),
        ("fps=0: allowed is a number", folder, "a.gif", {"fps": 0}),
        ("fps=nan: allowed is a number", folder, "a.gif", {"fps": float("nan")}),
        ("found no run.json", other, "a.gif", {}),
        ("found no such folder", tmp_path / "not there", "a.gif", {}),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=words):
            video.render(run, tmp_path / where, **more)
    write_json(other / "run.json", jaxpg.experiment.run.checkpoint.read_json(folder / "run.json"))
    with pytest.raises(CheckpointError, match="found no finished checkpoint"):
        video.render(other, out)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"MP4 needs the extra: pip install 'jaxpg\[video\]'"):
        video.render(folder, tmp_path / "a.mp4")
    assert out.read_text() == "mine"
    assert set(tmp_path.iterdir()) == {out, other}


def test_a_file_stays_until_the_new_one_is_whole(fallen, tmp_path, monkeypatch):
    out = tmp_path / "a.gif"
    out.write_text("mine")

    def fail(path, *_):
        path.write_text("half")
        raise OSError("no space")

    monkeypatch.setattr(video, "write_gif", fail)
    with pytest.raises(OSError, match="no space"):
        video.render(result_of(RIGHT, fallen.env), out)
    assert out.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [out]
