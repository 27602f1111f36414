"""Law L1 over real workers: neither shards nor workers change one bit of the scale table or of the corrections."""

from pathlib import Path
from typing import Any

from tests.system.conftest import write_job
from tests.system.fleet import RunningFleet, quantfleet, until

INT8 = "[{engines: [onnxruntime-cpu], precisions: [int8]}]"
AUTO = "calibrator: auto, reuse: false"


def calibrated(fleet: RunningFleet, job: Path) -> dict[str, Any]:
    identifier = fleet.submit(job)
    assert fleet.wait_ended(identifier) == "succeeded"
    found: dict[str, Any] = fleet.report(identifier)["calibration"]
    return found


def test_the_scale_table_is_the_same_for_any_number_of_shards_and_workers(fleet: RunningFleet, material: Path) -> None:
    def tables(name: str) -> set[str]:
        jobs = [write_job(material, f"{name}-{n}", shards=n) for n in (1, 3, 7)]
        return {calibrated(fleet, job)["scales_sha256"] for job in jobs}

    def chosen_and_corrected(name: str, shards: int) -> tuple[str, str]:
        found = calibrated(fleet, write_job(material, name, shards=shards, targets=INT8, calibration=AUTO))
        return found["scales_sha256"], found["bias_correction"]["sha256"]

    two_workers, chosen_by_two = tables("two"), chosen_and_corrected("two-auto", 3)
    quantfleet("node", "drain", "right", *fleet.admin)
    until(lambda: any(n["name"] == "right" and n["state"] == "drained" for n in fleet.nodes()), "right is drained")
    one_worker, chosen_by_one = tables("one"), chosen_and_corrected("one-auto", 1)
    quantfleet("node", "uncordon", "right", *fleet.admin)
    assert len(two_workers | one_worker) == 1
    assert chosen_by_two == chosen_by_one


def test_the_scale_table_does_not_depend_on_quantizations_and_engines(fleet: RunningFleet, material: Path) -> None:
    entropy = "calibrator: entropy, reuse: false, bias_correction: false"
    targets = "[{engines: [onnxruntime-cpu, openvino-cpu, paddle-cpu], precisions: [fp32, bf16, int8]}]"
    quantizations = "quantization: [static, dynamic]\n"
    plain = write_job(material, "plain", calibration=entropy)
    rich = write_job(material, "rich", targets=targets, calibration=entropy, extra=quantizations)
    assert calibrated(fleet, plain)["scales_sha256"] == calibrated(fleet, rich)["scales_sha256"]


def test_what_an_earlier_job_counted_is_used_again_with_the_same_bytes(fleet: RunningFleet, material: Path) -> None:
    fresh = calibrated(fleet, write_job(material, "fresh", shards=3, calibration="calibrator: mse, reuse: false"))
    again = calibrated(fleet, write_job(material, "again", calibration="calibrator: mse"))
    assert (fresh["recalled"], fresh["shards"]) == (0, 3)
    assert (again["recalled"], again["shards"]) == (42, 0)
    assert again["scales_sha256"] == fresh["scales_sha256"]
