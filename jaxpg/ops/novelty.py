"""Novelty as a number: of counts, of neighbours within an episode, of models that disagree."""

import jax
import jax.numpy as jnp

from jaxpg.core.types import Array


def count_bonus(count: Array) -> Array:
    """1 / sqrt(n + 1) of what was met n times before [...]; Strehl & Littman (2008), MBIE-EB.

    >>> count_bonus(jnp.array([0, 3])).tolist()
    [1.0, 0.5]
    """
    return jax.lax.rsqrt(count.astype(float) + 1)


def mix_bits(x: Array) -> Array:
    """Scrambles 32-bit words [...] one to one: each bit of a result depends on all of its word's;
    the finaliser of MurmurHash3 (Appleby 2011)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def hash_exactly(x: Array, salt: Array) -> Array:
    """Hashes vectors [..., D] by all bits of their numbers as float32: [...] uint32. Equal vectors,
    and nearly only those, have equal hashes; 0 and -0 are equal.

    salt: [D] uint32, random.
    """
    words = jax.lax.bitcast_convert_type(x.astype(jnp.float32) + 0, jnp.uint32)
    return mix_bits(mix_bits(words ^ salt).sum(-1, dtype=jnp.uint32))


def table_index(x: Array, salt: Array, slots: int) -> Array:
    """Index of vectors [..., D] in a table of D + 1 + slots entries: [...] int32.

    A one-hot vector has the place of its 1, and zeros the entry D, so that a table of those is
    exact; all others share the rest by `hash_exactly`.

    >>> salt = jnp.arange(3, dtype=jnp.uint32)
    >>> table_index(jnp.array([[0.0, 1, 0], [0, 0, 0]]), salt, 8).tolist()
    [1, 3]
    """
    size = x.shape[-1]
    ones, others = (x == 1).sum(-1, dtype=jnp.int32), ((x != 0) & (x != 1)).any(-1)
    hashed = (hash_exactly(x, salt) % jnp.uint32(slots)).astype(jnp.int32) + size + 1
    place = jnp.where(ones == 1, jnp.argmax(x == 1, -1).astype(jnp.int32), size)
    return jnp.where(others | (ones > 1), hashed, place)


def simhash(x: Array, directions: Array) -> Array:
    """Code of vectors [..., D]: a bit for the side of each of k planes on which they lie, [...]
    int32 below 2^k. Vectors at a small angle have many bits in common; Charikar (2002), Tang et al.
    (2017), arXiv:1611.04717 eq. 1.

    directions: [k, D] normal to the planes.

    >>> simhash(jnp.array([2.0, -1.0]), jnp.eye(2)).item()
    1
    """
    bits = (x @ directions.T >= 0).astype(jnp.int32)
    return (bits << jnp.arange(len(directions), dtype=jnp.int32)).sum(-1, dtype=jnp.int32)


def similarity(squared: Array, mean: Array, eps: float, closest: float) -> Array:
    """Kernel of squared distances to the k nearest neighbours [..., k], summed: [...]; Badia et al.
    (2020), arXiv:2002.06038 eq. 3 and algorithm 1. Of a neighbour that is missing the distance is
    infinite.

    mean: [] running mean of such distances, their unit. closest: what is nearer, in that unit,
    counts as the same.
    """
    apart = jnp.maximum(squared / jnp.where(mean > 0, mean, 1) - closest, 0)
    return (eps / (apart + eps)).sum(-1)


def episodic_bonus(similar: Array, constant: float, most: float) -> Array:
    """1 / (sqrt(similarity) + c) [...], and 0 where the square root is above `most`; Badia et al.
    (2020), algorithm 1."""
    root = jnp.sqrt(similar) + constant
    return jnp.where(root > most, 0, 1 / root)


def disagreement(predictions: Array) -> Array:
    """Variance (population) of an ensemble's predictions [K, ..., D] over its members, mean over D:
    [...]; Pathak et al. (2019), arXiv:1906.04161 eq. 1, and Sekar et al. (2020), arXiv:2005.05960.

    >>> disagreement(jnp.array([[0.0, 1.0], [2.0, 1.0]])).item()
    0.5
    """
    return predictions.var(0).mean(-1)
