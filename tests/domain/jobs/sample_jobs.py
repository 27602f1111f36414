"""Jobs for the tests of their planning: small, and of every shape."""

from dataclasses import replace
from typing import Any

from quantfleet_domain.calibration.graph import NumericsClass
from quantfleet_domain.hardware.facts import CpuFacts, DeviceFacts, EngineFacts, GpuFacts, PhoneFacts
from quantfleet_domain.jobs.lifecycle import TaskKind
from quantfleet_domain.jobs.plan import Plan
from quantfleet_domain.jobs.spec import (
    BenchmarkSpec,
    CalibrationSpec,
    DataSet,
    EvaluateSpec,
    FileRef,
    GivenModel,
    InputShape,
    JobSpec,
    ModelSpec,
    TargetSpec,
    TrainingSpec,
)
from quantfleet_domain.jobs.task_results import (
    ChooseResult,
    InspectResult,
    MergeResult,
    QuantizeResult,
    RecallResult,
    Result,
    SettleResult,
    TrainResult,
)
from quantfleet_domain.jobs.work import (
    ModelForm,
    RuntimeForms,
    TrainedForm,
)

ONNX = FileRef("net.onnx", "a" * 64, 10)
PADDLE = (FileRef("inference.pdmodel", "b" * 64, 10), FileRef("inference.pdiparams", "c" * 64, 10))
DATA = DataSet(FileRef("manifest.json", "d" * 64, 10), 20)
NUMERICS = NumericsClass("onnxruntime-cpu", "1.0", "x86_64/avx2", "a" * 64, "r" * 64, "none", 1)
TARGET = TargetSpec("", ("onnxruntime-cpu", "paddle-cpu"), ("fp32", "int8"), (1, 2), (1,))
T4 = GpuFacts("Tesla T4", "GPU-1", "7.5", 2**34, "580.1", "13.0", 1590)
PHONE = PhoneFacts("adb", "9f3a", "SM8250", "Android 13", ("arm64-v8a", "armeabi-v7a"))


def model_spec(name: str = "net", paddle: bool = False, **fields: Any) -> ModelSpec:
    files = PADDLE if paddle else (ONNX,)
    model = ModelSpec(
        name=name,
        format="paddle" if paddle else "onnx",
        files=files,
        input_shapes=(),
        preprocess=FileRef("inference_cls.yaml", "e" * 64, 10),
        calibration=CalibrationSpec(DATA, "entropy", 99.99, 3),
        targets=(TARGET,),
        evaluate=EvaluateSpec(DATA, ("top1",), 2),
    )
    return replace(model, **fields)


def training(method: str = "distill", **fields: Any) -> TrainingSpec:
    """25 iterations in intervals of 10."""
    package = "recipes" if method == "qat" else ""
    config = FileRef("act.yaml", "1" * 64, 10)
    spec = TrainingSpec(method, package, config, None, None, DATA, 25, 4, None, 10, True, 0, 5, False, False)
    return replace(spec, **fields)


def quantized_in(*quantizations: str, **fields: Any) -> ModelSpec:
    """A Paddle model that is quantized in several ways."""
    methods = [name for name in quantizations if name in ("qat", "distill")]
    given = GivenModel("paddle", (FileRef("inference.pdmodel", "2" * 64, 10),)) if "given" in quantizations else None
    return model_spec(
        paddle=True,
        quantizations=quantizations,
        trainings=tuple(training(method) for method in methods),
        given=given,
        **fields,
    )


def job_spec(*models: ModelSpec, **fields: Any) -> JobSpec:
    benchmark = BenchmarkSpec(("runtime", "end2end"), 10, 100, False)
    return replace(JobSpec("test", models or (model_spec(),), benchmark, (), 60.0, "job.yaml"), **fields)


def results_of(plan: Plan) -> dict[str, Result]:
    """What the tasks that others need came to."""
    results: dict[str, Result] = {}
    for name, detail in plan.details.items():
        made = FileRef(name, f"{len(results):064x}", 1)
        match detail.kind:
            case TaskKind.INSPECT:
                results[name] = InspectResult(made, made, NUMERICS, (InputShape("x", (1, 3)),), ())
            case TaskKind.MERGE:
                results[name] = MergeResult(made, 20, 3, 1.0, (made, made), (made, made), made, 4, made, 20, (), ())
            case TaskKind.RECALL:
                results[name] = RecallResult((), 0, made, 20)
            case TaskKind.CHOOSE:
                results[name] = ChooseResult(made, "mse", (), 1.0)
            case TaskKind.SETTLE:
                results[name] = SettleResult(made, 3, (), 1.0)
            case TaskKind.TRAIN:
                runtimes = sorted({d.runtime for d in plan.details.values() if d.model == detail.model and d.runtime})
                forms = tuple(RuntimeForms(runtime, (ModelForm("", (made,)),)) for runtime in runtimes)
                best = TrainedForm(10, 50.0, forms)
                results[name] = TrainResult(detail.quantization, 10 * detail.stage, made, (), "top1", 50.0, best, 1.0)
            case TaskKind.QUANTIZE:
                results[name] = QuantizeResult(detail.runtime, (ModelForm("u8s8", (made,)),), ())
    return results


def device(
    name: str = "cpu:0",
    *,
    cores: int = 4,
    slots: int = 2,
    machine: str = "m1",
    isa: str = "x86_64/avx2",
    engines: tuple[str, ...] = ("onnxruntime-cpu", "paddle-cpu"),
    architecture: str = "x86_64",
) -> DeviceFacts:
    hardware = CpuFacts("CPU", "V", architecture, ("avx2",), 1, cores, cores, 2**34, None, None, None, "")
    found = tuple(EngineFacts(engine, "1.0", ("fp32", "int8"), True, "") for engine in engines)
    return DeviceFacts(name, "cpu", hardware, found, tuple(range(cores)), tuple(range(slots)), machine, isa, True)


def gpu(name: str = "cuda:0", *, uuid: str = "GPU-1", machine: str = "m1", slots: int = 1) -> DeviceFacts:
    """A GPU of a machine, fed by its core 3."""
    host = device(machine=machine)
    return replace(
        host,
        device=name,
        kind="cuda",
        engines=(EngineFacts("tensorrt", "10.16", ("fp32", "fp16", "int8"), True, ""),),
        cores=(3,),
        slots=(3,) * slots,
        measurement_domain=f"{machine}/{uuid}",
        gpu=replace(T4, uuid=uuid),
    )


def phone(serial: str = "9f3a") -> DeviceFacts:
    """A phone that hangs on a machine, whose core 2 its proxy runs on."""
    own = CpuFacts("Cortex-A77", "ARM", "aarch64", ("asimd", "asimddp"), 1, 8, 8, 2**33, None, None, None, "")
    return replace(
        device(),
        device=f"arm:{serial}",
        kind="arm",
        hardware=own,
        engines=(EngineFacts("paddle-lite", "2.14", ("fp32", "int8"), True, ""),),
        cores=tuple(range(8)),
        slots=(0,),
        measurement_domain=f"phone:{serial}",
        numerics_isa="aarch64/asimd",
        phone=replace(PHONE, address=serial),
        feeding=(2,),
    )
