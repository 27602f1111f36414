"""Every quantization is executed by some engine, and every other engine has a reason why not."""

import pytest

from quantfleet_domain.hardware.offers import ENGINES, REFERENCE_ENGINE, why_not
from quantfleet_domain.hardware.precisions import PRECISIONS, is_int8, is_quantized
from quantfleet_domain.jobs.spec import QUANTIZATIONS


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


def test_an_engine_that_executes_quantized_models_has_a_precision_for_them_and_only_such_a_one() -> None:
    for offer in ENGINES.values():
        assert set(offer.precisions) <= set(PRECISIONS)
        assert bool(offer.quantizations) == any(is_int8(precision) for precision in offer.precisions), offer.name


def test_a_quantized_precision_is_int8_alone_or_beside_fp16_or_int16() -> None:
    assert [precision for precision in PRECISIONS if is_int8(precision)] == ["int8", "int8+fp16", "int8+fp16+pinned"]
    assert [p for p in PRECISIONS if is_quantized(p) and not is_int8(p)] == ["int16"]
