"""DDPG, TD3, SAC and discrete SAC: targets and losses against NumPy, values against known ones."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnax.environments import environment, spaces

import jaxpg
from jaxpg import agents
from jaxpg.agents import ddpg, sac, sac_discrete, td3
from jaxpg.core.plan import run_chunk
from jaxpg.core.train import initial_state, iterate, with_horizon
from jaxpg.loops.replay import Batch
from tests.conftest import slow_of
from tests.tabular import make

KEY = jax.random.key(0)
CONTINUOUS = ("ddpg", "td3", "sac")
SMALL = {"hidden": (4,), "batch_size": 8, "buffer_size": 64, "learning_starts": 4, "num_steps": 2}


@struct.dataclass
class Params:
    terminates: float = 1.0
    low: tuple = (-1.0, 0.0)
    high: tuple = (2.0, 10.0)
    max_steps_in_episode: int = 5


@struct.dataclass
class State:
    time: jax.Array
    action: jax.Array


class Steady(environment.Environment):
    """Reward 1 in each of 5 steps, then the end: a termination, or a truncation if `terminates`
    is 0. Observations are the time modulo 5, one-hot, and the action that was received."""

    name = "Steady"
    default_params = Params()

    def __init__(self, discrete=False):
        self.discrete = discrete

    def _observe(self, state):
        return jnp.concatenate([jax.nn.one_hot(state.time % 5, 5), state.action])

    def reset_env(self, key, params):
        state = State(jnp.zeros((), jnp.int32), jnp.zeros(2))
        return self._observe(state), state

    def step_env(self, key, state, action, params):
        state = State(state.time + 1, jnp.broadcast_to(action, 2).astype(float))
        ended = (state.time >= 5) & (params.terminates > 0)
        return self._observe(state), state, jnp.float32(1), ended, {}

    def is_truncated(self, state, params):
        return (state.time >= 5) & (params.terminates == 0)

    def action_space(self, params):
        if self.discrete:
            return spaces.Discrete(2)
        return spaces.Box(jnp.array(params.low), jnp.array(params.high), (2,))

    def observation_space(self, params):
        return spaces.Box(-100, 100, (7,))


def steady(name):
    return make(Steady(name == "sac_discrete"))


def batch(discrete=False, size=8, dims=2):
    draw = np.random.default_rng(1).normal(size=(4, size, 7)).astype(np.float32)
    action = np.tanh(draw[2, :, :dims])
    action = (action[:, 0] > 0).astype(np.int32) if discrete else action
    discount = 0.9 * (np.arange(size) % 3 > 0)
    b = Batch(
        draw[0], action, draw[3, :, 0], discount.astype(np.float32), draw[1], np.ones(size), {}
    )
    return jax.tree.map(jnp.asarray, b)


@functools.cache
def begin(name, **fields):
    agent = agents.get(name)
    cfg, env = agent.Config(**SMALL | fields), steady(name)
    return agent, cfg, env, jax.jit(functools.partial(agent.init, cfg, env))(KEY)


@functools.cache
def jitted(name):
    """An agent's update(cfg, learner, batch, *key) as one program."""
    update = {"ddpg": ddpg, "td3": td3, "sac": sac, "sac_discrete": sac_discrete}[name].update
    env = steady(name)
    return jax.jit(lambda cfg, learner, b, *key: update(cfg, env, learner, b, *key))


def layers(*trees):
    """Kernels and biases in order, as float64, of flax modules and what they hold."""
    found = []
    for tree in trees:
        if "kernel" in tree:
            found.append((np.asarray(tree["kernel"], float), np.asarray(tree["bias"], float)))
        else:
            found += layers(*(tree[name] for name in sorted(tree)))
    return found


def mlp(x, *trees):
    """A network with rectified hidden layers: [B, size] -> [B, outputs]."""
    (*hidden, (kernel, bias)), x = layers(*trees), np.asarray(x, float)
    for k, b in hidden:
        x = np.maximum(x @ k + b, 0)
    return x @ kernel + bias


def np_actor(params, obs):
    return mlp(obs, params["params"]["actor_torso"], params["params"]["actor"])


def np_critic(params, i, obs, action):
    (stacked,) = params["params"].values()
    tree = jax.tree.map(lambda x: x[i], stacked)
    return mlp(np.concatenate([obs, action], -1), tree["MLP_0"], tree["q"])[:, 0]


def np_head(params, name, obs):
    """The values "q" of all actions, or the "value" of states."""
    return mlp(obs, params["params"]["MLP_0"], params["params"][name])


def other(tree, seed):
    """Parameters of the same shape, so that an online network is not its copy."""
    draw = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(draw.normal(size=x.shape) / 2, jnp.float32), tree)


# Targets and losses.


def test_ddpg_target():
    _, cfg, env, state = begin("ddpg")
    b, target = batch(), other(state.learner.target, 1)
    action = np.tanh(np_actor(target.actor, b.next_obs))
    expected = b.reward + b.discount * np_critic(target.critic, 0, b.next_obs, action)
    np.testing.assert_allclose(ddpg.critic_target(cfg, env, target, b), expected, atol=1e-5)


def test_td3_target_is_the_lower_critic_at_a_noisy_action():
    _, cfg, env, state = begin("td3", target_noise=0.9, target_noise_clip=0.3)
    b, target = batch(size=64), other(state.learner.target, 1)
    clean = np.tanh(np_actor(target.actor, b.next_obs))
    noise = np.clip(0.9 * jax.random.normal(KEY, clean.shape), -0.3, 0.3)
    action = np.clip(clean + noise, -1, 1)
    q = [np_critic(target.critic, i, b.next_obs, action) for i in (0, 1)]
    assert len(set(np.argmin(q, 0))) == 2, "each critic is the lower one somewhere"
    expected = b.reward + b.discount * np.min(q, 0)
    np.testing.assert_allclose(td3.critic_target(cfg, env, target, b, KEY), expected, atol=1e-5)


@pytest.mark.parametrize("value_network", [False, True])
def test_sac_target(value_network):
    _, cfg, env, state = begin("sac", value_network=value_network, alpha=0.3)
    b, params = batch(), other(state.learner.params, 1)
    params = params._replace(log_alpha=jnp.log(0.3))
    target = other(state.learner.target, 2)
    if value_network:
        value = np_head(target, "value", b.next_obs)[:, 0]
    else:
        action, log_prob, _ = sac.sample(cfg, env, params.actor, b.next_obs, KEY)
        q = [np_critic(target, i, b.next_obs, action) for i in (0, 1)]
        value = np.min(q, 0) - 0.3 * np.asarray(log_prob)
    found = sac.critic_target(cfg, env, params, target, b, KEY)
    np.testing.assert_allclose(found, b.reward + b.discount * value, atol=1e-5)


def test_sac_policy_gradient_flows_through_the_action():
    """Against a finite difference of the loss in float64, with the draw's noise held fixed."""
    _, cfg, env, state = begin("sac", learn_alpha=False, alpha=0.3)
    params, obs = other(state.learner.params, 1), batch().obs

    def loss(shift):
        moved = jax.tree.map(lambda p: p + shift, params.actor)
        out = np_actor(moved, obs)
        mean, log_std = out[:, :2], np.clip(out[:, 2:], -20, 2)
        noise = np.asarray(jax.random.normal(KEY, mean.shape), float)
        draw = mean + np.exp(log_std) * noise
        log_prob = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
        log_prob = (log_prob - np.log(1 - np.tanh(draw) ** 2)).sum(-1)
        q = [np_critic(params.critic, i, obs, np.tanh(draw)) for i in (0, 1)]
        return (0.3 * log_prob - np.min(q, 0)).mean()

    def found(actor):
        moved = params._replace(actor=actor)
        return -sac.soft_value(cfg, env, moved, params.critic, obs, KEY)[0].mean()

    value, grads = jax.value_and_grad(found)(params.actor)
    assert float(value) == pytest.approx(loss(0.0), abs=1e-4)
    slope = sum(float(g.sum()) for g in jax.tree.leaves(grads))
    h = np.float32(2**-10)
    assert slope == pytest.approx((loss(h) - loss(-h)) / (2 * h), rel=0.02, abs=1e-3)


def test_discrete_sac_sums_over_actions():
    """Target and policy loss, one state and one action at a time."""
    _, cfg, env, state = begin("sac_discrete", learn_alpha=False, alpha=0.4)
    b, params = batch(discrete=True), other(state.learner.params, 1)
    target = other(state.learner.target, 2)

    def soft(critic, obs, sign):
        logits = np_actor(params.actor, obs)
        q = [np_head(c, "q", obs) for c in critic]
        total = np.zeros(len(obs))
        for i in range(len(obs)):
            prob = np.exp(logits[i]) / np.exp(logits[i]).sum()
            for a in (0, 1):
                lower = min(q[0][i, a], q[1][i, a])
                total[i] += prob[a] * sign * (lower - 0.4 * np.log(prob[a]))
        return total

    found = sac_discrete.critic_target(cfg, env, params, target, b)
    expected = b.reward + b.discount * soft(target, b.next_obs, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    loss, _ = sac_discrete.policy_loss(cfg, env, params, b.obs)
    assert float(loss) == pytest.approx(soft(params.critic, b.obs, -1).mean(), abs=1e-5)


@pytest.mark.parametrize("name", ["sac", "sac_discrete"])
def test_temperature_rises_while_entropy_is_too_low(name):
    """The dual gradient is that of J_alpha, and an update follows it."""
    _, cfg, env, state = begin(name, alpha=0.5)
    module = {"sac": sac, "sac_discrete": sac_discrete}[name]
    entropy = jnp.float32(0.3)
    goal = -2.0 if name == "sac" else 0.98 * np.log(2)

    def dual(log_alpha):  # E[-alpha (log pi + target_entropy)]
        return jnp.exp(log_alpha) * (entropy - goal)

    argument = -entropy if name == "sac" else entropy
    found = module.alpha_gradient(cfg, env, jnp.log(0.5), argument)
    assert float(found) == pytest.approx(float(jax.grad(dual)(jnp.log(0.5))), rel=1e-5)

    # A policy of known entropy, on both sides of the target.
    b, learner = batch(name == "sac_discrete"), state.learner
    field = "target_entropy" if name == "sac" else "target_entropy_ratio"
    entropies = (-9.0, 9.0) if name == "sac" else (0.0, 1.0)
    for value, rises in zip(entropies, (False, True), strict=True):
        this = dataclasses.replace(cfg, **{field: value})
        if name == "sac":
            new, *_ = jitted(name)(this, learner, b, KEY)
        else:
            sharp = jax.tree.map(lambda p: 50 * p, other(learner.params.actor, 3))
            params = learner.params._replace(actor=sharp)
            new, *_ = jitted(name)(this, learner._replace(params=params), b)
        assert (new.params.log_alpha > learner.params.log_alpha) == rises


# The order and number of updates.


@functools.cache
def trained(name, iterations, **fields):
    agent, cfg, env, state = begin(name, **fields)
    go = jax.jit(lambda state: iterate(agent, cfg, env, state, iterations))
    return state, *go(state)


@pytest.mark.parametrize("delay", slow_of([1, 3], 1))
def test_td3_moves_the_policy_once_in_policy_delay_updates(delay):
    fields = {"policy_delay": delay, "num_steps": 6, "learning_starts": 12}
    _, state, _ = trained("td3", 5, **fields)
    critic, actor = state.learner.opt_state.critic[0].count, state.learner.opt_state.actor[0].count
    assert critic == 4 * 6, "the first iteration only fills the buffer"
    assert actor == critic // delay


def test_td3_takes_a_fresh_sample_for_every_update_of_the_critics():
    _, cfg, _, state = begin("td3")
    assert td3.grouped(cfg).batch_size == 16
    assert td3.grouped(cfg).updates_per_step == 0.5
    one, two = batch(size=8), jax.tree.map(lambda x: -x, batch(size=8))
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), one, two)
    plain = dataclasses.replace(cfg, policy_delay=1, learning_rate=0.0, target_noise=0.0)
    expected = state.learner._replace(target=state.learner.target)
    for b in (one, two):  # with the copies held where they are
        expected, *_ = jitted("td3")(plain, expected, b, KEY)
        expected = expected._replace(target=state.learner.target)
    cfg = dataclasses.replace(cfg, learning_rate=0.0, target_noise=0.0)
    found, error, _ = jitted("td3")(cfg, state.learner, both, KEY)
    assert error.shape == (16,)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        found.params.critic, expected.params.critic,
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", slow_of(["ddpg", "td3", "sac", "sac_discrete"], "td3", "sac_discrete")
)
def test_copies_follow_softly(name):
    _, cfg, _, state = begin(name, tau=0.25)
    b = batch(name == "sac_discrete", size=16)
    if name == "td3":
        cfg = dataclasses.replace(cfg, policy_delay=1)
    key = () if name in ("ddpg", "sac_discrete") else (KEY,)
    new, *_ = jitted(name)(cfg, state.learner, b, *key)
    leader = new.params if name in ("ddpg", "td3") else new.params.critic
    jax.tree.map(
        lambda now, old, p: np.testing.assert_allclose(now, 0.75 * old + 0.25 * p, atol=1e-6),
        new.target, state.learner.target, leader,
    )  # fmt: skip
    moved = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), leader, state.learner.target)
    assert max(jax.tree.leaves(moved)) > 0


def test_hard_copies_are_made_once_in_a_period():
    _, cfg, _, state = begin("ddpg", target_update="hard", target_period=3)
    learner, b = state.learner, batch()
    for n in range(1, 7):
        old = learner.target
        learner, *_ = jitted("ddpg")(cfg, learner, b)
        expected = learner.params if n % 3 == 0 else old
        jax.tree.map(np.testing.assert_array_equal, learner.target, expected)


def test_sac_value_network_learns_the_soft_value():
    _, cfg, env, state = begin("sac", value_network=True, learn_alpha=False, alpha=0.3)
    assert state.learner.params.log_alpha == ()
    learner, b = state.learner._replace(params=other(state.learner.params, 1)), batch()
    cfg = dataclasses.replace(cfg, learning_rate=0.0, critic_learning_rate=0.0)
    *_, info = jitted("sac")(cfg, learner, b, KEY)
    _, k_value, _ = jax.random.split(KEY, 3)
    soft, _ = sac.soft_value(cfg, env, learner.params, learner.params.critic, b.obs, k_value)
    action, log_prob, _ = sac.sample(cfg, env, learner.params.actor, b.obs, k_value)
    q = np.min([np_critic(learner.params.critic, i, b.obs, action) for i in (0, 1)], 0)
    np.testing.assert_allclose(soft, q - 0.3 * log_prob, atol=1e-5)
    value = sac.state_value(cfg, env).apply(learner.params.value, b.obs)
    assert float(info["loss/value"]) == pytest.approx(0.5 * float(((value - soft) ** 2).mean()))


# Ends of episodes.

FIXED = {
    "ddpg": {"noise_std": 0.3},
    "td3": {"policy_delay": 1},
    "sac": {"learn_alpha": False, "alpha": 1e-6},
    "sac_discrete": {"learn_alpha": False, "alpha": 1e-6},
}


@pytest.mark.parametrize("name", slow_of(FIXED, "td3", "sac", "sac_discrete"))
def test_truncation_bootstraps_and_termination_does_not(name):
    """Reward 1, 5 steps, gamma 0.8: 1 / (1 - gamma) everywhere if episodes are cut, and the sum of
    what is left if they end. Both in one program: the end's kind is a batch. The policy stays as
    it is, so that it cannot climb the critic's errors."""
    agent = agents.get(name)
    cfg = agent.Config(
        **FIXED[name], gamma=0.8, tau=0.05, hidden=(32,), activation="tanh", num_envs=4,
        num_steps=5, updates_per_step=1.0, batch_size=64, buffer_size=2000, learning_starts=100,
        critic_learning_rate=3e-3, learning_rate=0.0,
    )  # fmt: skip
    env = steady(name)

    def values(terminates):
        params = Params(terminates=terminates, low=(-1.0, -1.0), high=(1.0, 1.0))
        this = dataclasses.replace(env, params=params)
        state, _ = jaxpg.train(agent, cfg, this, KEY, 2000)
        rows = state.replay.buffer.data
        params = state.learner.params
        if name == "sac_discrete":
            q = sac_discrete.both(cfg, this, params.critic, rows.obs)
            q = jnp.take_along_axis(q, rows.action[None, :, None], -1)[..., 0]
        else:
            q = ddpg.critics(cfg, this, 1 if name == "ddpg" else 2).apply(
                params.critic, rows.obs, rows.action
            )
        time = rows.obs[:, :5].argmax(-1)
        return jnp.stack(
            [jnp.where(time == k, q[0], 0).sum() / (time == k).sum() for k in range(5)]
        )

    cut, ended = jax.jit(jax.vmap(values))(jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(cut, 5.0, rtol=0.03)
    np.testing.assert_allclose(ended, [(1 - 0.8**k) / 0.2 for k in (5, 4, 3, 2, 1)], rtol=0.03)


# Exploration and actions.


@pytest.mark.parametrize("name", slow_of(CONTINUOUS, "ddpg", "td3"))
def test_actions_are_stored_in_the_unit_range_and_received_in_the_space(name):
    switches = {"ddpg": "ddpg, ou, hard", "sac": "sac, first paper"}  # trained below as well
    fields = SWITCHES[switches[name]][1] if name in switches else {"num_steps": 4}
    _, state, _ = trained(name, 9, **fields)
    rows = state.replay.buffer.data
    count = int(state.replay.buffer.size)
    action, received = np.asarray(rows.action)[:count], np.asarray(rows.next_obs)[:count, 5:]
    assert np.abs(action).max() <= 1
    low, high = np.array([-1.0, 0.0]), np.array([2.0, 10.0])
    np.testing.assert_allclose(received, low + (action + 1) / 2 * (high - low), atol=1e-5)
    assert (received.max(0) - received.min(0) > 0.1 * (high - low)).all()


def test_sac_divides_by_no_count_of_ties():
    """The gradient of `.min(0)` divides by how many equal the minimum: by none at all, if XLA
    computes the values a second time with another rounding. Then the actor is NaN."""
    _, cfg, env, state = begin("sac")
    update = functools.partial(sac.update, cfg, env)
    program = str(jax.make_jaxpr(update)(state.learner, batch(), KEY))
    assert "reduce_min" not in program


@pytest.mark.parametrize("name", CONTINUOUS)
def test_only_bounded_boxes_are_taken(name):
    agent, env = agents.get(name), make(Steady())
    unbounded = dataclasses.replace(env, params=env.params.replace(high=(1.0, np.inf)))
    for bad, message in (
        (jaxpg.make("CartPole-v1"), f"{name}.Config on CartPole-v1.*discrete.*finite bounds"),
        (unbounded, rf"{name}.Config on Steady.*high=\[ *1. *inf\].*finite bounds"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxpg.run(agent, agent.Config(), bad, KEY, total_steps=10)


def test_discrete_sac_takes_only_discrete_actions():
    with pytest.raises(
        ValueError, match=r"sac_discrete.Config on Pendulum-v1.*allowed are discrete"
    ):
        jaxpg.run(sac_discrete.sac_discrete, sac_discrete.Config(), jaxpg.make("Pendulum-v1"), KEY,
                  total_steps=10)  # fmt: skip


def test_parameter_noise_is_a_function_of_the_observation_for_an_episode():
    """With the networks held still, an action depends on the episode and the observation alone."""
    fields = {"noise": "parameter", "learning_rate": 0.0, "critic_learning_rate": 0.0}
    _, state, metrics = trained(
        "ddpg", 6, **fields, num_envs=2, num_steps=10, random_warmup=False, buffer_size=120,
        noise_std=0.0,
    )  # fmt: skip
    assert (np.diff(metrics["noise/scale"]) < 0).all(), "any distance is more than 0"
    rows = jax.tree.map(lambda x: np.asarray(x).reshape(12, 5, 2, *x.shape[1:]),
                        state.replay.buffer.data)  # fmt: skip
    first = rows.action[:, 0]  # of each episode, in the same observation: [episodes, envs, D]
    assert (np.abs(np.diff(first, axis=0)) > 1e-6).all(), "a new direction for every episode"
    assert (np.abs(first[:, 0] - first[:, 1]) > 1e-6).all(), "and for every environment"
    assert rows.truncated[:, 4].all() or rows.terminated[:, 4].all()


@pytest.mark.parametrize("name", slow_of(["ddpg", "td3"], "td3"))
def test_ornstein_uhlenbeck_noise_starts_anew_with_an_episode(name):
    fields = {"noise": "ou", "noise_std": 0.05, "ou_theta": 0.01, "learning_rate": 0.0}
    _, state, _ = trained(
        name, 8, **fields, num_envs=32, num_steps=5, random_warmup=False, buffer_size=1280
    )
    action = np.asarray(state.replay.buffer.data.action).reshape(8, 5, 32, 2)
    spread = action.std((0, 2, 3))  # by the step of an episode: sqrt(k) times the first
    np.testing.assert_allclose(spread / spread[0], np.sqrt(np.arange(1, 6)), rtol=0.25)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("ddpg", {"noise": "ou", "target_update": "hard"}),
        pytest.param("ddpg", {"noise": "parameter"}, marks=pytest.mark.slow),
        pytest.param("td3", {"noise": "ou"}, marks=pytest.mark.slow),
        ("sac", {"value_network": True, "learn_alpha": False, "target_entropy": -1.0}),
    ],
)
def test_every_number_is_a_leaf(name, fields):
    """A batch over all of them at once; the state keeps its types. Of configs beside those of the
    contract, which asks it of every agent."""
    agent, env = agents.get(name), steady(name)
    cfg = agent.Config(**SMALL | fields, total_steps=100.0, learning_rate_schedule="warmup_cosine")
    many = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x, float)] * 2), cfg)

    def go(cfg):
        state = agent.init(cfg, env, KEY)
        return state, agent.step(cfg, env, state)[0]

    before, after = jax.eval_shape(jax.vmap(go), many)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), before) == jax.tree.map(
        lambda x: (x.shape, x.dtype), after
    )


SWITCHES = {
    "ddpg, ou, hard": ("ddpg", {"noise": "ou", "target_update": "hard", "target_period": 3}),
    "ddpg, parameter": ("ddpg", {"noise": "parameter"}),
    "sac, first paper": ("sac", {"value_network": True, "learn_alpha": False}),
    "sac_discrete, fixed": ("sac_discrete", {"learn_alpha": False, "alpha": 0.1}),
}


# Parameter noise is trained above, and the loss of discrete SAC at a fixed temperature summed.
@pytest.mark.parametrize("case", slow_of(SWITCHES, "ddpg, parameter", "sac_discrete, fixed"))
def test_every_switch_trains(case):
    name, fields = SWITCHES[case]
    begun, state, metrics = trained(name, 9, **fields)
    for tree in (state, {k: m[-1] for k, m in metrics.items() if not k.startswith("episode")}):
        floats = [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
        assert all(np.isfinite(x).all() for x in floats)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()),
                         state.learner.params, begun.learner.params)  # fmt: skip
    assert min(jax.tree.leaves(moved)) > 0, "everything learns"


@pytest.mark.parametrize("name", slow_of(["sac", "dqn"], "sac"))
def test_a_run_holds_one_buffer(name):
    """Beside the donated state, a chunk of a run needs less than a tenth of the buffer."""
    agent, env = agents.get(name), jaxpg.make("Pendulum-v1" if name == "sac" else "CartPole-v1")
    fields = {"prioritized": True, "n_step": 3} if name == "dqn" else {}
    cfg = with_horizon(agent.Config(hidden=(4,), buffer_size=500_000, **fields), 1000)
    state = jax.eval_shape(functools.partial(initial_state, agent, cfg, env), KEY)
    program = run_chunk.lower(agent, cfg, env, state, np.int32(10), 10, None).compile()
    memory, buffer = program.memory_analysis(), jax.tree.leaves(state.replay.buffer)
    size = sum(x.size * x.dtype.itemsize for x in buffer)
    assert memory.output_size_in_bytes - memory.alias_size_in_bytes < 0.1 * size
    assert memory.temp_size_in_bytes < 0.1 * size
