import contextlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.worker.phones.lite_models import DATA, DYNAMIC, FLOAT, INT8, SIDE, X86

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.phones.nb_file import NbFile, read_nb, without_junk


def content(name: str) -> bytes:
    return (DATA / name).read_bytes()


def read(name: str) -> NbFile:
    return read_nb(content(name), name)


def refusal(data: bytes) -> QuantfleetError:
    with pytest.raises(QuantfleetError) as caught:
        read_nb(data, "model.nb")
    return caught.value


def test_a_file_names_the_opt_that_made_it_and_the_target_of_its_kernels() -> None:
    assert (read(INT8).meta_version, read(INT8).opt_version) == (2, "v2.13-rc")
    assert [read(name).targets for name in (FLOAT, INT8, DYNAMIC, X86)] == [("arm",)] * 3 + [("x86",)]


def test_int8_kernels_are_counted_and_what_is_in_float_is_named_by_its_weight() -> None:
    counts = read(INT8).counts(quantized=True)
    assert (counts.int8, counts.quantizable) == (2, 3)
    assert counts.ran == ("conv2d_0.w_0 (conv2d)", "conv2d_1.w_0 (conv2d)")
    assert counts.fallbacks == ("linear_0.w_0 (fc): opt gave it a kernel in fp32",)


def test_a_float_file_has_no_int8_kernels_and_no_fallbacks() -> None:
    counts = read(FLOAT).counts(quantized=False)
    assert (counts.int8, counts.quantizable, counts.fallbacks) == (0, 3, ())


def test_weights_stored_as_integers_are_no_int8_kernels() -> None:
    counts = read(DYNAMIC).counts(quantized=True)
    assert counts.int8 == 0
    assert {reason.partition(": ")[2] for reason in counts.fallbacks} == {
        "its weight is stored in 8 bits, and Lite computes in float"
    }


def test_a_chain_of_int8_layers_hands_on_codes() -> None:
    first, second = (kernel for kernel in read(INT8).kernels if kernel.operator == "conv2d")
    assert (first.alias, first.precision, first.layout) == ("int8_out", "int8", "NCHW")
    assert dict(first.scales)["Output0_scale"] == dict(second.scales)["Input0_scale"]


def test_a_file_tells_its_inputs_and_outputs() -> None:
    for name in (FLOAT, INT8, DYNAMIC):
        assert read(name).inputs == {"x": ((None, 3, SIDE, SIDE), np.dtype(np.float32))}
        assert list(read(name).outputs.values()) == [np.dtype(np.float32)]
    assert list(read(INT8).outputs) == ["linear_0.tmp_1"]


def test_a_file_for_another_target_is_refused_by_both_names() -> None:
    read(INT8).require_target("arm", INT8)
    with pytest.raises(QuantfleetError, match=r"x86\.nb is made for x86, and this device is arm") as caught:
        read(X86).require_target("arm", X86)
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED


def test_format_1_has_the_same_graph() -> None:
    data = content(INT8)
    assert read_nb(struct.pack("<H", 1) + data[2:], "model.nb").kernels == read(INT8).kernels


def test_a_format_from_before_2_7_is_refused_with_its_version() -> None:
    error = refusal(struct.pack("<H16sQ", 0, b"v2.6.1", 0))
    assert error.code is ErrorCode.MODEL_UNSUPPORTED
    assert "opt v2.6.1" in error.what


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "shorter than its own head"),
        (b"PK\3\4 and so on, to the end of the head", "its format is number 19280"),
        (struct.pack("<H16sQ", 2, b"v2.13-rc", 0), "damaged"),
    ],
)
def test_other_bytes_are_no_model(data: bytes, said: str) -> None:
    error = refusal(data)
    assert error.code is ErrorCode.MODEL_UNREADABLE
    assert said in error.what


def test_a_truncated_graph_is_told_by_how_much_is_missing() -> None:
    assert "ends 1000 bytes before its graph does" in refusal(content(INT8)[: 26 + _graph_bytes() - 1000]).what


def _graph_bytes() -> int:
    size: int = struct.unpack_from("<Q", content(INT8), 18)[0]
    return size


@given(st.integers(26, 26 + _graph_bytes() - 1), st.binary(min_size=1, max_size=8))
def test_whatever_bytes_are_damaged_reading_ends_with_kernels_or_with_its_own_error(at: int, junk: bytes) -> None:
    data = content(INT8)
    with contextlib.suppress(QuantfleetError):
        read_nb(data[:at] + junk + data[at + len(junk) :], "model.nb")


def test_what_opt_leaves_behind_the_versions_end_is_cleared() -> None:
    data = content(INT8)
    junk = data[:11] + bytes(range(7)) + data[18:]
    assert junk != data
    assert without_junk(junk) == without_junk(data) == data
