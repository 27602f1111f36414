"""Sums over samples: exact, whatever the sharding, and one clear error for anything that is none."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantfleet_domain.calibration.sums import Sums, SumsAccumulator, merge_sums, unit_exponent
from quantfleet_domain.errors import ErrorCode, QuantfleetError

SUBJECT = "5" * 64
EXPONENTS = {"mean fp32 conv": -30, "error u8s8 conv": -25}
value = st.floats(-1000, 1000, width=32)
sample = st.fixed_dictionaries(
    {"mean fp32 conv": arrays(np.float32, 3, elements=value), "error u8s8 conv": arrays(np.float32, 1, elements=value)}
)


def add_up(numerics, samples, subject=SUBJECT, exponents=EXPONENTS):
    accumulator = SumsAccumulator(numerics, subject, exponents)
    for index, values in samples.items():
        accumulator.add(index, f"{index}.jpg", values)
    return accumulator.sums()


def outcome(attempt):
    try:
        attempt()
    except QuantfleetError as error:
        return error.code
    return "merged"


def ones(size=3):
    return {"mean fp32 conv": np.ones(size, np.float32), "error u8s8 conv": np.ones(1, np.float32)}


@settings(max_examples=80)
@given(st.data(), st.lists(sample, min_size=1, max_size=10))
def test_any_sharding_and_order_gives_the_same_bytes(numerics, data, samples):
    manifest = dict(enumerate(samples))
    shards = data.draw(st.lists(st.integers(0, 4), min_size=len(samples), max_size=len(samples)))
    order = data.draw(st.permutations(range(len(samples))))
    parts = [
        add_up(numerics, {index: manifest[index] for index in order if shards[index] == shard})
        for shard in data.draw(st.permutations(sorted(set(shards))))
    ]
    assert merge_sums(parts).to_json() == add_up(numerics, manifest).to_json()


@given(st.lists(sample, min_size=1, max_size=6))
def test_a_mean_is_that_of_the_values_to_half_a_unit(numerics, samples):
    sums = add_up(numerics, dict(enumerate(samples)))
    for name, exponent in EXPONENTS.items():
        exact = np.mean([values[name].astype(np.float64) for values in samples], axis=0)
        assert np.abs(sums.mean(name) - exact).max() <= 0.51 * 2.0**exponent


@given(st.dictionaries(st.integers(0, 2**40), sample, min_size=1, max_size=5))
def test_sums_read_back_as_they_were(numerics, samples):
    sums = add_up(numerics, samples)
    again = Sums.from_json(sums.to_json())
    assert again.to_json() == sums.to_json()
    assert again.samples == sums.samples


def test_an_overlap_of_samples_is_an_error(numerics):
    with pytest.raises(QuantfleetError, match="sample 2 and 1 more") as caught:
        add_up(numerics, {1: ones(), 2: ones(), 3: ones()}).merge(add_up(numerics, {2: ones(), 3: ones()}))
    assert caught.value.code is ErrorCode.SAMPLES_OVERLAP


def test_a_sample_is_added_once(numerics):
    accumulator = SumsAccumulator(numerics, SUBJECT, EXPONENTS)
    accumulator.add(7, "7.jpg", ones())
    with pytest.raises(QuantfleetError) as caught:
        accumulator.add(7, "7.jpg", ones())
    assert caught.value.code is ErrorCode.SAMPLES_OVERLAP


def test_sums_of_something_else_are_refused(numerics):
    here = add_up(numerics, {0: ones()})
    others = (
        add_up(numerics, {1: ones()}, subject="6" * 64),
        add_up(replace(numerics, isa="x86-64/avx512f"), {1: ones()}),
        add_up(numerics, {1: ones()}, exponents={**EXPONENTS, "error u8s8 conv": -24}),
        add_up(numerics, {1: ones(4)}),
        add_up(numerics, {1: ones()}, exponents={"mean fp32 conv": -30}),
    )
    for other in others:
        for one, another in ((here, other), (other, here)):
            with pytest.raises(QuantfleetError) as caught:
                one.merge(another)
            assert caught.value.code is ErrorCode.NUMERICS_MISMATCH


def test_nothing_to_add_up_is_an_error():
    with pytest.raises(QuantfleetError) as caught:
        merge_sums([])
    assert caught.value.code is ErrorCode.DATA_EMPTY


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**11, -(2.0**10)])
def test_what_is_not_finite_or_out_of_all_proportion_names_the_sample(numerics, bad):
    accumulator = SumsAccumulator(numerics, SUBJECT, EXPONENTS)
    values = {**ones(), "mean fp32 conv": np.array([0, bad, 0], np.float32)}
    with pytest.raises(QuantfleetError, match="sample 'lamp'") as caught:
        accumulator.add(0, "lamp", values)
    assert caught.value.code is ErrorCode.SAMPLE_NOT_FINITE


@given(st.floats(2.0**-100, 2.0**100, width=32))
def test_a_unit_leaves_room_for_a_thousand_times_the_bound_and_is_fine_enough(numerics, bound):
    exponent = unit_exponent(bound)
    assert bound * 2.0**-30 < 2.0**exponent <= bound * 2.0**-29
    far = np.array([1000 * bound], np.float32)
    total = add_up(numerics, {0: {"q": far}}, exponents={"q": exponent}).quantities["q"].totals
    assert abs(int(total[0])) << 22 < 1 << 63  # four million samples like this one


def test_a_bound_of_zero_has_a_unit_too(numerics):
    zero = {"q": np.zeros(1, np.float32)}
    assert add_up(numerics, {0: zero}, exponents={"q": unit_exponent(0.0)}).mean("q") == 0


def test_sums_do_not_change_after_they_were_taken(numerics):
    accumulator = SumsAccumulator(numerics, SUBJECT, EXPONENTS)
    accumulator.add(0, "0.jpg", ones())
    before = accumulator.sums()
    saved = before.to_json()
    accumulator.add(1, "1.jpg", ones())
    assert before.to_json() == saved
    with pytest.raises(ValueError, match="read-only"):
        before.quantities["mean fp32 conv"].totals[0] = 1


@settings(max_examples=150)
@given(st.data())
def test_damaged_json_is_one_error_or_other_sums(numerics, data):
    content = add_up(numerics, {0: ones(), 5: ones()}).to_json()
    at = data.draw(st.integers(0, len(content) - 1))
    cut = data.draw(st.integers(0, 3))
    damaged = content[:at] + data.draw(st.binary(max_size=4)) + content[at + cut :]
    found = outcome(lambda: Sums.from_json(damaged).merge(add_up(numerics, {9: ones()})))
    assert found in ("merged", ErrorCode.PARTIAL_INVALID, ErrorCode.NUMERICS_MISMATCH, ErrorCode.SAMPLES_OVERLAP)


@pytest.mark.parametrize(
    ("member", "value", "words"),
    [
        ("schema", "quantfleet/sums/v2", "schema: expected"),
        ("samples", [0, -1], r"samples\[1\]: expected an integer"),
        ("samples", "all", "samples: expected an array"),
        ("quantities", {"q": {"exponent": 0, "totals": [0.5]}}, r"quantities.q.totals\[0\]: expected an integer"),
        ("quantities", {"q": {"exponent": 0}}, "quantities.q: totals is missing"),
        ("quantities", {"q": {"exponent": 1 << 40, "totals": [1]}}, "quantities.q.exponent: expected"),
        ("quantities", {"q": {"exponent": 0, "totals": [1 << 62]}}, r"quantities.q.totals\[0\]: expected"),
        ("extra", 1, "unknown key 'extra'"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(numerics, member, value, words):
    document = json.loads(add_up(numerics, {0: ones()}).to_json()) | {member: value}
    with pytest.raises(QuantfleetError, match=words) as caught:
        Sums.from_json(json.dumps(document).encode())
    assert caught.value.code is ErrorCode.PARTIAL_INVALID
