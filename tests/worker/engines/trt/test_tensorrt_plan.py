"""Which TensorRT builds what, and how: version by precision by how the file is quantized."""

import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.trt.engine import ENGINE
from quantfleet_worker.engines.trt.plan import (
    PRECISIONS,
    BuildPlan,
    Quantization,
    Version,
    has_calibrators,
    parse_version,
    plan,
)

TEN, ELEVEN = (10, 16, 1), (11, 4, 0)
NONE, QDQ, CACHE = Quantization.NONE, Quantization.QDQ, Quantization.CACHE


def built(
    *flags: str, strong: bool = False, half: bool = False, calibrated: bool = False, pinned: bool = False
) -> BuildPlan:
    return BuildPlan(strong, flags, half, calibrated, pinned)


@pytest.mark.parametrize(
    ("version", "precision", "quantization", "expected"),
    [
        (TEN, "fp32", NONE, built()),
        (TEN, "fp16", NONE, built("FP16")),
        (TEN, "int8", QDQ, built("INT8")),
        (TEN, "int8+fp16", QDQ, built("FP16", "INT8")),
        (TEN, "int8+fp16+pinned", QDQ, built("FP16", "INT8", pinned=True)),
        (TEN, "int8", CACHE, built("INT8", calibrated=True)),
        (TEN, "int8+fp16", CACHE, built("FP16", "INT8", calibrated=True)),
        (TEN, "int8+fp16+pinned", CACHE, built("FP16", "INT8", calibrated=True, pinned=True)),
        (ELEVEN, "fp32", NONE, built(strong=True)),
        (ELEVEN, "fp16", NONE, built(strong=True, half=True)),
        (ELEVEN, "int8", QDQ, built(strong=True)),
        (ELEVEN, "int8+fp16", QDQ, built(strong=True, half=True)),
        (ELEVEN, "int8+fp16+pinned", QDQ, built(strong=True, half=True, pinned=True)),
    ],
)
def test_each_version_builds_each_precision_in_its_own_way(
    version: Version, precision: str, quantization: Quantization, expected: BuildPlan
) -> None:
    assert plan(version, precision, quantization) == expected


@pytest.mark.parametrize("precision", ["int8", "int8+fp16", "int8+fp16+pinned"])
def test_a_calibration_cache_is_refused_from_version_11_on_with_the_reason(precision: str) -> None:
    with pytest.raises(QuantfleetError, match=r"TensorRT 11\.4 has no calibrators") as caught:
        plan(ELEVEN, precision, CACHE)
    assert "s8s8" in caught.value.todo
    assert not has_calibrators(ELEVEN)
    assert has_calibrators(TEN)


@pytest.mark.parametrize("version", [TEN, ELEVEN])
def test_int8_needs_scales_and_other_precisions_an_unquantized_model(version: Version) -> None:
    with pytest.raises(QuantfleetError, match="needs scales for INT8"):
        plan(version, "int8", NONE)
    for quantization in (QDQ, CACHE):
        with pytest.raises(QuantfleetError, match="the model is quantized, and fp16 is asked for"):
            plan(version, "fp16", quantization)


@pytest.mark.parametrize("precision", ["bf16", "int16", "fp8"])
def test_what_tensorrt_is_not_offered_in_is_refused(precision: str) -> None:
    assert precision not in PRECISIONS
    with pytest.raises(QuantfleetError, match=f"does not build {precision}"):
        plan(TEN, precision, NONE)


def test_versions_are_read_as_the_wheels_write_them() -> None:
    assert parse_version("10.16.1.11") == (10, 16, 1)
    assert parse_version("10.14.1.48.post1") == (10, 14, 1)
    assert parse_version("11.4.0.106") == (11, 4, 0)
    for text in ("8.6.1", "unknown"):
        with pytest.raises(QuantfleetError, match=text) as caught:
            parse_version(text)
        assert caught.value.code is ErrorCode.ENGINE_FAILED


@pytest.mark.parametrize(
    ("isa", "expected"),
    [
        (("sm_75",), PRECISIONS),
        (("sm_89",), PRECISIONS),
        (("sm_120",), PRECISIONS),
        (("sm_61",), ()),
        (("sm_70",), ()),
        (("avx2", "avx512_vnni"), ()),
        ((), ()),
    ],
)
def test_gpus_older_than_turing_have_nothing_and_newer_ones_everything(
    isa: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert ENGINE.precisions_on(isa) == expected
