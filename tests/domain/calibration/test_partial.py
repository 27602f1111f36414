import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantfleet_domain.calibration.calibrators import CALIBRATORS
from quantfleet_domain.calibration.partial import Partial, PartialAccumulator, merge_partials
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.varint import encode_varints
from quantfleet_domain.errors import ErrorCode, QuantfleetError

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
tensor = arrays(np.float32, st.integers(0, 12), elements=finite)
sample = st.fixed_dictionaries({"relu": tensor, "input": tensor, "logits": tensor})


def calibrate(numerics, samples):
    accumulator = PartialAccumulator(numerics, ("input", "relu", "logits"))
    for index, activations in samples.items():
        accumulator.observe(index, f"{index}.jpg", activations)
    return accumulator.partial()


def merge_by(data, partials):
    """Merges neighbours of a shuffled list in an arbitrary grouping."""
    partials = data.draw(st.permutations(partials))
    while len(partials) > 1:
        place = data.draw(st.integers(0, len(partials) - 2))
        partials[place : place + 2] = [partials[place].merge(partials[place + 1])]
    return partials[0]


@settings(max_examples=60)
@given(st.data(), st.lists(sample, min_size=1, max_size=8))
def test_any_sharding_order_and_grouping_gives_the_same_bytes(numerics, graph, data, samples):
    manifest = dict(enumerate(samples))
    shards = data.draw(st.lists(st.integers(0, 4), min_size=len(samples), max_size=len(samples)))
    order = data.draw(st.permutations(range(len(samples))))
    partials = [
        calibrate(numerics, {index: manifest[index] for index in order if shards[index] == shard})
        for shard in sorted(set(shards))
    ]
    merged, single = merge_by(data, partials), calibrate(numerics, manifest)
    assert merged.encode() == single.encode()
    for calibrator in CALIBRATORS.values():
        tables = [
            ScaleTable.build(partial, graph, calibrator, manifest="f" * 64, preprocessing="p" * 64)
            for partial in (merged, single)
        ]
        assert tables[0].to_json() == tables[1].to_json()


@settings(max_examples=30)
@given(st.dictionaries(st.one_of(st.integers(0, 300), st.integers(2**40, 2**62)), sample, max_size=6))
def test_a_partial_reads_back_as_it_was(numerics, samples):
    partial = calibrate(numerics, samples)
    assert Partial.decode(partial.encode()) == partial


def test_a_partial_of_a_realistic_size_reads_back(numerics):
    rng = np.random.default_rng(0)
    partial = calibrate(
        numerics,
        {i: {name: rng.normal(size=9000).astype(np.float32) for name in ("input", "relu", "logits")} for i in range(5)},
    )
    assert Partial.decode(partial.encode()) == partial


def test_an_overlap_of_samples_is_an_error(numerics):
    one, other = ({name: np.ones(2, np.float32) for name in ("input", "relu", "logits")} for _ in range(2))
    left, right = calibrate(numerics, {1: one, 2: one, 3: one}), calibrate(numerics, {2: other, 3: one})
    with pytest.raises(QuantfleetError, match="sample 2 and 1 more") as caught:
        left.merge(right)
    assert caught.value.code is ErrorCode.SAMPLES_OVERLAP


def test_samples_that_left_every_tensor_empty_overlap_all_the_same(numerics):
    empty = {name: np.ones(0, np.float32) for name in ("input", "relu", "logits")}
    with pytest.raises(QuantfleetError, match="sample 4") as caught:
        calibrate(numerics, {4: empty}).merge(calibrate(numerics, {4: empty}))
    assert caught.value.code is ErrorCode.SAMPLES_OVERLAP


def test_another_numerics_class_is_an_error_that_names_the_difference(numerics):
    other = replace(numerics, isa="x86-64/avx512f")
    with pytest.raises(QuantfleetError, match=r"isa: 'x86-64/avx2' and 'x86-64/avx512f'\)") as caught:
        calibrate(numerics, {}).merge(calibrate(other, {}))
    assert caught.value.code is ErrorCode.NUMERICS_MISMATCH


def test_other_tensors_are_an_error_that_names_them(numerics):
    with pytest.raises(QuantfleetError, match="'extra', 'input'") as caught:
        PartialAccumulator(numerics, ("relu", "extra")).partial().merge(
            PartialAccumulator(numerics, ("relu", "input")).partial()
        )
    assert caught.value.code is ErrorCode.PARTIAL_INVALID


def test_merging_nothing_is_an_error():
    with pytest.raises(QuantfleetError) as caught:
        merge_partials([])
    assert caught.value.code is ErrorCode.DATA_EMPTY


def test_merging_many_is_merging_them_one_by_one(numerics):
    shards = [
        calibrate(numerics, {i: {name: np.full(3, i, np.float32) for name in ("input", "relu", "logits")}})
        for i in range(4)
    ]
    assert merge_partials(shards[::-1]) == shards[0].merge(shards[1]).merge(shards[2].merge(shards[3]))


@settings(max_examples=60)
@given(st.data(), st.lists(sample, min_size=1, max_size=8))
def test_taking_a_part_out_is_the_inverse_of_merging(numerics, data, samples):
    taken = data.draw(st.sets(st.integers(0, len(samples) - 1)))
    manifest = dict(enumerate(samples))
    one, other = (
        calibrate(numerics, {index: manifest[index] for index in manifest if (index in taken) is mine})
        for mine in (True, False)
    )
    assert one.merge(other).without(other).encode() == one.encode()
    assert one.merge(other).without(one).encode() == other.encode()
    assert Partial.decode(one.merge(other).without(other).encode()) == one


@settings(max_examples=60)
@given(st.data(), st.lists(sample, min_size=1, max_size=8))
def test_other_indices_are_those_of_samples_that_were_observed_under_them(numerics, data, samples):
    indices = data.draw(st.lists(st.integers(0, 40), min_size=len(samples), max_size=len(samples), unique=True))
    partial = calibrate(numerics, dict(enumerate(samples)))
    renumbered = partial.renumbered(dict(enumerate(indices)))
    assert renumbered.encode() == calibrate(numerics, dict(zip(indices, samples, strict=True))).encode()
    assert renumbered.renumbered({new: old for old, new in enumerate(indices)}).encode() == partial.encode()


def encoded(numerics):
    rng = np.random.default_rng(1)
    names = ("input", "relu", "logits")
    samples = {i: {name: rng.normal(size=20).astype(np.float32) for name in names} for i in (3, 5, 900)}
    samples[6] = samples[3] | {"relu": np.zeros(0, np.float32)}
    return calibrate(numerics, samples).encode()


def read(data):
    try:
        return Partial.decode(data)
    except QuantfleetError as error:
        return error


def resealed(body):
    return body + hashlib.sha256(body).digest()


def test_every_truncation_is_a_clear_error(numerics):
    data = encoded(numerics)
    for length in range(len(data) - 32):
        for attempt in (data[:length], data[: length + 32], resealed(data[:length])):
            with pytest.raises(QuantfleetError) as caught:
                Partial.decode(attempt)
            assert caught.value.code is ErrorCode.PARTIAL_INVALID


@settings(max_examples=250)
@given(st.data())
def test_altered_bytes_are_refused_or_read_as_the_partial_they_now_are(numerics, data):
    """Even with a fitting digest, nothing but a PARTIAL_INVALID is raised, and what is accepted is canonical."""
    body = bytearray(encoded(numerics)[:-32])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=10))
    found = read(resealed(bytes(body)))
    if isinstance(found, QuantfleetError):
        assert found.code is ErrorCode.PARTIAL_INVALID
    else:
        assert found.encode() == resealed(bytes(body))
        for statistic in found.tensors.values():
            for calibrator in CALIBRATORS.values():
                assert 0 <= calibrator.threshold(statistic) <= statistic.absmax


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused(data):
    for attempt in (data, b"QFPARTIAL\x01" + data, resealed(b"QFPARTIAL\x01" + data)):
        with pytest.raises(QuantfleetError) as caught:
            Partial.decode(attempt)
        assert caught.value.code is ErrorCode.PARTIAL_INVALID


def test_indices_beyond_63_bits_are_refused(numerics):
    body = PartialAccumulator(numerics, ()).partial().encode()[:-32]
    assert body.endswith(b"\x00")  # no samples
    for gaps in ([2**62, 2**62, 0], [2**63 - 1, 0]):
        listed = encode_varints(np.array([len(gaps), *gaps], np.int64))
        with pytest.raises(QuantfleetError, match="63 bits"):
            Partial.decode(resealed(body[:-1] + listed))


def test_another_spelling_of_the_same_content_is_refused(numerics):
    body = PartialAccumulator(numerics, ()).partial().encode()[:-32]
    padded = body[:-1] + b"\x80\x00"  # no samples, in two bytes
    zeros = calibrate(numerics, {0: {name: np.zeros(1, np.float32) for name in ("input", "relu", "logits")}})
    negative_zero = zeros.encode()[:-33] + b"\x80"
    for spelling in (padded, negative_zero):
        with pytest.raises(QuantfleetError, match="not the canonical one"):
            Partial.decode(resealed(spelling))


def test_the_bytes_of_format_1_do_not_change(numerics):
    """A golden digest: whoever changes these bytes can no longer read what workers stored and must raise the format."""
    names = ("input", "relu", "logits")
    samples = {i: {name: np.arange(-3 * i, 100, dtype=np.float32) / 8 for name in names} for i in (2, 3, 70)}
    samples[5] = samples[3] | {"relu": np.zeros(0, np.float32)}
    data = calibrate(numerics, samples).encode()
    assert hashlib.sha256(data).hexdigest() == "996566ba70131de541e072279053ecf5fef6b00f752c7bc765accba3753f97f6"


def test_a_flipped_bit_is_noticed(numerics):
    data = bytearray(encoded(numerics))
    data[len(data) // 2] ^= 1
    with pytest.raises(QuantfleetError, match="cut off or damaged"):
        Partial.decode(bytes(data))
