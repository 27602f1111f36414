from quantfleet_coordinator.artifacts.collector import collectable
from quantfleet_coordinator.store.records import ArtifactRecord

RECORDS = [ArtifactRecord(digest, 1, created_at) for digest, created_at in [("c", 10.0), ("a", 10.0), ("b", 50.0)]]


def test_only_old_artifacts_that_nothing_refers_to_are_collected() -> None:
    assert collectable(RECORDS, {"x"}, now=70.0, age_s=60.0) == ["a", "c"]
    assert collectable(RECORDS, {"a"}, now=70.0, age_s=60.0) == ["c"]
    assert collectable(RECORDS, {"a"}, now=110.0, age_s=60.0) == ["b", "c"]
    assert collectable(RECORDS, set(), now=69.9, age_s=60.0) == []
    assert collectable([], {"a"}, now=110.0, age_s=60.0) == []
