"""A transformer encoder in INT8: its products with weights run in integers, what computes between them in float."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from tests.worker.encoders import PRODUCTS, encoder, token_feeds
from tests.worker.onnx_networks import saved

from quantfleet_domain.calibration.calibrators import calibrator_named
from quantfleet_domain.calibration.numerics import NumericsClass
from quantfleet_domain.calibration.partial import PartialAccumulator
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_worker.engines import onnxruntime_cpu, openvino_cpu
from quantfleet_worker.engines.base import Engine, LoadOptions
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.models.reference_run import ReferenceRun
from quantfleet_worker.quantizers import onnx_dynamic
from quantfleet_worker.quantizers.onnx_qdq import quantize

ORT, OPENVINO = onnxruntime_cpu.ENGINE, openvino_cpu.ENGINE


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    content, graph = inspect(saved(encoder(), folder), {})
    (folder / "fp32.onnx").write_bytes(content)
    numerics = NumericsClass("onnxruntime-cpu", "1", "test", "0" * 64, graph.recipe, "none", 1)
    accumulator = PartialAccumulator(numerics, graph.activations)
    run = ReferenceRun(folder / "fp32.onnx", graph)
    for index, feeds in enumerate(token_feeds(20, seed=1)):
        accumulator.observe(index, str(index), dict(run.activations(feeds)))
    nobody = {"manifest": "0" * 64, "preprocessing": "0" * 64}
    table = ScaleTable.build(accumulator.partial(), graph, calibrator_named("absmax"), **nobody)
    quantize(folder / "fp32.onnx", table, "u8s8", folder / "static.onnx")
    onnx_dynamic.quantize(folder / "fp32.onnx", folder / "dynamic.onnx")
    return folder


def logits(engine: Engine, model: Path, precision: str) -> NDArray[np.float32]:
    session = engine.load(model, LoadOptions(precision, threads=1))
    return np.concatenate([session.run(feeds)["logits"] for feeds in token_feeds(20, seed=2)])


def test_only_what_products_with_weights_read_has_a_range(models: Path) -> None:
    _, graph = inspect(models / "fp32.onnx", {})
    assert graph.activations == ("attention_norm", "mixed", "norm", "gelu", "state")


@pytest.mark.parametrize(("engine", "kind"), [(ORT, "static"), (ORT, "dynamic"), (OPENVINO, "static")])
def test_every_product_with_a_weight_runs_in_int8(models: Path, engine: Engine, kind: str) -> None:
    session = engine.load(models / f"{kind}.onnx", LoadOptions("int8", threads=1))
    session.run(token_feeds(1, seed=2)[0])
    counts = session.node_counts()
    assert (counts.int8, counts.quantizable, counts.fallbacks) == (len(PRODUCTS), len(PRODUCTS), ())


@pytest.mark.parametrize(("engine", "kind"), [(ORT, "static"), (ORT, "dynamic"), (OPENVINO, "static")])
def test_the_mask_and_the_residuals_survive_int8(models: Path, engine: Engine, kind: str) -> None:
    exact, approximate = logits(ORT, models / "fp32.onnx", "fp32"), logits(engine, models / f"{kind}.onnx", "int8")
    assert 0 < np.abs(exact - approximate).mean() < 0.03 * np.abs(exact).mean()


def test_onnxruntime_still_fuses_gelu(models: Path, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(models / "static.onnx", options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("Gelu") == 1
    assert sum(kind.endswith("LayerNormalization") for kind in kinds) == 3
    assert kinds.count("QuantizeLinear") == 5
