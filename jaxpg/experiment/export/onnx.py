"""ONNX models of a policy's greedy program, primitive by primitive.

What does not depend on the observation, or on the carry, is computed here and stored; of the rest
every primitive has a rule below, and one without a rule is an error that names it. The size of the
batch stays open. Draws are not written: ONNX has no generator that gives JAX's numbers.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import numpy as np
from jax import export as jax_export
from jax.extend.core import Literal

OPSET, IR_VERSION = 18, 10  # of 2022 and 2024: old enough for most runtimes
CALLS = ("jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "checkpoint")
ALIKE = {  # elementwise, and the same in both
    "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min",
    "pow": "Pow", "neg": "Neg", "abs": "Abs", "sign": "Sign", "floor": "Floor", "ceil": "Ceil",
    "sqrt": "Sqrt", "exp": "Exp", "log": "Log", "tanh": "Tanh", "logistic": "Sigmoid",
    "erf": "Erf", "sin": "Sin", "cos": "Cos", "lt": "Less", "le": "LessOrEqual", "gt": "Greater",
    "ge": "GreaterOrEqual", "eq": "Equal", "and": "And", "or": "Or", "not": "Not",
    "stop_gradient": "Identity", "copy": "Identity",
}  # fmt: skip
REDUCTIONS = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}


class Graph(NamedTuple):
    """Graph of an ONNX model in the making. A value is the name of a tensor if it depends on the
    input, else an array."""

    nodes: list
    tensors: list
    batch: Any  # the symbolic size

    def add(self, op: str, *values, outputs: int = 1, **attributes):
        """Adds a node; returns the name of its output, or the names."""
        import onnx.helper

        names = [f"v{len(self.nodes)}_{i}" for i in range(outputs)]
        inputs = [self.name(x) for x in values]
        self.nodes.append(onnx.helper.make_node(op, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def name(self, value) -> str:
        """Name of a value; an array is stored under a new one."""
        if isinstance(value, str):
            return value
        import onnx.numpy_helper

        name = f"c{len(self.tensors)}"
        self.tensors.append(onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def shape(self, dims: tuple):
        """Converts a shape to a value; the size of the batch is known when the model runs."""
        if all(isinstance(n, int) for n in dims):
            return np.array(dims, np.int64)
        if any(not isinstance(n, int) and n != self.batch for n in dims):
            raise ValueError(f"ONNX: a shape of {dims} is not supported, only whole batches")
        parts = [np.array([n], np.int64) if isinstance(n, int) else "batch_size" for n in dims]
        return self.add("Concat", *parts, axis=0)


def write(policy, path: Path) -> None:
    """Writes a jaxpg.Policy. Raises ValueError for a primitive without a rule."""
    import onnx.checker
    import onnx.helper

    (batch,) = jax_export.symbolic_shape("batch")

    def leaves(kinds):
        return [jax.ShapeDtypeStruct((batch, *k["shape"]), np.dtype(k["dtype"])) for k in kinds]

    about, weights = policy.about, [np.asarray(x) for x in policy.weights]
    obs, carry = leaves(about["observation"].values()), leaves(about["carry"])
    closed = jax.jit(policy.act).trace(weights, obs, carry, None).jaxpr
    inputs = dict(zip([f"obs{path}" for path in about["observation"]], obs, strict=True))
    inputs |= {f"carry{i}": x for i, x in enumerate(carry)}
    outputs = dict(zip(["action", *(f"next_carry{i}" for i in range(len(carry)))],
                       closed.out_avals, strict=True))  # fmt: skip

    graph = Graph([], [], batch)
    first = next(iter(inputs))
    graph.nodes.append(onnx.helper.make_node("Shape", [first], ["batch_size"], start=0, end=1))
    values = _add_jaxpr(graph, closed.jaxpr, closed.consts, [*weights, *inputs])
    for name, value in zip(outputs, values, strict=True):
        graph.nodes.append(onnx.helper.make_node("Identity", [graph.name(value)], [name]))

    def infos(values):
        return [
            onnx.helper.make_tensor_value_info(
                name,
                onnx.helper.np_dtype_to_tensor_dtype(np.dtype(x.dtype)),
                ["batch" if not isinstance(n, int) else n for n in x.shape],
            )
            for name, x in values.items()
        ]

    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes, about["agent"], infos(inputs), infos(outputs), graph.tensors
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="jaxpg",
    )
    onnx.helper.set_model_props(model, {"jaxpg": json.dumps(about)})
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def _add_jaxpr(graph: Graph, jaxpr, consts, args) -> list:
    """Adds the equations of a jaxpr; returns its results."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(x):
        return np.asarray(x.val, cast(Any, x.aval).dtype) if isinstance(x, Literal) else known[x]

    needed, live = {x for x in jaxpr.outvars if not isinstance(x, Literal)}, []
    for eqn in reversed(jaxpr.eqns):
        if needed & set(eqn.outvars):
            needed |= {x for x in eqn.invars if not isinstance(x, Literal)}
            live.append(eqn)
    for eqn in reversed(live):
        values, name = [read(x) for x in eqn.invars], eqn.primitive.name
        sizes = [n for x in eqn.outvars for n in x.aval.shape]
        if name in CALLS:
            inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            found = _add_jaxpr(
                graph, getattr(inner, "jaxpr", inner), getattr(inner, "consts", ()), values
            )
        elif not any(isinstance(x, str) for x in values) and all(isinstance(n, int) for n in sizes):
            found = eqn.primitive.bind(*values, **eqn.params)
            found = found if eqn.primitive.multiple_results else [found]
        else:
            found = _add_primitive(graph, name, eqn, values)
            found = found if isinstance(found, list) else [found]
        known |= dict(zip(eqn.outvars, found, strict=True))
    return [read(x) for x in jaxpr.outvars]


def _add_primitive(graph: Graph, name: str, eqn, values: list):
    """Adds one primitive."""
    p, (out, *_) = eqn.params, [x.aval for x in eqn.outvars]
    x, shape = values[0], eqn.invars[0].aval.shape
    kind = eqn.invars[0].aval.dtype
    if name in ALIKE:
        return graph.add(ALIKE[name], *values)
    if name in REDUCTIONS:
        return graph.add(REDUCTIONS[name], x, np.array(p["axes"], np.int64), keepdims=0)
    match name:
        case "ne":
            return graph.add("Not", graph.add("Equal", *values))
        case "square":
            return graph.add("Mul", x, x)
        case "integer_pow":
            return graph.add("Pow", x, np.array(p["y"], kind))
        case "rsqrt":
            return graph.add("Reciprocal", graph.add("Sqrt", x))
        case "expm1":
            return graph.add("Sub", graph.add("Exp", x), np.ones((), kind))
        case "log1p":
            return graph.add("Log", graph.add("Add", x, np.ones((), kind)))
        case "clamp":
            low, x, high = values
            return graph.add("Min", graph.add("Max", x, low), high)
        case "select_n" if len(values) == 3 and np.dtype(kind).kind == "b":
            return graph.add("Where", x, values[2], values[1])
        case "convert_element_type":
            return _add_cast(graph, x, out.dtype)
        case "argmax" | "argmin" if len(p["axes"]) == 1:
            op = {"argmax": "ArgMax", "argmin": "ArgMin"}[name]
            return _add_cast(graph, graph.add(op, x, axis=p["axes"][0], keepdims=0), out.dtype)
        case "reshape" | "squeeze" if p.get("dimensions") is None or name == "squeeze":
            return graph.add("Reshape", x, graph.shape(out.shape))
        case "broadcast_in_dim":
            places = dict(zip(p["broadcast_dimensions"], shape, strict=True))
            aligned = tuple(places.get(i, 1) for i in range(len(out.shape)))
            x = x if aligned == shape else graph.add("Reshape", x, graph.shape(aligned))
            return x if aligned == out.shape else graph.add("Expand", x, graph.shape(out.shape))
        case "transpose":
            return graph.add("Transpose", x, perm=p["permutation"])
        case "concatenate":
            return graph.add("Concat", *values, axis=p["dimension"])
        case "split":
            sizes, count = np.array(p["sizes"], np.int64), len(p["sizes"])
            return graph.add("Split", x, sizes, axis=p["axis"], outputs=count)
        case "slice":
            return _add_slice(graph, x, shape, p)
        case "dot_general":
            return _add_dot(graph, eqn, values)
        case "gather" if (axis := _gathered_axis(eqn)) is not None:
            index = graph.add("Reshape", values[1], graph.shape(eqn.invars[1].aval.shape[:-1]))
            return graph.add("Gather", x, index, axis=axis)
        case "conv_general_dilated" if set(p["lhs_dilation"]) == {1} == {p["batch_group_count"]}:
            return _add_conv(graph, p, *values)
    able = sorted({*ALIKE, *REDUCTIONS, "argmax", "broadcast_in_dim", "dot_general", "select_n"})
    raise ValueError(
        f"ONNX: the policy uses {name!r} in a way that has no rule in {Path(__file__).name}; "
        f"supported are networks made of {', '.join(able)} and the like"
    )


def _add_cast(graph: Graph, x, dtype):
    import onnx.helper

    return graph.add("Cast", x, to=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _add_slice(graph: Graph, x, shape: tuple, p: dict):
    most = np.iinfo(np.int64).max  # stands for the whole of an axis
    ends = [most if n == size else n for n, size in zip(p["limit_indices"], shape, strict=True)]
    strides = p["strides"] or [1] * len(ends)
    rows = [p["start_indices"], ends, range(len(ends)), strides]
    return graph.add("Slice", x, *(np.array(list(row), np.int64) for row in rows))


def _add_dot(graph: Graph, eqn, values: list):
    """Adds a MatMul where that is what a dot_general is, else an Einsum."""
    (left, right), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    m, n = (len(x.aval.shape) for x in eqn.invars[:2])
    if n == 2 and (*left,) == (m - 1,) and (*right,) == (0,) and not left_batch and m > 1:
        return graph.add("MatMul", *values)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    a = [next(letters) for _ in range(m)]
    b = [None] * n
    for i, j in zip([*left, *left_batch], [*right, *right_batch], strict=True):
        b[j] = a[i]
    b = [x or next(letters) for x in b]
    batch = [a[i] for i in left_batch]
    summed = [a[i] for i in left]
    free = [x for x in a + b if x not in batch + summed]
    equation = f"{''.join(a)},{''.join(b)}->{''.join(batch + free)}"
    return graph.add("Einsum", *values, equation=equation)


def _gathered_axis(eqn) -> int | None:
    """Axis along which a gather picks whole rows; None for another kind of gather."""
    p, (table, index) = eqn.params, [x.aval.shape for x in eqn.invars]
    d = p["dimension_numbers"]
    if len(d.start_index_map) != 1 or d.collapsed_slice_dims != d.start_index_map:
        return None
    (axis,) = d.start_index_map
    lead = len(index) - 1
    rest = [i if i < axis else i + lead for i in range(len(table) - 1)]
    whole = tuple(1 if i == axis else n for i, n in enumerate(table))
    return axis if p["slice_sizes"] == whole and list(d.offset_dims) == rest else None


def _add_conv(graph: Graph, p: dict, x, kernel):
    d = p["dimension_numbers"]
    y = graph.add(
        "Conv",
        graph.add("Transpose", x, perm=d.lhs_spec),
        graph.add("Transpose", kernel, perm=d.rhs_spec),
        strides=p["window_strides"],
        pads=[lo for lo, _ in p["padding"]] + [hi for _, hi in p["padding"]],
        dilations=p["rhs_dilation"],
        group=p["feature_group_count"],
    )
    return graph.add("Transpose", y, perm=np.argsort(d.out_spec).tolist())
