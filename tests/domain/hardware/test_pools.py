"""The selector language of pools: what matches, what does not and why, and what a mistake is told."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.domain.jobs.sample_jobs import PHONE, T4, gpu, phone

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import ISA_FLAGS, CpuFacts, DeviceFacts, EngineFacts, VnniSelfTest, numerics_isa
from quantfleet_domain.hardware.pools import BUILT_IN_POOLS, parse

XEON = DeviceFacts(
    device="cpu:0",
    kind="cpu",
    hardware=CpuFacts(
        model_name="Intel(R) Xeon(R) Platinum 8259CL",
        vendor="GenuineIntel",
        architecture="x86_64",
        isa=("avx2", "avx512_vnni", "avx512f", "fma"),
        sockets=1,
        physical_cores=2,
        logical_cores=4,
        memory_bytes=16_000_000_000,
        max_khz=None,
        governor=None,
        vnni=VnniSelfTest(int8_ns=1.0, fp32_ns=3.0, ratio=3.0, verdict="int8-fast"),
        vnni_missing="",
    ),
    engines=(
        EngineFacts("onnxruntime-cpu", "1.31.1", ("fp32", "int8"), True, ""),
        EngineFacts("paddle-cpu", "", (), False, "paddlepaddle"),
    ),
    cores=(0, 1, 2, 3),
    slots=(0, 1),
    measurement_domain="boot",
    numerics_isa="x86_64/avx512f",
    verified=True,
)


@pytest.mark.parametrize(
    "text",
    [
        "isa contains avx512_vnni",
        "kind == cpu",
        "kind != cuda",
        "memory_bytes >= 16000000000",
        "memory_bytes == 1.6e10",
        "sockets < 2",
        "model_name contains Xeon",
        'model_name contains "Platinum 8259CL"',
        "kind==cpu and physical_cores<=2 and int8_ratio > 2.5",
        "int8 == int8-fast",
        "engines contains onnxruntime-cpu",
        "vendor == 'GenuineIntel'",
    ],
)
def test_a_selector_matches_the_facts_it_describes(text: str) -> None:
    assert parse(text).matches(XEON)
    assert parse(text).why_not(XEON) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("isa contains amx_int8", "cpu:0: isa contains amx_int8 does not hold: isa is avx2 avx512_vnni avx512f fma"),
        ("kind == cpu and sockets > 1", "cpu:0: sockets > 1 does not hold: sockets is 1"),
        ("engines contains paddle-cpu", "cpu:0: engines contains paddle-cpu does not hold: engines is onnxruntime-cpu"),
        ("max_khz > 1", "cpu:0: max_khz > 1 does not hold: max_khz is not known"),
        ("governor != powersave", "cpu:0: governor != powersave does not hold: governor is not known"),
    ],
)
def test_a_selector_says_which_condition_fails_and_what_was_found(text: str, reason: str) -> None:
    assert not parse(text).matches(XEON)
    assert parse(text).why_not(XEON) == reason


def test_a_flag_is_matched_as_a_whole_and_not_as_a_part_of_another() -> None:
    assert not parse("isa contains avx").matches(XEON)


@pytest.mark.parametrize(
    ("text", "column", "hint"),
    [
        ("", 1, "it is empty"),
        ("  ", 1, "it is empty"),
        ("isas contains avx2", 1, "did you mean 'isa'"),
        ("kind == cpu and memory_byte > 1", 17, "did you mean 'memory_bytes'"),
        ("kind = cpu", 6, "write one of == !="),
        ("isa == avx2", 5, "write one of contains"),
        ("kind >= cpu", 6, "write one of == !="),
        ("memory_bytes >= lots", 17, "'lots' is not"),
        ("kind ==", 8, "a value is missing"),
        ("kind == and sockets > 1", 9, "a value is missing"),
        ("kind", 5, "must be compared"),
        ("kind == cpu sockets > 1", 13, "where 'and' must follow"),
        ("and kind == cpu", 1, "nothing before"),
        ("kind == cpu and", 16, "nothing after"),
        ("kind == 'cpu", 9, "nothing closes"),
    ],
)
def test_a_mistake_is_located_by_column_and_told_what_to_write(text: str, column: int, hint: str) -> None:
    with pytest.raises(QuantfleetError) as error:
        parse(text)
    assert error.value.code is ErrorCode.JOB_INVALID
    assert f"column {column}:" in error.value.what
    assert hint in str(error.value)


@given(st.text(max_size=40))
def test_any_text_is_a_selector_or_one_clear_error(text: str) -> None:
    try:
        selector = parse(text)
    except QuantfleetError as error:
        code = error.code
    else:
        selector.matches(XEON)
        return
    assert code is ErrorCode.JOB_INVALID


@given(st.sampled_from(["cpu", "and", "x y", "==", "1", "Xeon"]))
def test_a_quoted_value_is_taken_as_it_stands(value: str) -> None:
    assert parse(f'model_name == "{value}"').conditions[0].value == value


def test_every_built_in_pool_can_be_read_and_selects_what_it_names() -> None:
    pools = {pool.name: pool.selector for pool in BUILT_IN_POOLS}
    assert {name for name, selector in pools.items() if selector.matches(XEON)} == {
        "cpu",
        "x86",
        "xeon-vnni",
        "x86-vnni",
    }
    phone = replace(XEON, kind="arm", hardware=replace(XEON.hardware, architecture="aarch64", isa=("asimd", "asimddp")))
    assert {name for name, selector in pools.items() if selector.matches(phone)} == {"arm", "arm-dotprod", "phone"}


@pytest.mark.parametrize(
    ("facts", "isa", "name"),
    [
        (gpu(), ("sm_75",), "Tesla T4"),
        (replace(gpu(), gpu=replace(T4, compute_capability="12.0")), ("sm_120",), "Tesla T4"),
        (phone(), ("asimd", "asimddp"), "SM8250"),
        (replace(phone(), phone=replace(PHONE, soc=""), hardware=XEON.hardware), XEON.hardware.isa, XEON.model_name),
        (XEON, ("avx2", "avx512_vnni", "avx512f", "fma"), "Intel(R) Xeon(R) Platinum 8259CL"),
    ],
)
def test_a_device_has_the_instruction_set_and_the_name_of_what_computes_there(
    facts: DeviceFacts, isa: tuple[str, ...], name: str
) -> None:
    assert (facts.isa, facts.model_name) == (isa, name)


@pytest.mark.parametrize(
    ("facts", "pools", "texts"),
    [
        (
            gpu(),
            {"cuda", "t4"},
            (
                "compute_capability >= 7.5 and compute_capability < 8",
                "compute_capability == 7.5",
                "isa contains sm_75",
                "gpu_memory_bytes >= 16e9",
                "model_name contains T4 and architecture == x86_64",
            ),
        ),
        (
            phone(),
            {"arm", "arm-dotprod", "phone"},
            (
                "soc == SM8250 and transport == adb",
                "soc contains SM82",
                "abis contains armeabi-v7a and isa contains asimddp",
                "kind == arm and device == arm:9f3a",
            ),
        ),
    ],
)
def test_a_pool_selects_gpus_and_phones_by_what_they_are(
    facts: DeviceFacts, pools: set[str], texts: tuple[str, ...]
) -> None:
    assert {pool.name for pool in BUILT_IN_POOLS if pool.selector.matches(facts)} == pools
    for text in texts:
        assert parse(text).why_not(facts) == ""
        assert not parse(text).matches(XEON)


def test_a_newer_gpu_is_no_older_one_though_its_number_sorts_before_it() -> None:
    newer = replace(gpu(), gpu=replace(T4, compute_capability="10.0"))
    assert parse("compute_capability > 7.5").matches(newer)


def test_a_capability_that_is_no_number_satisfies_nothing_and_stops_nobody() -> None:
    claimed = replace(gpu(), gpu=replace(T4, compute_capability="seven"))
    why = parse("compute_capability >= 7.5").why_not(claimed)
    assert why == "cuda:0: compute_capability >= 7.5 does not hold: compute_capability is not known"


@pytest.mark.parametrize(
    ("architecture", "isa", "expected"),
    [
        ("x86_64", ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"), "x86_64/avx512_core"),
        ("x86_64", ("avx512f", "avx2", "fma"), "x86_64/avx512f"),
        ("x86_64", ("avx", "avx2", "fma", "avx_vnni"), "x86_64/avx2"),
        ("x86_64", ("avx", "avx2"), "x86_64/avx"),
        ("x86_64", ("sse4_2",), "x86_64/baseline"),
        ("aarch64", ("asimd", "asimddp", "i8mm"), "aarch64/asimd"),
        ("aarch64", ("asimd", "sve"), "aarch64/sve"),
        ("aarch64", ("asimd", "sme"), "aarch64/sme"),
        ("aarch64", ("asimd", "sme", "sme2"), "aarch64/sme2"),
        ("aarch64", ("asimd", "sme", "sve", "sve2"), "aarch64/sme+sve"),
        ("aarch64", ("asimd", "sme", "sme2", "sve", "sve2"), "aarch64/sme2+sve"),
    ],
)
def test_the_numerics_isa_names_the_float_kernels_and_nothing_else(
    architecture: str, isa: tuple[str, ...], expected: str
) -> None:
    assert numerics_isa(architecture, isa) == expected


def test_processors_whose_sve_vectors_differ_in_length_are_of_two_classes() -> None:
    assert numerics_isa("aarch64", ("asimd", "sve"), 128) == "aarch64/sve128"
    assert numerics_isa("aarch64", ("asimd", "sme", "sve"), 512) == "aarch64/sme+sve512"
    assert numerics_isa("aarch64", ("asimd",), 0) == "aarch64/asimd"


def test_the_flags_are_sorted_so_that_facts_compare_equal() -> None:
    assert tuple(sorted(ISA_FLAGS)) == ISA_FLAGS
