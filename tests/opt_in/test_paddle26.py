"""An engine that lives in a Python of its own: Paddle 2.6 with numpy 1.26, beside this one with Paddle 3.

`make test-paddle26 PADDLE26=python` runs it; the interpreter is made as docs/guide/hardware.md says for
paddle-tensorrt, with paddlepaddle==2.6.2 in place of paddlepaddle-gpu where there is no GPU.
"""

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.opt_in import paddle26_child
from tests.worker.paddle.conftest import SHAPE, calibrate, export, network, pictures

from quantfleet_domain.jobs import task_results
from quantfleet_domain.jobs.measured import BenchmarkResult
from quantfleet_domain.jobs.spec import FileRef, InputShape
from quantfleet_domain.jobs.work import BenchmarkWork, ModelForm, Variant
from quantfleet_protos.v1 import task_pb2
from quantfleet_wire.codec import decode_union
from quantfleet_wire.content import digest_bytes
from quantfleet_worker.engines.elsewhere import ask
from quantfleet_worker.execution.outcome import Result
from quantfleet_worker.execution.spec import RunSpec
from quantfleet_worker.execution.supervisor import ChildRun
from quantfleet_worker.quantizers.paddle_tensorrt import QDQ, quantize
from quantfleet_worker.tasks.request import Surroundings, pack

PADDLE26 = os.environ["PADDLE26"]
CORE = min(os.sched_getaffinity(0))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(network(), tmp_path_factory.mktemp("model"), (None, *SHAPE[1:]), pir=False)


def both(handler: str, model: Path, images: Path) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What a handler of `paddle26_child` answers in the other Python, and in this one."""
    environment = {"PYTHONPATH": str(Path(__file__).parent)}
    spec = RunSpec((CORE,), handler=f"paddle26_child:{handler}", interpreter=PADDLE26, environment=environment)
    request = json.dumps({"model": str(model), "images": str(images)}).encode()
    outcome = ChildRun(spec).run(request)
    assert isinstance(outcome, Result), outcome
    here = getattr(paddle26_child, handler)(request, lambda *_: None)
    return np.load(io.BytesIO(outcome.payload)), np.load(io.BytesIO(here))


def test_the_other_python_tells_the_version_of_its_own_paddle() -> None:
    answer = ask(PADDLE26, ["paddle-cpu"])["paddle-cpu"]
    assert answer.version is not None, answer.missing
    assert answer.version.startswith("2.6.")


def test_a_child_in_the_other_python_computes_the_same_float_outputs(model: Path, tmp_path: Path) -> None:
    images = tmp_path / "images.npy"
    np.save(images, pictures(4))
    there, here = both("infer", model, images)
    assert str(there["version"]).startswith("2.6.")
    assert str(there["numpy"]).startswith("1.")
    assert str(here["version"]).startswith("3.")
    assert int(str(here["numpy"]).partition(".")[0]) >= 2
    np.testing.assert_allclose(there["output"], here["output"], rtol=1e-5, atol=1e-6)
    assert there["output"].std() > 0.01


def test_a_benchmark_task_crosses_into_the_other_python_and_back(model: Path, tmp_path: Path) -> None:
    cache, outputs = tmp_path / "cache", tmp_path / "outputs"
    cache.mkdir()
    outputs.mkdir()
    files = tuple(kept(cache, path) for path in sorted(model.iterdir()))
    work = BenchmarkWork(
        model="net",
        engine="paddle-cpu",
        variants=(Variant("fp32", "none", (ModelForm("", files),)),),
        modes=("runtime",),
        threads=(1,),
        batch_sizes=(1,),
        warmup=2,
        repeat=20,
        require_quiet=False,
        input_shapes=(InputShape("x", SHAPE),),
        data=None,
        preprocess=None,
    )
    here = Surroundings(str(cache), str(outputs), "cpu:0", (CORE,), (), "x86-64", ())
    outcome = ChildRun(RunSpec((CORE,), interpreter=PADDLE26)).run(pack(here, work))
    assert isinstance(outcome, Result), outcome
    result = decode_union(task_pb2.Result.FromString(outcome.payload), task_results.Result)
    assert isinstance(result, BenchmarkResult)
    assert result.engine_version.startswith("2.6.")
    assert [row.precision for row in result.rows] == ["fp32"]


def test_the_program_for_tensorrt_computes_the_same_in_both_and_its_shapes_are_noted(
    model: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images.npy"
    np.save(images, pictures(4))
    quantize(model, calibrate(model, tmp_path).table, QDQ, tmp_path / QDQ)
    there, here = both("simulate", tmp_path / QDQ, images)
    np.testing.assert_array_equal(there["output"], here["output"])
    assert there["quantized"] == here["quantized"] > 0
    assert int(there["noted"]) == int(here["noted"]) > int(there["quantized"])


def kept(cache: Path, path: Path) -> FileRef:
    content = path.read_bytes()
    digest = digest_bytes(content)
    (cache / digest).write_bytes(content)
    return FileRef(path.name, digest, len(content))
