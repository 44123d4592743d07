"""Draws from finitely many choices that a gradient flows through."""

import jax

from jaxpg.core.types import Array, Key


def straight_through(key: Key, logits: Array, temperature) -> Array:
    """A draw of softmax(logits) [..., n], one-hot, with the gradient of a soft one.

    The draw is the largest of logits + Gumbel noise. Its gradient is that of
    softmax((logits + noise) / temperature): Jang et al. (2017), arXiv:1611.01144, sec. 2.2. It is
    biased, and less so at a low temperature, where its variance is high. temperature: [] > 0.

    >>> import jax
    >>> from jaxpg.ops.relax import straight_through
    >>> logits = jax.numpy.array([0.0, 50.0, 0.0])
    >>> straight_through(jax.random.key(0), logits, 1.0).tolist()
    [0.0, 1.0, 0.0]
    """
    noisy = logits + jax.random.gumbel(key, logits.shape, logits.dtype)
    soft = jax.nn.softmax(noisy / temperature)
    hard = jax.nn.one_hot(noisy.argmax(-1), logits.shape[-1], dtype=logits.dtype)
    return hard + (soft - jax.lax.stop_gradient(soft))  # of which the bracket is 0
