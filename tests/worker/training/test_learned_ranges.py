from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.calibration.scales import ActivationRow, ScalesHeader, ScaleTable
from quantfleet_worker.training.export import LEARNED, with_learned_ranges

HEADER = ScalesHeader("", "", "", "absmax", None, NumericsClass("onnxruntime-cpu", "", "", "", "", "", 2))


def row(name: str, lo: float, hi: float, tied_to: str | None = None) -> ActivationRow:
    return ActivationRow(name, name.upper(), "absmax", lo, hi, tied_to, 4)


def ranges(*rows: ActivationRow, **learned: float) -> dict[str, tuple[float, float]]:
    table = with_learned_ranges(ScaleTable(HEADER, rows, ()), learned)
    return {row.tensor: (row.lo, row.hi) for row in table.activations}


def test_the_larger_side_becomes_what_was_learned_and_the_other_stays_within_it() -> None:
    rows = [row("a", 0, 6), row("b", -8, 2), row("c", -3, 4)]
    assert ranges(*rows, A=5.0, B=9.0, C=2.5) == {"a": (0, 5), "b": (-9, 2), "c": (-2.5, 2.5)}


def test_what_was_not_learned_stays_as_it_was_observed() -> None:
    table = with_learned_ranges(ScaleTable(HEADER, (row("a", 0, 6), row("b", 0, 7)), ()), {"B": 4.0})
    assert [(found.hi, found.calibrator) for found in table.activations] == [(6, "absmax"), (4, LEARNED)]


def test_tied_tensors_still_share_the_range_that_covers_them() -> None:
    rows = [row("a", -1, 6), row("b", -1, 6, tied_to="a")]
    assert ranges(*rows, A=3.0, B=5.0) == {"a": (-1, 5), "b": (-1, 5)}
