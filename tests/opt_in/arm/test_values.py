"""INT8 gives the same bits on ARM as here; FP32 nearly; and within a numerics class FP32 is the same to the bit.

The INT8 tests are for a host with INT8 dot products (VNNI): without them, ONNX Runtime's u8 × s8 products may saturate.
"""

from pathlib import Path

import numpy as np
import pytest
from tests.opt_in.arm import networks
from tests.opt_in.arm.arm_root import (
    A64FX,
    CORTEX_A72,
    EVERYTHING,
    NARROW_SME,
    NEOVERSE_N1,
    SVE_128,
    SVE_512,
    Processor,
)
from tests.opt_in.arm.conftest import Figure, Program

from quantfleet_worker.quantizers.onnx_qdq import FORMS

pytestmark = pytest.mark.timeout(1800)

CONFIGURATION = "examples/digits/inference_cls.yaml"
TOLERANCE = 2e-5  # of the largest output; what FP32 kernels of other orders of summation differ in
INTEGER_NETWORKS = ("classifier", "digits")  # the encoder computes in float between its INT8 layers


@pytest.fixture(scope="module")
def material(exchange: Path) -> Path:
    networks.write(exchange / "networks")
    return exchange / "networks"


def floats(outputs: dict[str, str], name: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(outputs[name]), "<f4")


@pytest.mark.parametrize("processor", [CORTEX_A72, NEOVERSE_N1, EVERYTHING], ids=lambda item: item.model)
def test_int8_computes_the_same_bits_as_here_and_fp32_nearly(
    material: Path, here: Program, there: Program, figure: Figure, processor: Processor
) -> None:
    expected = here("outputs.py", "networks")
    found = there("outputs.py", "networks", on=processor)
    assert found.keys() == expected.keys()
    for name in ("classifier", "digits", "encoder"):
        one, other = floats(found, name), floats(expected, name)
        difference = np.abs(one - other).max() / np.abs(other).max()
        figure(f"{processor.model}, {name}: FP32 differs by {difference:.1e} of the largest output")
        assert difference <= TOLERANCE
    for name in INTEGER_NETWORKS:
        for form in FORMS:
            one, other = floats(found, f"{name}.{form}"), floats(expected, f"{name}.{form}")
            figure(f"{processor.model}, {name}, {form}: {(one != other).sum()} of {one.size} INT8 outputs differ")
            assert (one == other).all()


def test_processors_of_one_numerics_class_compute_the_same_activations(
    material: Path, there: Program, figure: Figure
) -> None:
    processors = (CORTEX_A72, NEOVERSE_N1, A64FX, SVE_512, SVE_128, EVERYTHING, NARROW_SME)
    found = [there("float_bits.py", "networks", f"/quantfleet/{CONFIGURATION}", on=item) for item in processors]
    by_class: dict[str, list[dict[str, str]]] = {}
    for item in found:
        by_class.setdefault(item["class"], []).append(item["digests"])
    assert {name: len(digests) for name, digests in by_class.items()} == {
        "aarch64/asimd": 2,
        "aarch64/sve512": 2,
        "aarch64/sve128": 1,
        "aarch64/sme+sve512": 2,
    }
    for name, (one, *others) in by_class.items():
        for other in others:
            figure(f"{name}: {sum(one[key] != other[key] for key in one)} of {len(one)} tensors and pictures differ")
            assert one == other, name
    kinds = {tuple(sorted(digests.items())) for digests, *_ in by_class.values()}
    assert len(kinds) == len(by_class), "two classes compute the same"
