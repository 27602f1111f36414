import json
from dataclasses import fields, replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.jobs.sample_jobs import device, gpu, phone
from tests.domain.reporting.sample_reports import failed_report, sample_report, two_model_report

from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.measurement.latency import LatencySummary
from quantfleet_domain.reporting.facts import facts_of, facts_of_device
from quantfleet_domain.reporting.making import Calibration
from quantfleet_domain.reporting.report import (
    Absent,
    Accuracy,
    FleetDevice,
    GateResult,
    JobError,
    JobSummary,
    ModelEntry,
    Report,
    Result,
    SpeedupFigure,
)
from quantfleet_domain.reporting.schema import report_schema

SPINE = {
    "": "schema job fleet models calibration job_file versions results absent gates warnings",
    "job": "id name state",
    "fleet.0": "node device hardware",
    "models.0": "name format sha256",
    "calibration": "calibrator samples shards scales_sha256 numerics_class seconds",
    "results.1": "model node device engine engine_version precision quantization form input_shapes mode threads batch"
    " warmup repeat measured_at latency_ms throughput_per_s speedup accuracy int8_nodes quantizable_nodes model_bytes"
    " quiet settings_in_effect samples_artifact",
    "results.1.latency_ms": "mean median min max p90 p95 p99 cov",
    "results.1.speedup": "value low high against",
    "results.1.accuracy.0": "metric value unit samples",
    "absent.0": "node device engine precision quantization reason",
    "gates.0": "expression value passed",
}


def at(document: Any, path: str) -> Any:
    for name in filter(None, path.split(".")):
        document = document[int(name)] if name.isdigit() else document[name]
    return document


@pytest.mark.parametrize("path", SPINE)
def test_the_spine_is_what_scripts_rely_on(path: str) -> None:
    keys = SPINE[path].split()
    found = list(at(json.loads(sample_report().to_json()), path))
    assert found[: len(keys)] == keys


@pytest.mark.parametrize("make", [sample_report, two_model_report, failed_report])
def test_real_reports_fit_the_schema_and_come_back_equal(make: Any) -> None:
    report = make()
    data = report.to_json()
    schema = report_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(data), schema, cls=jsonschema.Draft202012Validator)
    assert Report.from_json(data) == report
    assert Report.from_json(data).to_json() == data
    assert data.endswith(b"}\n")


def test_the_schema_refuses_what_the_reader_refuses() -> None:
    document = json.loads(sample_report().to_json())
    document["results"][0]["latency_ms"]["p99"] = "fast"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, report_schema())


def test_calibration_is_flat_for_one_model_and_keyed_for_several_and_null_for_none() -> None:
    assert json.loads(sample_report().to_json())["calibration"]["calibrator"] == "mse"
    assert set(json.loads(two_model_report().to_json())["calibration"]) == {"mobilenet", "squeezenet"}
    assert json.loads(failed_report().to_json())["calibration"] is None


def test_what_was_not_measured_is_null() -> None:
    fp32 = json.loads(sample_report().to_json())["results"][0]
    assert fp32["speedup"] is None
    assert fp32["int8_nodes"] is None


def test_a_field_of_a_newer_version_does_no_harm() -> None:
    document = json.loads(sample_report().to_json())
    document["mood"] = "good"
    document["results"][0]["latency_ms"]["p999"] = 1.0
    assert Report.from_json(json.dumps(document).encode()) == sample_report()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", "quantfleet/report/v9", "schema is 'quantfleet/report/v9'"),
        ("results.0.latency_ms.p99", "fast", "report.results[0].latency_ms.p99 is a text, not a number"),
        ("results.2.threads", 1.5, "report.results[2].threads is 1.5, not a whole number"),
        ("gates.0.passed", 1, "report.gates[0].passed is 1, not true or false"),
        ("fleet", {}, "report.fleet is an object, not a list"),
        ("job", [], "report.job is a list, not an object"),
        ("calibration.samples", None, "report.calibration.mobilenet.samples is null, not a whole number"),
        ("models.0.name", 5, "models[0].name is 5, not a text"),
        ("versions.python", 3.11, "report.versions.python is 3.11, not a text"),
    ],
)
def test_a_wrong_value_is_named_by_its_place(path: str, value: object, message: str) -> None:
    document = json.loads(sample_report().to_json())
    *parents, last = path.split(".")
    at(document, ".".join(parents))[last] = value
    with pytest.raises(QuantfleetError) as caught:
        Report.from_json(json.dumps(document).encode())
    assert caught.value.code is ErrorCode.REPORT_INVALID
    assert message in caught.value.what


@pytest.mark.parametrize("path", ["job", "calibration", "results.0.samples_artifact", "absent.0.reason"])
def test_a_missing_member_of_the_spine_is_named(path: str) -> None:
    document = json.loads(sample_report().to_json())
    *parents, last = path.split(".")
    del at(document, ".".join(parents))[last]
    with pytest.raises(QuantfleetError, match=rf"\.{last} is missing"):
        Report.from_json(json.dumps(document).encode())


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"3", b"\xff\xfe", b"{", b"[" * 100_000])
def test_something_else_is_no_report(data: bytes) -> None:
    with pytest.raises(QuantfleetError) as caught:
        Report.from_json(data)
    assert caught.value.code is ErrorCode.REPORT_INVALID


def test_a_figure_that_is_not_finite_is_neither_written_nor_read() -> None:
    report = sample_report()
    with pytest.raises(ValueError, match="JSON compliant"):
        replace(report, gates=(GateResult("x", float("nan"), False),)).to_json()
    with pytest.raises(QuantfleetError, match="NaN is no JSON number"):
        Report.from_json(report.to_json().replace(b'"value": 2.5', b'"value": NaN'))


def test_equal_reports_have_equal_bytes_whatever_the_order_of_their_keys() -> None:
    report = sample_report()
    turned = replace(report, versions=dict(sorted(report.versions.items(), reverse=True)))
    assert turned.to_json() == report.to_json()


def test_facts_name_nested_fields_and_leave_out_what_is_not_known() -> None:
    numerics = NumericsClass("onnxruntime-cpu", "1.31.1", "x86_64/avx2", "ab", "cd", "", 1)
    found = facts_of(FleetDevice("n", "cpu:0", {"a": 1}))
    assert found == {"node": "n", "device": "cpu:0", "hardware.a": 1}
    assert "preprocessing" not in facts_of(numerics)
    assert facts_of(numerics)["threads"] == 1


VALIDATOR = jsonschema.Draft202012Validator(report_schema())

text = st.text(max_size=12)
number = st.floats(allow_nan=False, allow_infinity=False)
count = st.integers(0, 2**53)
maybe = st.none
facts = st.dictionaries(text, st.booleans() | count | number | text | st.lists(text, max_size=3).map(tuple), max_size=3)


def few(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=2).map(tuple)


summaries = st.builds(LatencySummary, number, maybe() | number, *[number] * 2, *[maybe() | number] * 4, count)
speedups = st.builds(SpeedupFigure, number, maybe() | number, maybe() | number, text)
results = st.builds(
    Result,
    *[text] * 7,
    form=maybe() | text,
    input_shapes=st.dictionaries(text, few(count), max_size=2),
    mode=maybe() | text,
    **dict.fromkeys(("threads", "batch", "warmup", "repeat", "int8_nodes", "quantizable_nodes"), maybe() | count),
    **dict.fromkeys(("measured_at", "samples_artifact"), maybe() | text),
    latency_ms=maybe() | summaries,
    throughput_per_s=maybe() | number,
    speedup=maybe() | speedups,
    accuracy=few(st.builds(Accuracy, text, number, text, count)),
    model_bytes=maybe() | count,
    quiet=maybe() | st.booleans(),
    settings_in_effect=st.dictionaries(text, text, max_size=2),
    fallbacks=few(text),
    conditions=maybe() | facts,
)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_any_report_survives_a_round_trip(data: st.DataObject) -> None:
    models = data.draw(st.lists(st.builds(ModelEntry, text, text, text), max_size=3, unique_by=lambda m: m.name))
    calibrations = st.builds(Calibration, text, count, count, text, facts, maybe() | number)
    report = Report(
        job=data.draw(st.builds(JobSummary, text, text, text, maybe() | st.builds(JobError, text, text, text))),
        fleet=data.draw(few(st.builds(FleetDevice, text, text, facts))),
        models=tuple(models),
        calibration={m.name: data.draw(calibrations) for m in models if data.draw(st.booleans())},
        job_file=data.draw(text),
        versions=data.draw(st.dictionaries(text, text, max_size=2)),
        results=data.draw(few(results)),
        absent=data.draw(few(st.builds(Absent, maybe() | text, maybe() | text, text, text, maybe() | text, text))),
        gates=data.draw(few(st.builds(GateResult, text, maybe() | number, st.booleans()))),
        warnings=data.draw(few(text)),
    )
    assert Report.from_json(report.to_json()) == report
    VALIDATOR.validate(json.loads(report.to_json()))


def test_every_definition_of_the_schema_says_what_it_is() -> None:
    schema = report_schema()
    assert all(definition["description"] for definition in schema["$defs"].values())
    assert set(schema["properties"]) == {"schema", *(field.name for field in fields(Report))}


def test_a_gpus_facts_come_before_those_of_its_host_which_are_told_apart() -> None:
    host, found = facts_of_device(device()), facts_of_device(gpu())
    assert list(found)[:4] == ["model_name", "gpu.name", "gpu.uuid", "gpu.compute_capability"]
    assert (found["model_name"], found["gpu.compute_capability"], found["gpu.driver"]) == ("Tesla T4", "7.5", "580.1")
    assert {name.removeprefix("host."): fact for name, fact in found.items() if name.startswith("host.")} == host
    assert {name.partition(".")[0] for name in found} == {"model_name", "gpu", "host"}


def test_a_phone_is_called_by_its_system_on_a_chip_and_has_a_processor_of_its_own() -> None:
    found = facts_of_device(phone())
    assert (found["model_name"], found["architecture"], found["isa"]) == ("SM8250", "aarch64", ("asimd", "asimddp"))
    assert found["phone.abis"] == ("arm64-v8a", "armeabi-v7a")
    assert (found["phone.transport"], found["phone.system"]) == ("adb", "Android 13")
    assert not any(name.startswith(("gpu.", "host.")) for name in found)


def test_a_processors_facts_are_those_of_the_processor() -> None:
    assert facts_of_device(device()) == facts_of(device().hardware)
