"""A training as a chain of tasks: each leaves a checkpoint, and a model that runs in INT8 on every runtime."""

import io
from dataclasses import dataclass, replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests.worker.paddle.conftest import SHAPE, export, network, pictures
from tests.worker.tasks.test_tasks import Bench

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.spec import DataSet, FileRef, InputShape, OutputKind, TrainingSpec
from quantfleet_domain.jobs.task_results import TrainResult
from quantfleet_domain.jobs.work import (
    Slice,
    TrainWork,
    Validation,
)

SAMPLES = 24
ACT = """
Distillation: {alpha: 1.0, loss: l2}
QuantAware: {use_pact: false}
TrainConfig:
  {train_iter: 6, eval_iter: 2, logging_iter: 2, learning_rate: 0.0001, optimizer_builder: {optimizer: {type: Adam}}}
"""


@dataclass(frozen=True)
class Ready:
    bench: Bench
    work: TrainWork

    def interval(self, index: int, before: TrainResult | None) -> TrainResult:
        checkpoint, best = (before.checkpoint, before.best) if before else (None, None)
        done = self.bench.do(replace(self.work, interval=index, checkpoint=checkpoint, best=best))
        assert isinstance(done, TrainResult)
        return done


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Ready:
    folder = tmp_path_factory.mktemp("training")
    bench = Bench(folder)
    model = export(network(), folder / "model", (None, *SHAPE[1:]), pir=False)
    files = tuple(bench.put(path.name, path.read_bytes()) for path in sorted(model.iterdir()) if path.suffix != ".info")
    rows = []
    for index, picture in enumerate(pictures(SAMPLES)):
        content = io.BytesIO()
        np.save(content, picture)
        ref = bench.put(f"{index}.npy", content.getvalue())
        rows.append(Sample(ref.name, ref.digest, ref.size, index % 10))
    manifest = bench.put("manifest.json", Manifest(tuple(rows)).to_json())
    training = TrainingSpec(
        "distill", "", bench.put("act.yaml", ACT.encode()), None, None, DataSet(manifest, SAMPLES),
        6, 4, None, 2, True, 0, 2, False, False,
    )  # fmt: skip
    part = Slice(manifest, 0, SAMPLES)
    validation = Validation(part, OutputKind.CLASSES, None, "top1")
    shapes = (InputShape("x", SHAPE),)
    return Ready(
        bench,
        TrainWork("net", "paddle", files, shapes, None, training, 0, None, None, part, validation, ("onnx", "paddle")),
    )


def test_intervals_go_on_from_checkpoints_to_the_end_and_keep_the_best(ready: Ready) -> None:
    results: list[TrainResult] = []
    for index in range(3):
        results.append(ready.interval(index, results[-1] if results else None))
    assert [result.iterations for result in results] == [2, 4, 6]
    assert [point.iteration for result in results for point in result.losses] == [2, 4, 6]
    assert results[-1].best.value == max(result.value or 0.0 for result in results)
    assert {made.runtime for made in results[-1].best.made} == {"paddle", "onnx"}


def test_an_interval_that_is_run_again_gives_the_same_checkpoint(ready: Ready) -> None:
    first, again = ready.interval(0, None), ready.interval(0, None)
    assert first.checkpoint == again.checkpoint
    assert first.best == again.best


def test_a_checkpoint_beyond_the_interval_is_only_exported(ready: Ready) -> None:
    first = ready.interval(0, None)
    done = ready.interval(0, first)
    assert (done.iterations, done.losses, done.checkpoint) == (2, (), first.checkpoint)


def test_without_validation_the_last_model_is_taken(ready: Ready) -> None:
    plain = Ready(ready.bench, replace(ready.work, validation=None))
    first = plain.interval(0, None)
    second = plain.interval(1, first)
    assert (second.value, second.metric, second.best.iteration) == (None, "", 4)


def test_a_trained_model_is_written_for_the_runtimes_that_were_asked_for_and_no_others(ready: Ready) -> None:
    """It is judged by Paddle's own form, which is then no result."""
    for validation in (ready.work.validation, None):
        work = replace(ready.work, runtimes=("tensorrt",), validation=validation)
        done = Ready(ready.bench, work).interval(0, None)
        (made,) = done.best.made
        assert (made.runtime, [form.form for form in made.forms]) == ("tensorrt", ["s8s8"])
        assert (done.best.value is None) == (validation is None)
        (file,) = made.forms[0].files
        model = onnx.load_from_string((ready.bench.cache / file.digest).read_bytes())
        points = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        pairs = [node for node in model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
        assert pairs
        assert not any(points[node.input[2]].any() for node in pairs)


def test_data_that_is_less_than_a_batch_is_told(ready: Ready) -> None:
    few = replace(ready.work, data=replace(ready.work.data, count=3))
    with pytest.raises(QuantfleetError, match="iteration 1 needs a batch of 4 samples") as caught:
        ready.bench.do(few)
    assert caught.value.code is ErrorCode.DATA_EMPTY


def test_a_users_code_runs_only_where_the_owner_allowed_it(ready: Ready) -> None:
    weights = FileRef("model.pdparams", "0" * 64, 1)
    training = replace(ready.work.training, method="qat", package="somebodys_recipes", config=None, weights=weights)
    with pytest.raises(QuantfleetError, match="does not allow the Python package somebodys_recipes") as caught:
        ready.bench.do(replace(ready.work, training=training))
    assert caught.value.code is ErrorCode.CODE_NOT_ALLOWED


def test_what_is_no_checkpoint_is_refused(ready: Ready) -> None:
    wrong = ready.bench.put("checkpoint", b"no checkpoint")
    with pytest.raises(QuantfleetError, match="not a training checkpoint") as caught:
        ready.bench.do(replace(ready.work, checkpoint=wrong))
    assert caught.value.code is ErrorCode.MODEL_UNREADABLE
