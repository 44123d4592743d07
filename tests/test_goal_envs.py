"""Environments with goals: the contract of all, and each one against loops and closed forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import environment, spaces

import jaxpg
from jaxpg.cli import main
from jaxpg.core import env as E
from jaxpg.core import episodes, goals
from jaxpg.core.observations import GOAL_KEYS, array_leaves
from jaxpg.envs import registry
from jaxpg.envs.goals import arm, bit_flip, point, walls
from jaxpg.nets.values import DiscreteQ

KEY = jax.random.key(7)
# With arguments under which random actions end episodes in both ways.
CORES = {
    "BitFlip-jaxpg": {"n": 3},
    "PointReach-jaxpg": {"walls": "rooms", "tolerance": 0.5, "max_steps_in_episode": 9},
    "ArmReach-jaxpg": {"tolerance": 0.4, "max_steps_in_episode": 9},
    "GoalRooms-jaxpg": {"map": "...#/.#../....", "max_steps_in_episode": 9},
}


def resets(env, count, key=KEY):
    """First observations and states [count, ...], of the environment's own."""
    return jax.vmap(env.core.reset_env, (0, None))(jax.random.split(key, count), env.params)


def step(env, states, action):
    one = jax.jit(jax.vmap(lambda s, a: env.core.step_env(KEY, s, a, env.params)))
    return one(states, jnp.asarray(action))


def random_rollout(env, num_envs=16, num_steps=60):
    space = env.action_space

    def policy(obs, carry, key):
        return jax.vmap(space.sample)(jax.random.split(key, num_envs)), carry, ()

    begin = E.reset(env, KEY, num_envs)
    return jax.jit(lambda s: jaxpg.rollout(env, policy, s, (), KEY, num_steps)[2:])(begin)


def test_the_table_has_every_environment_with_goals():
    found = {name for name in registry.names() if goals.has_goals(jaxpg.make(name))}
    assert found == CORES.keys()


@pytest.mark.parametrize("name", CORES)
def test_a_step_is_by_the_methods_of_goals_alone(name):
    env = jaxpg.make(name, **CORES[name])
    goals.require_goals(env, "a test")
    assert tuple(env.core.observation_space(env.params).spaces) == GOAL_KEYS
    t, _, metrics = jax.device_get(random_rollout(env))
    pair = t.next_obs["achieved"], t.next_obs["desired"]
    for method, found in zip(goals.METHODS, (t.reward, t.terminated), strict=True):
        one = lambda a, d, f=getattr(env.core, method): f(a, d, env.params)  # noqa: E731
        np.testing.assert_array_equal(jax.vmap(jax.vmap(one))(*pair), found)
    np.testing.assert_array_equal(t.signals["success"], t.terminated)
    # The true successor is of this episode's goal, also at an end; the next step is of another's.
    np.testing.assert_array_equal(t.next_obs["desired"], t.obs["desired"])
    ended = t.terminated | t.truncated
    going = ~ended[:-1]
    for key in GOAL_KEYS:
        np.testing.assert_array_equal(t.next_obs[key][:-1][going], t.obs[key][1:][going])
    assert (t.obs["desired"][1:] != t.obs["desired"][:-1])[ended[:-1]].any()
    # Truncation is by the clock and by nothing else.
    clock = np.zeros(16, int)
    for over, cut in zip(ended, t.truncated, strict=True):
        clock += 1
        np.testing.assert_array_equal(cut, clock == env.params.max_steps_in_episode)
        clock[over] = 0
    assert t.terminated.any()
    assert (t.truncated & ~t.terminated).any()
    rate = t.terminated.sum() / ended.sum()
    assert float(metrics["episode/success"]) == pytest.approx(rate, rel=1e-5)


# Bit flipping.


def least_flips(start, goal) -> int:
    """By search over all rows of bits."""
    seen, edge, steps = {start}, {start}, 0
    while goal not in edge:
        edge = {(*b[:i], 1 - b[i], *b[i + 1 :]) for b in edge for i in range(len(b))} - seen
        seen, steps = seen | edge, steps + 1
    return steps


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_optimum_is_that_of_an_enumeration(n):
    """Of all pairs, each as likely; where they are equal, of the pairs with one bit flipped."""
    rows = list(itertools.product((0, 1), repeat=n))
    returns = [1 - max(least_flips(a, b), 1) for a in rows for b in rows]
    assert bit_flip.optimal_return(n) == pytest.approx(np.mean(returns), abs=1e-12)


def test_the_optimum_is_that_of_the_sizes_on_the_page():
    found = [round(bit_flip.optimal_return(n), 4) for n in (8, 10, 15)]
    assert found == [-3.0039, -4.0010, -6.5000]


def test_starts_and_goals_are_uniform_and_never_equal():
    env = jaxpg.make("BitFlip-jaxpg", n=2)
    _, state = resets(env, 8000)
    number = lambda bits: np.asarray(bits @ jnp.array([2.0, 1.0]), int)  # noqa: E731
    start, goal = number(state.bits), number(state.goal)
    counts = np.zeros((4, 4))
    np.add.at(counts, (start, goal), 1)
    assert not counts.diagonal().any()
    distance = np.array([[bin(a ^ b).count("1") for b in range(4)] for a in range(4)])
    # Of 16 pairs each start has one at distance 2, and two at 1, to which its own is added.
    expected = 8000 * np.select([distance == 2, distance == 1], [1 / 16, 1.5 / 16], 0)
    assert (abs(counts - expected) <= 5 * np.sqrt(expected)).all()


def test_the_best_policy_has_the_optimal_return_in_the_environment():
    n, count = 8, 4096
    env = jaxpg.make("BitFlip-jaxpg", n=n)
    policy = lambda obs, carry, key: (  # noqa: E731
        abs(obs["achieved"] - obs["desired"]).argmax(-1).astype(jnp.int32), carry, ()
    )  # fmt: skip
    t, _, mask = jax.jit(lambda key: episodes.play(env, policy, key, count, n))(KEY)
    returns = np.asarray((t.reward * mask).sum(0))
    assert (np.asarray(t.terminated) & np.asarray(mask)).any(0).all()
    error = returns.std() / np.sqrt(count)
    assert returns.mean() == pytest.approx(bit_flip.optimal_return(n), abs=4 * error)


def test_an_action_flips_its_bit():
    env = jaxpg.make("BitFlip-jaxpg", n=5)
    obs, state = resets(env, 5)
    after = step(env, state, np.arange(5))[0]["achieved"]
    np.testing.assert_array_equal(abs(after - obs["achieved"]), np.eye(5))


# A point in a square.


def in_a_wall(places, boxes):
    """True for places [..., 2] within boxes, or nearer to one than a point is large."""
    low, high = boxes[:, :2] - walls.SIZE + 1e-6, boxes[:, 2:] + walls.SIZE - 1e-6
    return ((low < places[..., None, :]) & (places[..., None, :] < high)).all(-1).any(-1)


def move_by_parts(places, moves, boxes, parts=1000):
    """Moves places [N, 2] along each axis in small parts, as long as nothing is in the way."""
    places = np.array(places, float)
    for axis in (0, 1):
        for _ in range(parts):
            new = places.copy()
            new[:, axis] += moves[:, axis] / parts
            free = ~in_a_wall(new, boxes) & (abs(new) <= 1).all(-1)
            places = np.where(free[:, None], new, places)
    return places


@pytest.mark.parametrize("layout", [None, "rooms", ((-0.5, 0, 0.5, 0), (0.2, -0.6, 0.4, 0))])
def test_a_move_stops_at_walls_and_edges(layout):
    """Long ones, which would jump over a wall; lines without width hold too."""
    env = jaxpg.make("PointReach-jaxpg", walls=layout, step_size=0.7)
    boxes, rng = np.asarray(env.core.boxes), np.random.default_rng(0)
    obs, state = resets(env, 200)
    action = rng.uniform(-1, 1, (200, 2))
    expected = move_by_parts(obs["achieved"], 0.7 * action, boxes)
    np.testing.assert_allclose(step(env, state, action)[0]["achieved"], expected, atol=1e-3)


@pytest.mark.parametrize("layout", ["wall", "rooms", ((-0.5, 0, 0.5, 0), (0.5, -0.5, 0.6, 0.5))])
def test_no_walk_gets_into_a_wall_and_no_goal_is_in_one(layout):
    """Along seams, too: whoever slides along one box comes upon the next one exactly."""
    env = jaxpg.make("PointReach-jaxpg", walls=layout, max_steps_in_episode=200)
    boxes = np.asarray(env.core.boxes)
    obs, state = resets(env, 500)
    assert not in_a_wall(np.asarray(obs["desired"]), boxes).any()
    assert not in_a_wall(np.asarray(obs["achieved"]), boxes).any()

    def walk(state, key):
        action = jnp.sign(jax.random.uniform(key, (500, 2), minval=-1))
        move = lambda s, a: env.core.step_env(key, s, a, env.params)[1]  # noqa: E731
        state = jax.vmap(move)(state, action)
        return state, state.position

    way = np.asarray(jax.jit(lambda s: jax.lax.scan(walk, s, jax.random.split(KEY, 200))[1])(state))
    assert not in_a_wall(way, boxes).any()
    assert abs(way).max() <= 1


def test_places_are_uniform_over_all_that_is_free():
    cells = walls.free_cells(walls.read_boxes("a test", "wall"))
    area = (cells[:, 2:] - cells[:, :2]).prod(-1)
    blocked = (0.1 + 2 * walls.SIZE) * (1.5 + walls.SIZE)  # in the square
    assert area.sum() == pytest.approx(4 - blocked)
    draw = jax.vmap(lambda key: walls.draw_point(key, cells))
    places = np.asarray(draw(jax.random.split(KEY, 8000)))
    for low, high, size in (((-1, -1), (-0.5, 0), 0.5), ((-1, 0.6), (1, 1), 0.8)):
        share = ((np.array(low) <= places) & (places < high)).all(-1).mean()
        p = size / area.sum()
        assert share == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 8000))


def test_fewest_steps_are_what_the_straight_way_takes():
    env = jaxpg.make("PointReach-jaxpg")
    obs, _ = resets(env, 500, jax.random.split(KEY)[0])

    def policy(obs, carry, key):
        apart = obs["desired"] - obs["achieved"]
        return jnp.clip(apart / env.params.step_size, -1, 1), carry, ()

    t, _, mask = jax.jit(lambda key: episodes.play(env, policy, key, 500, 25))(KEY)
    least = point.fewest_steps(obs["achieved"], obs["desired"], env.params)
    np.testing.assert_array_equal(np.asarray((t.reward * mask).sum(0)), 1 - least)


# An arm.


@pytest.mark.parametrize("joints", [1, 2, 4])
def test_the_fingertip_is_where_the_links_lead(joints):
    env = jaxpg.make("ArmReach-jaxpg", joints=joints)
    obs, state = resets(env, 300)
    action = np.random.default_rng(joints).uniform(-2, 2, (300, joints))
    seen, after, *_ = step(env, state, action)
    turned = np.asarray(state.angles, float) + 0.2 * np.clip(action, -1, 1)
    for angles, tip, told in zip(turned, seen["achieved"], seen["observation"], strict=True):
        place, heading = np.zeros(2), 0.0
        for angle in angles:
            heading += angle
            place += np.array([np.cos(heading), np.sin(heading)]) / joints
        np.testing.assert_allclose(tip, place, atol=1e-5)
        np.testing.assert_allclose(told, [*np.cos(angles), *np.sin(angles)], atol=1e-5)
    assert abs(np.asarray(after.angles)).max() <= np.pi + 1e-6
    assert np.linalg.norm(obs["desired"], axis=-1).max() <= 1 + 1e-6
    np.testing.assert_allclose(arm.fingertip(state.angles), obs["achieved"], atol=1e-6)


# Errors.


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("BitFlip-jaxpg", {"n": 0}, "BitFlip-jaxpg n=0: allowed is an integer >= 1"),
        ("BitFlip-jaxpg", {"n": 2.5}, "n=2.5: allowed is an integer"),
        ("PointReach-jaxpg", {"walls": "maze"}, "walls='maze': allowed are None, 'wall', 'rooms'"),
        ("PointReach-jaxpg", {"walls": [[0, 0, 1]]}, "walls=.*boxes \\(left, bottom"),
        ("PointReach-jaxpg", {"walls": [[0.5, 0, 0, 1]]}, "left <= right and bottom <= top"),
        ("PointReach-jaxpg", {"walls": [[-1, 0, 1, 0.1]]}, "one room in -1 .. 1, all connected"),
        ("PointReach-jaxpg", {"walls": [[-2, -2, 2, 2]]}, "one room in -1 .. 1, all connected"),
        ("PointReach-jaxpg", {"step_size": 0.0}, "step_size=0.0: allowed is a number >= 1e-06"),
        ("PointReach-jaxpg", {"tolerance": -1.0}, "tolerance=-1.0: allowed is a number >="),
        ("ArmReach-jaxpg", {"joints": 0}, "ArmReach-jaxpg joints=0: allowed is an integer >= 1"),
        ("ArmReach-jaxpg", {"step_size": 9.0}, "step_size=9.0: allowed is .* <= 3.14"),
    ],
)  # fmt: skip
def test_a_bad_parameter_is_named(name, given, words):
    with pytest.raises(ValueError, match=words):
        jaxpg.make(name, **given)


class Flipped(environment.Environment):
    """A goal on a line, and mistakes by their names."""

    name, default_params, signals = "Flipped", (), ("success",)

    def __init__(self, mistake=""):
        self.mistake = mistake
        if mistake == "no signal":
            self.signals = ()

    def reset_env(self, key, params):
        goal = jax.random.uniform(key, (1,), float, 1, 2)
        return goals.observe(0 * goal, 0 * goal, goal), (0 * goal, goal, jnp.zeros((), jnp.int32))

    def step_env(self, key, state, action, params):
        x, goal, time = state[0] + action, state[1], state[2] + 1
        if self.mistake == "other shapes":
            goal = jnp.append(goal, goal)
        obs = goals.observe(x, x, goal)
        reward, over, info = goals.judge_step(self, obs, params)
        reward = reward + (self.mistake == "another reward")
        over = over | ((x > 1.2).all() if self.mistake == "another end" else False)
        return obs, (x, state[1], time), reward, over, info

    def is_truncated(self, state, params):
        return state[2] >= 20

    def goal_reached(self, achieved, desired, params):
        near = abs(achieved - desired) < 0.5
        return near if self.mistake == "several truths" else near.all()

    def goal_reward(self, achieved, desired, params):
        return self.goal_reached(achieved, desired, params).astype(float).sum() - 1

    def action_space(self, params):
        return spaces.Box(-1.0, 1.0, (1,))

    def observation_space(self, params):
        box = spaces.Box(-99.0, 99.0, (1,))
        space = goals.goal_space(box, box)
        if self.mistake == "a wrong name":
            return spaces.Dict({**space.spaces, "achieved_goal": box})
        return space


FAULTS = {
    "no signal": "its signals have no number 'success'",
    "several truths": "goal_reached gives .*bool.* allowed is a bool of shape",
}


@pytest.mark.parametrize("mistake", FAULTS)
def test_a_core_that_breaks_the_contract_is_refused(mistake):
    core = Flipped(mistake)
    with pytest.raises(ValueError, match=f"hindsight=True on Flipped: {FAULTS[mistake]}"):
        goals.require_goals(jaxpg.Env((), core), "hindsight=True")


def test_what_has_no_goals_is_refused():
    with pytest.raises(ValueError, match="hindsight=True on CartPole-v1, which has no goals: allo"):
        goals.require_goals(jaxpg.make("CartPole-v1"), "hindsight=True")
    goals.require_goals(jaxpg.Env((), Flipped()), "hindsight=True")


@pytest.mark.slow  # a run each
@pytest.mark.defaults  # observations before and after a step that resets are compared to the bit
@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("", None),
        ("another reward", "goals: reward is .* where goal_reward of achieved and desired is"),
        ("another end", "goals: terminated is True where goal_reached of achieved and .* False"),
    ],
)
def test_check_env_finds_steps_that_are_not_by_the_methods(mistake, words):
    core = Flipped(mistake)
    if words is None:
        return jaxpg.check_env(core)
    with pytest.raises(ValueError, match=words):
        jaxpg.check_env(core)
    return None


# Around them.


def test_wrappers_hand_goals_on_where_they_stay_what_they_are():
    env = jaxpg.make("BitFlip-jaxpg", n=3)
    equal, other = (jnp.zeros(3), jnp.zeros(3)), (jnp.zeros(3), jnp.ones(3))
    for wrapped, worth in {
        "scale": (jaxpg.scale_reward(env, 3.0), (0, -3)),
        "clip": (jaxpg.clip_reward(env, -0.5, 0.5), (0, -0.5)),
        "limit": (jaxpg.time_limit(jaxpg.sticky_actions(env), 2), (0, -1)),
        "time": (jaxpg.time_aware_observation(env), (0, -1)),
    }.values():
        goals.require_goals(wrapped, "a test")
        found = [wrapped.core.goal_reward(*pair, wrapped.params) for pair in (equal, other)]
        assert [float(x) for x in found] == list(worth)
        reached = [wrapped.core.goal_reached(*pair, wrapped.params) for pair in (equal, other)]
        assert [bool(x) for x in reached] == [True, False]
    wide = jaxpg.randomized(jaxpg.make("ArmReach-jaxpg"), tolerance=(0.1, 0.2))
    for wrapped in (jaxpg.frame_stack(env, 2), jaxpg.action_repeat(env, 2), wide):
        assert not goals.has_goals(wrapped)


def test_state_and_goal_enter_a_network_together():
    """Of torsos apart a value is a sum of one of each: no second difference. Here there is one."""
    env = jaxpg.make("BitFlip-jaxpg", n=2)
    assert env.obs_shapes == ((6,),)
    q = DiscreteQ(env.obs_shapes, 2)
    obs = lambda a, d: dict(zip(GOAL_KEYS, map(jnp.array, (a, a, d)), strict=True))  # noqa: E731
    params = q.init(KEY, env.example_obs)
    zero, one = [0.0, 0.0], [1.0, 0.0]
    value = lambda a, d: q.apply(params, obs(a, d))  # noqa: E731
    mixed = value(one, one) - value(one, zero) - value(zero, one) + value(zero, zero)
    assert abs(np.asarray(mixed)).max() > 1e-2


def test_what_differs_in_more_than_its_last_axis_stays_apart():
    image, place = jnp.ones((5, 4, 4, 3)), jnp.zeros((5, 2))
    obs = {"observation": image, "achieved": place, "desired": place + 2}
    joined, alone = array_leaves(obs)
    np.testing.assert_array_equal(joined, [[0, 0, 2, 2]] * 5)
    assert alone.shape == image.shape
    images = dict.fromkeys(GOAL_KEYS, image)
    assert [x.shape for x in array_leaves(images)] == [(5, 4, 4, 9)]
    assert len(array_leaves({"achieved": place, "desired": place})) == 2  # no goal environment


# Success rates.


def small_run(tmp_path=None):
    env = jaxpg.make("BitFlip-jaxpg", n=2)
    cfg = jaxpg.dqn.Config(num_envs=2, hidden=(8,), buffer_size=64, learning_starts=8, batch_size=4)
    return env, cfg


def test_evaluation_gives_the_success_of_each_episode():
    """An episode of two bits has succeeded unless its return is the one of two steps in vain."""
    env, cfg = small_run()
    state = jaxpg.dqn.init(cfg, env, KEY)
    measure = lambda **kwargs: np.asarray(  # noqa: E731
        jaxpg.evaluate(jaxpg.dqn, cfg, env, state, KEY, 64, greedy=False, **kwargs)
    )
    success = measure(signal="success")
    np.testing.assert_array_equal(success, measure() > -2)
    assert 0 < success.mean() < 1
    for name in ("cost", "return", ""):
        with pytest.raises(ValueError, match="allowed is None, or one of success"):
            measure(signal=name)
    plain = jaxpg.make("CartPole-v1")
    with pytest.raises(ValueError, match="signal='success' on CartPole-v1: allowed is None, for"):
        jaxpg.evaluate(jaxpg.dqn, cfg, plain, state, KEY, 4, signal="success")


@pytest.mark.slow  # a run, and what the command compiles
def test_the_commands_say_the_success_rate(tmp_path, capsys):
    env, cfg = small_run()
    folder = tmp_path / "run"
    result = jaxpg.run(jaxpg.dqn, cfg, env, KEY, total_steps=40, out=folder, evaluations=0)
    assert "episode/success" in (folder / "metrics.csv").read_text().splitlines()[0]
    assert np.isfinite(np.asarray(result.metrics["episode/success"])).any()
    assert main(["eval", str(folder), "--episodes", "8"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    at = lines.index(["seed", "success"])
    assert 0 <= float(lines[at + 2][1]) <= 1
