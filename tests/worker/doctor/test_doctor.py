"""The doctor on this host: real engines in real child processes, and what it says of those that are broken."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantfleet_domain.hardware.facts import DeviceFacts, Proof
from quantfleet_domain.hardware.pools import parse
from quantfleet_worker.doctor import networks
from quantfleet_worker.doctor.contract import (
    CHECKS,
    BrokenError,
    Subject,
    it_agrees_with_the_reference_engine,
    the_products_of_int8_are_accounted_for,
)
from quantfleet_worker.doctor.doctor import examine, save_proofs, with_proofs
from quantfleet_worker.engines.base import LoadOptions, Session
from quantfleet_worker.engines.onnxruntime_cpu import ENGINE
from quantfleet_worker.equipment import Equipment
from quantfleet_worker.probes.devices import probe


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[DeviceFacts, ...], list[str]]:
    said: list[str] = []
    return examine(probe(), Equipment(tmp_path_factory.mktemp("engines")), said.append), said


def test_every_engine_of_this_host_works_in_every_precision_and_int8_is_int8(
    examined: tuple[tuple[DeviceFacts, ...], list[str]],
) -> None:
    ((device,), said) = examined
    proofs = {(engine.name, proof.precision): proof for engine in device.engines for proof in engine.proofs}
    assert {name for name, _ in proofs} >= {"onnxruntime-cpu", "openvino-cpu", "paddle-cpu"}
    assert [f"{key}: {proof.finding}" for key, proof in proofs.items() if not proof.passed] == []
    for (_, precision), proof in proofs.items():
        assert "of the reference's largest output" in proof.finding
        assert ("products in INT8" in proof.finding) is (precision == "int8")
    assert "cpu:0: onnxruntime-cpu in int8" in said


def test_what_it_found_is_taken_over_for_the_same_device_and_version_alone(
    examined: tuple[tuple[DeviceFacts, ...], list[str]], tmp_path: Path
) -> None:
    found, _ = examined
    bare = tuple(replace(f, engines=tuple(replace(e, proofs=()) for e in f.engines)) for f in found)
    assert with_proofs(bare, tmp_path) == bare
    save_proofs(found, tmp_path)
    assert with_proofs(bare, tmp_path) == found
    newer = tuple(replace(f, engines=tuple(replace(e, version="99") for e in f.engines)) for f in bare)
    assert with_proofs(newer, tmp_path) == newer
    (tmp_path / "doctor.json").write_text("{")
    assert with_proofs(bare, tmp_path) == bare


def test_a_pool_can_ask_for_what_is_proven(examined: tuple[tuple[DeviceFacts, ...], list[str]]) -> None:
    (device, *_), _ = examined
    assert parse("proven contains onnxruntime-cpu:int8").matches(device)
    failed = replace(device.engines[0], proofs=(Proof("int8", passed=False, finding="x"),))
    assert not parse(f"proven contains {failed.name}:int8").matches(replace(device, engines=(failed,)))


def test_an_interpreter_that_is_not_there_fails_its_engine_alone(tmp_path: Path) -> None:
    (device,) = probe()
    chosen = tuple(engine for engine in device.engines if engine.name in ("onnxruntime-cpu", "openvino-cpu"))
    equipment = Equipment(tmp_path, {"openvino-cpu": str(tmp_path / "no-python")})
    (found,) = examine([replace(device, engines=chosen)], equipment, lambda _: None)
    proofs = {engine.name: engine.proofs for engine in found.engines}
    assert all(proof.passed for proof in proofs["onnxruntime-cpu"])
    assert all("cannot start" in proof.finding and not proof.passed for proof in proofs["openvino-cpu"])


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """The real network in the real engine, in FP32."""
    model, unreadable = tmp_path / "net.onnx", tmp_path / "no.onnx"
    networks.write_onnx(model)
    unreadable.write_bytes(b"no model")

    def load(options: LoadOptions) -> Session:
        return ENGINE.load(model, replace(options, precision="fp32"))

    (sample,) = networks.samples(1)
    reference = load(LoadOptions("fp32", 1)).run({networks.INPUT: sample})["logits"]
    return Subject(ENGINE, "fp32", load, sample, reference, unreadable, threads=1)


def test_what_is_sound_passes_every_check(subject: Subject) -> None:
    for check in CHECKS:
        check(subject)


def test_outputs_that_are_off_are_told_with_how_far(subject: Subject) -> None:
    off = replace(subject, reference=subject.reference * np.float32(1.01))
    with pytest.raises(BrokenError, match=r"off by 0\.0099"):
        it_agrees_with_the_reference_engine(off)


def test_a_float_model_does_not_pass_for_int8(subject: Subject) -> None:
    disguised = replace(subject, precision="int8")
    with pytest.raises(BrokenError, match="nothing was quantized"):
        it_agrees_with_the_reference_engine(disguised)
    with pytest.raises(BrokenError, match="0 of 4 products run in INT8"):
        the_products_of_int8_are_accounted_for(disguised)
