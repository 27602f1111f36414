from dataclasses import replace

import pytest

from quantfleet_domain.calibration.diff import HeaderChange, diff
from quantfleet_domain.calibration.scales import ActivationRow, ScalesHeader, ScaleTable, WeightRow


def activation(tensor, lo=0.0, hi=1.0):
    return ActivationRow(tensor, None, "absmax", lo, hi, None, 4)


@pytest.fixture(scope="module")
def table(numerics):
    header = ScalesHeader("m", "f", "p", "percentile", 99.9, numerics)
    return ScaleTable(
        header, (activation("a"), activation("b", -2.0, 4.0)), (WeightRow("w", None, 0, (1.0, 2.0, 0.0)),)
    )


def test_equal_tables_do_not_differ(table):
    assert diff(table, ScaleTable.from_json(table.to_json())).empty


def test_rows_of_one_table_alone_are_named(table):
    other = replace(table, activations=(activation("c"), activation("a")), weights=())
    found = diff(table, other)
    assert (found.activations_only_in_a, found.activations_only_in_b) == (("b",), ("c",))
    assert (found.weights_only_in_a, found.weights_only_in_b) == (("w",), ())
    assert not found.activations_changed
    assert not found.empty


def test_a_changed_range_is_shown_before_and_after_and_relative_to_its_peak(table):
    other = replace(table, activations=(activation("a"), activation("b", -2.0, 3.0)))
    (change,) = diff(table, other).activations_changed
    assert (change.tensor, change.before.hi, change.after.hi, change.relative) == ("b", 4.0, 3.0, 0.25)
    (back,) = diff(other, table).activations_changed
    assert back.relative == change.relative


def test_a_range_that_was_nothing_changes_wholly(table):
    empty, other = (replace(table, activations=(activation("a", 0.0, hi),)) for hi in (0.0, 5.0))
    assert diff(empty, other).activations_changed[0].relative == 1.0


def test_another_count_of_samples_is_a_change_of_no_size(table):
    other = replace(table, activations=(replace(table.activations[0], samples=5), table.activations[1]))
    (change,) = diff(table, other).activations_changed
    assert change.relative == 0.0


def test_weights_are_compared_channel_by_channel(table):
    other = replace(table, weights=(WeightRow("w", None, 0, (0.5, 2.0, 0.0)),))
    assert diff(table, other).weights_changed[0].relative == 0.5
    for row in (WeightRow("w", None, 1, (1.0, 2.0, 0.0)), WeightRow("w", None, 0, (1.0, 2.0))):
        assert diff(table, replace(table, weights=(row,))).weights_changed[0].relative is None


def test_header_differences_are_named_by_their_place(table):
    numerics = replace(table.header.numerics_class, isa="x86-64/avx512f")
    other = replace(table, header=replace(table.header, parameter=99.99, numerics_class=numerics))
    assert diff(table, other).header == (
        HeaderChange("parameter", 99.9, 99.99),
        HeaderChange("numerics_class.isa", "x86-64/avx2", "x86-64/avx512f"),
    )
