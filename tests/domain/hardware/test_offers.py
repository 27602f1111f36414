"""Every quantization is executed by some engine, and every other engine has a reason why not."""

import pytest

from quantfleet_domain.hardware.offers import ENGINES, REFERENCE_ENGINE, why_not

QUANTIZATIONS = ("static", "dynamic", "qat", "distill", "given")


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_an_engine_executes_a_quantization_or_has_a_reason_not_to(quantization: str) -> None:
    reasons = {name: why_not(name, quantization) for name in ENGINES}
    assert {name for name, reason in reasons.items() if not reason} == {
        name for name, offer in ENGINES.items() if quantization in offer.quantizations
    }
    assert "" in reasons.values()


def test_openvino_does_not_execute_dynamic_models_because_it_computes_them_in_float() -> None:
    assert "in float" in why_not("openvino-cpu", "dynamic")


def test_an_unknown_engine_or_quantization_has_no_reason() -> None:
    for engine, quantization in (("no-such-engine", "static"), ("paddle-cpu", "no-such-quantization")):
        with pytest.raises(KeyError):
            why_not(engine, quantization)


def test_the_reference_engine_is_offered() -> None:
    assert REFERENCE_ENGINE in ENGINES
