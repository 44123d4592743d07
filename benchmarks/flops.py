"""Floating-point operations of a function's matrix products, and the rate the machine has for them.

XLA's own `cost_analysis` counts the body of a loop once, however often it runs. So products are
counted in the jaxpr, where a scan says its length: 2 m n k for each, twice a multiply and add of
every entry, as in a convolution. What networks compute beside them is left out.
"""

import math
import time

import jax
import jax.numpy as jnp


def flops(f, *args, trips: float = 1.0) -> float:
    """Operations of the products in f(*args). trips: of loops that do not say their length, which
    is decided while they run; of two branches the longer one counts."""
    return _count(jax.make_jaxpr(f)(*args).jaxpr, trips)


def _count(jaxpr, trips: float) -> float:
    total = 0.0
    for eqn in jaxpr.eqns:
        name, inner = eqn.primitive.name, [_count(j, trips) for j in inner_jaxprs(eqn)]
        if name == "dot_general":
            (contract, _), _ = eqn.params["dimension_numbers"]
            k = math.prod(eqn.invars[0].aval.shape[i] for i in contract)
            total += 2 * k * math.prod(eqn.outvars[0].aval.shape)
        elif name == "conv_general_dilated":
            # Every entry of the output sees the whole kernel but its output channels.
            kernel = eqn.invars[1].aval.shape
            channels = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
            total += 2 * math.prod(kernel) / channels * math.prod(eqn.outvars[0].aval.shape)
        elif name == "scan":
            total += eqn.params["length"] * sum(inner)
        elif name == "while":
            total += trips * sum(inner)
        elif name == "cond":
            total += max(inner)
        else:  # calls: jit, custom derivatives, shard_map, checkpoints
            total += sum(inner)
    return total


def inner_jaxprs(eqn) -> list:
    """The jaxprs that an equation runs."""
    found = []
    for value in eqn.params.values():
        for x in value if isinstance(value, (tuple, list)) else (value,):
            x = getattr(x, "jaxpr", x)  # closed or not
            if hasattr(x, "eqns"):
                found.append(x)
    return found


def matmul_rate(size: int = 1024, seconds: float = 0.5) -> float:
    """Operations a second of float32 products [size, size], on all devices at once or on the first
    alone (which on a CPU may use every core): whichever is more, the best of several."""
    product, best = jax.jit(jnp.matmul), 0.0
    for devices in (jax.devices()[:1], jax.devices()):
        xs = [jax.device_put(jnp.ones((size, size), jnp.float32), d) for d in devices]
        jax.block_until_ready([product(x, x) for x in xs])
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            begun = time.perf_counter()
            jax.block_until_ready([product(x, x) for x in xs])
            took = time.perf_counter() - begun
            best = max(best, 2 * size**3 * len(xs) / took)
    return best
