"""Policies that remember: the cells' definitions, resets to the byte, and learning."""

import functools
import itertools
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import jaxpg
from jaxpg.core import env as E
from jaxpg.core.run import Result, run
from jaxpg.core.train import initial_state, iterate
from jaxpg.loops import replay
from jaxpg.nets import memories
from jaxpg.nets.actor_critic import actor_critic
from jaxpg.ops.returns import starts
from jaxpg.replay import uniform
from tests.conftest import slow_of

KINDS = ("gru", "lstm", "attention")
T, B, F = 12, 3, 5
TINY = {"num_envs": 2, "num_steps": 12, "hidden": (4,), "memory_size": 4, "memory_length": 5}


def bytes_of(tree):
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(tree)]


@functools.cache
def memory(kind):
    """A memory, jitted: (params, x, carry, start) -> y, carries; its parameters, all random."""
    module = memories.make(jaxpg.ppo.Config(memory=kind, memory_size=4, memory_length=5))()
    params = module.init(jax.random.key(0), jnp.zeros((B, F)), (), None)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noise = [x + 0.5 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.jit(module.apply), jax.tree.unflatten(structure, noise)


def nothing(kind):
    apply, params = memory(kind)
    carry = jax.eval_shape(apply, params, jnp.zeros((B, F)), (), None)[1]
    return jax.tree.map(lambda x: x[None], E.zero_carry(carry))


def sequences(kind, x, start):
    apply, params = memory(kind)
    return apply(params, x, nothing(kind), start)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [1, 4, T - 1])
def test_a_reset_in_the_middle_is_two_episodes_to_the_byte(kind, at):
    x = jax.random.normal(jax.random.key(2), (T, B, F))
    never = jnp.zeros((T, B), bool)
    start = never.at[at].set(True)
    whole, first, second = jax.device_get([
        sequences(kind, x, start),
        sequences(kind, x, never),
        sequences(kind, np.roll(x, -at, 0), never),  # begins where the reset was
    ])  # fmt: skip
    assert bytes_of(jax.tree.map(lambda a: a[:at], whole)) == bytes_of(
        jax.tree.map(lambda a: a[:at], first)
    )
    assert bytes_of(jax.tree.map(lambda a: a[at:], whole)) == bytes_of(
        jax.tree.map(lambda a: a[: T - at], second)
    )
    assert bytes_of(whole[0][at:]) != bytes_of(first[0][at:]), "it remembers without a reset"


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_of_environments_that_reset_apart(kind):
    """Each column with resets of its own is what single steps with a zeroed carry give."""
    x = jax.random.normal(jax.random.key(3), (T, B, F))
    start = jax.random.bernoulli(jax.random.key(4), 0.3, (T, B)).at[0].set(False)
    apply, params = memory(kind)
    y, carries = sequences(kind, x, start)
    carry = jax.tree.map(lambda c: c[0], nothing(kind))
    for t in range(T):
        keep = ~np.asarray(start[t])
        carry = jax.tree.map(lambda c, k=keep: (c.T * k).T, carry)
        one, carry = apply(params, x[t], carry, None)
        np.testing.assert_allclose(one, y[t], atol=1e-5)
        for a, b in zip(jax.tree.leaves(carry), jax.tree.leaves(carries), strict=True):
            np.testing.assert_allclose(a, b[t], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_go_on_from_a_carry(kind):
    x = jax.random.normal(jax.random.key(5), (T, B, F))
    never = jnp.zeros((T, B), bool)
    apply, params = memory(kind)
    y, carries = sequences(kind, x, never)
    rest, _ = apply(params, x[5:], jax.tree.map(lambda c: c[4:5], carries), never[5:])
    np.testing.assert_allclose(rest, y[5:], atol=1e-5)


def test_the_gru_is_flax_s():
    apply, params = memory("gru")
    own = params["params"]
    split = functools.partial(np.split, indices_or_sections=3, axis=-1)
    kernels, weights, bias = map(split, (own["inputs"]["kernel"], own["recurrent"], own["bias"]))
    zeros = np.zeros(4)
    theirs = {f"i{g}": {"kernel": k, "bias": zeros} for g, k in zip("rzn", kernels, strict=True)}
    theirs |= {f"h{g}": {"kernel": w} for g, w in zip("rzn", weights, strict=True)}
    for gate, b in zip("rz", bias[:2], strict=True):
        theirs[f"i{gate}"]["bias"] = b
    theirs["hn"]["bias"] = bias[2]
    h, x = jax.random.normal(jax.random.key(6), (2, B, 4)), jnp.ones((B, F))
    expected, _ = nn.GRUCell(4).apply({"params": theirs}, h[0], x)
    np.testing.assert_allclose(apply(params, x, h[0], None)[0], expected, atol=1e-6)


def test_the_lstm_is_flax_s():
    apply, params = memory("lstm")
    own = params["params"]
    split = functools.partial(np.split, indices_or_sections=4, axis=-1)
    kernels, weights, bias = map(split, (own["inputs"]["kernel"], own["recurrent"], own["bias"]))
    theirs = {f"i{g}": {"kernel": k} for g, k in zip("ifgo", kernels, strict=True)}
    theirs |= {
        f"h{g}": {"kernel": w, "bias": b + (g == "f")}
        for g, w, b in zip("ifgo", weights, bias, strict=True)
    }
    (c, h), x = jax.random.normal(jax.random.key(7), (2, B, 4)), jnp.ones((B, F))
    expected, _ = nn.LSTMCell(4).apply({"params": theirs}, (c, h), x)
    found = apply(params, x, (c, h), None)[1]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_attention_is_a_softmax_over_the_window():
    """One head at a time, in plain NumPy, keys and values made as the paper makes them."""
    x = jax.random.normal(jax.random.key(8), (T, 1, F))
    _, params = memory("attention")
    p = jax.tree.map(np.asarray, params["params"])
    module = memories.Attention(4, 5)
    empty = jax.tree.map(lambda c: c[:, :1], nothing("attention"))
    y, _ = jax.jit(module.apply)(params, x, empty, jnp.zeros((T, 1), bool))

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * p[name]["scale"] + p[name]["bias"]

    def dense(x, name):
        return x @ p[name]["kernel"] + p[name]["bias"]

    tokens = norm(dense(np.asarray(x[:, 0]), "token"), "token_norm")
    for t in range(T):
        window = tokens[max(0, t - 4) : t + 1]
        heads = []
        for h in range(4):
            query, keys, values = (
                z @ p[n][:, h]
                for z, n in ((tokens[t], "query"), (window, "keys"), (window, "values"))
            )
            score = keys @ query / np.sqrt(query.size) + p["ago"][h, 5 - len(window) :]
            weight = np.exp(score - score.max())
            heads.append(weight / weight.sum() @ values)
        read = tokens[t] + dense(np.concatenate(heads), "out")
        expected = read + dense(np.maximum(dense(norm(read, "norm"), "up"), 0), "down")
        np.testing.assert_allclose(y[t, 0], expected, atol=1e-4)


class Seen(NamedTuple):
    out: Any
    value: Any
    carry: Any


@functools.cache
def collected(kind, shared):
    """A PPO iteration's network, environments with episodes of 5 steps, and what acting gave."""
    cfg = jaxpg.ppo.Config(**TINY, memory=kind, shared=shared)
    env = jaxpg.make("CartPole-v1", max_steps_in_episode=5)
    net, pi = actor_critic(cfg, env)
    params = jax.tree.map(
        lambda x: x + 0.3 * jnp.cos(jnp.arange(x.size).reshape(x.shape)),
        net.init(jax.random.key(0), env.example_obs),
    )
    state = E.reset(env, jax.random.key(1), 2)
    carry = E.zero_carry(jax.eval_shape(net.apply, params, state.obs)[2])

    def act(obs, carry, key):
        out, value, after = net.apply(params, obs, carry)
        action = pi.action(pi.sample(out, key)[0])
        return action, after, Seen(out, value, carry)

    rollout = jax.jit(lambda *x: E.rollout(env, act, *x, num_steps=12))
    _, carry, t, seen, _ = rollout(state, carry, jax.random.key(2))
    return jax.jit(net.apply), params, t, seen, carry


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared", [False, True])
def test_learning_sees_what_acting_saw(kind, shared):
    """The outputs on whole sequences are those at collection: an index that is off by one shows."""
    net, params, t, seen, _ = collected(kind, shared)
    ended = t.terminated | t.truncated
    assert ended[4].all()
    assert not ended[:4].any()
    out, value, _ = net(params, t.obs, seen.carry, starts(ended))
    np.testing.assert_allclose(out, seen.out, atol=1e-5)
    np.testing.assert_allclose(value, seen.value, atol=1e-5)
    late, *_ = net(params, t.obs, seen.carry, ended)
    assert np.abs(late - seen.out).max() > 1e-3
    never, *_ = net(params, t.obs, seen.carry, jnp.zeros_like(ended))
    assert np.abs(never - seen.out).max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_value_of_a_truncated_episode_s_last_successor_remembers_it(kind):
    net, params, t, seen, _ = collected(kind, False)
    ended = t.terminated | t.truncated
    _, _, after = net(params, t.obs, seen.carry)
    _, found, _ = net(params, t.next_obs, after)
    inside = ~np.asarray(ended[:-1])
    np.testing.assert_allclose(found[:-1][inside], seen.value[1:][inside], atol=1e-5)
    # The first episode and the observation that it was cut off at, as one sequence.
    obs = jnp.concatenate([t.obs[:5], t.next_obs[4:5]])
    _, longer, _ = net(params, obs, seen.carry, jnp.zeros((6, 2), bool))
    np.testing.assert_allclose(found[4], longer[5], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_episodes_that_follow_each_other_are_each_like_the_first(kind):
    """Acting through a reset, to the byte: the same observations give the same outputs."""
    net, params, t, seen, _ = collected(kind, False)
    carry = seen.carry
    began = jax.tree.map(lambda c: c[5], carry)
    assert bytes_of(began) == bytes_of(E.zero_carry(began))
    one = net(params, t.obs[5], began)
    fresh = net(params, t.obs[5], E.zero_carry(began))
    assert bytes_of(one) == bytes_of(fresh)


DQN = {
    "num_envs": 3, "num_steps": 1, "hidden": (4,), "buffer_size": 60, "learning_starts": 21,
    "batch_size": 8, "memory_size": 4, "memory_length": 3, "sequence_length": 4, "burn_in": 3,
    "total_steps": 1000.0,
}  # fmt: skip


@functools.cache
def stored(kind):
    """A recurrent DQN after its buffer of 20 steps went round, and one batch of its sequences."""
    cfg = jaxpg.dqn.Config(**DQN, memory=kind, updates_per_step=0.1)
    env = jaxpg.make("CartPole-v1", max_steps_in_episode=6)
    state = jaxpg.dqn.init(cfg, env, jax.random.key(0))
    state, _ = jax.jit(lambda s: iterate(jaxpg.dqn, cfg, env, s, 47))(state)
    draw = functools.partial(replay.sample, cfg, state.replay.buffer, (), jnp.int32(0))
    return cfg, env, state, *jax.jit(draw)(jax.random.key(1))


def test_sequences_from_replay_are_one_environment_s_steps_in_their_order():
    _, _, state, first, batch = stored("gru")
    buffer = state.replay.buffer
    data = jax.tree.map(np.asarray, buffer.data)
    oldest = int(buffer.position)
    assert oldest == 47 * 3 % 60
    crossed = False
    for b, row in enumerate(np.asarray(first)):
        age = (row - oldest) % 60
        assert age <= 60 - 7 * 3, "the newest step of a sequence is stored"
        rows = [(row + 3 * k) % 60 for k in range(7)]
        np.testing.assert_array_equal(batch.before[:, b], data.obs[rows[:3]])
        np.testing.assert_array_equal(batch.obs[:, b], data.obs[rows[3:]])
        np.testing.assert_array_equal(batch.action[:, b], data.action[rows[3:]])
        np.testing.assert_array_equal(batch.next_obs[:, b], data.next_obs[rows[3:]])
        carried = jax.tree.leaves(batch.carry)[0][0, b]
        np.testing.assert_array_equal(carried, jax.tree.leaves(data.carry)[0][rows[0]])
        ended = (data.terminated | data.truncated)[rows]
        np.testing.assert_array_equal(batch.start[1:, b], ended[:-1])
        crossed |= ended[:-1].any()
        for one, other in itertools.pairwise(rows):  # consecutive in time
            if not (data.terminated | data.truncated)[one]:
                np.testing.assert_array_equal(data.next_obs[one], data.obs[other])
    assert crossed


def test_sequences_are_drawn_uniformly_of_those_that_are_whole():
    example = jnp.zeros(())
    buffer = uniform.add(uniform.init(example, 12), jnp.arange(20.0))  # 8 .. 19 are stored
    first = uniform.sequences(buffer, jax.random.key(0), 40_000, 3, 2)
    values, counts = np.unique(np.asarray(buffer.data)[np.asarray(first)], return_counts=True)
    np.testing.assert_array_equal(values, np.arange(8, 16))
    np.testing.assert_allclose(counts / 40_000, 1 / 8, atol=0.01)


@pytest.mark.parametrize("kind", slow_of(KINDS, "gru", "attention"))
def test_recurrent_q_learning_against_single_steps(kind):
    """The errors are those of a loop over steps, each with a carry that is zero at a start."""
    cfg, env, state, _, b = stored(kind)
    q = jaxpg.agents.dqn.discrete_q(cfg, env)
    remember = jax.jit(functools.partial(q.apply, method="remember"))
    online = state.learner.params
    target = jax.tree.map(lambda x: 0.7 * x + 0.1, online)
    total, (error, _) = jaxpg.agents.dqn.loss(online, cfg, env, target, b)

    def run_through(params):
        """Q of each step, and of each successor by who has seen that step."""
        carry = jax.tree.map(lambda x: x[0], b.carry)
        now, following = [], []
        for t in range(7):
            carry = jax.tree.map(lambda c, t=t: (c.T * ~b.start[t]).T, carry)
            obs = b.before[t] if t < 3 else b.obs[t - 3]
            out, carry = remember(params, obs, carry)
            if t >= 3:
                now.append(out)
                following.append(remember(params, b.next_obs[t - 3], carry)[0])
        return np.array(now), np.array(following)

    (now, online_next), (_, next_q) = run_through(online), run_through(target)
    best = online_next.argmax(-1)[..., None]
    y = b.reward + b.discount * np.take_along_axis(next_q, best, -1)[..., 0]
    expected = np.take_along_axis(now, np.asarray(b.action)[..., None], -1)[..., 0] - y
    np.testing.assert_allclose(error, expected, atol=1e-4)
    assert float(total) == pytest.approx(float((0.5 * expected**2).mean()), rel=1e-3)


def test_burn_in_has_no_gradient():
    cfg, env, state, _, b = stored("gru")
    loss = lambda before: jaxpg.agents.dqn.loss(  # noqa: E731
        state.learner.params, cfg, env, state.learner.params, b._replace(before=before)
    )[0]
    assert (jax.grad(loss)(b.before) == 0).all()
    assert loss(b.before) != loss(b.before + 1), "but it is read"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("n_step", 3, "n_step=3: with memory='gru' allowed is 1"),
        ("prioritized", True, "prioritized=True: with memory='gru' allowed is False"),
        ("learning_starts", 20, "learning_starts=20: allowed is an integer >= .* = 21"),
        ("buffer_size", 61, "buffer_size=61: allowed is an integer, a multiple of num_envs=3"),
    ],
)
def test_what_sequences_cannot_do_is_refused(field, value, message):
    cfg = jaxpg.dqn.Config(**DQN | {"memory": "gru", field: value})
    with pytest.raises(ValueError, match=message):
        jaxpg.dqn.init(cfg, jaxpg.make("CartPole-v1"), jax.random.key(0))


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_a_policy_acts_with_its_carry_as_it_was_trained(name):
    agent, env = getattr(jaxpg, name), jaxpg.make("CartPolePositions-jaxpg")
    own = {"ppo": TINY | {"minibatches": 2}, "dqn": DQN}[name]
    cfg = agent.Config(**own, memory="gru")
    state = jax.jit(functools.partial(initial_state, agent, cfg, env))(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (4, 3, 2))
    carry, key = (), jax.random.key(2)
    act = jax.jit(lambda x, carry: agent.act(cfg, env, state, x, carry, key, True)[1])
    for x in obs:
        carry = act(x, carry)
    start = jnp.zeros((4, 3), bool)
    empty = jax.tree.map(lambda c: jnp.zeros_like(c)[None], carry)
    if name == "dqn":
        q, params = jaxpg.agents.dqn.discrete_q(cfg, env), state.learner.params
        whole = jax.jit(functools.partial(q.apply, method="remember"))
    else:
        whole, params = jax.jit(actor_critic(cfg, env)[0].apply), state.params
    *_, after = whole(params, obs, empty, start)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[-1], atol=1e-5), carry, after)
    nothing = {"episode/return": np.zeros(1)}
    policy = jaxpg.Policy.of(Result(agent, cfg, env, state, nothing, 1, 1, "done", 0.0))
    action, remembered = policy(np.zeros(2, np.float32))
    _, longer = policy(np.ones(2, np.float32), remembered)
    assert action.shape == ()
    assert not np.allclose(remembered[0], longer[0])


@pytest.mark.parametrize("kind", slow_of(KINDS, "lstm"))
def test_exported_policies_remember(kind, tmp_path):
    """Step by step, for a batch, from a file and where it is installed under ONNX."""
    env = jaxpg.make("CartPolePositions-jaxpg")
    cfg = jaxpg.a2c.Config(**TINY, memory=kind)
    like = jax.eval_shape(functools.partial(initial_state, jaxpg.a2c, cfg, env), jax.random.key(0))
    rng = np.random.default_rng(2)

    def drawn(x):
        return jnp.asarray(rng.normal(size=x.shape), x.dtype)

    state = like._replace(params=jax.tree.map(drawn, like.params))
    state = jax.tree.map(lambda x: x if isinstance(x, jax.Array) else jnp.zeros((), int), state)
    nothing = {"episode/return": np.zeros(1)}
    policy = jaxpg.Policy.of(Result(jaxpg.a2c, cfg, env, state, nothing, 1, 1, "done", 0.0))
    policy.export(tmp_path / "file", platforms=["cpu"])
    from_file = jaxpg.Policy.from_file(tmp_path / "file")
    session = None
    if find_spec("onnx") and find_spec("onnxruntime"):
        import onnxruntime

        policy.export_onnx(tmp_path / "model.onnx")
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        fed = [np.zeros((B, *x["shape"]), np.float32) for x in policy.about["carry"]]
    carry = other = None
    actions = []
    for obs in rng.normal(size=(6, B, 2)).astype(np.float32):
        action, carry = policy(obs, carry)
        again, other = from_file(obs, other)
        np.testing.assert_array_equal(again, action)
        for a, b in zip(carry, other, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
        if session:
            names = [x.name for x in session.get_inputs()]
            found, *fed = session.run(None, dict(zip(names, [obs, *fed], strict=True)))
            np.testing.assert_array_equal(found, action)
        actions.append(action)
    assert len(np.unique(actions)) > 1


def test_minibatches_of_sequences_have_to_divide_the_environments():
    env = jaxpg.make("CartPole-v1")
    cfg = jaxpg.ppo.Config(num_envs=2, minibatches=4, memory="gru")
    with pytest.raises(ValueError, match="minibatches=4: allowed is a divisor of num_envs=2"):
        jaxpg.ppo.init(cfg, env, jax.random.key(0))
    with pytest.raises(ValueError, match=r"memory='rnn': allowed is one of 'none', 'gru'"):
        jaxpg.ppo.init(jaxpg.ppo.Config(memory="rnn"), env, jax.random.key(0))


@pytest.mark.parametrize(
    ("memory", "length", "total"),
    [
        pytest.param("gru", 20, 300_000, marks=[pytest.mark.slow, pytest.mark.defaults]),
        pytest.param("gru", 3, 40_000, marks=pytest.mark.slow),
        pytest.param("none", 20, 40_000, marks=pytest.mark.slow),
    ],
)
def test_a_memory_is_what_a_chain_asks_for(memory, length, total):
    """Chance is a return of 0; whoever remembers the first observation gets 1.

    Of 20 steps half of the total are enough for 5 seeds of 6, all of it for each of 16.
    """
    env = jaxpg.make("MemoryChain-bsuite", memory_length=length)
    cfg = jaxpg.ppo.Config(
        num_envs=32, num_steps=63, learning_rate=3e-3, gamma=1.0, memory=memory, memory_size=16,
        hidden=(16,), clip_value=False,
    )  # fmt: skip
    keys = jax.random.split(jax.random.key(0), 2)
    result = run(jaxpg.ppo, cfg, env, keys, total_steps=total)
    returns = jaxpg.evaluate(jaxpg.ppo, result.cfg, env, result.state, keys, 64).mean(-1)
    assert (returns == 1).all() if memory == "gru" else (np.abs(returns) < 0.5).all(), returns
