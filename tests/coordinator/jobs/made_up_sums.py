"""What the scripted node says that a sample adds to the sums of scoring and of bias correction."""

from quantfleet_domain.calibration.correction import FP32, quantity
from quantfleet_domain.jobs.work import CorrectWork, ScoreWork

BEST_CANDIDATE = 2


def quantities_of(work: ScoreWork | CorrectWork) -> dict[str, float]:
    """What a sample adds: the third candidate does best, and a quantized mean is first 1/8 too low, then 1/16."""
    if isinstance(work, ScoreWork):
        errors = {
            quantity("error", str(i), "y"): (1 + abs(i - BEST_CANDIDATE)) / 16 for i in range(len(work.candidates))
        }
        return errors | {quantity("signal", FP32, "y"): 1.0}
    if work.stage:
        return {quantity("mean", "u8s8", "y"): 0.5 - 1 / 16}
    first = {quantity("mean", FP32, "y"): 0.5, quantity("signal", FP32, "y"): 1.0}
    return first | {quantity("mean", "u8s8", "y"): 0.5 - 1 / 8, quantity("error", "u8s8", "y"): 0.25}
