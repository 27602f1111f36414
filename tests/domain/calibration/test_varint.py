import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantfleet_domain.calibration.varint import decode_varints, encode_varints

numbers = st.lists(st.one_of(st.integers(0, 300), st.integers(0, 2**63 - 1)))


@given(numbers, st.binary(max_size=20))
def test_numbers_read_back_and_leave_what_follows(values, rest):
    data = encode_varints(np.array(values, np.int64))
    decoded, length = decode_varints(np.frombuffer(data + rest, np.uint8), len(values))
    assert decoded.tolist() == values
    assert length == len(data)


def test_the_encoding_is_leb128():
    assert encode_varints(np.array([0, 127, 128, 300], np.int64)) == bytes([0, 0x7F, 0x80, 1, 0xAC, 2])


@pytest.mark.parametrize(
    "data", [b"", b"\x80", b"\x01", b"\x80" * 9 + b"\x01", b"\xff" * 30, b"\x80" * 12 + b"\x01\x01"]
)
def test_a_number_cut_off_or_too_long_is_an_error(data):
    with pytest.raises(ValueError, match="63 bits"):
        decode_varints(np.frombuffer(data, np.uint8), 2)
