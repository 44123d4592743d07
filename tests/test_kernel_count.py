"""Kernels of compiled programs, counted: of a GPU's text by hand, of a CPU's by its loops."""

import doctest
import sys
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import kernel_count
from kernel_count import count_kernels

# As XLA prints a program for a GPU, with a command buffer, two nested loops, a loop whose trips it
# does not know, and a choice.
PROGRAM = """HloModule jit_train, is_scheduled=true, entry_computation_layout={(f32[4]{0})->f32[4]{0}}

%fused_add (param_0: f32[4]) -> f32[4] {
  %param_0 = f32[4]{0} parameter(0)
  ROOT %add.1 = f32[4]{0} add(%param_0, %param_0)
}

%command_buffer (p.1: f32[4]) -> (f32[4], f32[4]) {
  %p.1 = f32[4]{0} parameter(0)
  %loop_add_fusion.1 = f32[4]{0} fusion(%p.1), kind=kLoop, calls=%fused_add
  %loop_add_fusion.2 = f32[4]{0} fusion(%p.1), kind=kLoop, calls=%fused_add
  ROOT %tuple.1 = (f32[4]{0}, f32[4]{0}) tuple(%loop_add_fusion.1, %loop_add_fusion.2)
}

%less (a: f32[], b: f32[]) -> pred[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %lt = pred[] compare(%a, %b), direction=LT
}

%short (p.2: f32[4]) -> f32[4] {
  %p.2 = f32[4]{0} parameter(0)
  ROOT %loop_add_fusion.3 = f32[4]{0} fusion(%p.2), kind=kLoop, calls=%fused_add
}

%long (p.3: f32[4]) -> f32[4] {
  %p.3 = f32[4]{0} parameter(0)
  %loop_add_fusion.4 = f32[4]{0} fusion(%p.3), kind=kLoop, calls=%fused_add
  ROOT %sort.1 = f32[4]{0} sort(%loop_add_fusion.4), dimensions={0}, to_apply=%less
}

%inner_body (p.4: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p.4 = (s32[], f32[4]{0}) parameter(0)
  %i.4 = s32[] get-tuple-element(%p.4), index=0
  %x.4 = f32[4]{0} get-tuple-element(%p.4), index=1
  %gemm = (f32[2,2]{1,0}, s8[4194304]{0}) custom-call(%x.4), custom_call_target="__cublas$gemm"
  %y.4 = f32[2,2]{1,0} get-tuple-element(%gemm), index=0
  %input_fusion.4 = f32[4]{0} fusion(%y.4), kind=kInput, calls=%fused_add
  %write.4 = f32[4]{0} fusion(%input_fusion.4), kind=kCustom, calls=%fused_add, backend_config={"name":"dynamic_slice_fusion"}
  ROOT %tuple.4 = (s32[], f32[4]{0}) tuple(%i.4, %input_fusion.4)
}

%never (p.5: (s32[], f32[4])) -> pred[] {
  %p.5 = (s32[], f32[4]{0}) parameter(0)
  ROOT %wrapped_compare = pred[] fusion(%p.5), kind=kLoop, calls=%fused_add
}

%outer_body (p.6: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p.6 = (s32[], f32[4]{0}) parameter(0)
  %i.6 = s32[] get-tuple-element(%p.6), index=0
  %x.6 = f32[4]{0} get-tuple-element(%p.6), index=1
  %call.6 = (f32[4]{0}, f32[4]{0}) call(%x.6), to_apply=%command_buffer
  %copy-start.6 = (f32[4]{0}, f32[4]{0}, u32[]) copy-start(%x.6)
  %copy-done.6 = f32[4]{0} copy-done(%copy-start.6)
  %while.6 = (s32[], f32[4]{0}) while(%p.6), condition=%never, body=%inner_body, backend_config={"known_trip_count":{"n":"3"}}
  %y.6 = f32[4]{0} conditional(%i.6, %x.6, %x.6), branch_computations={%short, %long}
  ROOT %tuple.6 = (s32[], f32[4]{0}) tuple(%i.6, %y.6)
}

%free_body (p.7: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p.7 = (s32[], f32[4]{0}) parameter(0)
  %i.7 = s32[] get-tuple-element(%p.7), index=0
  %x.7 = f32[4]{0} get-tuple-element(%p.7), index=1
  %copy.7 = f32[4]{0} copy(%x.7)
  ROOT %tuple.7 = (s32[], f32[4]{0}) tuple(%i.7, %copy.7)
}

ENTRY %main.9 (Arg_0.1: f32[4]) -> f32[4] {
  %Arg_0.1 = f32[4]{0} parameter(0), metadata={op_name="x"}
  %zero = s32[] constant(0)
  %copy.9 = f32[4]{0:T(4)} copy(%Arg_0.1)
  %tuple.9 = (s32[], f32[4]{0}) tuple(%zero, %copy.9)
  %while.9 = (s32[], /*index=1*/f32[4]{0}) while(%tuple.9), condition=%never, body=%outer_body, metadata={op_name="jit(train)/while"}, backend_config={"known_trip_count":{"n":"5"},"known_init_step":{"init":"0","step":"1"}}
  %while.10 = (s32[], f32[4]{0}) while(%while.9), condition=%never, body=%free_body
  ROOT %out = f32[4]{0} get-tuple-element(%while.10), index=1
}
"""  # noqa: E501


def test_kernels_of_a_gpu_program_are_counted_with_the_trips_of_their_loops():
    """By hand. A trip of the outer loop: a call of 2 fusions, a copy, 3 trips of a product, a
    fusion and a write, which is a copy, and the longer branch, a fusion and a sort; it makes 5.
    Beside it a copy, and a loop of one copy whose condition, a fusion, is asked."""
    trip = Counter({"fusion": 2 + 3 + 1, "copy": 1 + 3, "custom-call": 3, "sort": 1})
    whole = Counter({kind: 5 * n for kind, n in trip.items()})
    whole.update({"copy": 2, "fusion": 1})
    assert count_kernels(PROGRAM) == whole
    assert count_kernels(PROGRAM).total() == 5 * 14 + 3


def test_its_example_runs():
    assert doctest.testmod(kernel_count) == (0, 2)


def test_a_text_that_is_no_program_is_refused():
    with pytest.raises(ValueError, match="text='HloModule x': allowed is a compiled program's"):
        count_kernels("HloModule x")


def nested(outer, inner):
    """Sorts in `outer` trips: one, and `inner` trips of two; each needs the one before it."""

    def sorted_(x):
        return jax.lax.sort(x * 1.1 - x[0])

    def trip(x, _):
        x = jax.lax.scan(lambda x, _: (sorted_(sorted_(x)), None), sorted_(x), length=inner)[0]
        return x, None

    x = jnp.arange(8.0)
    return jax.jit(lambda x: jax.lax.scan(trip, x, length=outer)[0]).lower(x).compile().as_text()


def test_kernels_of_a_compiled_program_are_counted_with_the_trips_of_nested_scans():
    """What XLA makes of the products between sorts is its own; a sort is one operation."""
    assert count_kernels(nested(5, 7))["sort"] == 5 * (1 + 7 * 2)
    three, six = (count_kernels(nested(n, 7)).total() for n in (3, 6))
    once = three - (six - three)  # beside the loop
    assert 0 <= once < 10
    assert count_kernels(nested(9, 7)).total() == once + 3 * (six - three)
