"""What is read from oneDNN's log: operators in INT8, those in float, and conversions between them."""

import pytest

from quantfleet_domain.jobs.measured import Conversion
from quantfleet_worker.engines.onednn_log import count
from quantfleet_worker.models.paddle_quantization import Quantization, QuantizedLayers

PREFIX = "onednn_verbose,v1,primitive,exec,cpu"
LINES = [
    "onednn_verbose,v1,info,cpu,isa:Intel AVX2",
    f"{PREFIX},convolution,jit_int8:avx2,forward_inference,src:u8:a dst:u8:a,attr,alg,mb1_ic3oc8,4",
    f"{PREFIX},convolution,brg_conv_fwd:avx2,forward_inference,src:f32:a dst:f32:a,attr,alg,mb1_ic8oc8,2",
    f"{PREFIX},reorder,jit:uni,undef,src:f32::blocked:abcd::f0 dst:s8::blocked:abcd::f0,attr,alg,1x3x8x8,1",
    f"{PREFIX},reorder,jit:uni,undef,src:f32::blocked:abcd::f0 dst:s8::blocked:abcd::f0,attr,alg,1x3x8x8,2",
    f"{PREFIX},reorder,jit:uni,undef,src:s8::blocked:abcd::f0 dst:s8::blocked:acdb::f0,attr,alg,1x3x8x8,1",
]
HEAD = (("head", "matmul_v2"),)


def layers(quantized: tuple[tuple[str, str], ...]) -> QuantizedLayers:
    return QuantizedLayers(Quantization.STATIC if quantized else Quantization.NONE, quantized, HEAD)


def test_an_operator_that_onednn_ran_in_float_is_named() -> None:
    counts = count(LINES, layers((("one", "conv2d"), ("two", "conv2d"))))
    assert (counts.int8, counts.quantizable) == (1, 3)
    assert counts.fallbacks == (
        "mb1_ic8oc8 (convolution): oneDNN ran it as brg_conv_fwd:avx2 in float",
        "head (matmul_v2): the quantizer left its weight in float",
    )


def test_an_operator_that_ran_in_int8_is_named_with_its_implementation() -> None:
    assert count(LINES, layers((("one", "conv2d"),))).ran == ("mb1_ic3oc8/jit_int8:avx2 (convolution)",)


def test_an_operator_that_onednn_never_saw_is_a_fallback() -> None:
    counts = count(LINES[:2], layers((("one", "conv2d"), ("two", "conv2d"))))
    assert counts.int8 == 1
    assert counts.fallbacks[0] == "an operator of the program: it did not run in oneDNN"


@pytest.mark.parametrize("quantized", [(), (("one", "conv2d"),)])
def test_reorders_are_told_by_what_they_convert_with_their_share_of_the_time(
    quantized: tuple[tuple[str, str], ...],
) -> None:
    assert count(LINES, layers(quantized)).conversions == (
        Conversion("reorder (f32 to s8)", 2, 0.3),
        Conversion("reorder (layout only)", 1, 0.1),
    )


def test_without_a_time_there_is_no_share() -> None:
    (conversion,) = count([LINES[-1].removesuffix("1") + "0"], layers(())).conversions
    assert conversion.time_share is None
