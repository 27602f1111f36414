"""Reports as a job on one machine writes them: two engines, FP32 and INT8, both modes, from raw samples."""

from dataclasses import replace

import numpy as np

from quantfleet_domain.measurement.latency import Round, summarize, summarize_rounds, throughput_per_s
from quantfleet_domain.measurement.protocol import Protocol
from quantfleet_domain.measurement.quiet import Conditions, judge
from quantfleet_domain.measurement.speedup import speedup
from quantfleet_domain.reporting.facts import facts_of
from quantfleet_domain.reporting.gates import evaluate
from quantfleet_domain.reporting.making import (
    BiasCorrection,
    Calibration,
    Outlier,
    Training,
)
from quantfleet_domain.reporting.report import (
    Absent,
    Accuracy,
    ConversionFigure,
    FleetDevice,
    JobError,
    JobSummary,
    ModelEntry,
    Report,
    Result,
    SpeedupFigure,
)

JOB_FILE = """\
apiVersion: quantfleet/v1
kind: Job
name: mobilenet-int8
model: {path: mobilenet.onnx}
calibration: {data: {path: images/, preprocess: inference_cls.yaml, limit: 100}, calibrator: mse}
targets: [{engines: [onnxruntime-cpu, paddle-cpu]}]
benchmark: {modes: [runtime, end2end]}
gates: ["int8.speedup >= 1.5", "int8.top1_drop <= 1.0"]
"""

GATES = ("runtime.int8.speedup >= 1.5", "int8.top1_drop <= 1.0", "int8.latency_ms.p99 < 20")

MEAN_MS = {
    ("onnxruntime-cpu", "fp32", "runtime"): 13.4,
    ("onnxruntime-cpu", "int8", "runtime"): 5.9,
    ("onnxruntime-cpu", "fp32", "end2end"): 21.8,
    ("onnxruntime-cpu", "int8", "end2end"): 14.1,
    ("paddle-cpu", "fp32", "runtime"): 17.4,
    ("paddle-cpu", "int8", "runtime"): 7.9,
    ("paddle-cpu", "fp32", "end2end"): 25.6,
    ("paddle-cpu", "int8", "end2end"): 16.3,
}
TOP1 = {
    ("onnxruntime-cpu", "fp32"): 56.5,
    ("onnxruntime-cpu", "int8"): 56.0,
    ("paddle-cpu", "fp32"): 56.5,
    ("paddle-cpu", "int8"): 54.0,
}
VERSIONS = {"onnxruntime-cpu": "1.31.1", "paddle-cpu": "3.3.1"}


def latency_blocks(mean_ms: float, protocol: Protocol, seed: int) -> tuple[tuple[int, ...], ...]:
    """Right-skewed latencies in ns, as a real machine gives them."""
    rng = np.random.default_rng(seed)
    return tuple(
        tuple(int(ns) for ns in mean_ms * 1e6 * (0.97 + rng.gamma(1.5, 0.02, size))) for size in protocol.block_sizes
    )


def sample_result(engine: str, precision: str, mode: str, model: str = "mobilenet") -> Result:
    protocol = Protocol(mode)
    blocks = {p: latency_blocks(MEAN_MS[engine, p, mode], protocol, seed) for seed, p in enumerate(("fp32", "int8"))}
    summary = summarize(blocks[precision])
    conditions = Conditions(
        steal_share=0.004,
        other_cpu_share=0.12 if (engine, mode) == ("paddle-cpu", "end2end") else 0.01,
        run_queue=0.2,
        frequency_min_khz=2_450_000,
        frequency_max_khz=2_500_000,
    )
    verdict = judge(conditions)
    quantized = precision == "int8"
    return Result(
        model=model,
        node="local",
        device="cpu:0",
        engine=engine,
        engine_version=VERSIONS[engine],
        precision=precision,
        quantization="static" if quantized else "none",
        form="u8-affine" if quantized else None,
        input_shapes={"x": (1, 3, 224, 224)},
        mode=mode,
        threads=1,
        batch=1,
        warmup=protocol.warmup,
        repeat=protocol.repeat,
        measured_at="2026-11-21T01:02:03Z",
        latency_ms=summary,
        throughput_per_s=throughput_per_s(summary, protocol.batch),
        speedup=SpeedupFigure(*speedup(blocks["fp32"], blocks["int8"]), "fp32") if quantized else None,
        accuracy=(
            Accuracy("top1", TOP1[engine, precision], "percent", 200),
            Accuracy("top5", TOP1[engine, precision] + 20, "percent", 200),
        ),
        int8_nodes=26 if quantized else None,
        quantizable_nodes=28 if quantized else None,
        model_bytes=4_310_000 if quantized else 16_900_000,
        quiet=verdict.quiet,
        settings_in_effect={"threads": "1", "affinity": "cpu 2"},
        samples_artifact="5a" * 32,
        blocks=protocol.blocks,
        fallbacks=("fc7 (MatMul): output left in float", "pool6 (GlobalAveragePool): no kernel") if quantized else (),
        noise=verdict.reasons,
        conditions=facts_of(conditions),
        memory_mb=182.5,
    )


def sample_report(model: str = "mobilenet") -> Report:
    results = tuple(
        sample_result(engine, precision, mode, model)
        for mode in ("runtime", "end2end")
        for engine in VERSIONS
        for precision in ("fp32", "int8")
    )
    return Report(
        job=JobSummary("j-7f3a90c2", f"{model}-int8", "partial"),
        fleet=(
            FleetDevice(
                "local",
                "cpu:0",
                {
                    "model_name": "Intel(R) Xeon(R) Gold 6271C CPU @ 2.60GHz",
                    "isa": ("avx2", "avx512f", "avx512_vnni"),
                    "physical_cores": 24,
                    "memory_bytes": 67_000_000_000,
                    "vnni.ratio": 2.31,
                    "vnni.verdict": "int8-fast",
                },
            ),
        ),
        models=(ModelEntry(model, "onnx", "ab" * 32),),
        calibration={
            model: Calibration(
                "mse", 100, 4, "c0" * 32, {"engine": "onnxruntime-cpu", "isa": "x86_64/avx512_core", "threads": 1}, 41.7
            )
        },
        job_file=JOB_FILE,
        versions={"quantfleet": "0.1.0", "onnxruntime": "1.31.1", "paddlepaddle": "3.3.1", "python": "3.11.2"},
        results=results,
        absent=(
            Absent("gpu-1", "cuda:0", "tensorrt", "int8", "static", "no node of pool t4 came within 600 s", model),
            Absent(None, None, "paddle-cpu", "fp16", None, "paddle-cpu does not offer fp16", model, applicable=False),
        ),
        gates=evaluate(GATES, results),
        warnings=("ISA differs between the calibrating and the measuring node",),
    )


def tuned_report(model: str = "mobilenet") -> Report:
    """With `auto`, biases corrected, samples recalled, a layer left in float and a sample that stretches ranges."""
    whole = sample_report(model)
    tuned = replace(
        whole.calibration[model],
        calibrator="auto",
        chosen="entropy",
        scores={"auto": 25.7, "absmax": 24.25, "entropy": 26.125},
        recalled=60,
        collectors=("numpy (the compiled tap is not in use: no compiler)", "tap"),
        ties=True,
        bias_correction=BiasCorrection("b1" * 32, 100, 27, 5, 12.5),
        excluded=("u8s8: conv1: 8.1 dB",),
        outliers=(Outlier(f"lamp of {model}.jpg", 12, "relu1", 41.5, 20.25),),
    )
    return replace(whole, calibration={model: tuned})


def trained_report(model: str = "mobilenet") -> Report:
    """With a QAT beside the static quantization, half a point better, and the engines' accounts of both."""
    whole = sample_report(model)
    accounts = {
        "static": (("conv1 (Conv)", "fc7 (MatMul)"), (ConversionFigure("QuantizeLinear", 3, 0.125),)),
        "qat": (("conv1 (Conv)",), (ConversionFigure("ReorderInput", 2, None),)),
    }
    static, results = [r for r in whole.results if r.precision == "int8"], []
    for r in whole.results:
        results.append(r)
        if r in static:
            better = tuple(replace(figure, value=figure.value + 0.5) for figure in r.accuracy)
            results.append(replace(r, quantization="qat", accuracy=better, form="s8-symmetric"))
    accounted = []
    for r in results:
        ran, conversions = accounts.get(r.quantization, ((), ()))
        accounted.append(replace(r, int8_operators=ran, conversions=conversions))
    training = Training(
        model=model,
        method="qat",
        iterations=200,
        intervals=2,
        samples=400,
        seconds=93.5,
        best_iteration=100,
        metric="top1",
        best_value=56.25,
        losses={"200": 0.5, "10": 2.25, "100": 0.75},
        checkpoint_sha256="d4" * 32,
    )
    return replace(whole, results=tuple(accounted), training=(training,))


def two_model_report() -> Report:
    first, second = sample_report("mobilenet"), sample_report("squeezenet")
    return replace(
        first,
        models=first.models + second.models,
        calibration={**first.calibration, **second.calibration},
        results=first.results + second.results,
    )


def failed_report() -> Report:
    """A job that failed before anything was calibrated or measured."""
    whole = sample_report()
    error = JobError("model-unreadable", "mobilenet.onnx is not an ONNX model", "export it again")
    return replace(
        whole, job=JobSummary("j-1", "broken", "failed", error), calibration={}, results=(), gates=evaluate(GATES, ())
    )


def phone_report() -> Report:
    """A report whose latencies a phone's tool told, round by round: it gives no single one."""
    report = sample_report()
    results = []
    for result in (result for result in report.results if result.latency_ms and result.mode == "runtime"):
        assert result.latency_ms is not None
        mean = round(result.latency_ms.mean * 1_000_000)
        told = summarize_rounds([Round(mean, mean // 2, mean * 3, 100)] * 5)
        results.append(replace(result, latency_ms=told, throughput_per_s=throughput_per_s(told, result.batch or 1)))
    return replace(report, results=tuple(results), gates=())
