"""Which tensors a calibrator harms, as data for the report. Not for the limit or the replacing: see `calibrators`."""

from dataclasses import dataclass

from quantfleet_domain.calibration.calibrators import CALIBRATORS, calibrator_named, is_harmed
from quantfleet_domain.calibration.error import Density, clipping_error, sqnr_db
from quantfleet_domain.calibration.partial import Partial
from quantfleet_domain.calibration.scales import ScaleTable


@dataclass(frozen=True)
class Hurt:
    """A tensor to which a calibrator's own threshold costs clearly more than it gains (`calibrators.is_harmed`).

    `sqnr_db` is the tensor's expected signal-to-quantization-noise ratio on that threshold, `absmax_sqnr_db` on the
    unclipped range, both as u8-affine. `replaced_by` names the calibrator whose threshold is in the table in its place,
    None where the harmful one is.
    """

    tensor: str
    calibrator: str
    sqnr_db: float
    absmax_sqnr_db: float
    replaced_by: str | None


def hurts(table: ScaleTable, merged: Partial) -> tuple[Hurt, ...]:
    """The tensors that the table's calibrator harms, or would have if the guard had not replaced it: worst first.

    `merged` is the statistic that the table was built from. In a table of `auto`, each row answers for its own method.
    """
    found = []
    for row in table.activations:
        statistic = merged.tensors[row.tensor]
        asked = table.header.calibrator if table.header.calibrator in CALIBRATORS else row.calibrator
        parameter = table.header.parameter if asked == table.header.calibrator else None
        threshold = calibrator_named(asked, parameter).unguarded_threshold(statistic)
        density = Density.of(statistic)
        if is_harmed(density, threshold):
            found.append(
                Hurt(
                    tensor=row.tensor,
                    calibrator=asked,
                    sqnr_db=sqnr_db(density.power, clipping_error(density, threshold)),
                    absmax_sqnr_db=sqnr_db(density.power, clipping_error(density, statistic.absmax)),
                    replaced_by=None if row.calibrator == asked else row.calibrator,
                )
            )
    return tuple(sorted(found, key=lambda hurt: (hurt.sqnr_db - hurt.absmax_sqnr_db, hurt.tensor)))
