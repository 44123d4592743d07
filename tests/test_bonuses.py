"""Bonuses for what is new: each against its definition, and as parts of agents."""

import collections
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxpg
from jaxpg.core import env as E
from jaxpg.core.choices import BONUSES
from jaxpg.core.train import initial_state, with_horizon
from jaxpg.loops import bonuses, intrinsic, replay
from jaxpg.nets.dynamics import Joint
from jaxpg.ops import normalize, novelty
from tests.conftest import slow_of

KEY = jax.random.key(7)
SMALL = {"hidden": (4,), "warmup": 8, "minibatches": 2}
ON_POLICY = {"num_envs": 2, "num_steps": 8, "hidden": (4,)}
REPLAY = ON_POLICY | {"buffer_size": 32, "learning_starts": 8, "batch_size": 4}
AGENTS = {
    "ppo": ON_POLICY | {"minibatches": 2, "num_epochs": 1},
    "a2c": ON_POLICY,
    "dqn": REPLAY | {"n_step": 2, "updates_per_step": 0.25},
    "sac": REPLAY | {"updates_per_step": 0.25},
}
LEARNT = {"rnd": bonuses.RND, "icm": bonuses.ICM, "info_gain": bonuses.InfoGain}


def small(name):
    """A bonus with networks as small as can be."""
    if name == "pseudo_count":
        return functools.partial(bonuses.PseudoCount, bits=4, warmup=8)
    if name == "ngu_episodic":
        return functools.partial(bonuses.NGUEpisodic, slots=6, neighbours=3, features=3, **SMALL)
    if name == "info_gain":
        return functools.partial(bonuses.InfoGain, members=2, **SMALL)
    return functools.partial(LEARNT[name], features=3, **SMALL) if name in LEARNT else name


@functools.cache
def met(name, num_steps=20, **params):
    """An environment, and a rollout of random actions [T, 3] in it."""
    env = jaxpg.make(name, **params)

    def policy(obs, carry, key):
        return jax.random.randint(key, (3,), 0, env.action_space.n), carry, ()

    def go(key):
        return E.rollout(env, policy, E.reset(env, key, 3), (), key, num_steps)[2]

    return env, jax.jit(go)(KEY)


@functools.cache
def imagined(name):
    """An environment, and steps [20, 3] with observations and actions of its shapes, drawn."""
    env, rng = jaxpg.make(name), np.random.default_rng(0)
    obs = rng.normal(size=(21, 3, *env.example_obs.shape)).astype(np.float32)
    action = rng.integers(0, 3, (20, 3)) if env.discrete else rng.uniform(-1, 1, (20, 3, 1))
    ended = np.arange(20)[:, None] % np.array([4, 7, 9]) == 3
    end = jnp.asarray(ended), jnp.zeros((20, 3), bool)
    return env, jaxpg.Transition(
        jnp.asarray(obs[:-1]), jnp.asarray(action), jnp.zeros((20, 3)), *end, jnp.asarray(obs[1:]),
        {},
    )  # fmt: skip


def begin(bonus, env):
    return jax.jit(lambda key: bonus.init(key, env, 3))(KEY)


def told(bonus, env, state, t):
    return jax.jit(lambda state, t: bonus.bonus(state, env, t))(state, t)


def after(bonus, env, state, t):
    return jax.jit(lambda state, t: bonus.update(state, env, t))(state, t)


def white(x, t):
    """By the mean and deviation of the successors, in NumPy."""
    flat = np.asarray(t.next_obs).reshape(-1, t.next_obs.shape[-1])
    return np.clip((np.asarray(x) - flat.mean(0)) / flat.std(0), -5, 5)


def scaled(state, t):
    """A state whose scale has seen the successors."""
    stats = jax.jit(normalize.update_stats)(state.scale, [t.next_obs])
    return state._replace(scale=stats)


@pytest.mark.parametrize(
    "name", slow_of(["DeepSea-bsuite", "FourRooms-jaxpg", "MountainCar-v0"], "FourRooms-jaxpg")
)
def test_counts_are_those_of_a_dictionary(name):
    """Of the true successors: DeepSea's last observations are zeros, once an episode."""
    env, t = imagined(name) if name == "MountainCar-v0" else met(name)
    if name == "MountainCar-v0":  # rounded, so that some are met again
        t = t._replace(next_obs=t.next_obs.round(0) + 0.0)
    bonus = bonuses.Count()
    state = begin(bonus, env)
    first, rest = (jax.tree.map(lambda x, s=s: x[s], t) for s in (slice(0, 10), slice(10, None)))
    state = after(bonus, env, state, first)
    seen = [x.tobytes() for x in np.asarray(t.next_obs).reshape(t.reward.size, -1) + 0.0]
    counts = collections.Counter(seen[: first.reward.size])
    want = [1 / np.sqrt(1 + counts[x]) for x in seen]
    np.testing.assert_allclose(told(bonus, env, state, t).ravel(), want, rtol=1e-6)
    state = after(bonus, env, state, rest)
    index = np.asarray(bonus.index(state, env, t.next_obs)).ravel()
    counts = collections.Counter(seen)
    assert [int(state.visits[i]) for i in index] == [counts[x] for x in seen]
    assert float(bonus.metrics(state)["bonus/states"]) == len(counts)
    if name == "DeepSea-bsuite":
        assert state.visits[64] == int((t.terminated | t.truncated).sum()) > 0
        assert not state.visits[65:].any()


def test_codes_are_the_sides_of_planes():
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    a = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    want = [sum(2**i for i in range(4) if a[i] @ row >= 0) for row in x]
    assert novelty.simhash(jnp.asarray(x), jnp.asarray(a)).tolist() == want


def returns_by_loops(bonus, gamma):
    """Discounted sums of a life without episodes, each environment by itself."""
    found, total = np.zeros_like(bonus), np.zeros(bonus.shape[1])
    for step, row in enumerate(bonus):
        for lane, x in enumerate(row):
            total[lane] = gamma * total[lane] + x
            found[step, lane] = total[lane]
    return found


def summed_over_environments(scale, bonus, gamma):
    """The known mistake: what runs along is the environments."""
    flipped = bonus.T
    own = scale._replace(returns=jnp.zeros(flipped.shape[1]), lost=jnp.zeros(flipped.shape[1]))
    never = jnp.zeros(flipped.shape, bool)
    return normalize.update_reward_scale(own, flipped, never, gamma)


@pytest.mark.parametrize("update", [intrinsic.update_return_scale, summed_over_environments])
def test_the_scale_of_returns_is_that_of_each_environment_along_time(update):
    bonus = np.random.default_rng(0).exponential(size=(12, 3)).astype(np.float32)
    scale, right = normalize.init_reward_scale(3), update is intrinsic.update_return_scale
    update = jax.jit(update)
    for part in (bonus[:6], np.zeros((6, 3), np.float32), bonus[6:]):
        if part.any() or right:  # a rollout without any bonus says nothing
            scale = update(scale, jnp.asarray(part), 0.9)
    want = returns_by_loops(bonus, 0.9)
    assert np.isclose(normalize.std(scale.stats), want.std(), rtol=1e-5) == right
    if right:
        np.testing.assert_allclose(scale.returns, want[-1], rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A bonus of one's own: the sum of an observation's numbers."""

    factor: float = 1.0
    scaled, ordered = False, False

    def init(self, key, env, num_envs):
        return jnp.zeros((), float)

    def bonus(self, state, env, t):
        return self.factor * jnp.abs(t.next_obs).reshape(*t.reward.shape, -1).sum(-1) + 0 * state

    def update(self, state, env, t):
        return state + t.reward.size

    def metrics(self, state):
        return {"bonus/steps": state}


def test_advantages_are_of_a_life_without_episodes():
    """Equation 16 of GAE by a loop, whose next value is that of the next row, ends or not."""
    env, t = met("DeepSea-bsuite", 12, size=3)
    cfg = jaxpg.ppo.Config(**AGENTS["ppo"] | {"num_envs": 3, "num_steps": 12}, bonus=Fixed)
    last = t.next_obs[-1]

    @jax.jit
    def go(t, last):
        state = intrinsic.init_on_policy(cfg, env, KEY, 0.0)
        x = jnp.concatenate([t.obs, last[None]])
        value = intrinsic.state_value(cfg, env).apply(state.critic, x)
        return value, *intrinsic.learn_on_policy(cfg, env, state, t, t.obs, last, KEY, 0.0)[1:]

    value, advantage, metrics = go(t, last)
    value, bonus = np.asarray(value, float), np.asarray(t.next_obs.sum((-1, -2)), float)
    want, ahead = np.zeros((12, 3)), 0
    for i in reversed(range(12)):
        ahead = bonus[i] + 0.99 * value[i + 1] - value[i] + 0.99 * 0.95 * ahead
        want[i] = ahead
    assert t.terminated.any()
    np.testing.assert_allclose(advantage, want, rtol=1e-4, atol=1e-5)
    assert metrics["bonus/steps"] == 36
    assert metrics["bonus/mean"] == pytest.approx(bonus.mean(), rel=1e-5)


def dense(params, x, name="Dense_0"):
    return x @ np.asarray(params[name]["kernel"]) + np.asarray(params[name]["bias"])


def joint(params, *parts):
    p = params["params"]
    return dense(p, np.maximum(dense(p["MLP_0"], np.concatenate(parts, -1)), 0))


@pytest.mark.parametrize("name", slow_of(["MountainCar-v0", "Pendulum-v1"], "Pendulum-v1"))
def test_curiosity_has_the_losses_of_its_equations(name):
    """Cross-entropy of the inverse model, or half a squared distance, and eq. 6 of the forward
    one, written down in NumPy."""
    env, t = imagined(name)
    icm = bonuses.ICM(features=3, hidden=(4,), warmup=0)
    state = scaled(begin(icm, env), t)
    obs, next_obs = white(t.obs, t), white(t.next_obs, t)
    p = state.fitted.params

    def phi(x):
        own = p["phi"]["params"]
        return dense(own, np.maximum(dense(own["MLP_0"], x), 0))

    x, y = phi(obs), phi(next_obs)
    action = np.asarray(t.action)
    given = np.eye(3)[action] if env.discrete else action
    guess, foretold = joint(p["inverse"], x, y), joint(p["forward"], x, given)
    forward = 0.5 * ((foretold - y) ** 2).sum(-1)
    if env.discrete:
        inverse = np.log(np.exp(guess).sum(-1)) - (guess * given).sum(-1)
    else:
        inverse = 0.5 * ((guess - given) ** 2).sum(-1)
    found = jax.jit(lambda p, *steps: icm.losses(p, env, *steps))(p, [obs], t.action, [next_obs])
    np.testing.assert_allclose(found[0], inverse, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found[1], forward, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(told(icm, env, state, t), forward, rtol=1e-3, atol=1e-4)


def test_distillation_is_a_squared_distance_that_falls():
    env, t = imagined("MountainCar-v0")
    rnd = bonuses.RND(features=3, hidden=(8, 8), warmup=0, epochs=20)
    state = scaled(begin(rnd, env), t)
    obs, (predictor, target) = [jnp.asarray(white(t.next_obs, t))], rnd.nets(env)

    @jax.jit
    def apart(p, q):
        return jnp.square(predictor.apply(p, obs) - target.apply(q, obs)).sum(-1)

    before = told(rnd, env, state, t)
    want = apart(state.fitted.params, state.target)
    np.testing.assert_allclose(before, want, rtol=1e-3, atol=1e-5)
    later = after(rnd, env, state, t)
    assert told(rnd, env, later, t).mean() < 0.7 * before.mean()


def test_models_disagree_by_their_variance():
    env, t = imagined("MountainCar-v0")
    gain = bonuses.InfoGain(members=3, hidden=(4,), warmup=0)
    state = begin(gain, env)

    @jax.jit
    def predict(p):
        return Joint(2, (4,)).apply(p, t.obs, jax.nn.one_hot(t.action, 3))

    members = [jax.tree.map(lambda x, i=i: x[i], state.fitted.params) for i in range(3)]
    want = np.var([predict(p) for p in members], 0).mean(-1)
    # A scale without data leaves numbers as they are, within five.
    np.testing.assert_allclose(told(gain, env, state, t), want, rtol=1e-4, atol=1e-6)


def test_novelty_within_an_episode_is_algorithm_1():
    """Line by line for each environment, with the memory that a ring of `slots` keeps."""
    env, t = imagined("MountainCar-v0")
    ngu = bonuses.NGUEpisodic(slots=6, neighbours=3, features=3, hidden=(4,), warmup=0)
    state = begin(ngu, env)
    features = np.asarray(jax.jit(lambda s: ngu.embed(s, env, t.next_obs))(state), float)
    ended = np.asarray(t.terminated | t.truncated)
    want, mean, memory = np.zeros(ended.shape), 0.0, [[] for _ in range(3)]
    for i in range(len(ended)):
        near = [
            sorted(((features[i, n] - x) ** 2).sum() for x in memory[n][-6:])[:3] for n in range(3)
        ]
        every = [x for row in near for x in row]
        if every:
            found = np.mean(every)
            mean = mean + 1e-3 * (found - mean) if mean > 0 else found
        for n, row in enumerate(near):
            unit = [max(x / (mean or 1) - 8e-3, 0) for x in row]
            root = np.sqrt(sum(1e-3 / (d + 1e-3) for d in unit)) + 1e-3
            want[i, n] = 0 if root > 8 or not row else 1 / root
            memory[n] = [] if ended[i, n] else [*memory[n], features[i, n]]
    np.testing.assert_allclose(told(ngu, env, state, t), want, rtol=2e-2)
    new = after(ngu, env, state, t)
    assert float(new.mean) == pytest.approx(mean, rel=1e-4)
    assert new.memory.count.tolist() == [len(x) for x in memory]


LEARN = ["pseudo_count", *LEARNT, "ngu_episodic"]


@pytest.mark.parametrize("name", slow_of(LEARN, *LEARN[1:]))
def test_nothing_is_new_before_there_is_a_scale(name):
    """A number that has hardly moved is divided by nearly nothing: without a warm-up its first move
    is 5 deviations, the largest there are."""
    env, t = imagined("MountainCar-v0")
    few, more = (jax.tree.map(lambda x, s=s: x[s], t) for s in (slice(0, 2), slice(2, None)))
    bonus = small(name)()
    first = begin(bonus, env)
    state = after(bonus, env, first, few)
    assert state.scale.count == 6
    assert not told(bonus, env, state, more).any()
    if name != "pseudo_count":
        assert same(first.fitted.params, state.fitted.params)
    assert told(bonus, env, scaled(state, more), more).any()


def config(agent, bonus, **more):
    agent = getattr(jaxpg, agent)
    env = jaxpg.make("Pendulum-v1" if agent.name == "sac" else "DeepSea-bsuite")
    cfg = agent.Config(**AGENTS[agent.name] | {"bonus": bonus, "total_steps": 96.0} | more)
    return agent, cfg, env


# Runs of every agent, with a bonus of every kind: networks, counts, an order of steps, codes. Other
# pairs differ in nothing that a run would show, and are seen by their shapes alone.
RUN = [("ppo", "rnd"), ("dqn", "count"), ("a2c", "ngu_episodic"), ("sac", "pseudo_count")]
SHAPES = [*RUN[2:], ("ppo", "icm"), ("ppo", "info_gain"), ("sac", "icm"), ("dqn", "info_gain")]


def rows(pairs, quick):
    """Pairs of an agent and a bonus, of which the first few are in the quick part."""
    marks = [()] * quick + [pytest.mark.slow] * (len(pairs) - quick)
    return [pytest.param(*x, marks=m) for x, m in zip(pairs, marks, strict=True)]


@pytest.mark.parametrize(("agent", "bonus"), rows(SHAPES, 1))
def test_a_state_with_a_bonus_keeps_its_shapes(agent, bonus):
    agent, cfg, env = config(agent, small(bonus))
    first = jax.eval_shape(functools.partial(initial_state, agent), cfg, env, KEY)
    later, metrics = jax.eval_shape(agent.step, cfg, env, first)
    kind = lambda s: jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), s)  # noqa: E731
    assert kind(first) == kind(later)
    assert all(x.shape == () for x in metrics.values())
    assert "bonus/mean" in metrics


def raw(x):
    return np.asarray(
        jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    ).tobytes()


def same(a, b):
    return [raw(x) for x in jax.tree.leaves(a)] == [raw(x) for x in jax.tree.leaves(b)]


@functools.cache
def learn(agent, bonus, weight=1.0, stop=None):
    agent, cfg, env = config(agent, small(bonus), bonus_weight=weight)
    callbacks = [lambda event: event.iteration == stop]
    return jaxpg.run(agent, cfg, env, KEY, total_steps=96, chunk=3, callbacks=callbacks)


@pytest.mark.parametrize(("agent", "bonus"), rows(RUN, 2))
def test_a_run_with_a_bonus_goes_on_byte_identically(agent, bonus):
    """Also what the bonus has learnt; and all of it is finite, and moves what is learnt."""
    whole, part = learn(agent, bonus), learn(agent, bonus, stop=3)
    assert part.iteration == 3
    rest = jaxpg.core.run.run(
        getattr(jaxpg, agent), whole.cfg, whole.env, KEY, total_steps=96, chunk=3,
        state=part.state, iteration=3,
    )  # fmt: skip
    assert same(rest.state, whole.state)
    floats = [x for x in jax.tree.leaves(whole.state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(np.isfinite(x).all() for x in floats)
    assert whole.metrics["bonus/mean"][-1] > 0
    assert not same(params(whole.state), params(learn(agent, "none").state))


def params(state):
    return state.params if hasattr(state, "params") else state.learner


@pytest.mark.parametrize(("agent", "bonus"), rows(RUN, 2))
def test_a_weight_of_zero_is_no_bonus_to_the_byte(agent, bonus):
    assert same(params(learn(agent, bonus, 0.0).state), params(learn(agent, "none").state))


@pytest.mark.parametrize("agent", AGENTS)
def test_it_is_off_unless_asked_for(agent):
    agent, _, env = config(agent, "none")
    state = jax.eval_shape(functools.partial(agent.init, agent.Config(), env), KEY)
    assert getattr(state, "replay", state).explorer == ()


def test_what_is_drawn_has_the_bonus_of_now():
    """Of each of two steps, by the counts after the last rollout, and cut where an episode ends."""
    result = learn("dqn", "count")
    r, cfg = result.state.replay, result.cfg
    plain = dataclasses.replace(cfg, bonus="none")
    args = r.buffer, r.priorities, jnp.int32(0), KEY, (), (), result.env
    index, b = replay.sample(cfg, *args, explorer=r.explorer)
    _, without = replay.sample(plain, *args)
    data, visits = jax.tree.map(np.asarray, (r.buffer.data, r.explorer.bonus.visits))
    for row, x, y in zip(np.asarray(index), b.reward, without.reward, strict=True):
        want, ended = 0.0, False
        for n in range(2):
            at = (row + 2 * n) % 32
            newest = n and (row + 2 * n - int(r.buffer.position)) % 32 < 2
            if not ended and not newest:
                seen = data.next_obs[at].ravel()
                place = seen.argmax() if seen.any() else 64
                want += 0.99**n / np.sqrt(1 + visits[place])
            ended |= data.terminated[at] | data.truncated[at]
        assert float(x - y) == pytest.approx(want, rel=1e-4)


def test_a_bonus_of_ones_own_says_its_numbers():
    """A class, or a partial of one, is a field like any other."""
    one = functools.partial(Fixed, factor=2.0)
    cfg = jaxpg.ppo.Config(bonus=one)
    assert bonuses.make_bonus(cfg) == Fixed(2.0)
    told = jaxpg.core.config.to_dict(cfg)
    assert jaxpg.core.config.from_dict(jaxpg.ppo.Config, told) == cfg
    assert bonuses.make_bonus(jaxpg.ppo.Config(bonus="rnd")) == bonuses.RND()
    assert set(bonuses.BONUSES) == set(BONUSES) - {"none"}


@pytest.mark.parametrize(
    ("agent", "fields", "message"),
    [
        ("ppo", {"bonus": "rdn"}, "bonus='rdn': did you mean 'rnd'"),
        ("ppo", {"bonus": dict}, "bonus=.*dict.*: allowed is .*a class with init, bonus, update"),
        ("ppo", {"bonus_weight": -1.0}, "bonus_weight=-1.0: allowed is .* >= 0"),
        ("dqn", {"bonus": "ngu_episodic"}, "bonus='ngu_episodic': it sees steps in their order"),
        ("dqn", {"hindsight": "final"}, "bonus='count': allowed with hindsight='final' is 'none'"),
    ],
)
def test_what_cannot_work_is_refused(agent, fields, message):
    agent, cfg, env = config(agent, **{"bonus": "count"} | fields)
    with pytest.raises(ValueError, match=message):
        agent.init(with_horizon(cfg, 96), env, KEY)


@pytest.mark.parametrize(
    ("bonus", "words"),
    [
        (functools.partial(bonuses.RND, hidden=(8, 0)), r"RND hidden=\(8, 0\): .*integers >= 1"),
        (functools.partial(bonuses.InfoGain, members=1), "InfoGain members=1: .*integer >= 2"),
        (functools.partial(bonuses.NGUEpisodic, rate=0.0), "Episodic rate=0.0: .*> 0 and <= 1"),
        (functools.partial(bonuses.ICM, net=dict), "icm.ICM net=.*dict.*: .*a flax module class"),
        (functools.partial(bonuses.PseudoCount, bits=31), "PseudoCount bits=31: .*>= 1 and <= 30"),
    ],
)
def test_numbers_with_which_a_bonus_would_tell_nothing_are_refused(bonus, words):
    """Of no features, or one model, it is 0 for ever."""
    with pytest.raises(ValueError, match=f"ppo.Config bonus=.*{words}"):
        bonuses.make_bonus(jaxpg.ppo.Config(bonus=bonus))


class Rows(Fixed):
    """A mistake: the observation in the place of a number."""

    def bonus(self, state, env, t):
        return t.next_obs


class Number(Fixed):
    """A mistake: a number in the place of a dict of them."""

    def metrics(self, state):
        return 3.0


class Grown(Fixed):
    """A mistake: another state than `init` gives."""

    def update(self, state, env, t):
        return jnp.zeros(2)


@pytest.mark.parametrize(
    ("bonus", "words"),
    [
        (Number, "metrics gives 3.0, allowed is a dict of numbers"),
        (Grown, r"update gives a state of shapes \(2,\), allowed are those of init, "),
        (
            functools.partial(bonuses.RND, feetures=3),
            "'feetures'; did you mean 'features'",
        ),
        (Rows, r"of steps \(8, 2\) it gives \(8, 2, 4\), allowed is an array of a number"),
        (functools.partial(bonuses.RND, features=0), "rnd.RND features=0: allowed is an integer"),
    ],
)
def test_a_bonus_of_ones_own_that_does_not_fit_is_refused(bonus, words):
    cfg = jaxpg.ppo.Config(bonus=bonus, num_envs=2, num_steps=8, hidden=(4,))
    env = jaxpg.make("CartPole-v1")
    with pytest.raises(ValueError, match=f"ppo.Config bonus=.*{words}"):
        jax.eval_shape(lambda key: jaxpg.train(jaxpg.ppo, cfg, env, key, 16), jax.random.key(0))
