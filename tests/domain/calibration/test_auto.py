from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantfleet_domain.calibration.auto import PARTS, candidate_tables, choose, part_of
from quantfleet_domain.calibration.calibrators import CALIBRATOR_NAMES, CALIBRATORS
from quantfleet_domain.calibration.error import Density, range_error
from quantfleet_domain.calibration.partial import PartialAccumulator, merge_partials
from quantfleet_domain.errors import ErrorCode, QuantfleetError

SAMPLES = 20


def part(index):
    return part_of(sha256(bytes([index])).hexdigest())


def activations(index):
    rng = np.random.default_rng([31, index])
    return {
        "relu": np.minimum(np.maximum(4 * rng.normal(size=2000), 0), 6).astype(np.float32),
        "input": rng.laplace(size=2000).astype(np.float32),
        "logits": rng.standard_t(2, size=2000).astype(np.float32),
    }


@pytest.fixture(scope="module")
def parts_of(numerics, graph):
    """The merged partials of each part, where the samples came in these shards."""

    def merged(shards):
        partials = []
        for shard in shards:
            parts = [PartialAccumulator(numerics, graph.activations) for _ in range(PARTS)]
            for index in shard:
                parts[part(index)].observe(index, f"{index}.jpg", activations(index))
            partials.append([accumulator.partial() for accumulator in parts])
        return [merge_partials(list(of_one_part)) for of_one_part in zip(*partials, strict=True)]

    return merged


@pytest.fixture(scope="module")
def parts(parts_of):
    return parts_of([range(SAMPLES)])


@pytest.fixture(scope="module")
def tables(parts, graph):
    return candidate_tables(parts, graph, manifest="m", preprocessing="p")


def test_a_sample_is_in_the_part_that_its_content_says():
    assert part_of("ff" * 32) == (2**256 - 1) % PARTS
    sizes = np.bincount([part(index) for index in range(200)], minlength=PARTS)
    assert sizes.sum() == 200
    assert sizes.min() > 20


def test_there_is_a_table_of_every_calibrator_and_of_auto(tables):
    assert tuple(tables) == CALIBRATOR_NAMES
    assert {name: table.header.calibrator for name, table in tables.items()} == {name: name for name in tables}
    assert tables["auto"].header.parameter is None
    assert tables["percentile"].header.parameter == CALIBRATORS["percentile"].parameter


def test_a_row_of_auto_is_the_row_of_the_chosen_method_over_all_samples(tables, parts, graph):
    for place, name in enumerate(graph.activations):
        chosen = choose([part.tensors[name] for part in parts])
        assert tables["auto"].activations[place] == tables[chosen].activations[place]
        assert tables["auto"].activations[place].samples == SAMPLES


def test_the_chosen_method_has_the_least_error_on_what_it_did_not_see(parts, graph):
    for name in graph.activations:
        errors = dict.fromkeys(CALIBRATORS, 0.0)
        for held_back in parts:
            fit = merge_partials([part for part in parts if part is not held_back]).tensors[name]
            for method, calibrator in CALIBRATORS.items():
                errors[method] += range_error(Density.of(held_back.tensors[name]), calibrator.clip_range(fit))
        chosen = choose([part.tensors[name] for part in parts])
        assert errors[chosen] <= min(errors.values()) * (1 + 1e-6)


def test_tensors_of_one_model_get_different_methods(tables):
    assert {row.tensor: row.calibrator for row in tables["auto"].activations} == {
        "relu": "absmax",
        "input": "absmax",
        "logits": "mse",
    }


def test_tied_tensors_get_one_method(parts, graph, tables):
    pair = ("relu", "logits")
    together = choose(*([part.tensors[name] for part in parts] for name in pair))
    assert together != choose([part.tensors["relu"] for part in parts])
    tied = candidate_tables(parts, replace(graph, ties=(pair,)), manifest="m", preprocessing="p")["auto"]
    assert {row.calibrator for row in tied.activations if row.tensor in pair} == {
        row.calibrator for row in tables[together].activations if row.tensor in pair
    }
    assert len({(row.lo, row.hi) for row in tied.activations if row.tensor in pair}) == 1


def test_neither_shards_nor_their_order_change_the_tables(tables, parts_of, graph):
    shards = parts_of([range(13, SAMPLES), [3], range(4, 13), [2, 0, 1]])
    again = candidate_tables(shards, graph, manifest="m", preprocessing="p")
    assert {name: table.to_json() for name, table in again.items()} == {
        name: table.to_json() for name, table in tables.items()
    }


def test_equal_methods_give_way_to_absmax(observe):
    """All of a saturated tensor's methods keep 6."""
    array = np.concatenate((np.linspace(0, 6, 1000), np.full(1000, 6.0)))
    statistic = observe(array)
    parts = [replace(statistic, samples=statistic.samples + index) for index in range(PARTS)]
    assert choose(parts) == "absmax"


@given(st.integers(0, 3))
def test_with_nothing_to_tell_the_methods_apart_it_is_absmax(observe, empty_parts):
    statistic = observe(np.random.default_rng(34).laplace(size=1000))
    assert choose([observe()] * empty_parts + [statistic]) == "absmax"
    assert choose([observe()] * (empty_parts + 1)) == "absmax"


def test_a_sample_in_two_parts_is_an_error(parts, graph):
    with pytest.raises(QuantfleetError) as caught:
        candidate_tables([parts[0], parts[0]], graph, manifest="m", preprocessing="p")
    assert caught.value.code is ErrorCode.SAMPLES_OVERLAP
