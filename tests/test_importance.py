"""Off-policy estimators against the papers' sums, enumerated episodes and known fixed points."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxpg.ops import importance, returns

SHAPES = [(1, 1), (2, 3), (7, 2)]  # few, so that each function compiles a handful of times
PROPERTY = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
OPE = ["ordinary", "weighted", "per_decision", "weighted_per_decision"]
WHOLE = {name: jax.jit(getattr(importance, name)) for name in OPE}
VTRACE, RETRACE = jax.jit(importance.vtrace), jax.jit(importance.retrace)
LAMBDA_RETURN = jax.jit(returns.lambda_return)
ESS = jax.jit(importance.effective_sample_size)

# Two states and an end, two actions. Every probability is a number of quarters.
P = np.array([[[2, 1, 1], [1, 3, 0]], [[0, 2, 2], [3, 1, 0]]]) / 4  # [state, action, next]
R = np.array([[1.0, -2.0], [3.0, 0.5]])  # [state, action]
MU = np.array([[0.25, 0.75], [0.75, 0.25]])  # [state, action]
PI = np.array([[0.9, 0.1], [0.05, 0.95]])
END = 2
LOG_RATIO = np.log(PI / MU)
GAMMA = 0.9


@pytest.fixture(scope="module", autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def close(actual, expected, tol=1e-9):
    np.testing.assert_allclose(actual, expected, rtol=tol, atol=tol)


class Data(NamedTuple):
    log_ratio: np.ndarray  # [T, N]
    reward: np.ndarray  # [T, N]
    value: np.ndarray  # [T, N]; of the action for Retrace
    next_value: np.ndarray  # [T, N]
    terminated: np.ndarray  # [T, N] bool
    truncated: np.ndarray  # [T, N] bool; may coincide with terminated
    gamma: float
    rho_bar: float
    c_bar: float
    lam: float


@st.composite
def rollouts(draw, on_policy=False):
    shape = draw(st.sampled_from(SHAPES))

    def floats(limit):
        whole = arrays(np.int32, shape, elements=st.integers(-1000 * limit, 1000 * limit))
        return draw(whole) / 1000

    def mask():
        some = arrays(bool, shape, elements=st.integers(0, 3).map(lambda i: i == 0))
        return draw(st.one_of(some, st.just(np.zeros(shape, bool))))

    # Ratios of at most e: their products leave float64 enough digits for terms that cancel.
    log_ratio = np.zeros(shape) if on_policy else floats(1)
    reward, value, next_value = floats(9), floats(9), floats(9)
    terminated, truncated = mask(), mask()
    inside = ~(terminated | truncated)[:-1]
    next_value[:-1] = np.where(inside, value[1:], next_value[:-1])
    gamma, lam = (draw(st.sampled_from([0.0, 0.5, 0.95, 1.0])) for _ in range(2))
    bars = [1.0, 2.0, math.inf] + ([] if on_policy else [0.0, 0.5])
    rho_bar, c_bar = (draw(st.sampled_from(bars)) for _ in range(2))
    return Data(
        log_ratio, reward, value, next_value, terminated, truncated, gamma, rho_bar, c_bar, lam
    )


def by_definition(formula, data):
    """formula(d, t, end) for each step of each environment; d: the data of one environment."""
    T, N = data.reward.shape
    out = np.zeros((T, N))
    for i in range(N):
        d = Data(*(x[:, i] for x in data[:6]), *data[6:])
        ended = d.terminated | d.truncated
        for t in range(T):
            out[t, i] = formula(d, t, next((j for j in range(t, T) if ended[j]), T - 1))
    return out


def delta(d, t):
    return d.reward[t] + (0 if d.terminated[t] else d.gamma * d.next_value[t]) - d.value[t]


def clipped(d, t, bar):
    return min(bar, math.exp(d.log_ratio[t]))


def vtrace_sum(d, t, end):
    """V(x_t) + sum_k gamma^(k-t) c_t .. c_{k-1} rho_k delta_k, Espeholt et al. (2018) eq. 1."""
    total = d.value[t]
    for k in range(t, end + 1):
        trace = math.prod(d.lam * clipped(d, i, d.c_bar) for i in range(t, k))
        total += d.gamma ** (k - t) * trace * clipped(d, k, d.rho_bar) * delta(d, k)
    return total


def vtrace_advantage(d, t, end):
    """Section 4.2, with the lambda of remark 2: what follows is worth (1 - lam) V + lam v."""
    ahead = d.next_value[t]
    if t < end:
        ahead = (1 - d.lam) * ahead + d.lam * vtrace_sum(d, t + 1, end)
    target = d.reward[t] + (0 if d.terminated[t] else d.gamma * ahead)
    return clipped(d, t, d.rho_bar) * (target - d.value[t])


def retrace_sum(d, t, end):
    """Q + sum_k gamma^(k-t) c_{t+1} .. c_k delta_k, Munos et al. (2016) eq. 3."""
    total = d.value[t]
    for k in range(t, end + 1):
        trace = math.prod(d.lam * clipped(d, i, 1) for i in range(t + 1, k + 1))
        total += d.gamma ** (k - t) * trace * delta(d, k)
    return total


@given(data=rollouts())
@PROPERTY
def test_traces_are_the_papers_sums(data):
    target, advantage = VTRACE(*data)
    close(target, by_definition(vtrace_sum, data))
    close(advantage, by_definition(vtrace_advantage, data))
    close(RETRACE(*data[:7], data.lam), by_definition(retrace_sum, data))


@given(data=rollouts(on_policy=True))
@PROPERTY
def test_on_policy_traces_are_the_returns(data):
    _, reward, value, next_value, terminated, truncated, gamma, *_ = data
    ends = (terminated, truncated, gamma)
    target, advantage = VTRACE(*data)
    close(target, LAMBDA_RETURN(reward, next_value, *ends, data.lam))
    close(advantage, target - value)  # at every lambda

    to_the_end = LAMBDA_RETURN(reward, next_value, *ends, 1.0)
    close(VTRACE(*data._replace(lam=1.0)).target, to_the_end)
    # Here Q(x_{t+1}, a_{t+1}) is its mean: no Q is left but the last.
    close(RETRACE(*data[:7], 1.0), to_the_end)


@given(data=rollouts())
@PROPERTY
def test_lambda_means_the_same_for_policy_and_critic(data):
    """At 0 both look one step ahead; at 1 the policy sees the critic's own target, as published."""
    ahead = data.gamma * np.where(data.terminated, 0, data.next_value)
    one_step = data.reward + ahead - data.value
    rho = np.minimum(np.exp(data.log_ratio), data.rho_bar)
    target, advantage = VTRACE(*data._replace(lam=0.0))
    close(advantage, rho * one_step)
    close(target - data.value, rho * one_step)

    target, advantage = VTRACE(*data._replace(lam=1.0))
    last = (data.terminated | data.truncated) | (np.arange(len(target)) == len(target) - 1)[:, None]
    follows = np.where(last, data.next_value, np.roll(target, -1, 0))
    published = data.reward + data.gamma * np.where(data.terminated, 0, follows) - data.value
    close(advantage, rho * published)


def test_a_truncated_stream_is_worth_its_limit():
    """Reward 1 for ever, cut every 3 steps: off-policy too, the true value does not move."""
    rng = np.random.default_rng(0)
    ones, none = np.ones((12, 3)), np.zeros((12, 3), bool)
    cut = none | (np.arange(12)[:, None] % 3 == 2)
    args = (rng.normal(size=(12, 3)), ones, 10 * ones, 10 * ones, none, cut, 0.9)
    target, advantage = VTRACE(*args)
    close(target, 10 * ones)
    close(advantage, 0 * ones)
    close(RETRACE(*args), 10 * ones)


@pytest.mark.parametrize("c_bar", [0.0, 1.0, math.inf])
@pytest.mark.parametrize(
    ("rho_bar", "expected"), [(1.0, 5 / 6), (0.5, 5 / 7), (1e-3, 0.5), (1e9, 0.9), (math.inf, 0.9)]
)
def test_vtrace_fixed_point_closed_form(rho_bar, c_bar, expected):
    """One state, two actions that pay 1 and 0: pi_rho_bar = min(rho_bar mu, pi), normalised.

    The expectation over three uniform actions is affine in V.
    """
    action = np.indices((2, 2, 2)).reshape(3, 8)
    log_ratio, reward = np.log([1.8, 0.2])[action], 1.0 - action
    none = np.zeros((3, 8), bool)

    def expected_target(v):
        v = np.full((3, 8), v)
        target = VTRACE(log_ratio, reward, v, v, none, none, GAMMA, rho_bar, c_bar)[0]
        return target[0].mean()

    at_zero = expected_target(0.0)
    close(at_zero / (1 - (expected_target(1.0) - at_zero)), expected / (1 - GAMMA))


def walks(state, steps, policy=MU):
    """Every walk of mu: its probability, and its (state, action, next state) up to the end.

    policy: [state, action] of the first step.
    """
    if steps == 0 or state == END:
        yield 1.0, []
        return
    for action in np.flatnonzero(policy[state]):
        for after in np.flatnonzero(P[state, action]):
            p = policy[state, action] * P[state, action, after]
            for q, rest in walks(after, steps - 1):
                yield p * q, [(state, action, after), *rest]


class Episodes(NamedTuple):
    p: np.ndarray  # [K] probability under mu
    state: np.ndarray  # [T, K]
    action: np.ndarray  # [T, K]
    mask: np.ndarray  # [T, K] bool: the episode is not over


def episodes():
    """Every episode of at most three steps from state 0."""
    p, steps = zip(*walks(0, 3), strict=True)
    state, action = np.zeros((2, 3, len(p)), int)
    mask = np.zeros((3, len(p)), bool)
    for k, walk in enumerate(steps):
        for t, (s, a, _) in enumerate(walk):
            state[t, k], action[t, k], mask[t, k] = s, a, True
    return Episodes(np.array(p), state, action, mask)


def exact_value(pi):
    """Expected discounted return of three steps from state 0."""
    value = np.zeros(3)
    for _ in range(3):
        q = R + GAMMA * P @ value
        value = jnp.append((pi * q).sum(1), 0.0)
    return value[0]


@pytest.mark.parametrize("name", ["ordinary", "per_decision"])
def test_unbiased(name):
    """Over every episode by its probability under mu; and so is the gradient in pi."""
    e = episodes()
    close(e.p.sum(), 1)
    reward = np.where(e.mask, R[e.state, e.action], np.nan)
    assert 0 < e.mask[-1].mean() < 1, "episodes of several lengths"

    @jax.jit
    def expected(logits):
        log_ratio = (jax.nn.log_softmax(logits) - np.log(MU))[e.state, e.action]
        one = jax.vmap(lambda x, r, m: WHOLE[name](x[:, None], r[:, None], GAMMA, m[:, None]), 1)
        return e.p @ one(log_ratio, reward, e.mask)

    exact = exact_value(PI)
    close(expected(jnp.log(PI)), exact)
    assert abs(exact - exact_value(MU)) > 0.1, "the two policies differ"
    gradient = jax.grad(lambda logits: exact_value(jax.nn.softmax(logits)))(jnp.log(PI))
    close(jax.grad(expected)(jnp.log(PI)), gradient)


def test_per_decision_has_the_smaller_variance():
    e = episodes()
    log_ratio, reward = LOG_RATIO[e.state, e.action], R[e.state, e.action]

    def variance(name):
        one = jax.vmap(lambda x, r, m: WHOLE[name](x[:, None], r[:, None], GAMMA, m[:, None]), 1)
        estimate = np.asarray(one(log_ratio, reward, e.mask))
        return e.p @ estimate**2 - (e.p @ estimate) ** 2

    assert variance("per_decision") < 0.8 * variance("ordinary")


@pytest.mark.parametrize("name", OPE)
def test_consistent(name):
    """With every episode as often as mu makes it, all four are exact."""
    e = episodes()
    often = 4**6 * e.p
    assert (often == often.round()).all()
    k = np.random.default_rng(0).permutation(np.repeat(np.arange(len(e.p)), often.astype(int)))
    state, action, mask = e.state[:, k], e.action[:, k], e.mask[:, k]
    estimate = WHOLE[name](LOG_RATIO[state, action], R[state, action], GAMMA, mask)
    close(estimate, exact_value(PI))


def by_loops(name, log_ratio, reward, gamma, length):
    """Sutton & Barto (2018) eq. 5.5, 5.6 and section 5.9; episodes [T, N] of `length` [N] steps.

    The weighted per-decision estimate is a weighted mean for each step, over all episodes.
    """
    ratio, present = np.exp(log_ratio), [n for n in range(len(length)) if length[n]]

    def weight(n, t):
        return math.prod(ratio[i, n] for i in range(min(t + 1, length[n])))

    def over(top, bottom):
        return top / bottom if bottom else 0.0

    def term(n, t):
        return gamma**t * reward[t, n] if t < length[n] else 0.0

    whole = {n: (weight(n, length[n]), sum(term(n, t) for t in range(length[n]))) for n in present}
    steps = range(len(reward))
    total = sum(w * g for w, g in whole.values())
    if name == "ordinary":
        return over(total, len(present))
    if name == "weighted":
        return over(total, sum(w for w, _ in whole.values()))
    each = [sum(weight(n, t) * term(n, t) for n in present) for t in steps]
    if name == "per_decision":
        return over(sum(each), len(present))
    return sum(over(each[t], sum(weight(n, t) for n in present)) for t in steps)


@given(data=rollouts(), seed=st.integers(0, 99))
@PROPERTY
def test_whole_episodes_are_the_books_sums(data, seed):
    T, N = data.reward.shape
    length = np.random.default_rng(seed).integers(0, T + 1, N)
    mask = np.arange(T)[:, None] < length
    hidden = [np.where(mask, x, np.nan) for x in (data.log_ratio, data.reward)]
    never = np.where(data.truncated, -np.inf, data.log_ratio)  # pi does not do this
    for name, estimate in WHOLE.items():
        expected = by_loops(name, data.log_ratio, data.reward, data.gamma, length)
        close(estimate(*hidden, data.gamma, mask), expected)
        expected = by_loops(name, never, data.reward, data.gamma, np.full(N, T))
        close(estimate(never, data.reward, data.gamma, np.ones((T, N), bool)), expected)


@pytest.mark.parametrize("name", OPE)
def test_identical_policies_give_the_mean_return(name):
    reward = np.random.default_rng(0).normal(size=(5, 4))
    mean = (GAMMA ** np.arange(5) @ reward).mean()
    close(WHOLE[name](np.zeros((5, 4)), reward, GAMMA), mean)


@pytest.mark.parametrize("name", ["weighted", "weighted_per_decision"])
def test_weighted_needs_only_relative_weights(name):
    """A common factor, were it e^1000, cancels; of one episode nothing but its return is left."""
    log_ratio, reward = np.random.default_rng(0).normal(size=(2, 5, 4))
    plain = WHOLE[name](log_ratio, reward, GAMMA)
    for shift in (-1000, 1000):
        shifted = log_ratio + shift * (np.arange(5) == 0)[:, None]
        close(WHOLE[name](shifted, reward, GAMMA), plain)
    one = WHOLE[name](log_ratio[:, :1], reward[:, :1], GAMMA)
    close(one, GAMMA ** np.arange(5) @ reward[:, 0])
    assert WHOLE[name](np.full((5, 4), -np.inf), reward, GAMMA) == 0


@pytest.mark.parametrize("name", ["ordinary", "per_decision"])
def test_a_weight_that_overflows_times_nothing_is_nothing(name):
    log_ratio, reward = np.zeros((3, 2)), np.ones((3, 2))
    log_ratio[0, 0], reward[:, 0] = 1e4, 0
    close(WHOLE[name](log_ratio, reward, 1.0), 1.5)
    slope = jax.grad(WHOLE[name])(log_ratio, reward, 1.0)
    assert np.isfinite(slope).all()
    assert WHOLE[name](log_ratio, reward + 1, 1.0) == np.inf


@given(
    weight=arrays(np.int32, 6, elements=st.integers(0, 1000)),
    shift=st.sampled_from([-1000.0, 0.0, 1000.0]),
)
@PROPERTY
def test_effective_sample_size(weight, shift):
    """(sum w)^2 / sum w^2, whatever the common factor; 0 without any weight."""
    with np.errstate(divide="ignore"):
        log_weight = np.log(weight)
    squares = float(np.sum(weight.astype(float) ** 2))
    expected = weight.sum() ** 2 / squares if squares else 0
    close(ESS(log_weight + shift), expected, 1e-8)


def test_effective_sample_size_at_its_ends():
    for level in (-1000.0, 0.0, 1000.0):
        close(ESS(np.full(6, level)), 6)
    close(ESS(np.array([1000.0, 0, -1000, 3, 2, 1])), 1)


class Pieces(NamedTuple):
    """Every piece of three steps of mu from each state and action, for Retrace."""

    p: np.ndarray  # [K]
    start: np.ndarray  # [K] index of (state, action) among the four
    state: np.ndarray  # [T, K]
    action: np.ndarray  # [T, K]
    after: np.ndarray  # [T, K]
    truncated: np.ndarray  # [T, K] bool


def pieces():
    found = [
        (p, 2 * s + a, steps)
        for s in (0, 1) for a in (0, 1) for p, steps in walks(s, 3, np.eye(2)[[a, a]])
    ]  # fmt: skip
    p, start, steps = zip(*found, strict=True)
    state, action, after = np.ones((3, 3, len(p)), int)  # what follows an end is another episode
    truncated = np.zeros(state.shape, bool)
    for k, walk in enumerate(steps):
        truncated[1, k] = len(walk) > 2 and walk[1][2] == 1
        for t, step in enumerate(walk[: 2 if truncated[1, k] else 3]):
            state[t, k], action[t, k], after[t, k] = step
    return Pieces(np.array(p), np.array(start), state, action, after, truncated)


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_retrace_expects_q_of_pi_far_off_policy(lam):
    """From any Q, by iterating the operator; some pieces terminate and some are truncated."""
    x = pieces()
    transition = GAMMA * np.einsum("sat,tb->satb", P[:, :, :END], PI).reshape(4, 4)
    exact = np.linalg.solve(np.eye(4) - transition, R.reshape(4))

    @jax.jit
    def operator(q):
        table = q.reshape(2, 2)
        value = jnp.append((PI * table).sum(1), 1e3)  # nobody asks what the end is worth
        target = importance.retrace(
            LOG_RATIO[x.state, x.action], R[x.state, x.action], table[x.state, x.action],
            value[x.after], x.after == END, x.truncated, GAMMA, lam,
        )  # fmt: skip
        return jnp.zeros(4).at[x.start].add(x.p * target[0])

    close(operator(exact), exact)
    close(jax.lax.fori_loop(0, 300, lambda _, q: operator(q), jnp.zeros(4)), exact)


EXTREME = np.array([[1000.0, -1000, -np.inf]] * 4)


def test_extreme_ratios_are_clipped():
    """A ratio of e^1000 is the bar; one of e^-1000 or 0 leaves the value as it is."""
    reward, value, next_value = np.random.default_rng(0).normal(size=(3, 4, 3))
    none = np.zeros((4, 3), bool)
    rest = (reward, value, next_value, none, none, GAMMA)
    target, advantage = VTRACE(EXTREME, *rest)
    on_policy = VTRACE(np.zeros((4, 3)), *rest)
    close(target[:, 0], on_policy.target[:, 0])
    close(advantage[:, 0], on_policy.advantage[:, 0])
    close(target[:, 1:], value[:, 1:])
    close(advantage[:, 1:], 0)
    close(RETRACE(EXTREME, *rest)[:, 0], RETRACE(np.zeros((4, 3)), *rest)[:, 0])
    close(RETRACE(EXTREME, *rest)[:, 1:], (reward + GAMMA * next_value)[:, 1:])


def test_infinite_bars_make_no_nan_where_there_is_no_error():
    ones, none = np.ones((4, 3)), np.zeros((4, 3), bool)
    target, advantage = VTRACE(EXTREME, 0 * ones, ones, ones, none, none, 1.0, np.inf, np.inf)
    close(target, 1)
    close(advantage, 0)


def test_no_gradient_flows_out_of_a_target():
    floats, none = np.random.default_rng(0).normal(size=(4, 5)), np.zeros(5, bool)

    def total(args, function):
        log_ratio, reward, value, next_value, *numbers = args
        out = function(log_ratio, reward, value, next_value, none, none, *numbers)
        return sum(x.sum() for x in jax.tree.leaves(out))

    for function, numbers in ((VTRACE, (0.9, 1.5, 1.2, 0.8)), (RETRACE, (0.9, 0.8))):
        args = (*floats, *numbers)
        assert np.isfinite(total(args, function))
        for slope in jax.grad(total)(args, function):
            assert not np.any(slope)


def test_axes_lanes_and_dtypes():
    """More axes are more environments; numbers may be traced; float32 stays it under x64."""
    rng = np.random.default_rng(0)
    floats = rng.normal(size=(4, 7, 2, 3)).astype(np.float32)
    args = (*map(jnp.asarray, floats), *jnp.asarray(rng.random((2, 7, 2, 3)) < 0.2))
    flat = [x.reshape(7, 6) for x in args]
    gamma, lam = jnp.array([[0.9, 0.5], [0.8, 1.0]], jnp.float32)
    bars = jnp.array([[1.5, 2.0], [1.0, 0.3]], jnp.float32)
    for function, numbers in ((VTRACE, (gamma, *bars, lam)), (RETRACE, (gamma, lam))):
        wide, narrow = jax.tree.leaves(function(*args, 0.9)), function(*flat, 0.9)
        for a, b in zip(wide, jax.tree.leaves(narrow), strict=True):
            assert a.dtype == jnp.float32
            close(a.reshape(7, 6), b, 1e-5)
        lanes = jax.jit(jax.vmap(partial(function, *args)))(*numbers)
        second = function(*args, *(float(x[1]) for x in numbers))
        for a, b in zip(jax.tree.leaves(lanes), jax.tree.leaves(second), strict=True):
            assert a.dtype == jnp.float32
            close(a[1], b, 1e-5)
    for estimate in WHOLE.values():
        mask = jnp.ones((7, 6), bool)
        assert estimate(flat[0], flat[1], 0.9, mask).dtype == jnp.float32
        lanes = jax.vmap(estimate, (2, 2, None, None))(args[0], args[1], 0.9, mask[:, :2])
        close(lanes[1], estimate(args[0][..., 1], args[1][..., 1], 0.9), 1e-5)
    assert ESS(flat[0][0]).dtype == jnp.float32


@pytest.mark.parametrize(
    ("function", "arguments", "after"),
    [
        (importance.vtrace, 6, (0.9,)),
        (importance.retrace, 6, (0.9,)),
        *((getattr(importance, name), 2, (0.9,)) for name in OPE),
        *((getattr(importance, name), 2, (0.9, np.ones((4, 2), bool))) for name in OPE),
    ],
)
def test_shapes_are_asserted_at_the_door(function, arguments, after):
    """A [T] beside a [T, 1] would broadcast to [T, T] in silence."""
    for i in range(arguments):
        wrong = [np.zeros(4 if i == j else (4, 1), bool if j > 3 else float)
                 for j in range(arguments)]  # fmt: skip
        with pytest.raises(AssertionError):
            function(*wrong, *after)
    with pytest.raises(AssertionError):
        importance.effective_sample_size(np.zeros((4, 1)))
