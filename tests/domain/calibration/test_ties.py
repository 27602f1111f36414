"""What ties do to a scale table: one range for a group, and nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantfleet_domain.calibration.calibrators import CALIBRATORS
from quantfleet_domain.calibration.graph import CalibrationGraph, NumericsClass
from quantfleet_domain.calibration.partial import Partial, PartialAccumulator
from quantfleet_domain.calibration.scales import ScaleTable

NAMES = ("a", "b", "c", "d", "e", "f")
GRAPH = CalibrationGraph(
    inputs=(),
    outputs=(),
    activations=NAMES,
    weights=(),
    native_names={name: name for name in NAMES},
    native_weights={},
    unmapped=(),
    recipe="r" * 64,
)

values = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=8)
observations = st.fixed_dictionaries(dict.fromkeys(NAMES, values))
calibrators = st.sampled_from(list(CALIBRATORS.values()))


@st.composite
def disjoint_groups(draw: st.DrawFn) -> tuple[tuple[str, ...], ...]:
    """Groups of two or more in recipe order."""
    places = draw(st.lists(st.integers(0, 2), min_size=len(NAMES), max_size=len(NAMES)))
    groups = [tuple(name for name, place in zip(NAMES, places, strict=True) if place == number) for number in range(3)]
    return tuple(sorted(group for group in groups if len(group) > 1))


def partial_of(numerics: NumericsClass, observed: Mapping[str, Sequence[float]]) -> Partial:
    accumulator = PartialAccumulator(numerics, NAMES)
    accumulator.observe(0, "0.jpg", {name: np.array(numbers, np.float32) for name, numbers in observed.items()})
    return accumulator.partial()


def build(partial: Partial, groups, calibrator, *, ties: bool = True) -> ScaleTable:
    graph = replace(GRAPH, ties=groups if ties else ())
    return ScaleTable.build(partial, graph, calibrator, manifest="m", preprocessing="p")


@given(observations, disjoint_groups(), calibrators)
def test_a_group_has_the_narrowest_range_that_covers_its_members(numerics, observed, groups, calibrator):
    partial = partial_of(numerics, observed)
    own = {row.tensor: row for row in build(partial, groups, calibrator, ties=False).activations}
    tied = {row.tensor: row for row in build(partial, groups, calibrator).activations}
    for group in groups:
        wanted = (min(own[name].lo for name in group), max(own[name].hi for name in group))
        assert {(tied[name].lo, tied[name].hi) for name in group} == {wanted}


@given(observations, disjoint_groups(), calibrators)
def test_what_is_in_no_group_keeps_its_range_and_all_keep_the_rest(numerics, observed, groups, calibrator):
    partial = partial_of(numerics, observed)
    own, tied = (build(partial, groups, calibrator, ties=ties) for ties in (False, True))
    grouped = {name for group in groups for name in group}
    for before, after in zip(own.activations, tied.activations, strict=True):
        assert replace(after, lo=before.lo, hi=before.hi, tied_to=None) == before
        assert after.tensor in grouped or after == before
    assert (own.header, own.weights) == (tied.header, tied.weights)


@given(observations, disjoint_groups())
def test_members_name_the_first_and_the_first_names_none(numerics, observed, groups):
    rows = build(partial_of(numerics, observed), groups, CALIBRATORS["absmax"]).activations
    firsts = {name: group[0] for group in groups for name in group[1:]}
    assert {row.tensor: row.tied_to for row in rows if row.tied_to} == firsts


@given(observations, disjoint_groups(), calibrators)
def test_a_tied_table_reads_back(numerics, observed, groups, calibrator):
    table = build(partial_of(numerics, observed), groups, calibrator)
    assert ScaleTable.from_json(table.to_json()) == table


@pytest.mark.parametrize("calibrator", CALIBRATORS.values(), ids=CALIBRATORS)
def test_a_tensor_that_was_never_observed_takes_the_range_of_its_group(numerics, calibrator):
    observed = {**dict.fromkeys(NAMES, ()), "a": (-1.0, 2.0)}
    rows = build(partial_of(numerics, observed), (("a", "b"),), calibrator).activations
    assert (rows[1].lo, rows[1].hi) == (rows[0].lo, rows[0].hi)
    assert (rows[1].samples, rows[1].hi > 0) == (0, True)
