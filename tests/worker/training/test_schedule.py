import pytest

from quantfleet_worker.models.paddle_program import load_paddle
from quantfleet_worker.training.schedule import Constant, Cosine, Piecewise, Polynomial, Schedule


@pytest.mark.parametrize(
    ("schedule", "kind", "arguments"),
    [
        (Cosine(0.1, 7, 0.01), "CosineAnnealingDecay", {"learning_rate": 0.1, "T_max": 7, "eta_min": 0.01}),
        (Piecewise((3, 5), (0.3, 0.2, 0.1)), "PiecewiseDecay", {"boundaries": [3, 5], "values": [0.3, 0.2, 0.1]}),
        (Polynomial(0.1, 7), "PolynomialDecay", {"learning_rate": 0.1, "decay_steps": 7, "end_lr": 0.0, "power": 0.9}),
    ],
)
def test_a_schedule_is_paddles_of_that_name(schedule: Schedule, kind: str, arguments: dict[str, object]) -> None:
    reference = getattr(load_paddle().optimizer.lr, kind)(**arguments)
    for done in range(8):
        assert schedule(done) == pytest.approx(reference.last_lr, abs=1e-12)
        reference.step()


def test_a_constant_rate_is_constant() -> None:
    assert {Constant(0.5)(done) for done in range(9)} == {0.5}
