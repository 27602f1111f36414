import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.worker.training.conftest import Array, Inputs, exported, ignore

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines import onnxruntime_cpu
from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.paddle_cpu import ENGINE
from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_pir import load_program
from quantfleet_worker.models.paddle_program import load_paddle
from quantfleet_worker.training.act_config import parse
from quantfleet_worker.training.distillation import Distiller
from quantfleet_worker.training.student import build

CONFIG = """
Distillation: {alpha: 1.0, loss: LOSS}
QuantAware: {use_pact: PACT}
TrainConfig:
  train_iter: 10
  logging_iter: 5
  learning_rate: {type: CosineAnnealingDecay, learning_rate: RATE, T_max: 200}
  optimizer_builder: {optimizer: {type: OPTIMIZER}, weight_decay: 4.0e-05}
"""


def distiller(model: Path, *, loss: str = "l2", pact: bool = False, rate: str = "0.001", by: str = "Adam") -> Distiller:
    words = {"LOSS": loss, "PACT": str(pact).lower(), "RATE": rate, "OPTIMIZER": by}
    text = CONFIG
    for word, value in words.items():
        text = text.replace(word, value)
    return Distiller(model, parse(text), batch_size=8)


def outputs(directory: Path, precision: str, inputs: Array) -> Array:
    session = ENGINE.load(directory, LoadOptions(precision=precision, threads=1))
    session.bind({"x": inputs})
    session.run_bound()
    (values,) = session.outputs().values()
    return values


@pytest.fixture(scope="module")
def held_back() -> Array:
    return np.concatenate([Inputs().get(1000 + index)["x"] for index in range(16)])


@pytest.mark.parametrize(
    ("loss", "pact", "by"), [("l2", False, "Adam"), ("soft_label", False, "SGD"), ("l2", True, "Momentum")]
)
def test_two_intervals_give_the_bits_of_one(model: Path, loss: str, pact: bool, by: str) -> None:
    trainer = distiller(model, loss=loss, pact=pact, by=by)
    whole = trainer.interval(None, 0, 10, Inputs(), ignore)
    half = trainer.interval(None, 0, 5, Inputs(), ignore)
    rest = trainer.interval(half.checkpoint, 5, 5, Inputs(), ignore)
    assert rest.checkpoint == whole.checkpoint
    assert half.losses + rest.losses == whole.losses
    assert [iteration for iteration, _ in whole.losses] == list(range(1, 11))


def test_an_interval_repeated_in_another_process_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.worker.training.test_distillation import *\n"
        "made = distiller(Path(sys.argv[1])).interval(None, 0, 3, Inputs(), ignore)\n"
        "Path(sys.argv[2]).write_bytes(made.checkpoint)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", program, str(model), str(tmp_path / "checkpoint")]
    subprocess.run(command, check=True, capture_output=True)
    here = distiller(model).interval(None, 0, 3, Inputs(), ignore)
    assert (tmp_path / "checkpoint").read_bytes() == here.checkpoint


def test_an_interval_reports_its_progress(model: Path) -> None:
    told: list[tuple[float, str]] = []
    half = distiller(model).interval(None, 0, 3, Inputs(), ignore)
    distiller(model).interval(half.checkpoint, 3, 4, Inputs(), lambda share, line: told.append((share, line)))
    assert [share for share, _ in told] == [0.5, 1.0]
    assert told[0][1].startswith("iteration 5: loss ")


def test_distillation_brings_the_student_nearer_to_its_teacher_in_int8(
    model: Path, held_back: Array, tmp_path: Path
) -> None:
    teacher = outputs(model, "fp32", held_back)
    errors = {}
    for name, rate in (("untrained", "1.0e-12"), ("trained", "0.001")):
        trainer = distiller(model, rate=rate)
        made = trainer.interval(None, 0, 60, Inputs(), ignore)
        trainer.export(made.checkpoint, Inputs(), tmp_path / f"{name}-float").paddle("s8-symmetric", tmp_path / name)
        student = outputs(tmp_path / name, "int8", held_back)
        errors[name] = float(np.mean((student - teacher) ** 2))
    assert errors["trained"] < 0.5 * errors["untrained"]


def test_the_exported_model_runs_in_int8_and_as_it_was_trained(model: Path, held_back: Array, tmp_path: Path) -> None:
    trainer = distiller(model)
    made = trainer.interval(None, 0, 40, Inputs(), ignore)
    trainer.export(made.checkpoint, Inputs(), tmp_path / "float").paddle("s8-symmetric", tmp_path / "int8")
    session = ENGINE.load(tmp_path / "int8", LoadOptions(precision="int8", threads=1))
    session.bind({"x": held_back})
    counts = session.node_counts()
    assert (counts.int8, counts.quantizable, counts.fallbacks) == (2, 2, ())
    (simulated,) = trainer.simulate(made.checkpoint, {"x": held_back}).values()
    np.testing.assert_allclose(outputs(tmp_path / "int8", "int8", held_back), simulated, atol=1e-5)


def test_a_trained_model_computes_the_same_in_onnxruntimes_int8(model: Path, held_back: Array, tmp_path: Path) -> None:
    trainer = distiller(model)
    made = trainer.interval(None, 0, 20, Inputs(), ignore)
    trainer.export(made.checkpoint, Inputs(), tmp_path / "trained").onnx("u8s8", tmp_path / "int8.onnx")
    session = onnxruntime_cpu.ENGINE.load(tmp_path / "int8.onnx", LoadOptions(precision="int8", threads=1))
    (simulated,) = trainer.simulate(made.checkpoint, {"x": held_back}).values()
    found = []
    for values in held_back:
        session.bind({"x": values[None]})
        session.run_bound()
        found.extend(session.outputs().values())
    assert np.abs(np.concatenate(found) - simulated).mean() < 0.02 * simulated.std()


def test_a_distilled_float_model_keeps_names_and_shapes(model: Path, held_back: Array, tmp_path: Path) -> None:
    trainer = distiller(model)
    trainer.export_float(None, tmp_path)
    np.testing.assert_allclose(outputs(tmp_path, "fp32", held_back), outputs(model, "fp32", held_back), atol=1e-4)


def test_with_pact_the_range_is_a_bound_that_is_trained(model: Path) -> None:
    large, ranges = Inputs(largest=25.0), {}
    for pact in (False, True):
        trainer = distiller(model, pact=pact, rate="0.01")
        made = trainer.interval(None, 0, 20, large, ignore)
        ranges[pact] = trainer.learned_ranges(made.checkpoint)["x"]
    bound = float(np.load(io.BytesIO(made.checkpoint))["state/x.pact_bound"][0])
    assert 20 < bound < 25
    assert ranges[True] == pytest.approx(bound, rel=0.01)
    assert ranges[False] == pytest.approx(25, rel=0.01)


def test_a_pir_model_is_distilled_like_an_old_one(tmp_path: Path) -> None:
    paddle = load_paddle()
    layer = paddle.nn.Sequential(paddle.nn.Conv2D(4, 4, 3), paddle.nn.ReLU(), paddle.nn.Conv2D(4, 2, 1))
    (tmp_path / "pir").mkdir()
    trainer = distiller(exported(layer, tmp_path / "pir", pir=True))
    made = trainer.interval(None, 0, 2, Inputs(), ignore)
    assert (
        len(
            trainer.export(made.checkpoint, Inputs(), tmp_path / "float")
            .paddle("s8-symmetric", tmp_path / "int8")
            .int8_nodes
        )
        == 2
    )


def test_a_loss_overwrites_no_tensor_of_the_model(tmp_path: Path) -> None:
    paddle = load_paddle()

    class Residual(paddle.nn.Layer):  # type: ignore[name-defined,misc] # paddle's classes are loaded untyped
        def __init__(self) -> None:
            super().__init__()
            self.conv = paddle.nn.Conv2D(4, 4, 3, 1, 1)

        def forward(self, x: Any) -> Any:
            return paddle.mean(self.conv(x + self.conv(x)), axis=[2, 3])  # `tmp_0` and `mean_0.tmp_0`, as in a loss

    trainer = distiller(exported(Residual(), tmp_path, pir=False), rate="1.0e-12", by="SGD")
    losses = [loss for _, loss in trainer.interval(None, 0, 6, Inputs(), ignore).losses]
    assert max(losses) < 1e-3


def test_the_teacher_stays_in_float(tmp_path: Path) -> None:
    paddle = load_paddle()
    layer = paddle.nn.Sequential(
        paddle.nn.Flatten(), paddle.nn.Linear(256, 8), paddle.nn.ReLU(), paddle.nn.Linear(8, 3)
    )
    files = find_files(exported(layer, tmp_path, pir=False))
    program = build(load_program(files), load_program(files), parse("QuantAware:\n")).program
    read = [operator.input("X")[0] for operator in program.operators if operator.type == "quantize_linear"]
    assert len(read) == 4
    assert not any(name.startswith("teacher_") for name in read)


def test_a_node_that_the_model_lacks_is_named_with_the_nearest(model: Path) -> None:
    config = parse("Distillation: {node: [conv2d_0.tmp]}\nQuantAware:\n")
    with pytest.raises(QuantfleetError, match=r"computes no tensor 'conv2d_0\.tmp' \(did you mean conv2d_") as caught:
        Distiller(model, config, 8).interval(None, 0, 1, Inputs(), ignore)
    assert caught.value.code is ErrorCode.JOB_INVALID


def test_op_types_that_the_model_lacks_are_an_error(model: Path) -> None:
    config = parse("QuantAware: {quantize_op_types: [depthwise_conv2d]}\n")
    with pytest.raises(QuantfleetError, match="no operator to train in INT8") as caught:
        Distiller(model, config, 8).interval(None, 0, 1, Inputs(), ignore)
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED


def test_a_loss_that_is_not_finite_stops_the_training_at_its_iteration(model: Path) -> None:
    trainer = distiller(model, rate="1.0e+30", by="SGD")
    with pytest.raises(QuantfleetError, match=r"the loss of iteration [2-4] is (nan|inf)") as caught:
        trainer.interval(None, 0, 4, Inputs(), ignore)
    assert caught.value.code is ErrorCode.ENGINE_FAILED


def test_an_empty_data_set_is_an_error(model: Path) -> None:
    with pytest.raises(QuantfleetError, match="has 0") as caught:
        distiller(model).interval(None, 0, 1, Inputs(0), ignore)
    assert caught.value.code is ErrorCode.DATA_EMPTY


def test_without_paddleslim_the_error_says_how_to_install_it(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "paddleslim"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "paddleslim", None)  # what Python itself keeps for a module that is not there
    with pytest.raises(QuantfleetError, match="paddleslim cannot be imported") as caught:
        distiller(model).interval(None, 0, 1, Inputs(), ignore)
    assert caught.value.code is ErrorCode.ENGINE_MISSING
    assert "pip install --no-deps paddleslim==2.6.0" in caught.value.todo
