import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantfleet_domain.calibration.calibrators import CALIBRATORS, calibrator_named
from quantfleet_domain.calibration.partial import PartialAccumulator
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.errors import ErrorCode, QuantfleetError


@pytest.fixture(scope="module")
def partial(numerics, graph):
    accumulator = PartialAccumulator(numerics, graph.activations)
    for index, factor in enumerate((1.0, 2.0)):
        arrays = {"relu": [0.0, 3.0], "input": [-0.1, 0.3], "logits": [-7.0]}
        accumulator.observe(
            index, f"{index}.jpg", {name: np.float32(values) * np.float32(factor) for name, values in arrays.items()}
        )
    return accumulator.partial()


@pytest.fixture(scope="module")
def table(partial, graph):
    return ScaleTable.build(partial, graph, CALIBRATORS["avg"], manifest="f" * 64, preprocessing="p" * 64)


def test_rows_follow_the_graph_and_carry_both_names(table):
    assert [(row.tensor, row.native_name) for row in table.activations] == [
        ("relu", "relu_0.tmp_0"),
        ("input", "x"),
        ("logits", None),
    ]
    assert [(row.tensor, row.native_name, row.axis, row.absmax) for row in table.weights] == [
        ("conv.w", "conv2d_0.w_0", 0, (0.5, 0.25)),
        ("fc.w", None, 1, (1.0,)),
    ]


def test_ranges_are_the_calibrators(table):
    relu, image, logits = table.activations
    assert (relu.lo, relu.hi, relu.calibrator, relu.samples, relu.tied_to) == (0.0, 4.5, "avg", 2, None)
    assert (image.lo, image.hi) == (float(np.float32(-0.2)), float(np.float32(0.3)) * 1.5)
    assert (logits.lo, logits.hi) == (-10.5, -7.0)


def test_the_header_says_what_the_table_is_a_function_of(partial, graph, numerics):
    table = ScaleTable.build(partial, graph, calibrator_named("percentile", 99.9), manifest="f", preprocessing="p")
    header = table.header
    assert (header.model, header.manifest, header.preprocessing) == (numerics.model, "f", "p")
    assert (header.calibrator, header.parameter, header.numerics_class) == ("percentile", 99.9, numerics)


def test_the_json_is_canonical_and_reads_back(table):
    data = table.to_json()
    document = json.loads(data)
    assert data == json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    assert document["schema"] == "quantfleet/scales/v1"
    assert ScaleTable.from_json(data) == table
    assert ScaleTable.from_json(json.dumps(document, indent=2).encode()).to_json() == data
    assert table.sha256 == hashlib.sha256(data).hexdigest()


def test_the_bytes_of_version_1_do_not_change(table):
    """A golden digest: whoever changes these bytes changes every stored table's name and must raise the schema."""
    assert table.sha256 == "426f94c166065981feafc90a3427d5acb7fed0c3c0a8432123d6e2d867080dca"


def test_a_partial_of_another_recipe_is_refused(partial, graph):
    with pytest.raises(QuantfleetError, match="recipe") as caught:
        ScaleTable.build(partial, replace(graph, recipe="x"), CALIBRATORS["avg"], manifest="", preprocessing="")
    assert caught.value.code is ErrorCode.NUMERICS_MISMATCH


def test_a_partial_of_other_tensors_is_refused(partial, graph):
    with pytest.raises(QuantfleetError, match="'logits'") as caught:
        ScaleTable.build(
            partial, replace(graph, activations=("relu", "input")), CALIBRATORS["avg"], manifest="", preprocessing=""
        )
    assert caught.value.code is ErrorCode.PARTIAL_INVALID


def altered(table, change):
    document = json.loads(table.to_json())
    change(document)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema="quantfleet/scales/v2"), 'schema: expected "quantfleet/scales/v1"'),
        (lambda d: d.pop("weights"), "document: weights is missing"),
        (lambda d: d.update(note=1), "document: unknown key 'note'"),
        (lambda d: d.update(activations={}), "activations: expected an array"),
        (lambda d: d["activations"][1].update(lo="a"), r'activations\[1\].lo: expected a finite number, found "a"'),
        (lambda d: d["activations"][1].update(lo=True), r"activations\[1\].lo: expected a finite number"),
        (lambda d: d["activations"][1].update(hi=1e39), r"activations\[1\].hi: expected a number within float32"),
        (lambda d: d["activations"][1].update(hi=10**400), r"activations\[1\].hi: expected a finite number"),
        (lambda d: d["activations"][1].update(hi=-5), r"activations\[1\].hi: expected a number of at least lo"),
        (lambda d: d["activations"][1].update(hi=float("nan")), "NaN is not a JSON number"),
        (lambda d: d["activations"][1].update(tensor="relu"), r"activations\[1\].tensor: 'relu' occurs twice"),
        (lambda d: d["activations"][1].update(tied_to="x"), r"activations\[1\].tied_to: there is no activation 'x'"),
        (lambda d: d["activations"][0].update(samples=-1), r"activations\[0\].samples: expected an integer"),
        (lambda d: d["activations"][0].update(tensor="\ud800"), r"activations\[0\].tensor: expected a string"),
        (lambda d: d["weights"][0].update(absmax=[1, -1]), r"weights\[0\].absmax\[1\]: expected a magnitude"),
        (lambda d: d["weights"][0].update(axis=0.0), r"weights\[0\].axis: expected an integer"),
        (lambda d: d["header"].update(parameter="x"), "header.parameter: expected a finite number"),
        (lambda d: d["header"]["numerics_class"].pop("isa"), "header.numerics_class: isa is missing"),
    ],
)
def test_a_wrong_table_is_an_error_that_names_the_place(table, change, message):
    with pytest.raises(QuantfleetError, match=message) as caught:
        ScaleTable.from_json(altered(table, change))
    assert caught.value.code is ErrorCode.SCALES_INVALID


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"{", b"[]", b"null", b"[" * 100_000, b'{"a":1,"a":2}', b"1" * 5000, b'{"schema":1e999}']
)
def test_what_is_no_table_at_all_is_refused(data):
    with pytest.raises(QuantfleetError, match="not a scale table") as caught:
        ScaleTable.from_json(data)
    assert caught.value.code is ErrorCode.SCALES_INVALID


def read(data):
    try:
        return ScaleTable.from_json(data)
    except QuantfleetError as error:
        return error


@settings(max_examples=200)
@given(st.data())
def test_altered_json_is_refused_or_read(table, data):
    document = bytearray(table.to_json())
    place = data.draw(st.integers(0, len(document) - 1))
    document[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    found = read(bytes(document))
    if isinstance(found, QuantfleetError):
        assert found.code is ErrorCode.SCALES_INVALID
    else:
        assert ScaleTable.from_json(found.to_json()) == found
