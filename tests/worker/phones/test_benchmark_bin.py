from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tests.worker.phones.printed import MISMATCH, TRUNCATED, USAGE, report

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.measurement.latency import Round
from quantfleet_worker.phones.benchmark_bin import Invocation, parse, values_as_text, values_of_text

RUN = Invocation(
    binary="/data/local/tmp/q/benchmark_bin",
    model="/data/local/tmp/q/model0.nb",
    backend="arm",
    power_mode="full",
    threads=2,
    warmup=10,
    repeats=100,
    shapes=((1, 3, 224, 224),),
    types=("float32",),
)


def test_the_command_line_has_the_tools_own_flags() -> None:
    assert RUN.command() == [
        "/data/local/tmp/q/benchmark_bin",
        "--optimized_model_file=/data/local/tmp/q/model0.nb",
        "--backend=arm",
        "--power_mode=2",
        "--threads=2",
        "--warmup=10",
        "--repeats=100",
        "--input_shape=1,3,224,224",
    ]


def test_several_inputs_and_outputs_are_parted_by_colons_and_other_types_are_named() -> None:
    run = replace(
        RUN, shapes=((1, 6), (1, 2)), types=("int64", "float32"), inputs=("/a", "/b"), outputs=("/c", "/d"), memory=True
    )
    assert run.command()[-5:] == [
        "--input_shape=1,6:1,2",
        "--input_data_type=int64:float32",
        "--input_data_path=/a:/b",
        "--output_data_path=/c:/d",
        "--enable_memory_profile=true",
    ]


@pytest.mark.parametrize("head", ["", None])
def test_the_figures_of_a_round_are_read_on_android_and_on_linux(head: str | None) -> None:
    text = report() if head is None else report(head=head)
    said = parse(text, "", 0, 100)
    assert said.round == Round(29_611_000, 29_204_000, 30_998_000, 100)
    assert (said.version, said.init_ms, said.shapes) == ("v2.13-rc", 21.5, ((1, 1000),))
    assert (said.peak_mb, said.notes, said.converted_by) == (None, (), "")


def test_every_output_has_its_shape() -> None:
    assert parse(report(shapes=((1, 4, 8, 8), (1,))), "", 0, 1).shapes == ((1, 4, 8, 8), (1,))


def test_the_memory_has_figures_of_its_own() -> None:
    said = parse(report(memory=(30.25, 61.5)), "", 0, 10)
    assert (said.peak_mb, said.init_ms) == (61.5, 21.5)


def test_what_the_log_says_of_fewer_threads_is_kept_once_without_its_stamp() -> None:
    said = parse(report(), TRUNCATED + TRUNCATED.replace("52.108", "52.109"), 0, 100)
    assert said.notes == ("Request thread num: 8, exceed the big cores size: 4, truncate thread num to 4",)


def test_a_library_unlike_the_opt_is_told() -> None:
    assert parse(report(version="v2.12"), MISMATCH, 0, 100).converted_by == "v2.13-rc"


def test_an_average_that_float32_pushed_past_the_greatest_is_the_greatest() -> None:
    said = parse(report(figures=(1, 2, 100.001, 100.001, 100.004)), "", 0, 100)
    assert said.round.mean_ns == said.round.max_ns == 100_001_000


@pytest.mark.parametrize(
    ("stdout", "stderr", "code", "said"),
    [
        (USAGE, "\nNo model path is set!\n", 0, "No model path is set!"),
        ("", "Mode file[/m.nb] not exist!\nAborted\n", 134, "Aborted"),
        ("", "ERROR: unknown command line flag 'output_data_path'\n", 1, "unknown command line flag"),
        ("", "", 0, "it printed nothing"),
        (report()[: report().index("avg")], "", 0, "max   = 30.998"),
        (report(figures=(1, 1, 5, 6, 60)), "", 0, "avg   = 60.000"),
        (report(figures=(1, 1, 0, 6, 3)), "", 0, "avg   = 3.000"),
        (report(), "", 139, "avg   = 29.611"),
    ],
)
def test_what_is_no_report_is_an_error_with_its_last_line(stdout: str, stderr: str, code: int, said: str) -> None:
    with pytest.raises(QuantfleetError) as caught:
        parse(stdout, stderr, code, 100)
    assert caught.value.code is ErrorCode.ENGINE_FAILED
    assert said in caught.value.what


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


@given(arrays.arrays(np.float32, arrays.array_shapes(max_dims=3, max_side=4), elements=FLOATS))
def test_an_input_file_holds_every_number_exactly(values: Any) -> None:
    read = values_of_text(values_as_text(values), values.shape)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values)


def test_ids_are_written_as_whole_numbers() -> None:
    assert values_as_text(np.array([[101, 2**40]])) == "101\n1099511627776\n"


def test_what_is_too_small_for_a_stream_becomes_zero() -> None:
    assert values_as_text(np.array([1e-40, -1e-45, 1], np.float32)) == "0\n0\n1\n"


def test_an_output_file_of_another_size_is_an_error() -> None:
    with pytest.raises(QuantfleetError, match=r"does not hold \[1, 3\] numbers"):
        values_of_text("0.5\n0.25\n", (1, 3))
