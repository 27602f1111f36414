import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.worker.training.conftest import Array, Pictures, Trained, ignore

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines import onnxruntime_cpu
from quantfleet_worker.engines.base import LoadOptions, NodeCounts
from quantfleet_worker.engines.paddle_cpu import ENGINE
from quantfleet_worker.models.paddle_program import load_paddle
from quantfleet_worker.training.recipe import load_recipe


def run(directory: Path, precision: str, inputs: Array) -> tuple[Array, NodeCounts]:
    session = ENGINE.load(directory, LoadOptions(precision=precision, threads=1))
    session.bind({"x": inputs})
    session.run_bound()
    (values,) = session.outputs().values()
    return values, session.node_counts()


def pictures(count: int = 8) -> Array:
    return np.stack([np.frombuffer(Pictures().get(i).content, np.float32).reshape(3, 16, 16) for i in range(count)])


def test_two_intervals_give_the_bits_of_one_whoever_reads_the_samples(trained: Trained) -> None:
    whole = trained.trainer().interval(None, 0, 10, Pictures(), ignore)
    half = trained.trainer(num_workers=2).interval(None, 0, 5, Pictures(), ignore)
    rest = trained.trainer(num_workers=2).interval(half.checkpoint, 5, 5, Pictures(), ignore)
    again = trained.trainer().interval(half.checkpoint, 5, 5, Pictures(), ignore)
    assert rest.checkpoint == whole.checkpoint == again.checkpoint
    assert half.losses + rest.losses == whole.losses


def test_training_lowers_the_loss_of_the_fake_quantized_network(trained: Trained) -> None:
    last = []
    for rate in (1e-9, 0.05):
        trainer = trained.trainer(iters=48, batch_size=8, learning_rate=rate)
        losses = trainer.interval(None, 0, 48, Pictures(), ignore).losses
        last.append(np.mean([loss for _, loss in losses[-12:]]))
    assert last[1] < 0.8 * last[0]


def test_the_exported_network_runs_in_int8_and_as_it_was_trained(trained: Trained, tmp_path: Path) -> None:
    trainer = trained.trainer(without_argmax=True)
    made = trainer.interval(None, 0, 12, Pictures(), ignore)
    trainer.export(made.checkpoint, Pictures(), tmp_path / "float").paddle("s8-symmetric", tmp_path / "int8")
    exported, counts = run(tmp_path / "int8", "int8", pictures())
    assert counts.int8 == 3
    assert all("matmul" in reason for reason in counts.fallbacks)
    simulated = trainer.simulate(made.checkpoint, (pictures(),))
    # oneDNN also stores the classification network's residual sum and pool in INT8, which nothing simulates.
    largest = 1e-5 if trained.loaded.recipe.task == "segmentation" else 0.03 * np.ptp(simulated)
    assert np.abs(exported - simulated).max() < largest


def test_an_exported_segmentation_network_returns_classes_and_a_classification_network_scores(
    trained: Trained, tmp_path: Path
) -> None:
    trainer = trained.trainer()
    made = trainer.interval(None, 0, 2, Pictures(), ignore)
    trainer.export(made.checkpoint, Pictures(), tmp_path / "float").paddle("s8-symmetric", tmp_path / "int8")
    trainer.export_float(made.checkpoint, tmp_path / "fp32")
    values, classes = (run(tmp_path / precision, precision, pictures())[0] for precision in ("int8", "fp32"))
    if trained.loaded.recipe.task == "segmentation":
        assert (values.shape, values.dtype) == ((8, 16, 16), np.int32)
        assert (values == classes).mean() > 0.95
    else:
        assert (values.shape, values.dtype) == ((8, 4), np.float32)


def test_the_exported_network_runs_in_int8_in_onnx_runtimes_too(trained: Trained, tmp_path: Path) -> None:
    trainer = trained.trainer(with_softmax=True)
    made = trainer.interval(None, 0, 12, Pictures(), ignore)
    export = trainer.export(made.checkpoint, Pictures(), tmp_path / "float")
    export.onnx("u8s8", tmp_path / "int8.onnx")
    trainer.export_float(made.checkpoint, tmp_path / "fp32")
    session = onnxruntime_cpu.ENGINE.load(tmp_path / "int8.onnx", LoadOptions("int8", threads=1))
    (found,) = session.run({next(iter(session.inputs)): pictures()}).values()
    (expected, _) = run(tmp_path / "fp32", "fp32", pictures())
    assert found.shape == expected.shape
    assert session.node_counts().int8 >= 3
    if trained.loaded.recipe.task == "segmentation":
        assert (found == expected).mean() > 0.95
    else:
        np.testing.assert_allclose(found, expected, atol=0.1)


def test_with_softmax_an_export_returns_probabilities(trained: Trained, tmp_path: Path) -> None:
    trainer = trained.trainer(with_softmax=True, without_argmax=True)
    made = trainer.interval(None, 0, 2, Pictures(), ignore)
    trainer.export(made.checkpoint, Pictures(), tmp_path / "float").paddle("s8-symmetric", tmp_path / "int8")
    values, _ = run(tmp_path / "int8", "int8", pictures())
    np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)


def test_the_float_export_without_a_checkpoint_is_the_network_that_was_given(trained: Trained, tmp_path: Path) -> None:
    paddle = load_paddle()
    trained.trainer(without_argmax=True).export_float(None, tmp_path)
    network = trained.loaded.recipe.network()
    network.set_state_dict(paddle.load(str(trained.weights)))
    network.eval()
    found = network(paddle.to_tensor(pictures()))
    expected = (found[0] if isinstance(found, list) else found).numpy()
    np.testing.assert_allclose(run(tmp_path, "fp32", pictures())[0], expected, atol=1e-4)


def test_weights_that_do_not_fit_are_one_error_that_names_them(trained: Trained, tmp_path: Path) -> None:
    paddle = load_paddle()
    weights = paddle.load(str(trained.weights))
    del weights["body.conv.weight"]
    weights["stem.conv.weight"] = weights["stem.conv.weight"][:4]
    paddle.save(weights, str(tmp_path / "other.pdparams"))
    trainer = replace(trained.trainer(), model_path=tmp_path / "other.pdparams")
    with pytest.raises(QuantfleetError) as caught:
        trainer.interval(None, 0, 1, Pictures(), ignore)
    assert caught.value.code is ErrorCode.MODEL_UNREADABLE
    assert "it has no body.conv.weight" in caught.value.what
    assert "stem.conv.weight is [4, 3, 3, 3], not [8, 3, 3, 3]" in caught.value.what


def test_an_exception_in_a_users_sample_names_package_and_function(trained: Trained, package: str) -> None:
    settings = {"task": trained.loaded.recipe.task, "broken": "sample"}
    loaded = load_recipe(package, json.dumps(settings), frozenset({package}))
    trainer = replace(trained.trainer(num_workers=1), loaded=loaded)
    with pytest.raises(QuantfleetError, match=f"{package}: sample raised ValueError: no such picture") as caught:
        trainer.interval(None, 0, 1, Pictures(), ignore)
    assert caught.value.code is ErrorCode.ENGINE_FAILED


def test_samples_of_another_shape_than_the_inputs_are_an_error(trained: Trained) -> None:
    class Larger:
        task, inputs = trained.loaded.recipe.task, {"x": (3, 32, 32)}
        iters, batch_size, learning_rate = 1, 4, 0.1
        network, sample = trained.loaded.recipe.network, trained.loaded.recipe.sample
        loss, optimizer = trained.loaded.recipe.loss, trained.loaded.recipe.optimizer

    trainer = replace(trained.trainer(), loaded=replace(trained.loaded, recipe=Larger()))
    with pytest.raises(QuantfleetError, match=r"\(3, 16, 16\).* and inputs are .*\(3, 32, 32\)"):
        trainer.interval(None, 0, 1, Pictures(), ignore)


def test_fewer_samples_than_a_batch_are_an_error(trained: Trained) -> None:
    with pytest.raises(QuantfleetError, match="needs a batch of 4 samples, and the training data has 3") as caught:
        trained.trainer().interval(None, 0, 1, Pictures(3), ignore)
    assert caught.value.code is ErrorCode.DATA_EMPTY


def test_a_loss_that_is_not_finite_stops_the_training(trained: Trained) -> None:
    with pytest.raises(QuantfleetError, match=r"the loss of iteration [2-6] is (nan|inf)") as caught:
        trained.trainer(learning_rate=1e30).interval(None, 0, 6, Pictures(), ignore)
    assert caught.value.code is ErrorCode.ENGINE_FAILED


def test_a_checkpoint_of_other_parameters_is_refused(trained: Trained) -> None:
    made = trained.trainer().interval(None, 0, 1, Pictures(), ignore)
    with pytest.raises(QuantfleetError, match="another training") as caught:
        trained.trainer(learning_rate=0.5).interval(made.checkpoint, 1, 1, Pictures(), ignore)
    assert caught.value.code is ErrorCode.MODEL_UNREADABLE
