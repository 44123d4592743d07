"""Equations of options under call and return, Sutton, Precup & Singh (1999); Bacon, Harb & Precup
(2017), arXiv:1609.05140.

An option has a policy of its own, and ends in a state s with probability beta(s). A policy over
options picks the next one, by Q(s, omega), what it is worth to begin option omega in s. Arrays
over options are [..., O]; `option` is [...] int32.

A deliberation cost (Harb et al. 2018, arXiv:1709.04571) is paid whenever an option ends within an
episode, so that options are worth keeping up.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient

from jaxpg.core.types import Array, Key
from jaxpg.ops.dynamic_programming import greedy_policy


def of_option(x: Array, option: Array) -> Array:
    """Entries of x [..., O, *rest] for the options [...]: [..., *rest]."""
    ours = option[..., None] == np.arange(x.shape[option.ndim])  # a gather costs more
    ours = ours.reshape(*ours.shape, *[1] * (x.ndim - ours.ndim))
    return jnp.where(ours, x, 0).sum(option.ndim)


def over_options(q: Array, kind: str, epsilon, temperature) -> Array:
    """The policy over options [..., O] by their values: "epsilon_greedy", or "softmax" of
    Q / temperature."""
    if kind == "softmax":
        return jax.nn.softmax(q / temperature)
    return greedy_policy(q, epsilon)


def log_prob_of(choice: Array, option: Array) -> Array:
    """Log-probability [...] of options under the softmax of logits `choice` [..., O]."""
    return of_option(jax.nn.log_softmax(choice), option)


def entropy_of(choice: Array) -> Array:
    """Entropy [...] (nats) of the softmax of logits `choice` [..., O]."""
    log_p = jax.nn.log_softmax(choice)
    return -(jnp.exp(log_p) * log_p).sum(-1)


def state_value(q: Array, policy: Array) -> Array:
    """V(s) [...] where the policy over options [..., O] picks the next one."""
    chex.assert_equal_shape([q, policy])
    return (policy * q).sum(-1)


def termination_advantage(q: Array, policy: Array, option: Array, cost) -> Array:
    """Advantage of going on with an option over ending it: Q(s, omega) - V(s) + cost. [...]

    arXiv:1609.05140 sec. 3.2, and arXiv:1709.04571 eq. 10 for the cost.
    """
    return of_option(q, option) - state_value(q, policy) + cost


def upon_arrival(q: Array, policy: Array, beta: Array, option: Array, cost) -> Array:
    """Value of a state that is reached under an option, arXiv:1609.05140 eq. 3. [...]

    U(omega, s) = (1 - beta) Q(s, omega) + beta (V(s) - cost). beta: [...] of this option.
    """
    chex.assert_equal_shape([beta, option])
    return of_option(q, option) - beta * termination_advantage(q, policy, option, cost)


def termination_loss(beta: Array, advantage: Array, going: Array) -> Array:
    """Loss whose gradient is that of theorem 2, arXiv:1609.05140: the mean of beta times what
    going on is worth.

    beta: [...] of the options in force, in the states that they led to. advantage: [...]
    `termination_advantage` there, through which no gradient flows. going: [...] bool, False where
    the episode terminated: nothing is left to be ended. Their share of the mean is zero.
    """
    chex.assert_equal_shape([beta, advantage, going])
    advantage = jnp.where(going, stop_gradient(advantage), 0)
    return (jnp.where(going, beta, 0) * advantage).mean()


def choose(policy: Array, beta: Array, before: Array, key: Key) -> tuple[Array, Array]:
    """Options in force [...] int32, and whether each was just chosen [...] bool.

    policy: [..., O] over options. beta: [..., O]. before: [...] int32, the option so far plus 1;
    with 0 there is none yet, and one is chosen.
    """
    k_end, k_next = jax.random.split(key)
    so_far = jnp.maximum(before - 1, 0)
    ends = jax.random.uniform(k_end, before.shape) < of_option(beta, so_far)
    chosen = ends | (before == 0)
    fresh = jax.random.categorical(k_next, jnp.log(policy)).astype(jnp.int32)
    return jnp.where(chosen, fresh, so_far), chosen


def choose_greedy(policy: Array, beta: Array, before: Array) -> tuple[Array, Array]:
    """Options in force, and whether each was just chosen, by what is likelier in place of a draw.

    An option ends where beta > 1/2, and then comes the likeliest. Arguments as of `choose`.
    """
    so_far = jnp.maximum(before - 1, 0)
    chosen = (of_option(beta, so_far) > 0.5) | (before == 0)
    return jnp.where(chosen, policy.argmax(-1).astype(jnp.int32), so_far), chosen


def option_ages(chosen: Array, ended: Array, age: Array) -> tuple[Array, Array]:
    """Ages of options: before each step [T, N], 0 where there is none, and with it [T, N]; int32.

    chosen: [T, N] bool, an option was picked at the step, as it always is at an episode's first.
    ended: [T, N] bool, of episodes. age: [N] int32 before the first step.
    """
    time = jnp.arange(len(chosen), dtype=jnp.int32)[:, None]
    begun = jax.lax.cummax(jnp.where(chosen, time, -age))
    now = time - begun + 1
    return jnp.concatenate([age[None], jnp.where(ended, 0, now)[:-1]]), now
