"""The world of sixteen trajectories of lessons 3 and 4, enumerated in 64 bits. A gradient is that
of an expected value by differences: neither scores nor Bellman's equation have a part in it."""

import itertools

import numpy as np

GAMMA = 0.9
THETA = np.array([[0.2, -0.1], [0.5, 0.0], [-0.3, 0.4]])
CHANCE = {  # of the states that follow, by state and action
    (0, 0): {1: 0.8, 2: 0.2}, (0, 1): {1: 0.3, 2: 0.7}, (1, 0): {2: 0.9, 3: 0.1},
    (1, 1): {2: 0.4, 3: 0.6}, (2, 0): {3: 1.0}, (2, 1): {3: 1.0},
}  # fmt: skip
REWARD = {(0, 0): 1, (0, 1): 2, (1, 0): 0, (1, 1): 3, (2, 0): 4, (2, 1): 1}


def softmax(theta):
    return np.exp(theta) / np.exp(theta).sum(-1, keepdims=True)


def episodes(theta=THETA):
    """Probability and steps (s, a, r) of each trajectory: of all choices of an action and of what
    follows, those that can happen, up to the end."""
    policy, every = softmax(theta), {}
    for choices in itertools.product(itertools.product(range(2), (1, 2, 3)), repeat=3):
        s, p, path = 0, 1.0, ()
        for a, ahead in choices:
            if s < 3:
                p *= policy[s, a] * CHANCE[s, a].get(ahead, 0.0)
                path, s = (*path, (s, a, ahead)), ahead
        if p > 0:
            every[path] = p
    return [(p, [(s, a, REWARD[s, a]) for s, a, _ in path]) for path, p in every.items()]


def expected(f, theta=THETA):
    """Of f(steps)."""
    return sum(p * f(steps) for p, steps in episodes(theta))


def to_go(steps, t=0, gamma=GAMMA):
    return sum(gamma**k * r for k, (_, _, r) in enumerate(steps[t:]))


def discounted_to_go(steps, t):
    return GAMMA**t * to_go(steps, t)


def differences(f, theta=THETA, h=1e-4):
    """The derivative of f(theta) [...]: [..., 3, 2]."""
    slopes = []
    for i in np.ndindex(theta.shape):
        nudge = np.zeros(theta.shape)
        nudge[i] = h
        ends = [np.asarray(f(theta + k * nudge)) for k in (-2, -1, 1, 2)]
        slopes.append(np.tensordot([1, -8, 8, -1], ends, 1) / (12 * h))
    return np.stack(slopes, -1).reshape(*slopes[0].shape, *theta.shape)


def estimate(steps, weight, theta=THETA):
    """sum_t weight(steps, t) grad log pi(a_t | s_t): [3, 2]."""
    out = np.zeros((3, 2))
    for t, (s, a, _) in enumerate(steps):
        out[s] += weight(steps, t) * (np.eye(2)[a] - softmax(theta)[s])
    return out


def moments(weight):
    """Mean [3, 2] and variance [] of that estimate."""
    mean = expected(lambda x: estimate(x, weight))
    return mean, expected(lambda x: np.square(estimate(x, weight) - mean).sum())


def mean_to_go(*place):
    """Mean reward to go, discounted from then on, after a state, or a state and an action."""
    n, total = len(place), np.zeros(2)
    for p, steps in episodes():
        for t, step in enumerate(steps):
            total += p * (step[:n] == place) * np.array([1, to_go(steps, t)])
    return total[1] / total[0]


def vertex(f):
    """Where the parabola f is least."""
    low, mid, high = f(-1.0), f(0.0), f(1.0)
    return (low - high) / (2 * (low - 2 * mid + high))
