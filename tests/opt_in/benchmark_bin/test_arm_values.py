"""Paddle Lite's real `benchmark_bin` for armv8, on this host: natively on an ARM board, else through qemu-user, by a
script in its place. Emulated, it says what is computed, and nothing of how fast."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.worker.paddle.conftest import calibrate, classifier, export, network, pictures
from tests.worker.paddle.test_paddle_given import CONVOLUTIONS, post_training
from tests.worker.phones.lite_models import DATA, INT8, X86

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_files import PaddleFiles, find_files
from quantfleet_worker.models.paddle_lite_program import LiteProgram, prepare
from quantfleet_worker.models.paddle_program import PaddleProgram
from quantfleet_worker.phones.nb_file import read_nb
from quantfleet_worker.phones.opt import OptRequest, convert
from quantfleet_worker.phones.phone import Phone
from quantfleet_worker.phones.session import OnPhone, PhoneSession
from quantfleet_worker.phones.transports.local import LocalTransport
from quantfleet_worker.quantizers import paddle_lite

SHAPE = (None, 3, 32, 32)
NETWORKS: dict[str, Callable[[], Any]] = {"convolutions": network, "fully-connected": classifier}


def named(variable: str) -> str:
    value = os.environ.get(variable, "")
    assert value, "make test-benchmark-bin BENCHMARK_BIN=tool LITE_PYTHON=interpreter with paddlelite"
    return value


@pytest.fixture
def phone(tmp_path: Path) -> Phone:
    (tmp_path / "phone").mkdir()
    transport = LocalTransport(str(tmp_path / "phone"))
    return Phone(transport, Path(named("BENCHMARK_BIN")).absolute(), "high", named("LITE_PYTHON"))


def session(phone: Phone, content: bytes, program: LiteProgram, power_mode: str = "high") -> PhoneSession:
    directory = phone.transport.directory
    model = Path(directory) / "model.nb"
    model.write_bytes(content)
    phone = Phone(phone.transport, phone.benchmark_bin, power_mode, phone.opt_interpreter)
    counts = read_nb(content, "model.nb").counts(quantized=True)
    there = (directory, str(phone.benchmark_bin), str(model))
    return PhoneSession(OnPhone(phone, *there, program.inputs, program.outputs, counts), 1, "tried")


def converted(phone: Phone, model: Path, scratch: Path, weight_bits: int = 0) -> PhoneSession:
    program = prepare(model, scratch / f"program-{weight_bits}")
    request = OptRequest("arm", weight_bits)
    return session(phone, convert(phone.opt_interpreter, program.files, request, scratch).content, program)


def difference(tried: PhoneSession, model: Path) -> float:
    """Between what the tool computes and what Paddle does of a program, on three pictures."""
    program = PaddleProgram.load(model, find_files(model).stem)
    differences = []
    for picture in pictures(3, seed=9):
        feeds = {"x": picture[None]}
        (expected,) = program.run(feeds, program.fetches).values()
        (found,) = tried.run(feeds).values()
        differences.append(float(np.abs(found - expected).max()))
    return max(differences)


@pytest.mark.parametrize("kind", NETWORKS)
def test_int8_computes_what_paddle_simulates(phone: Phone, tmp_path: Path, kind: str) -> None:
    model = export(NETWORKS[kind](), tmp_path / "model", SHAPE, pir=False)
    assert difference(converted(phone, model, tmp_path), model) < 1e-5
    int8 = paddle_lite.quantize(model, calibrate(model, tmp_path).table, tmp_path / "int8").path
    tried = converted(phone, int8, tmp_path)
    assert tried.node_counts().int8 == 3
    assert difference(tried, int8) < 1e-5
    assert difference(tried, model) > 1e-4, "it is not the float model that runs"


@pytest.mark.parametrize("onnx_format", [True, False])
def test_what_paddleslim_quantized_computes_what_paddle_simulates(
    phone: Phone, tmp_path: Path, onnx_format: bool
) -> None:
    model = export(network(), tmp_path / "model", SHAPE, pir=False)
    given = post_training(model, tmp_path / "given", [*CONVOLUTIONS, "matmul_v2"], onnx_format=onnx_format)
    tried = converted(phone, given, tmp_path)
    assert tried.node_counts().int8 == 4
    assert difference(tried, given) < 1e-5


@pytest.mark.parametrize(("bits", "bound"), [(8, 1e-2), (16, 1e-4)])
def test_weights_of_as_many_bits_come_as_near(phone: Phone, tmp_path: Path, bits: int, bound: float) -> None:
    model = export(classifier(), tmp_path / "model", SHAPE, pir=False)
    assert 0 < difference(converted(phone, model, tmp_path, bits), model) < bound


@pytest.fixture
def recorded(phone: Phone) -> PhoneSession:
    shape = {"x": ((1, 3, 32, 32), np.dtype("float32"))}
    files = PaddleFiles(DATA, "recorded", pir=False)
    program = LiteProgram(files, shape, {"out": np.dtype("float32")})
    tried = session(phone, (DATA / INT8).read_bytes(), program, "low")
    tried.bind({"x": pictures(1)})
    return tried


def test_a_round_a_running_tool_and_its_memory_are_told(recorded: PhoneSession) -> None:
    report, printed = recorded.timed(2, 20)
    assert 0 < report.round.min_ns <= report.round.mean_ns <= report.round.max_ns
    assert (report.round.runs, report.shapes) == (20, ((1, 2),))
    assert report.version.startswith("v2.")
    assert "======= Perf Info =======" in printed
    seen = recorded.look(report.init_ms)
    assert seen is not None
    assert seen.threads >= 1
    assert recorded.peak_memory_mb() is not None


def test_a_file_for_another_target_is_an_error_of_the_tools_too(phone: Phone, recorded: PhoneSession) -> None:
    (Path(phone.transport.directory) / "model.nb").write_bytes((DATA / X86).read_bytes())
    with pytest.raises(QuantfleetError, match="benchmark_bin gave no figures") as caught:
        recorded.timed(0, 1)
    assert caught.value.code is ErrorCode.ENGINE_FAILED
