"""A scale table of thresholds that another tool found: which range every tensor gets, and what is said of the rest."""

from dataclasses import replace

import pytest

from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.calibration.imported import Origin, completed, imported_table, symmetric
from quantfleet_domain.calibration.scales import ActivationRow, ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError

ORIGIN = Origin("tensorrt", "8401-EntropyCalibration2", "5" * 64)
KNOWN = {"relu_0.tmp_0": 3.0, "x": 2.0, "logits": 1.5}


def table(thresholds: dict[str, float], graph: CalibrationGraph, *nonnegative: str) -> ScaleTable:
    return imported_table(symmetric(thresholds), graph, nonnegative, model="9" * 64, origin=ORIGIN)


def refusal(thresholds: dict[str, float], graph: CalibrationGraph) -> str:
    with pytest.raises(QuantfleetError) as caught:
        table(thresholds, graph)
    assert caught.value.code is ErrorCode.SCALES_INVALID
    return caught.value.what


def filled(thresholds: dict[str, float], moves: list[tuple[str, str]]) -> dict[str, float]:
    return {name: hi for name, (_, hi) in completed(symmetric(thresholds), moves).items()}


def ranges(made: ScaleTable) -> dict[str, tuple[float, float]]:
    return {row.tensor: (row.lo, row.hi) for row in made.activations}


def test_a_range_is_symmetric_but_for_a_tensor_that_cannot_be_negative(graph: CalibrationGraph) -> None:
    made = table(KNOWN, graph, "relu")
    assert ranges(made) == {"relu": (0.0, 3.0), "input": (-2.0, 2.0), "logits": (-1.5, 1.5)}
    assert made.activations[0] == ActivationRow("relu", "relu_0.tmp_0", "imported", 0.0, 3.0, None, 0)
    assert [row.absmax for row in made.weights] == [(0.5, 0.25), (1.0,)]


def test_a_native_name_comes_before_a_reference_name(graph: CalibrationGraph) -> None:
    assert ranges(table({**KNOWN, "relu": 9.0}, graph))["relu"] == (-3.0, 3.0)
    assert ranges(table({"relu": 9.0, "x": 2.0, "logits": 1.0}, graph))["relu"] == (-9.0, 9.0)


def test_the_header_says_where_it_came_from_and_of_the_rest_that_it_is_not_known(graph: CalibrationGraph) -> None:
    made = table(KNOWN, graph)
    header, numerics = made.header, made.header.numerics_class
    assert (header.model, header.manifest, header.calibrator) == ("9" * 64, "imported:" + "5" * 64, "imported")
    assert (numerics.engine, numerics.engine_version) == (ORIGIN.engine, ORIGIN.engine_version)
    assert (numerics.isa, numerics.threads, numerics.batch, numerics.statistic_version) == ("unknown", 0, 0, 0)
    assert ScaleTable.from_json(made.to_json()) == made


def test_tied_tensors_share_the_widest_range_and_one_without_a_threshold_has_it_too(graph: CalibrationGraph) -> None:
    tied = replace(graph, ties=(("relu", "input", "logits"),))
    made = table({"relu_0.tmp_0": 3.0, "x": 2.0}, tied, "relu")
    assert ranges(made) == dict.fromkeys(graph.activations, (-2.0, 3.0))
    assert [row.tied_to for row in made.activations] == [None, "relu", "relu"]
    assert made.activations[2].native_name is None


def test_tensors_without_a_threshold_are_named_and_counted(graph: CalibrationGraph) -> None:
    assert "no range for 2 of 3 tensors of the model: 'relu_0.tmp_0', 'logits'" in refusal({"x": 1.0}, graph)
    many = replace(graph, activations=tuple(f"t{i}" for i in range(8)), native_names={})
    assert "8 of 8 tensors of the model: 't0', 't1', 't2', 't3', 't4', …" in refusal({}, many)


@pytest.mark.parametrize("threshold", [-1.0, float("nan"), float("inf"), 1e39])
def test_a_threshold_that_is_no_magnitude_is_an_error_that_names_the_tensor(
    graph: CalibrationGraph, threshold: float
) -> None:
    assert "'relu'" in refusal({**KNOWN, "relu_0.tmp_0": threshold}, graph)


def test_a_tensor_takes_the_threshold_of_its_nearest_neighbour_with_the_same_values() -> None:
    moves = [("a", "b"), ("b", "c"), ("c", "d"), ("x", "y")]
    assert filled({"a": 1.0, "d": 4.0}, moves) == {"a": 1.0, "b": 1.0, "c": 4.0, "d": 4.0}
    assert filled({"b": 2.0, "z": 1.0}, moves) == {"a": 2.0, "b": 2.0, "c": 2.0, "d": 2.0, "z": 1.0}


def test_of_two_neighbours_that_are_as_near_the_larger_threshold_is_taken() -> None:
    assert filled({"a": 1.0, "b": 3.0}, [("a", "m"), ("m", "b")])["m"] == 3.0
