"""Every estimator against its definition: the sum that the paper writes, never a recursion."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxpg.ops import losses, returns

# Few shapes, so that each estimator compiles a handful of times.
SHAPES = [(1, 1), (2, 3), (7, 2), (12, 3)]
STEPS = [1, 3, 20]
PROPERTY = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


class Data(NamedTuple):
    reward: np.ndarray  # [T, N]
    value: np.ndarray  # [T, N]
    next_value: np.ndarray  # [T, N] equals value[t + 1] except where an episode or the data end
    terminated: np.ndarray  # [T, N] bool
    truncated: np.ndarray  # [T, N] bool; may coincide with terminated
    gamma: np.float32
    lam: np.float32

    @property
    def ended(self):
        return self.terminated | self.truncated


ARRAYS = Data._fields[:5]


@st.composite
def rollouts(draw):
    shape = draw(st.sampled_from(SHAPES))

    def floats():  # thousandths: no subnormals, which XLA flushes to zero
        return np.float32(draw(arrays(np.int32, shape, elements=st.integers(-9999, 9999))) / 1000)

    def mask():
        some = arrays(bool, shape, elements=st.booleans())
        return draw(st.one_of(some, st.just(np.zeros(shape, bool)), st.just(np.ones(shape, bool))))

    def fraction():
        return np.float32(draw(st.sampled_from([0, 500, 950, 990, 1000]) | st.integers(0, 1000)))

    reward, value, next_value, terminated, truncated = floats(), floats(), floats(), mask(), mask()
    inside = ~(terminated | truncated)[:-1]
    next_value[:-1] = np.where(inside, value[1:], next_value[:-1])
    gamma, lam = fraction() / 1000, fraction() / 1000
    return Data(reward, value, next_value, terminated, truncated, gamma, lam)


def by_definition(formula, data):
    """formula(d, t, end) for each step of each environment, in float64.

    d: the data of one environment, [T] each; end: the last step of t's episode or of the data.
    """
    T, N = data.reward.shape
    out = np.zeros((T, N))
    for i in range(N):
        floats = [np.float64(x[:, i]) for x in data[:3]]
        masks = [x[:, i] for x in data[3:5]]
        d = Data(*floats, *masks, float(data.gamma), float(data.lam))
        for t in range(T):
            end = next((j for j in range(t, T) if d.ended[j]), T - 1)
            out[t, i] = formula(d, t, end)
    return out


def n_step(d, t, end, n):
    """sum_{k<n} gamma^k r_{t+k} + gamma^n v(s_{t+n}), with n cut to the steps there are."""
    n = min(n, end - t + 1)
    last = t + n - 1
    bootstrap = 0 if d.terminated[last] else d.next_value[last]
    return sum(d.gamma**k * d.reward[t + k] for k in range(n)) + d.gamma**n * bootstrap


def lambda_mixture(d, t, end):
    """(1 - lam) sum_{n<L} lam^(n-1) G^(n) + lam^(L-1) G^(L), Sutton & Barto eq. 12.3."""
    L = end - t + 1
    mixture = sum((1 - d.lam) * d.lam ** (n - 1) * n_step(d, t, end, n) for n in range(1, L))
    return mixture + d.lam ** (L - 1) * n_step(d, t, end, L)


def gae_sum(d, t, end):
    """sum_k (gamma lam)^k delta_{t+k}, Schulman et al. (2016) eq. 16."""

    def delta(j):
        return d.reward[j] + (0 if d.terminated[j] else d.gamma * d.next_value[j]) - d.value[j]

    return sum((d.gamma * d.lam) ** k * delta(t + k) for k in range(end - t + 1))


def first_step(d, t):
    return max((j + 1 for j in range(t) if d.ended[j]), default=0)


def whole_episode(d, t, end):
    start = first_step(d, t)
    return sum(d.gamma ** (j - start) * d.reward[j] for j in range(start, end + 1))


ESTIMATORS = {
    "reward_to_go": (
        lambda d: returns.reward_to_go(d.reward, d.terminated, d.truncated, d.gamma),
        lambda d, t, end: sum(d.gamma ** (j - t) * d.reward[j] for j in range(t, end + 1)),
    ),
    "reward_to_go bootstrapped": (
        lambda d: returns.reward_to_go(d.reward, d.terminated, d.truncated, d.gamma, d.next_value),
        lambda d, t, end: n_step(d, t, end, 10**6),
    ),
    "episode_return": (
        lambda d: returns.episode_return(d.reward, d.ended, d.gamma),
        whole_episode,
    ),
    "lambda_return": (
        lambda d: returns.lambda_return(
            d.reward, d.next_value, d.terminated, d.truncated, d.gamma, d.lam
        ),
        lambda_mixture,
    ),
    "gae": (
        lambda d: returns.gae(
            d.reward, d.value, d.next_value, d.terminated, d.truncated, d.gamma, d.lam
        ),
        gae_sum,
    ),
    "episode_time": (
        lambda d: returns.episode_time(d.ended),
        lambda d, t, end: t - first_step(d, t),
    ),
    "complete": (lambda d: returns.complete(d.ended), lambda d, t, end: d.ended[end]),
} | {
    f"n_step_return {n}": (
        lambda d, n=n: returns.n_step_return(
            d.reward, d.next_value, d.terminated, d.truncated, d.gamma, n
        ),
        lambda d, t, end, n=n: n_step(d, t, end, n),
    )
    for n in STEPS
}
JITTED = {name: jax.jit(estimator) for name, (estimator, _) in ESTIMATORS.items()}


def assert_close(actual, expected, data):
    # Terms of either sign cancel: the error to expect is relative to the terms, not to the sum.
    size = (
        np.abs(data.reward).sum(0).max() + np.abs(data.value).max() + np.abs(data.next_value).max()
    )
    np.testing.assert_allclose(np.float64(actual), expected, rtol=1e-5, atol=1e-6 * size)


@pytest.mark.parametrize("name", ESTIMATORS)
@given(data=rollouts())
@PROPERTY
def test_estimator_is_the_papers_sum(name, data):
    assert_close(JITTED[name](data), by_definition(ESTIMATORS[name][1], data), data)


@given(data=rollouts())
@PROPERTY
def test_estimators_agree_where_theory_says_so(data):
    run = {name: lambda d, f=f: np.float64(f(d)) for name, f in JITTED.items()}
    assert_close(run["gae"](data), run["lambda_return"](data) - data.value, data)

    one = data._replace(lam=np.float32(1))
    monte_carlo = run["reward_to_go bootstrapped"](data)
    assert_close(run["lambda_return"](one), monte_carlo, data)
    assert_close(run["gae"](one), monte_carlo - data.value, data)
    assert_close(run["n_step_return 20"](data), monte_carlo, data)

    zero = data._replace(lam=np.float32(0))
    td_target = data.reward + data.gamma * ~data.terminated * data.next_value
    assert_close(run["n_step_return 1"](data), td_target, data)
    assert_close(run["lambda_return"](zero), td_target, data)


@given(data=rollouts())
@PROPERTY
def test_no_episode_sees_another(data):
    """What lies behind an episode's end, before its start or in another environment is not seen."""
    T, N = data.reward.shape
    t, i = T // 2, N - 1
    end = next((j for j in range(t, T) if data.ended[j, i]), T - 1)
    start = max((j + 1 for j in range(t) if data.ended[j, i]), default=0)
    other = np.ones((T, N), bool)
    other[start : end + 1, i] = False
    floats = ("reward", "value", "next_value")
    poisoned = data._replace(
        **{k: np.where(other, np.float32(1e6), getattr(data, k)) for k in floats}
    )
    for name in ("reward_to_go bootstrapped", "lambda_return", "gae", "n_step_return 3"):
        clean, dirty = JITTED[name](data)[t, i], JITTED[name](poisoned)[t, i]
        assert clean == dirty, name


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        (False, False, (6.905343, 5.757940, 3.48)),  # the data end: bootstraps from 2
        (False, True, (6.905343, 5.757940, 3.48)),  # so does a truncation
        (True, False, (5.153953, 3.895750, 1.5)),  # a termination does not
        (True, True, (5.153953, 3.895750, 1.5)),  # and it wins over a truncation
    ],
)
def test_gae_closed_form(terminated, truncated, expected):
    """By hand: deltas 1.49, 2.485 and 3.48 (or 1.5), decay 0.9405. On [T], without an env axis."""
    floats = np.float32([[1, 2, 3], [0.5, 1, 1.5], [1, 1.5, 2]])
    last = np.array([False, False, True])
    data = Data(*floats, last & terminated, last & truncated, np.float32(0.99), np.float32(0.95))
    np.testing.assert_allclose(JITTED["gae"](data), expected, rtol=1e-6)


def test_truncated_reward_stream_is_worth_its_limit():
    """Reward 1 for ever, cut every 3 steps: with the true value 1 / (1 - gamma) nothing changes."""
    ones, none = np.ones((12, 3), np.float32), np.zeros((12, 3), bool)
    cut = none | (np.arange(12)[:, None] % 3 == 2)
    data = Data(ones, 10 * ones, 10 * ones, none, cut, np.float32(0.9), np.float32(0.7))
    for name in ("reward_to_go bootstrapped", "lambda_return", "n_step_return 3"):
        np.testing.assert_allclose(JITTED[name](data), 10 * ones, rtol=1e-6)
    np.testing.assert_allclose(JITTED["gae"](data), 0 * ones, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name[-1] not in "10"])
def test_more_axes_are_more_environments(name):
    """[T, A, N] is [T, A * N] reshaped; so are the lanes of a vmap, each with its own gamma."""
    rng = np.random.default_rng(0)
    floats = [rng.normal(size=(7, 2, 3)).astype(np.float32) for _ in range(3)]
    masks = [rng.random((7, 2, 3)) < 0.2 for _ in range(2)]
    wide = Data(*floats, *masks, np.float32(0.9), np.float32(0.8))
    np.testing.assert_allclose(
        JITTED[name](wide).reshape(7, 6),
        JITTED[name](wide._replace(**{k: getattr(wide, k).reshape(7, 6) for k in ARRAYS})),
        rtol=1e-6,
    )

    axes = Data(*(1 if k in ARRAYS else None for k in Data._fields))._replace(gamma=0)
    lanes = jax.jit(jax.vmap(ESTIMATORS[name][0], (axes,)))(
        wide._replace(gamma=np.float32([0.5, 1]))
    )
    last = wide._replace(**{k: getattr(wide, k)[:, 1] for k in ARRAYS}, gamma=np.float32(1))
    np.testing.assert_allclose(lanes[1], by_definition(ESTIMATORS[name][1], last), rtol=1e-4)


@pytest.mark.parametrize(
    ("estimator", "arguments", "after"),
    [
        (returns.reward_to_go, 3, (0.9,)),
        (returns.episode_return, 2, (0.9,)),
        (returns.lambda_return, 4, (0.9, 0.9)),
        (returns.n_step_return, 4, (0.9, 2)),
        (returns.gae, 5, (0.9, 0.9)),
    ],
)
def test_shapes_are_asserted_at_the_door(estimator, arguments, after):
    """A [T] beside a [T, 1] would broadcast to [T, T] in silence."""
    for i in range(arguments):
        wrong = [np.zeros(4 if i == j else (4, 1), bool if j else float) for j in range(arguments)]
        with pytest.raises(AssertionError):
            estimator(*wrong, *after)


@pytest.mark.parametrize(
    ("actions", "rewards", "to_go", "gradient"),
    [((1, 0, 0), (0, 0, 1), (1, 1, 1), -2.0), ((1, 0, 1), (1, 0, 1), (2, 1, 1), 4.0)],
)
def test_reinforce_quiz(actions, rewards, to_go, gradient):
    """A coin with p(1) = theta = 0.5: its score is +2 for a 1 and -2 for a 0."""
    actions, none = jnp.array(actions), jnp.zeros(3, bool)
    advantage = returns.reward_to_go(jnp.array(rewards, float), none, none, 1.0)
    np.testing.assert_array_equal(advantage, to_go)

    def loss(theta):
        log_prob = jnp.where(actions == 1, jnp.log(theta), jnp.log(1 - theta))
        return losses.policy_gradient(log_prob, advantage)

    # The loss is a mean over the steps, the quiz asks for the sum.
    np.testing.assert_allclose(-3 * jax.grad(loss)(0.5), gradient, rtol=1e-6)
