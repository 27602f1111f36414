"""A statistic of extremes alone gives absmax and avg what a whole one gives them, and is never taken for one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from quantfleet_domain.calibration.calibrators import EXTREMES_CALIBRATORS, calibrator_named
from quantfleet_domain.calibration.partial import Partial, PartialAccumulator, merge_partials
from quantfleet_domain.calibration.statistic import EXTREMES_VERSION
from quantfleet_domain.errors import ErrorCode, QuantfleetError

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
tensor = arrays(np.float32, st.integers(0, 12), elements=finite)


def count(numerics, samples):
    accumulator = PartialAccumulator(numerics, ("t",))
    for index, values in samples.items():
        accumulator.observe(index, str(index), {"t": values})
    return accumulator.partial()


@pytest.fixture(scope="session")
def extremes(numerics):
    return replace(numerics, statistic_version=EXTREMES_VERSION)


@settings(max_examples=80)
@given(samples=st.dictionaries(st.integers(0, 99), tensor, min_size=1, max_size=8))
def test_the_ranges_are_those_of_a_whole_statistic(numerics, extremes, samples):
    whole, small = (count(found, samples).tensors["t"] for found in (numerics, extremes))
    for name in EXTREMES_CALIBRATORS:
        assert calibrator_named(name).clip_range(small) == calibrator_named(name).clip_range(whole)
    assert small.elements == 2 * sum(values.size > 0 for values in samples.values())


@settings(max_examples=80)
@given(data=st.data(), samples=st.lists(tensor, min_size=1, max_size=8))
def test_any_sharding_gives_the_same_bytes_and_a_shard_can_be_taken_out(extremes, data, samples):
    shards = data.draw(st.lists(st.integers(0, 3), min_size=len(samples), max_size=len(samples)))
    manifest = dict(enumerate(samples))
    parts = [
        count(extremes, {index: values for index, values in manifest.items() if shards[index] == shard})
        for shard in data.draw(st.permutations(sorted(set(shards))))
    ]
    merged, single = merge_partials(parts), count(extremes, manifest)
    assert merged.encode() == single.encode()
    assert Partial.decode(single.encode()) == single
    assert single.without(parts[0]) == merge_partials([count(extremes, {}), *parts[1:]])


def test_it_never_merges_with_a_whole_statistic(numerics, extremes):
    with pytest.raises(QuantfleetError, match="statistic_version: 2 and 1") as caught:
        count(extremes, {0: np.ones(3, np.float32)}).merge(count(numerics, {1: np.ones(3, np.float32)}))
    assert caught.value.code is ErrorCode.NUMERICS_MISMATCH


def test_a_partial_that_counts_more_than_it_says_is_refused(numerics, extremes):
    whole = count(numerics, {0: np.arange(5, dtype=np.float32)})
    with pytest.raises(QuantfleetError, match="counts more than the extremes"):
        Partial.decode(replace(whole, numerics_class=extremes).encode())
    assert Partial.decode(whole.encode()) == whole
