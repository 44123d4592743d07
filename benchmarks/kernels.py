"""Kernels of an iteration on a GPU, counted in the compiled program. No GPU is needed.

python benchmarks/kernels.py [AGENT] [ENV] [--set FIELD=VALUE ...] [--text FILE] [--cpu-choices]

A GPU that trains one seed with small networks waits for kernels, some 1.6 microseconds each, and
for nothing else. How many there are stands in the program that XLA has compiled, loops with the
trips that they make: an exact number, where times are not. XLA compiles for a card that is not
there if JAX's CUDA plugin is: `pip install 'jax[cuda12]'`, of which jax-cuda12-plugin,
jax-cuda12-pjrt and nvidia-cuda-nvcc-cu12 are enough. What it would find out by trying on the card,
such as the best of several ways to make a matrix product, it takes as it comes. Without the plugin
nothing is counted.
"""

import argparse
import os
import time
from functools import partial
from pathlib import Path

from kernel_count import count_kernels

# What an NVIDIA H100 (SXM) is, in the words of XLA's GpuTargetConfigProto.
H100 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 84942979072
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  cuda_compute_capability { major: 9 minor: 0 }
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


def compile_for_gpu(function, *args) -> str:
    """The text of a program compiled for one H100 that need not be there; args: shapes and dtypes.

    Raises RuntimeError without JAX's CUDA plugin, which has XLA's compiler for GPUs.
    """
    import jax
    from jax.experimental.topologies import get_topology_desc
    from jax.sharding import SingleDeviceSharding

    try:
        topology = get_topology_desc("", "cuda", target_config=H100, topology="1x1x1")
    except NotImplementedError:
        raise RuntimeError("no CUDA plugin for JAX: pip install 'jax[cuda12]'") from None
    device = SingleDeviceSharding(topology.devices[0])

    def placed(x):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device)

    traced = jax.jit(function, out_shardings=device).trace(*jax.tree.map(placed, args))
    return traced.lower(lowering_platforms=("cuda",)).compile().as_text()


def train_text(agent, cfg, env, iterations: int) -> str:
    """The text of the loop over so many iterations that `jaxpg.train` compiles for a GPU."""
    import jax
    import jax.numpy as jnp

    import jaxpg
    from jaxpg.core.train import initial_state, iterate, settle

    jaxpg.use_fast_random()
    cfg, _ = settle(agent, cfg, env, iterations * agent.steps_per_iter(cfg))

    def shapes(tree):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), tree)

    state = jax.eval_shape(lambda key: initial_state(agent, cfg, env, key), jax.random.key(0))
    loop = partial(iterate, agent, length=iterations)
    return compile_for_gpu(loop, *shapes((cfg, env)), state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("agent", nargs="?", default="ppo")
    parser.add_argument("env", nargs="?", default="CartPole-v1")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="integers")
    parser.add_argument("--text", type=Path, help="file for the compiled program")
    parser.add_argument("--cpu-choices", action="store_true", help="the program as for a CPU")
    args = parser.parse_args()

    os.environ["JAX_PLATFORMS"] = "cpu"  # whether or not there is a GPU: nothing runs on it
    import jaxpg
    from jaxpg.core import machine

    if not args.cpu_choices:
        machine.on_gpu = lambda: True
    agent, env, iterations = getattr(jaxpg, args.agent), jaxpg.make(args.env), 100
    cfg = agent.Config(**{name: int(x) for name, x in (pair.split("=") for pair in args.set)})
    begun = time.perf_counter()
    try:
        text = train_text(agent, cfg, env, iterations)
    except RuntimeError as error:
        print(error)
        return
    seconds = time.perf_counter() - begun
    if args.text:
        args.text.write_text(text)
    launches = count_kernels(text)
    copies = launches["copy"] / iterations
    kernels = launches.total() / iterations - copies
    print(
        f"{args.agent} on {args.env}, an iteration: {kernels:,.0f} kernels, {copies:,.0f} copies; "
        f"compiled in {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
