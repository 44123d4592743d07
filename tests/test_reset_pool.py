"""A pool of fresh states: used in turn, each as likely as a reset would draw it."""

import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

import jaxpg
from jaxpg.core import env as E
from jaxpg.core import machine, resets
from jaxpg.core.episodes import in_first_episode
from jaxpg.core.metrics import no_episodes

KEY, SIZE, STEPS, LANES = jax.random.key(0), 5, 40, 3
CHANCES = (0.5, 0.25, 0.15, 0.1)
PPO = {"num_envs": 4, "num_steps": 20, "hidden": (4,), "minibatches": 2}
PPO |= {"learning_rate_schedule": "constant"}


@struct.dataclass
class Params:
    max_steps_in_episode: int = 6


@struct.dataclass
class State:
    kind: jax.Array  # [] int32: of the episode, drawn at its start by CHANCES
    tag: jax.Array  # [] by which a first state is known
    time: jax.Array


class Toy(environment.Environment):
    """Kinds 0, 1 and 2 terminate after 1, 2 and 3 steps; episodes of kind 3 are cut."""

    name, default_params = "Toy", Params()

    def __init__(self, reset_pool=None):
        self.reset_pool = reset_pool

    def reset_env(self, key, params):
        k_kind, k_tag = jax.random.split(key)
        kind = jnp.sum(jax.random.uniform(k_kind) > jnp.cumsum(jnp.array(CHANCES[:3])))
        state = State(kind.astype(jnp.int32), jax.random.uniform(k_tag), jnp.zeros((), jnp.int32))
        return self.see(state), state

    def see(self, state):
        return jnp.stack([state.kind.astype(float), state.tag, state.time.astype(float)])

    def step_env(self, key, state, action, params):
        state = state.replace(time=state.time + 1)
        terminated = (state.time > state.kind) & (state.kind < 3)
        return self.see(state), state, jax.random.uniform(key) + action, terminated, {}

    def action_space(self, params):
        return spaces.Discrete(2)

    def observation_space(self, params):
        return spaces.Box(0, 10, (3,))


class Undeclared(Toy):
    """It says nothing of pools."""

    def __init__(self):
        pass


class Pooled(Toy):
    """By a name of its own, so that folders give it again."""

    def __init__(self):
        super().__init__(SIZE)


class OwnStep:
    """A core that resets by itself, and hands on what else it is asked for."""

    def __init__(self, core):
        self.core = core

    def __getattr__(self, name):
        return getattr(self.core, name)

    def step(self, key, state, action, params):
        return self.core.step(key, state, action, params)


def make(size=SIZE):
    core = Toy(size)
    return jaxpg.Env(core.default_params, core)


def play(env, key, lanes=LANES, steps=STEPS):
    """A rollout of a policy that guesses."""

    def policy(obs, carry, key):
        return jax.random.randint(key, (lanes,), 0, 2), carry, ()

    return E.rollout(env, policy, E.reset(env, jax.random.fold_in(key, 1), lanes), (), key, steps)


def first_obs(key, size=SIZE, lanes=LANES, steps=STEPS):
    """The pool of such a rollout, by the keys of gymnax's first resets."""
    keys = jax.random.split(jax.random.split(key)[1], (steps, lanes)).reshape(-1)[:size]
    return [np.asarray(Toy().reset_env(jax.random.split(k)[1], Params())[0]) for k in keys]


def ends(t):
    return np.asarray(t.terminated | t.truncated)


def count_in_turn(state, t, pool):
    """Replays the pool by hand: what follows each end is the next entry. Returns how many ended."""
    obs = np.concatenate([t.obs, state.obs[None]])
    turn = 0
    for step, lane in zip(*np.nonzero(ends(t)), strict=True):  # of one step by their lanes
        np.testing.assert_array_equal(obs[step + 1, lane], pool[turn % len(pool)])
        turn += 1
    np.testing.assert_array_equal(obs[1:][~ends(t)], np.asarray(t.next_obs)[~ends(t)])
    return turn


def close(one, two):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), one, two)


def equal(one, two):
    jax.tree.map(np.testing.assert_array_equal, one, two)


@functools.cache
def played(size=SIZE):
    return jax.jit(play)(make(size), KEY)


def test_entries_follow_in_turn():
    state, _, t, _, _ = played()
    assert count_in_turn(state, t, first_obs(KEY)) > 4 * SIZE
    assert ends(t).sum(1).max() > 1  # also where several end at once
    assert state.inner.time.min() >= 0


def test_first_states_repeat_only_when_the_pool_has_been_used():
    t = played()[2]
    after = np.concatenate([t.obs[1:], played()[0].obs[None]])[ends(t)][:, 1]  # the tags, in turn
    assert len(np.unique(after)) == len(np.unique(after[:SIZE])) == SIZE
    assert len(np.unique(after[7:][:SIZE])) == SIZE


def test_states_go_with_what_is_seen_of_them():
    state = played()[0]
    equal(state.obs, jax.vmap(Toy().see)(state.inner))


def chi_square(kinds, chances):
    """Pearson's statistic of draws, for these chances."""
    expected = len(kinds) * np.array(chances)
    return (np.square(np.bincount(kinds, minlength=4) - expected) / expected).sum()


def test_each_first_state_is_as_likely_as_a_reset_draws_it():
    """Of 300 rollouts, in which short episodes come to their end sooner: the first K ends, which
    are all independent, and one that uses its entry for the third time, which is independent of
    those of other rollouts. By right chances the statistic is above 16.3 once in 1000 times (3
    degrees of freedom); the key is fixed, so that it is the same number always."""
    env, keys = make(), jax.random.split(KEY, 300)
    state, _, t, _, _ = jax.jit(jax.vmap(functools.partial(play, env)))(keys)
    obs = np.concatenate([t.obs, state.obs[:, None]], 1)[:, 1:]
    kinds = [x[end][:, 0].astype(int) for x, end in zip(obs, ends(t), strict=True)]
    assert min(map(len, kinds)) > 2 * SIZE + 3  # LANES * STEPS // 6: the limit ends so many
    early, third = np.concatenate([x[:SIZE] for x in kinds]), [x[2 * SIZE + 3] for x in kinds]
    for draws in (early, third):
        assert chi_square(draws, CHANCES) < 16.3
        assert chi_square(draws, (0.4, 0.25, 0.2, 0.15)) > 16.3  # and it would be seen


def test_up_to_a_first_end_nothing_is_changed():
    """The steps' keys are the same, so the true successors are, with rewards, ends and returns."""
    (_, _, t, _, metrics), (_, _, plain, _, _) = played(), played(None)
    first = np.asarray(in_first_episode(ends(plain)))
    equal(*(jax.tree.map(lambda x: np.asarray(x)[first], x) for x in (t, plain)))
    equal(t.action, plain.action)
    reward, length, returns, lengths = 0 * t.reward[0], np.zeros(LANES), [], []
    for x, end in zip(np.asarray(t.reward), ends(t), strict=True):
        reward, length = reward + x, length + 1
        returns += reward[end].tolist()
        lengths += length[end].tolist()
        reward, length = np.where(end, 0, reward), np.where(end, 0, length)
    assert metrics["episode/count"] == len(returns)
    assert metrics["episode/return"] == pytest.approx(np.mean(returns), rel=1e-5)
    assert metrics["episode/length"] == pytest.approx(np.mean(lengths), rel=1e-5)


def test_under_vmap_each_has_its_own():
    env, keys = make(), jax.random.split(KEY, 3)
    several = jax.jit(jax.vmap(functools.partial(play, env)))(keys)
    for i, key in enumerate(keys):
        close(jax.tree.map(lambda x, i=i: x[i], several), jax.jit(play)(env, key))
        state, _, t, _, _ = jax.tree.map(lambda x, i=i: x[i], several)
        count_in_turn(state, t, first_obs(key))


def text(env):
    """The program of a rollout, before XLA compiles it."""
    return jax.jit(lambda *args: play(*args)).lower(env, KEY).as_text()


def test_a_pool_that_is_no_smaller_than_the_rollout_is_none():
    """Every step has its own fresh state then, as ever."""
    plain = text(jaxpg.Env(Params(), Undeclared()))
    assert text(make(None)) == text(make(STEPS * LANES)) == plain
    assert text(make(STEPS * LANES - 1)) != plain


def test_a_loop_carries_a_turn_for_a_pool_alone():
    def carried(env):
        jaxpr = jax.make_jaxpr(lambda *args: play(*args))(env, KEY)
        return [e.params["num_carry"] for e in jaxpr.eqns if e.params.get("length") == STEPS]

    state = E.reset(make(), KEY, LANES)
    usual = len(jax.tree.leaves((state, no_episodes(state))))
    assert carried(make(None)) == [usual]
    assert carried(make()) == [usual + 1]


def test_single_steps_are_as_without():
    state = E.reset(make(), KEY, LANES)
    for step in (E.step, E.step_before_reset):
        one, two = (step(make(n), state, jnp.ones(LANES, jnp.int32), KEY) for n in (SIZE, None))
        equal(one, two)


def test_a_core_that_resets_by_itself_has_no_pool():
    one, two = (text(jaxpg.Env(Params(), OwnStep(Toy(size)))) for size in (SIZE, None))
    assert one == two != text(make(None))


@pytest.mark.parametrize(
    "wrap",
    [
        functools.partial(jaxpg.time_limit, time_limit=2),
        functools.partial(jaxpg.action_repeat, num=2),
        lambda env: jaxpg.scale_reward(jaxpg.sticky_actions(env), 0.5),
    ],
)
def test_a_wrapped_core_has_the_pool_of_the_one_in_it(wrap):
    env = wrap(make())
    assert env.core.reset_pool == SIZE
    state, _, t, _, _ = jax.jit(play)(env, KEY)
    assert count_in_turn(state, t, first_obs(KEY)) > 4 * SIZE


def test_what_a_wrapper_remembers_begins_anew():
    env = jaxpg.frame_stack(make(), 2)
    state, _, t, _, _ = jax.jit(play)(env, KEY)
    assert count_in_turn(state, t, [np.concatenate([x, x]) for x in first_obs(KEY)]) > 4 * SIZE


def test_parameters_that_each_episode_draws_are_in_no_pool():
    env = jaxpg.randomized(make(), max_steps_in_episode=(4, 6))
    assert env.core.reset_pool is None
    assert jaxpg.time_limit(env, 3).core.reset_pool is None


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "64", (3,)])
def test_what_is_no_size_is_refused(size):
    env, words = make(size), r"reset_pool=.*: allowed is an integer >= 1"
    state = E.reset(make(), KEY, LANES)
    for call in (
        lambda: E.reset(env, KEY, LANES),
        lambda: E.rollout(env, lambda obs, carry, key: (obs, carry, ()), state, (), KEY, 2),
        lambda: jaxpg.check_env(env),
        lambda: jaxpg.run(jaxpg.ppo, jaxpg.ppo.Config(**PPO), env, KEY, total_steps=80),
        lambda: jaxpg.run(
            jaxpg.ppo, jaxpg.ppo.Config(**PPO), jaxpg.time_limit(env, 3), KEY, total_steps=80
        ),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_the_size_is_told_whatever_counts_it():
    assert resets.pool_size(Toy(np.int64(7))) == 7
    assert resets.pool_size(Undeclared()) is resets.pool_size(Toy()) is None
    jaxpg.check_env(make())


def test_a_gpu_is_given_the_same(monkeypatch):
    monkeypatch.setattr(machine, "on_gpu", lambda: True)
    packed = jax.jit(lambda *args: play(*args))(make(), KEY)
    close(packed, played())


def test_a_run_goes_on_to_the_byte(tmp_path):
    env, cfg = jaxpg.make("tests.test_reset_pool:Pooled"), jaxpg.ppo.Config(**PPO)
    uncut = jaxpg.run(jaxpg.ppo, cfg, env, KEY, total_steps=4 * 80, chunk=2)
    run = functools.partial(jaxpg.run, jaxpg.ppo, cfg, env, KEY, chunk=2)
    run(total_steps=2 * 80, out=tmp_path / "run", evaluations=0)
    resumed = jaxpg.resume(tmp_path / "run", total_steps=4 * 80)
    assert resumed.env.core.reset_pool == SIZE
    for x, y in zip(*map(jax.tree.leaves, (uncut.state, resumed.state)), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


CODE = """
import json
import jax, numpy as np
import jaxpg
jaxpg.use_all_cores(2)
from tests.test_devices import apart
from tests.test_reset_pool import KEY, PPO, count_in_turn, first_obs, make, play

env, mesh = make(), jax.sharding.Mesh(np.array(jax.devices()), ("env",))
one = jax.jit(lambda *args: play(*args, lanes=4))(env, KEY)
with jax.set_mesh(mesh):
    program = jax.jit(lambda *args: play(*args, lanes=4)).lower(env, KEY).compile()
    two = program(env, KEY)
found = {"rollout": apart(one, two), "devices": len(two[2].reward.devices())}
found["split"] = not two[2].reward.is_fully_replicated
found["ends"] = count_in_turn(two[0], two[2], first_obs(KEY, lanes=4))
found["hlo"] = program.as_text()
cfg = jaxpg.ppo.Config(**PPO)
runs = [
    jaxpg.run(jaxpg.ppo, cfg, env, KEY, total_steps=400, chunk=5, data_parallel=parallel)
    for parallel in (False, True)
]
found["ppo"] = apart(runs[0].state, runs[1].state)
print(json.dumps(found))
"""


@pytest.mark.slow  # its quick twins are two devices without a pool, and a pool on one
def test_two_devices_equal_one():
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, timeout=300, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["devices"] == 2
    assert found["split"]
    assert found["rollout"] < 1e-6
    assert found["ends"] > 4 * SIZE
    assert found["ppo"] < 1e-5
