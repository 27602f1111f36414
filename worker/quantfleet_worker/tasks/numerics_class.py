"""Refuses work whose sums would not merge with those of other nodes. Not for naming a node's numerics class."""

from quantfleet_domain.calibration.graph import MIXED, NumericsClass
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.spec import FileRef
from quantfleet_worker.models.reference_session import engine_version
from quantfleet_worker.tasks.feeding import preprocessing_class
from quantfleet_worker.tasks.request import Surroundings


def check_numerics(wanted: NumericsClass, preprocess: FileRef | None, here: Surroundings) -> None:
    """The placement saw what the node registered; this is what runs now, after any upgrade in between.

    Raises QuantfleetError(NUMERICS_MISMATCH).
    """
    isa = MIXED if wanted.isa == MIXED else here.numerics_isa
    found = (engine_version(), isa, preprocessing_class(preprocess))
    asked = (wanted.engine_version, wanted.isa, wanted.preprocessing)
    if asked != found:
        raise QuantfleetError(
            ErrorCode.NUMERICS_MISMATCH,
            f"this node computes as {found}, the job as {asked}",
            "install the same versions on all nodes of a pool, or submit the job again",
        )
