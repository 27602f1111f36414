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


def digests(fleet: RunningFleet, job: Path) -> tuple[str, str]:
    found = calibrated(fleet, job)
    return found["scales_sha256"], found["bias_correction"]["sha256"]


def test_the_scale_table_is_the_same_for_any_number_of_shards_and_workers(fleet: RunningFleet, material: Path) -> None:
    def jobs(name: str) -> set[tuple[str, str]]:
        shapes = {"targets": INT8, "calibration": AUTO}
        return {digests(fleet, write_job(material, f"{name}-{n}", shards=n, **shapes)) for n in (1, 3, 7)}

    two_workers = jobs("two")
    quantfleet("node", "drain", "right", *fleet.admin)
    until(lambda: any(n["name"] == "right" and n["state"] == "drained" for n in fleet.nodes()), "right is drained")
    one_worker = jobs("one")
    quantfleet("node", "uncordon", "right", *fleet.admin)
    assert len(two_workers | one_worker) == 1


def test_what_an_earlier_job_counted_is_used_again_with_the_same_bytes(fleet: RunningFleet, material: Path) -> None:
    fresh = calibrated(fleet, write_job(material, "fresh", shards=3, calibration="calibrator: mse, reuse: false"))
    again = calibrated(fleet, write_job(material, "again", calibration="calibrator: mse"))
    assert (fresh["recalled"], fresh["shards"]) == (0, 3)
    assert (again["recalled"], again["shards"]) == (42, 0)
    assert again["scales_sha256"] == fresh["scales_sha256"]
