"""Law L1 over real workers: neither shards nor workers change one bit of the scale table."""

from pathlib import Path

from tests.system.conftest import write_job
from tests.system.fleet import RunningFleet, quantfleet, until


def scales_sha256(fleet: RunningFleet, job: Path) -> str:
    identifier = fleet.submit(job)
    assert fleet.wait_ended(identifier) == "succeeded"
    digest: str = fleet.report(identifier)["calibration"]["scales_sha256"]
    return digest


def test_the_scale_table_is_the_same_for_any_number_of_shards_and_workers(fleet: RunningFleet, material: Path) -> None:
    two_workers = {scales_sha256(fleet, write_job(material, f"two-{n}", shards=n)) for n in (1, 3, 7)}
    quantfleet("node", "drain", "right", *fleet.admin)
    until(lambda: any(n["name"] == "right" and n["state"] == "drained" for n in fleet.nodes()), "right is drained")
    one_worker = {scales_sha256(fleet, write_job(material, f"one-{n}", shards=n)) for n in (1, 3, 7)}
    quantfleet("node", "uncordon", "right", *fleet.admin)
    assert len(two_workers | one_worker) == 1
