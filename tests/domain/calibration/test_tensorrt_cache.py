"""A calibration cache's text: every scale to the bit, and every mistake with its line."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantfleet_domain.calibration.forms import ActivationForm, activation_parameters
from quantfleet_domain.calibration.tensorrt_cache import CalibrationCache
from quantfleet_domain.errors import ErrorCode, QuantfleetError

SCALES = st.floats(0, width=32, allow_nan=False, allow_infinity=False).filter(lambda x: not np.signbit(x))
THRESHOLDS = st.floats(2.0**-100, 2.0**100, width=32)
NAMES = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1) | st.just("(Unnamed Layer* 3) [Relu]: out")


def cache(**scales: float) -> CalibrationCache:
    return CalibrationCache("8401", "EntropyCalibration2", scales)


def error(text: str) -> str:
    with pytest.raises(QuantfleetError) as caught:
        CalibrationCache.from_text(text.encode(), "a.cache")
    assert caught.value.code is ErrorCode.SCALES_INVALID
    return caught.value.what


def test_a_line_holds_the_bits_of_the_scale_the_most_significant_first() -> None:
    assert cache(data=1.0, pool=0.0).to_text() == b"TRT-8401-EntropyCalibration2\ndata: 3f800000\npool: 00000000\n"


@given(st.dictionaries(NAMES, SCALES))
def test_what_is_written_is_read_to_the_bit(scales: dict[str, float]) -> None:
    written = CalibrationCache("101401", "MinMaxCalibration", scales)
    found = CalibrationCache.from_text(written.to_text(), "a")
    assert found == written
    assert [struct.pack("<d", x) for x in found.scales.values()] == [struct.pack("<d", x) for x in scales.values()]


@given(THRESHOLDS)
def test_a_threshold_comes_back_within_a_step_of_float32_and_with_the_same_scale(threshold: float) -> None:
    there = CalibrationCache.of_thresholds("8401", "EntropyCalibration2", {"x": threshold})
    back = float(np.float32(there.thresholds()["x"]))
    assert abs(back - threshold) <= np.spacing(np.float32(threshold))
    scales = {activation_parameters(ActivationForm.S8_SYMMETRIC, -t, t).scale for t in (threshold, back)}
    assert scales == {np.float32(there.scales["x"])}


def test_short_numbers_blank_lines_and_windows_lines_are_read() -> None:
    text = b"TRT-8401-EntropyCalibration2\r\n366: 0\r\n\r\n(Unnamed Layer* 82) [Shuffle]_output: 3C56713E\r\n"
    found = CalibrationCache.from_text(text, "a.cache")
    assert found.scales == {
        "366": 0.0,
        "(Unnamed Layer* 82) [Shuffle]_output": struct.unpack(">f", bytes.fromhex("3c56713e"))[0],
    }


@pytest.mark.parametrize(
    ("lines", "place", "said"),
    [
        ("", "a.cache:1:", "TRT-8401-EntropyCalibration2"),
        ("x: 3f800000", "a.cache:1:", "TRT-8401-EntropyCalibration2"),
        ("TRT-1-A\nx: 3f80000g", "a.cache:2:", "3f80000g"),
        ("TRT-1-A\nx: 3f8000000", "a.cache:2:", "eight hexadecimal digits"),
        ("TRT-1-A\nx: ", "a.cache:2:", "eight hexadecimal digits"),
        ("TRT-1-A\nx", "a.cache:2:", "no tensor"),
        ("TRT-1-A\ny: 0\nx: 7f800000", "a.cache:3:", "not finite"),
        ("TRT-1-A\nx: 7fc00000", "a.cache:2:", "not finite"),
        ("TRT-1-A\nx: bf800000", "a.cache:2:", "negative"),
        ("TRT-1-A\nx: 80000000", "a.cache:2:", "negative"),
        ("TRT-1-A\nx: 0\n\nx: 0", "a.cache:4:", "'x' has a scale already"),
    ],
)
def test_a_mistake_is_told_with_its_line(lines: str, place: str, said: str) -> None:
    what = error(lines)
    assert what.startswith(place)
    assert said in what


def test_a_name_that_no_line_can_hold_is_not_written() -> None:
    for name in ("a\nb", " a", ""):
        with pytest.raises(QuantfleetError, match="cannot stand in a calibration cache"):
            cache(**{name: 1.0}).to_text()
