"""Memories: what a policy carries from step to step, between its torso and its heads.

A memory maps features and a carry to features and a carry, `memory(x, carry, start)`, in two ways:

    start None    x [..., F] single steps, and what was remembered before each, leaves [..., ...]
    start         x [T, B, F] sequences, the carry before them [1 or more, B, ...], of which the
                  first row is read; start [T, B] bool says where an episode begins

It returns the features [..., size] and the carries after each step. A carry of zeros, or (), knows
nothing: so an episode begins. What acts, one step at a time, and what learns, whole sequences, is
the same function; the carry is set to zero before a step that starts, never after one that ends,
so that the value of an episode's last successor can still be asked for.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxpg.core.config import require
from jaxpg.core.types import Array, Tree
from jaxpg.nets.initializers import orthogonal

ATTENTION_HEADS = 4  # where they divide the size of an attention


def make(cfg) -> Callable[[], nn.Module]:
    """Makes the memory that a config asks for by `memory, memory_size, memory_length`.

    With `memory="none"` the other two are not read. Raises ValueError for no field `memory`.
    """
    require(cfg, "nets.memories.make", memory="none")
    name = cfg.memory
    if name == "none":
        return Nothing
    if name == "attention":
        return functools.partial(Attention, cfg.memory_size, cfg.memory_length)
    return functools.partial({"gru": GRU, "lstm": LSTM}[name], cfg.memory_size)


def unroll(cell: Callable, carry: Tree, x: Array, start: Array | None) -> Tree:
    """Carries after each step of cell(carry, x) -> carry, in either of the module's two ways."""
    if start is None:
        return cell(carry, x)

    def step(carry, now):
        x, start = now
        carry = jax.tree.map(lambda c: jnp.where(start[:, None], 0, c), carry)
        carry = cell(carry, x)
        return carry, carry

    first = jax.tree.map(lambda c: c[0], carry)
    return jax.lax.scan(step, first, (x, start))[1]


class Nothing(nn.Module):
    """No memory."""

    @nn.compact
    def __call__(self, x: Array, carry: Tree, start: Array | None) -> tuple[Array, Tree]:
        return x, carry


class GRU(nn.Module):
    """Gated recurrent unit, Cho et al. (2014), arXiv:1406.1078, with the reset gate behind the
    recurrent product, so that the three products are one; the carry is h [..., size]."""

    size: int

    @nn.compact
    def __call__(self, x: Array, carry: Tree, start: Array | None) -> tuple[Array, Tree]:
        inputs, weights, bias = _gates(self, x, 3)
        h = carry if jax.tree.leaves(carry) else jnp.zeros((*x.shape[:-1], self.size), x.dtype)

        def cell(h, inputs):
            reset, update, new = jnp.split(inputs, 3, -1)
            by_reset, by_update, by_new = jnp.split(h @ weights + bias, 3, -1)
            update = nn.sigmoid(update + by_update)
            new = nn.tanh(new + nn.sigmoid(reset + by_reset) * by_new)
            return new + update * (h - new)

        h = unroll(cell, h, inputs, start)
        return h, h


class LSTM(nn.Module):
    """Long short-term memory, Hochreiter & Schmidhuber (1997), with the forget gate of Gers et al.
    (2000), at first nearly open; the carry is (c, h), each [..., size]."""

    size: int

    @nn.compact
    def __call__(self, x: Array, carry: Tree, start: Array | None) -> tuple[Array, Tree]:
        inputs, weights, bias = _gates(self, x, 4)
        if not jax.tree.leaves(carry):
            zeros = jnp.zeros((*x.shape[:-1], self.size), x.dtype)
            carry = zeros, zeros

        def cell(carry, inputs):
            c, h = carry
            enter, forget, new, leave = jnp.split(inputs + h @ weights + bias, 4, -1)
            c = nn.sigmoid(forget + 1) * c + nn.sigmoid(enter) * nn.tanh(new)
            return c, nn.sigmoid(leave) * nn.tanh(c)

        carry = unroll(cell, carry, inputs, start)
        return carry[1], carry


def _gates(cell: nn.Module, x: Array, gates: int) -> tuple[Array, Array, Array]:
    """Inputs of every gate for all steps at once, the recurrent weights, and the bias."""
    size = cell.size
    inputs = nn.Dense(gates * size, use_bias=False, name="inputs")(x)

    def blocks(key, shape):
        keys, square = jax.random.split(key, gates), (size, size)
        return jnp.concatenate([orthogonal()(k, square) for k in keys], -1)

    weights = cell.param("recurrent", blocks, (size, gates * size))
    return inputs, weights, cell.param("bias", nn.initializers.zeros, (gates * size,))


class Attention(nn.Module):
    """One block of causal self-attention over the newest `length` steps of the episode.

    Vaswani et al. (2017), arXiv:1706.03762, normalised before each part, with a learnt bias for how
    long ago a step was (Shaw et al. 2018). Its carry is the window of tokens [..., length, size]
    and which of them are there [..., length]. Keys and values are never made: a query is taken
    through the keys' weights and the mixture of tokens through the values', which is the same
    product in another order, so a step costs O(length) and not O(length * size).
    """

    size: int
    length: int

    @nn.compact
    def __call__(self, x: Array, carry: Tree, start: Array | None) -> tuple[Array, Tree]:
        token = nn.LayerNorm(name="token_norm")(nn.Dense(self.size, name="token")(x))
        if not jax.tree.leaves(carry):
            lead = (*x.shape[:-1], self.length)
            carry = jnp.zeros((*lead, self.size), x.dtype), jnp.zeros(lead, x.dtype)
        window, there = carry = self.slide(carry, token, start)

        heads = ATTENTION_HEADS if self.size % ATTENTION_HEADS == 0 else 1
        shape = self.size, heads, self.size // heads
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal", (0,), (1, 2))
        query, keys, values = (self.param(n, init, shape) for n in ("query", "keys", "values"))
        ago = self.param("ago", nn.initializers.zeros, (heads, self.length))

        asked = jnp.einsum("...f,fhd,ghd->...hg", token, query, keys) / math.sqrt(shape[-1])
        score = jnp.einsum("...hf,...wf->...hw", asked, window) + ago
        weight = nn.softmax(jnp.where(there[..., None, :] > 0, score, -1e9))
        read = jnp.einsum("...hw,...wf->...hf", weight, window)
        read = jnp.einsum("...hf,fhd->...hd", read, values)
        y = token + nn.Dense(self.size, name="out")(read.reshape(token.shape))
        z = nn.relu(nn.Dense(2 * self.size, name="up")(nn.LayerNorm(name="norm")(y)))
        return y + nn.Dense(self.size, name="down")(z), carry

    def slide(self, carry: Tree, token: Array, start: Array | None) -> Tree:
        """The window after each step; the newest token is its last."""
        window, there = carry
        if start is None:
            one = jnp.ones((*there.shape[:-1], 1), there.dtype)
            # Not by indices, which a batch of unknown size (an export) would make a gather.
            older = jax.lax.slice_in_dim(window, 1, None, axis=-2)
            window = jnp.concatenate([older, token[..., None, :]], -2)
            older = jax.lax.slice_in_dim(there, 1, None, axis=-1)
            return window, jnp.concatenate([older, one], -1)
        # Steps one after the other, with those of the carry before them, and who began when.
        steps = jnp.concatenate([jnp.moveaxis(window[0], 1, 0), token])  # [length + T, B, size]
        episode = jnp.cumsum(start, 0, dtype=jnp.int32)  # [T, B]
        before = jnp.where(jnp.moveaxis(there[0], 1, 0) > 0, 0, -1)
        episodes = jnp.concatenate([before, episode])  # [length + T, B]
        index = 1 + jnp.arange(len(token))[:, None] + jnp.arange(self.length)  # [T, length]
        window = jnp.moveaxis(steps[index], 2, 1)  # [T, B, length, size]
        there = jnp.moveaxis(episodes[index], 2, 1) == episode[..., None]
        # Zeros, as after a reset: what is not there may not change a bit of what is.
        return jnp.where(there[..., None], window, 0), there.astype(token.dtype)
