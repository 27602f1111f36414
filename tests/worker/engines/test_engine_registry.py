import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines import registry
from quantfleet_worker.engines.openvino_cpu import OpenVinoCpu
from quantfleet_worker.engines.registry import engine_named, engines


class _NotInstalled(OpenVinoCpu):
    distribution = "a-runtime-that-nobody-has"


@pytest.fixture
def strange_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three plug-ins: one whose runtime is absent, one that is no engine, one that cannot be imported."""
    declared = {"absent-runtime": "strange_plugin", "no-engine": "json", "no-module": "quantfleet_no_such_module"}
    monkeypatch.setitem(sys.modules, "strange_plugin", SimpleNamespace(ENGINE=_NotInstalled()))
    entries = [metadata.EntryPoint(name, value, registry.GROUP) for name, value in declared.items()]
    monkeypatch.setattr(metadata, "entry_points", lambda **_: entries)


def test_this_installations_engines_are_listed_with_their_versions() -> None:
    listed = {item.name: item for item in engines(())}
    assert listed["onnxruntime-cpu"].version == metadata.version("onnxruntime")
    assert listed["onnxruntime-cpu"].missing is None
    assert engine_named("onnxruntime-cpu").name == "onnxruntime-cpu"


def test_an_engine_is_listed_with_the_precisions_that_the_processor_has() -> None:
    for isa, precisions in ((("avx2",), ("fp32", "int8")), (("amx_bf16", "avx2"), ("fp32", "bf16", "int8"))):
        assert {item.name: item.precisions for item in engines(isa)}["openvino-cpu"] == precisions


def test_broken_plugins_are_listed_with_the_reason(strange_plugins: None) -> None:
    listed = {item.name: item for item in engines(())}
    assert all(item.version is None for item in listed.values())
    assert "not installed" in (listed["openvino-cpu"].missing or "")
    assert "pip install quantfleet[openvino]" in (listed["openvino-cpu"].missing or "")
    assert "broken" in (listed["no-engine"].missing or "")
    assert "ModuleNotFoundError" in (listed["no-module"].missing or "")


def test_an_engine_that_cannot_be_had_is_missing_with_a_reason(strange_plugins: None) -> None:
    for name in ("no-module", "no-engine", "unheard-of"):
        with pytest.raises(QuantfleetError, match=name) as caught:
            engine_named(name)
        assert caught.value.code is ErrorCode.ENGINE_MISSING
