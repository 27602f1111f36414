import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.measurement.protocol import Protocol
from quantfleet_domain.measurement.samples import Samples, decode, encode

PROTOCOL = Protocol("end2end", warmup=0, repeat=3, blocks=2, threads=2, batch=4)
SAMPLES = Samples(PROTOCOL, {"fp32": ((3, 4), (5,)), "int8": ((1, 2), (3,))})


@settings(deadline=None)
@given(st.data())
def test_samples_survive_a_round_trip(data: st.DataObject) -> None:
    blocks = tuple(
        tuple(data.draw(st.lists(st.integers(1, 2**62), min_size=size, max_size=size))) for size in PROTOCOL.block_sizes
    )
    name = data.draw(st.text(max_size=8))
    parts = data.draw(st.sets(st.sampled_from(["h2d", "compute", "d2h"])))
    samples = Samples(PROTOCOL, {name: blocks}, {name: dict.fromkeys(parts, blocks)} if parts else {})
    assert decode(encode(samples)) == samples
    assert encode(decode(encode(samples))) == encode(samples)


def test_a_file_without_parts_does_not_speak_of_them() -> None:
    assert "parts" not in json.loads(encode(SAMPLES))
    assert decode(encode(SAMPLES)).parts == {}


def test_a_part_that_took_no_time_that_its_clock_could_tell_is_kept() -> None:
    samples = replace(SAMPLES, parts={"int8": {"h2d": ((0, 1), (0,))}})
    assert decode(encode(samples)) == samples


@pytest.mark.parametrize(
    "parts",
    [
        {"int8": {"h2d": [[1, 2]]}},
        {"int8": {"h2d": [[1], [2, 3]]}},
        {"int8": {"h2d": [[1, -2], [3]]}},
        {"int8": {"h2d": [[1, 2.5], [3]]}},
        {"fp16": {"h2d": [[1, 2], [3]]}},
        {"int8": [[1, 2], [3]]},
    ],
)
def test_parts_that_are_not_those_of_the_timed_runs_are_refused(parts: object) -> None:
    document = {**json.loads(encode(SAMPLES)), "parts": parts}
    with pytest.raises(QuantfleetError, match="no raw samples file") as caught:
        decode(json.dumps(document).encode())
    assert caught.value.code is ErrorCode.REPORT_INVALID


def test_the_order_of_variants_does_not_change_the_bytes() -> None:
    turned = Samples(PROTOCOL, {name: SAMPLES.variants[name] for name in ("int8", "fp32")})
    assert encode(turned) == encode(SAMPLES)


def test_the_file_names_its_schema_and_unit() -> None:
    document = json.loads(encode(SAMPLES))
    assert document["schema"] == "quantfleet/samples/v1"
    assert document["unit"] == "ns"


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "quantfleet/samples/v2"},
        {"unit": "ms"},
        {"variants": {"fp32": [[3, 4]]}},
        {"variants": {"fp32": [[3, 4], [0]]}},
        {"variants": {"fp32": [[3, 4], [1.5]]}},
        {"variants": [1]},
        {"protocol": {"mode": "dreamt"}},
    ],
)
def test_a_damaged_file_is_one_clear_error(change: dict[str, object]) -> None:
    document = {**json.loads(encode(SAMPLES)), **change}
    with pytest.raises(QuantfleetError) as caught:
        decode(json.dumps(document).encode())
    assert caught.value.code is ErrorCode.REPORT_INVALID


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"\xff", b"{}"])
def test_something_else_is_one_clear_error(data: bytes) -> None:
    with pytest.raises(QuantfleetError, match="no raw samples file"):
        decode(data)
