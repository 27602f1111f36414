"""The doctor with a phone whose place this host takes: the conversions are recorded ones, and the tool computes the
doctor's network with ONNX Runtime, or does not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.worker.phones.interpreters import converting
from tests.worker.phones.lite_host import BYTES, CHOOSE
from tests.worker.phones.lite_models import INT8
from tests.worker.phones.lite_tool import tool

from quantfleet_domain.hardware.facts import CpuFacts, DeviceFacts, EngineFacts, PhoneFacts, Proof
from quantfleet_worker.doctor import networks
from quantfleet_worker.doctor.doctor import examine
from quantfleet_worker.equipment import Equipment
from quantfleet_worker.models.paddle_model import inspect

# What is quantized is a little off, as it is in truth.
COMPUTING = """
import numpy, onnxruntime
def computed(values):
    session = onnxruntime.InferenceSession({reference!r}, providers=["CPUExecutionProvider"])
    pictures = numpy.array(values, numpy.float32).reshape(-1, 1, 3, 32, 32)
    found = numpy.concatenate([session.run(None, {{{name!r}: picture}})[0] for picture in pictures])
    return found.shape, (found * (1.01 if len(model) == {int8} else 1)).ravel().tolist()
"""

Examine = Callable[[str], dict[str, Proof]]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The doctor's Paddle network as an ONNX file."""
    folder = tmp_path_factory.mktemp("network")
    networks.write_paddle(folder)
    path = folder / "reference.onnx"
    path.write_bytes(inspect(folder, {networks.INPUT: networks.SHAPE})[0])
    return path


@pytest.fixture
def examined(reference: Path, tmp_path: Path) -> Examine:
    """The proofs by precision of a phone whose tool gives the shape and the values of an expression."""

    def examined(computed: str) -> dict[str, Proof]:
        first = COMPUTING.format(reference=str(reference), name=networks.INPUT, int8=BYTES[INT8])
        binary = tool(tmp_path, first=first, computed=computed)
        listed = f"{{name: here, transport: local, directory: {tmp_path}/phone, benchmark_bin: {{armv8: {binary}}}}}"
        phones = tmp_path / "phones.yaml"
        phones.write_text(f"phones: [{listed}]\nopt: {{interpreter: {converting(tmp_path, CHOOSE)}}}\n")
        engine = EngineFacts("paddle-lite", "v2.13-rc", ("fp32", "int8"), available=True, missing="")
        device = DeviceFacts(
            device="arm:here",
            kind="arm",
            hardware=CpuFacts(
                "a phone", "ARM", "aarch64", ("asimd", "asimddp"), 1, 8, 8, 1 << 32, None, None, None, ""
            ),
            engines=(engine, replace(engine, name="paddle-lite-armv7", available=False, missing="no tool")),
            cores=(0,),
            slots=(0,),
            measurement_domain="phone/here",
            numerics_isa="aarch64/asimd",
            verified=True,
            phone=PhoneFacts("local", "", "", "", ("arm64-v8a",)),
            feeding=(0,),
        )
        said: list[str] = []
        (found,) = examine([device], Equipment(tmp_path / "engines", phones=phones), said.append)
        assert said == ["arm:here: paddle-lite in fp32", "making a small paddle model", "arm:here: paddle-lite in int8"]
        armv8, armv7 = found.engines
        assert armv7.proofs == ()
        return {proof.precision: proof for proof in armv8.proofs}

    return examined


def test_a_phone_whose_tool_computes_the_network_works_and_its_int8_is_int8(examined: Examine) -> None:
    proofs = examined("computed(values)")
    assert [f"{name}: {proof.finding}" for name, proof in proofs.items() if not proof.passed] == []
    assert "within" in proofs["fp32"].finding
    assert "2 of 3 products in INT8" in proofs["int8"].finding


def test_a_tool_that_prints_wrong_values_fails_with_how_far_they_are_off(examined: Examine) -> None:
    wrong = "computed(values)[0], [1.5 * value for value in computed(values)[1]]"
    proofs = examined(wrong)
    assert {name: proof.passed for name, proof in proofs.items()} == {"fp32": False, "int8": False}
    assert "not so: it agrees with the reference engine: its output is off by 0.5 " in proofs["fp32"].finding


def test_a_tool_that_gives_no_numbers_fails_with_what_it_printed(examined: Examine) -> None:
    proofs = examined("sys.exit('Illegal instruction')")
    assert not any(proof.passed for proof in proofs.values())
    assert "Illegal instruction" in proofs["fp32"].finding
