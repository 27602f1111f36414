"""Tasks of a phone, whose place this host takes: the conversions are recorded ones, and the tool is `lite_tool`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.worker.phones.interpreters import converting
from tests.worker.phones.lite_host import BYTES, CHOOSE, Host, model_files, work_of
from tests.worker.phones.lite_models import DATA, DYNAMIC, FLOAT, INT8, SIDE, X86
from tests.worker.phones.lite_tool import tool

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.measured import BenchmarkResult, ClassOutcome
from quantfleet_domain.jobs.task_results import Result
from quantfleet_domain.jobs.work import BenchmarkWork, EvaluateWork, ModelForm, Slice, Variant
from quantfleet_domain.measurement.protocol import Protocol
from quantfleet_protos.v1 import task_pb2
from quantfleet_wire.codec import decode_union
from quantfleet_worker.phones import watching
from quantfleet_worker.tasks import dispatch
from quantfleet_worker.tasks.phone_benchmarking import ROUNDS, SCHEMA, benchmark_on_phone
from quantfleet_worker.tasks.phone_evaluating import evaluate_on_phone
from quantfleet_worker.tasks.request import pack


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for the tool has its threads at once, and need not be waited for."""
    monkeypatch.setattr(watching, "SETTLING_S", 0.4)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return model_files(tmp_path_factory.mktemp("model"))


@pytest.fixture
def work(host: Host, model: dict[str, bytes]) -> BenchmarkWork:
    return work_of(host, model)


def test_every_cell_has_the_phones_own_figures_and_what_it_had_of_the_phone(host: Host, work: BenchmarkWork) -> None:
    result = host.benchmark(replace(work, threads=(1, 2), memory=True), host.phone())
    assert [(row.precision, row.threads) for row in result.rows] == [("fp32", 1), ("int8", 1), ("fp32", 2), ("int8", 2)]
    assert (result.engine_version, result.blocks, result.repeat) == ("v2.13-rc", ROUNDS, 100 * ROUNDS)
    for row in result.rows:
        size = BYTES[FLOAT if row.precision == "fp32" else INT8]
        assert row.latency.mean == pytest.approx(size / 1000, abs=1e-3)
        assert (row.latency.min, row.latency.max) == pytest.approx((size / 2000, size / 500), abs=1e-3)
        assert (row.latency.median, row.latency.p90, row.latency.p99, row.latency.cov) == (None,) * 4
        assert (row.latency.runs, row.model_bytes, row.memory_mb) == (100 * ROUNDS, size, 61.5)
        settings = {setting.name: setting.value for setting in row.settings}
        assert settings["threads"] == str(row.threads)
        assert settings["cores"]
        assert (settings["power_mode"], settings["opt"], settings["transport"]) == ("high", "v2.13-rc", "local")
        assert row.conditions.run_queue is not None
    int8 = result.rows[1]
    assert (int8.int8_nodes, int8.quantizable_nodes) == (2, 3)
    assert int8.fallbacks == ("linear_0.w_0 (fc): opt gave it a kernel in fp32",)
    assert int8.speedup is not None
    assert int8.speedup.value == pytest.approx(BYTES[FLOAT] / BYTES[INT8], rel=1e-3)
    assert result.rows[0].speedup is None


def test_the_variants_take_turns_and_all_that_was_printed_is_kept(host: Host, work: BenchmarkWork) -> None:
    log = host.folder / "log"
    words = "flags['repeats'], flags['warmup'], flags['optimized_model_file'][-4]"
    noted = f"print({words}, file=open({str(log)!r}, 'a'))"
    result = host.benchmark(work, host.phone(first=noted))
    rounds = [line.split() for line in log.read_text().splitlines() if line.startswith("100 ")]
    names = {"0": "fp32", "1": "int8/static"}
    turns = Protocol("runtime", 10, 500, blocks=ROUNDS).turns(("fp32", "int8/static"))
    assert [names[number] for _, _, number in rounds] == [turn.variant for turn in turns]
    assert {warmup for _, warmup, _ in rounds} == {"10"}
    kept = json.loads((host.folder / "outputs" / result.samples.digest).read_bytes())
    assert kept["schema"] == SCHEMA
    printed = kept["cells"][0]["variants"]
    assert {name: len(texts) for name, texts in printed.items()} == {"fp32": ROUNDS, "int8/static": ROUNDS}
    assert all("======= Perf Info =======" in text for texts in printed.values() for text in texts)


def test_a_cell_for_which_the_phone_gives_fewer_threads_is_absent(host: Host, work: BenchmarkWork) -> None:
    result = host.benchmark(replace(work, threads=(1, 4)), host.phone(first="threads = min(threads, 2)"))
    assert {row.threads for row in result.rows} == {1}
    assert {absence.reason for absence in result.absent} == {"4 threads are asked for, and the phone ran 2"}


def test_end_to_end_does_not_apply_to_a_phone(host: Host, work: BenchmarkWork) -> None:
    result = host.benchmark(replace(work, modes=("runtime", "end2end")), host.phone())
    assert {row.mode for row in result.rows} == {"runtime"}
    assert [(a.mode, a.applicable) for a in result.absent] == [("end2end", False)] * 2


def test_a_precision_that_the_phone_lacks_does_not_apply(host: Host, work: BenchmarkWork) -> None:
    half = Variant("fp16", "none", work.variants[0].forms)
    result = host.benchmark(replace(work, variants=(work.variants[0], half)), host.phone())
    (absence,) = result.absent
    assert (absence.precision, absence.applicable) == ("fp16", False)
    assert absence.reason == "this phone has no fp16 for paddle-lite"


def test_weights_of_a_dynamic_variant_are_stored_by_opt_and_computed_in_float(host: Host, work: BenchmarkWork) -> None:
    dynamic = Variant("int8", "dynamic", (ModelForm("dynamic", work.variants[0].forms[0].files),))
    (row,) = host.benchmark(replace(work, variants=(dynamic,)), host.phone()).rows
    assert (row.model_bytes, row.int8_nodes) == (BYTES[DYNAMIC], 0)
    assert all("stored in 8 bits, and Lite computes in float" in reason for reason in row.fallbacks)


def test_a_model_for_another_target_never_reaches_the_phone(host: Host, work: BenchmarkWork) -> None:
    with pytest.raises(QuantfleetError, match="made for x86, and this device is arm") as caught:
        host.benchmark(work, host.phone(first="sys.exit('it ran')", choose=repr(str(DATA / X86))))
    assert caught.value.code is ErrorCode.MODEL_UNSUPPORTED


def test_a_static_model_without_an_int8_kernel_is_absent(host: Host, work: BenchmarkWork) -> None:
    result = host.benchmark(work, host.phone(choose=repr(str(DATA / FLOAT))))
    assert [row.precision for row in result.rows] == ["fp32"]
    assert "gave none of the 3 layers a kernel in INT8" in result.absent[0].reason


@pytest.mark.parametrize("when", ["True", "repeats == 100"])
def test_a_variant_on_which_the_tool_dies_is_absent_and_the_others_are_measured(
    host: Host, work: BenchmarkWork, when: str
) -> None:
    dying = f"if len(model) == {BYTES[INT8]} and {when}: sys.exit('Segmentation fault')"
    result = host.benchmark(work, host.phone(first=dying))
    assert [row.precision for row in result.rows] == ["fp32"]
    assert "its last line: Segmentation fault" in result.absent[0].reason


def test_a_phone_that_goes_away_ends_the_task_as_lost(host: Host, work: BenchmarkWork) -> None:
    vanishing = "if repeats == 100: os.kill(os.getppid(), signal.SIGKILL)"
    with pytest.raises(QuantfleetError) as caught:
        benchmark_on_phone(work, host.workspace, host.here, lambda *_: None, host.phone(first=vanishing))
    assert caught.value.code is ErrorCode.PHONE_LOST


def test_a_library_unlike_the_opt_is_a_warning(host: Host, work: BenchmarkWork) -> None:
    unlike = "from tests.worker.phones.printed import MISMATCH; sys.stderr.write(MISMATCH)"
    (warning,) = host.benchmark(work, host.phone(first=unlike)).warnings
    assert warning == "the models were converted by opt v2.13-rc, and the phone's library is v2.13-rc"


def samples(host: Host, arrays: list[np.ndarray[Any, Any]], labels: list[int]) -> Slice:
    rows = []
    for index, (array, label) in enumerate(zip(arrays, labels, strict=True)):
        path = host.folder / f"{index}.npy"
        np.save(path, array)
        ref = host.put(path.name, path.read_bytes())
        rows.append(Sample(ref.name, ref.digest, ref.size, label))
    return Slice(host.put("manifest.json", Manifest(tuple(rows)).to_json()), 0, len(rows))


def pictures(first_two: list[tuple[float, float]]) -> list[np.ndarray[Any, Any]]:
    made = [np.zeros((3, SIDE, SIDE), np.float32) for _ in first_two]
    for picture, (one, other) in zip(made, first_two, strict=True):
        picture[0, 0, :2] = one, other
    return made


def test_samples_are_judged_by_what_the_phones_tool_wrote_of_each(host: Host, work: BenchmarkWork) -> None:
    data = samples(host, pictures([(0.2, 0.7), (3, -1), (1e-20, 1e-19)]), [1, 1, 1])
    evaluated = evaluate_on_phone(
        EvaluateWork("net", "paddle-lite", work.variants[1], work.input_shapes, data, None),
        host.workspace,
        host.here,
        lambda *_: None,
        host.phone(),
    )
    assert evaluated.outcome == ClassOutcome((1, 1, 1), (1, 0, 1), (True, True, True))
    assert (evaluated.engine_version, evaluated.form) == ("v2.13-rc", "s8-symmetric-lite")


def test_a_benchmark_with_samples_feeds_the_first_of_them(host: Host, work: BenchmarkWork) -> None:
    data = samples(host, pictures([(0.25, 0.5)]), [0])
    fed = "assert open(flags['input_data_path']).read().startswith('0.25\\n0.5\\n')"
    assert len(host.benchmark(replace(work, data=data), host.phone(first=fed)).rows) == 2


def phones_file(host: Host, *, build: str = "armv8", opt: bool = True) -> str:
    binary, interpreter = tool(host.folder), converting(host.folder, CHOOSE)
    path = host.folder / "phones.yaml"
    phone = f"{{name: board, transport: local, directory: {host.folder}/phone, benchmark_bin: {{{build}: {binary}}}}}"
    path.write_text(f"phones: [{phone}]\n" + (f"opt: {{interpreter: {interpreter}}}\n" if opt else ""))
    return str(path)


def test_a_task_finds_its_phone_in_the_workers_file_and_what_is_not_told_stays_absent_on_the_wire(
    host: Host, work: BenchmarkWork
) -> None:
    here = replace(host.here, device="arm:board", phones=phones_file(host))
    answer = dispatch(pack(here, replace(work, variants=work.variants[:1])), lambda *_: None)
    result = decode_union(task_pb2.Result.FromString(answer), Result)
    assert isinstance(result, BenchmarkResult)
    (row,) = result.rows
    assert (row.latency.mean, row.latency.median, row.latency.p95) == (1.0, None, None)


@pytest.mark.parametrize(
    ("engine", "device", "opt", "said"),
    [
        ("paddle-lite", "arm:other", True, "lists no phone 'other'"),
        ("paddle-lite-armv7", "arm:board", True, "phone 'board' has no benchmark_bin for armeabi-v7a"),
        ("paddle-lite", "arm:board", False, "names no interpreter for opt"),
    ],
)
def test_what_the_workers_file_lacks_is_said_before_anything_is_done(
    host: Host, work: BenchmarkWork, engine: str, device: str, opt: bool, said: str
) -> None:
    here = replace(host.here, device=device, phones=phones_file(host, opt=opt))
    with pytest.raises(QuantfleetError, match=said) as caught:
        dispatch(pack(here, replace(work, engine=engine)), lambda *_: None)
    assert caught.value.code is ErrorCode.ENGINE_MISSING
