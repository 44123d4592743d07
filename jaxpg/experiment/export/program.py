"""Programs of policy files, and what they may do: arithmetic."""

import re
from pathlib import Path

from jax import export as jax_export

# What an exported program may call: arithmetic of XLA and jaxlib, checks of its shapes.
CALLS = (
    r"(lapack|cublas|cusolver|cusparse|hipblas|hipsolver|hipsparse)_\w+_ffi"
    r"|(cu|hip)_(threefry2x32_ffi|lu_pivots_to_permutation)|(stablehlo|mhlo|chlo)\.[\w.]+"
    r"|shape_assertion|Sharding|SPMD\w+|annotate_device_placement|AllocateBuffer"
    r"|Eigh|Qr|ProductOfElementaryHouseholderReflectors|LuDecomposition|ApproxTopK"
)


def read_program(path: str | Path, code: bytes) -> jax_export.Exported:
    """Reads a program. Raises ValueError for one that calls Python, or what else is not XLA's."""
    program = jax_export.deserialize(bytearray(code))
    text = program.mlir_module()
    called = re.findall(r"custom_call(?:\s+@\"?([^\s\"(]+))?", text)
    for name in called:
        if not re.fullmatch(CALLS, name):
            raise ValueError(f"{path}: found a program that calls {name!r}, expected arithmetic")
    return program
