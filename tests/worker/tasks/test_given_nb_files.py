"""An `.nb` file that a user's opt made is measured as it is, where it is quantized and made for the phone."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.worker.phones.lite_host import BYTES, CHOOSE, Host, model_files, work_of
from tests.worker.phones.lite_models import DATA, DYNAMIC, FLOAT, INT8, SIDE, X86

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.measured import ClassOutcome
from quantfleet_domain.jobs.spec import InputShape
from quantfleet_domain.jobs.work import BenchmarkWork, EvaluateWork, InspectWork, ModelForm, Slice, Variant
from quantfleet_worker.phones import watching
from quantfleet_worker.tasks.inspecting import inspect
from quantfleet_worker.tasks.phone_evaluating import evaluate_on_phone

SHAPE = InputShape("x", (1, 3, SIDE, SIDE))
CONVERTS_NOTHING = "sys.exit('opt ran')"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for the tool has its threads at once, and need not be waited for."""
    monkeypatch.setattr(watching, "SETTLING_S", 0.4)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def given(host: Host, name: str) -> Variant:
    """A recorded file, under another name."""
    return Variant("int8", "given", (ModelForm("", (host.put("theirs.nb", (DATA / name).read_bytes()),)),))


@pytest.fixture
def alone(host: Host) -> BenchmarkWork:
    return replace(work_of(host, {}), variants=(given(host, INT8),))


def test_a_file_by_itself_is_measured_without_opt_and_says_which_opt_made_it(host: Host, alone: BenchmarkWork) -> None:
    (row,) = host.benchmark(alone, host.phone(choose=CONVERTS_NOTHING)).rows
    assert row.latency.mean == pytest.approx(BYTES[INT8] / 1000, abs=1e-3)
    assert (row.precision, row.quantization, row.form, row.speedup) == ("int8", "given", "", None)
    assert (row.int8_nodes, row.quantizable_nodes, row.model_bytes) == (2, 3, BYTES[INT8])
    assert row.fallbacks == ("linear_0.w_0 (fc): opt gave it a kernel in fp32",)
    assert {setting.name: setting.value for setting in row.settings}["opt"] == "v2.13-rc"
    assert row.input_shapes == (SHAPE,)


def test_a_given_file_stands_beside_the_fp32_of_its_paddle_model(host: Host, tmp_path: Path) -> None:
    work = work_of(host, model_files(tmp_path / "model"))
    work = replace(work, variants=(work.variants[0], given(host, INT8)))
    fp32, theirs = host.benchmark(work, host.phone(choose=CHOOSE)).rows
    assert (fp32.model_bytes, theirs.model_bytes) == (BYTES[FLOAT], BYTES[INT8])
    assert theirs.speedup is not None
    assert theirs.speedup.value == pytest.approx(BYTES[FLOAT] / BYTES[INT8], rel=1e-3)


def test_a_given_file_with_other_inputs_than_its_paddle_model_is_absent(host: Host, alone: BenchmarkWork) -> None:
    with pytest.raises(QuantfleetError, match="takes 'x', and the job's model has input 'picture'") as caught:
        host.benchmark(replace(alone, input_shapes=(InputShape("picture", SHAPE.dims),)), host.phone())
    assert caught.value.todo == "give the quantized form of that very model"


def test_weights_of_8_bits_are_measured_and_none_of_their_layers_is_in_int8(host: Host, alone: BenchmarkWork) -> None:
    (row,) = host.benchmark(replace(alone, variants=(given(host, DYNAMIC),)), host.phone()).rows
    assert (row.int8_nodes, row.quantizable_nodes) == (0, 3)
    assert all("stored in 8 bits, and Lite computes in float" in reason for reason in row.fallbacks)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (X86, r"theirs\.nb is made for x86, and this device is arm"),
        (FLOAT, r"theirs\.nb is not quantized: none of its 3 layers is in INT8"),
    ],
)
def test_a_file_for_another_target_or_in_float_never_reaches_the_phone(
    host: Host, alone: BenchmarkWork, name: str, said: str
) -> None:
    work = replace(alone, variants=(given(host, name),))
    with pytest.raises(QuantfleetError, match=said) as caught:
        host.benchmark(work, host.phone(first="sys.exit('it ran')"))
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED


def test_a_file_by_itself_is_judged_by_what_the_phones_tool_wrote(host: Host) -> None:
    picture = np.zeros((3, SIDE, SIDE), np.float32)
    picture[0, 0, :2] = 0.2, 0.7
    np.save(host.folder / "0.npy", picture)
    ref = host.put("0.npy", (host.folder / "0.npy").read_bytes())
    listed = host.put("manifest.json", Manifest((Sample(ref.name, ref.digest, ref.size, 1),)).to_json())
    work = EvaluateWork("net", "paddle-lite", given(host, INT8), (SHAPE,), Slice(listed, 0, 1), None)
    evaluated = evaluate_on_phone(work, host.workspace, host.here, lambda *_: None, host.phone())
    assert evaluated.outcome == ClassOutcome((1,), (1,), (True,))


def inspected(host: Host, *shapes: InputShape, name: str = INT8) -> tuple[InputShape, ...]:
    ref = host.put("theirs.nb", (DATA / name).read_bytes())
    work = InspectWork("net", "paddle-lite", (ref,), shapes, None, quantized=True)
    return inspect(work, host.workspace, host.here, lambda *_: None).input_shapes


def test_what_a_file_takes_is_read_in_it_without_paddle_and_without_a_phone(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "paddle", None)
    assert inspected(host) == (SHAPE,)
    larger = InputShape("x", (1, 3, 64, 64))
    assert inspected(host, larger) == (larger,)


def test_a_file_for_another_target_is_refused_when_it_is_inspected(host: Host) -> None:
    with pytest.raises(QuantfleetError, match="made for x86"):
        inspected(host, name=X86)
