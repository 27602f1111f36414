"""The devices of this host, put together from real probes, and the self-test in the real engine."""

import os
import sys
from importlib import metadata
from pathlib import Path

import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.pools import parse
from quantfleet_worker.engines.registry import EngineListing
from quantfleet_worker.equipment import Equipment
from quantfleet_worker.probes import int8_selftest
from quantfleet_worker.probes.devices import engine_facts, probe


def test_this_host_is_one_verified_cpu_with_its_engines() -> None:
    (device,) = probe()
    assert (device.device, device.kind, device.verified) == ("cpu:0", "cpu", True)
    assert device.cores == device.slots
    assert set(device.cores) <= os.sched_getaffinity(0)
    assert device.hardware.vnni is not None, device.hardware.vnni_missing
    assert device.hardware.vnni.ratio == pytest.approx(device.hardware.vnni.fp32_ns / device.hardware.vnni.int8_ns)
    assert device.numerics_isa.startswith(os.uname().machine + "/")
    engine = next(engine for engine in device.engines if engine.name == "onnxruntime-cpu")
    assert (engine.version, engine.available, engine.missing) == (metadata.version("onnxruntime"), True, "")
    assert parse("kind == cpu and engines contains onnxruntime-cpu and int8_ratio > 0").matches(device)


def test_a_share_that_is_not_usable_is_refused_before_anything_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(int8_selftest, "run")
    for slots in ((), (4000,), (0, 0)):
        with pytest.raises(QuantfleetError, match="cannot be this node's share") as error:
            probe(slots)
        assert error.value.code is ErrorCode.USAGE


def test_a_share_is_kept_as_given_beside_all_usable_cores() -> None:
    last = max(os.sched_getaffinity(0))
    (device,) = probe((last,))
    assert device.slots == (last,)
    assert set(device.slots) <= set(device.cores)


def test_an_engine_that_is_missing_is_listed_with_its_reason_and_other_kinds_are_not() -> None:
    listings = (
        EngineListing("absent", "onnx", "cpu", ("fp32",), None, "absent is not installed"),
        EngineListing("broken", "", "", (), None, "its plug-in is broken: ImportError: x"),
        EngineListing("tensorrt", "onnx", "cuda", ("fp16",), "10", None),
    )
    facts = engine_facts(listings, "cpu")
    assert [(engine.name, engine.available, engine.missing) for engine in facts] == [
        ("absent", False, "absent is not installed"),
        ("broken", False, "its plug-in is broken: ImportError: x"),
    ]


@pytest.mark.parametrize(("int8_ns", "verdict"), [(40.0, "int8-fast"), (50.0, "int8-fast"), (51.0, "int8-slow")])
def test_the_verdict_follows_from_the_ratio_and_its_limit(int8_ns: float, verdict: str) -> None:
    assert int8_selftest.judge(int8_ns, 100.0).verdict == verdict


def test_where_the_self_test_cannot_run_there_is_a_reason_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_selftest, "_HANDLER", "quantfleet_worker.probes.int8_selftest:absent")
    test, reason = int8_selftest.run(min(os.sched_getaffinity(0)))
    assert test is None
    assert "absent" in reason


def test_engines_with_an_interpreter_of_their_own_are_as_they_are_there(tmp_path: Path) -> None:
    gone = str(tmp_path / "python")
    (bare,) = probe()
    (device,) = probe(equipment=Equipment(tmp_path, {"onnxruntime-cpu": sys.executable, "paddle-cpu": gone}))
    before, found = ({engine.name: engine for engine in facts.engines} for facts in (bare, device))
    assert list(found) == list(before)
    assert found["onnxruntime-cpu"] == before["onnxruntime-cpu"]
    paddle = found["paddle-cpu"]
    assert (paddle.available, paddle.version, paddle.precisions) == (False, "", before["paddle-cpu"].precisions)
    assert paddle.missing.startswith(f"{gone} cannot be started: No such file")
    assert found["openvino-cpu"] == before["openvino-cpu"]


def test_an_interpreter_of_an_engine_of_another_kind_is_not_asked(tmp_path: Path) -> None:
    asked = tmp_path / "python"
    asked.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    asked.chmod(0o755)
    probe(equipment=Equipment(tmp_path, {"paddle-tensorrt": str(asked)}))
    assert not (tmp_path / "started").exists()
