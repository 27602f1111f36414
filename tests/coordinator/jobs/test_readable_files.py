"""What the holder of a task may read: what the task needs, and nothing of other samples."""

from tests.domain.jobs.sample_jobs import job_spec, model_spec, results_of

from quantfleet_coordinator.jobs.entry import JobEntry
from quantfleet_coordinator.store.records import JobRecord
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.spec import DataSet, EvaluateSpec, FileRef
from quantfleet_protos.v1 import job_pb2
from quantfleet_wire.codec import encode

MANIFEST, BOXES = FileRef("manifest.json", "d" * 64, 10), FileRef("boxes.json", "b" * 64, 10)
SAMPLES = tuple(Sample(str(i), f"sample {i}", 1, mask=FileRef("m", f"mask {i}", 1)) for i in range(4))


def readable(metric: str, shards: int, task: str) -> frozenset[str]:
    evaluate = EvaluateSpec(DataSet(MANIFEST, len(SAMPLES), BOXES), (metric,), shards)
    spec = job_spec(model_spec(calibration=None, evaluate=evaluate))
    record = JobRecord("j", "r", "d", "test", "u", encode(spec, job_pb2.JobSpec).SerializeToString(), "running", 0, 0)
    entry = JobEntry.create(record, {MANIFEST.digest: Manifest(SAMPLES)})
    entry.results.update(results_of(entry.plan))
    return entry.readable(f"net/evaluate/0/onnxruntime-cpu/fp32/{task}")


def test_an_evaluation_reads_the_samples_and_masks_of_its_slice() -> None:
    found = readable("miou", 2, "1")
    assert {"sample 2", "mask 2", "sample 3", "mask 3", MANIFEST.digest} <= found
    assert not {"sample 0", "mask 0", "sample 1", "mask 1"} & found


def test_an_evaluation_of_boxes_reads_its_annotations() -> None:
    assert BOXES.digest in readable("map", 1, "0")
