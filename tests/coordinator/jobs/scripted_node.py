"""A node that speaks the real Fleet service and makes its results up: valid, and the same for the same work."""

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import numpy as np
from tests.coordinator.jobs.made_up_sums import quantities_of

from quantfleet_domain.calibration.graph import CalibrationGraph, Layer, NumericsClass, WeightTensor
from quantfleet_domain.calibration.partial import PartialAccumulator
from quantfleet_domain.calibration.sums import SumsAccumulator
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import CpuFacts, DeviceFacts, EngineFacts
from quantfleet_domain.jobs.manifest import Manifest, Sample
from quantfleet_domain.jobs.measured import (
    BenchmarkResult,
    ClassOutcome,
    EvaluateResult,
    Measured,
    Ratio,
)
from quantfleet_domain.jobs.spec import (
    BenchmarkSpec,
    CalibrationSpec,
    DataSet,
    EvaluateSpec,
    FileRef,
    InputShape,
    JobSpec,
    ModelSpec,
    TargetSpec,
    model_sha256,
)
from quantfleet_domain.jobs.task_results import (
    CalibrateResult,
    InspectResult,
    QuantizeResult,
    Result,
    SumsResult,
)
from quantfleet_domain.jobs.work import (
    BenchmarkWork,
    CalibrateWork,
    CorrectWork,
    EvaluateWork,
    InspectWork,
    ModelForm,
    QuantizeWork,
    ScoreWork,
    Work,
)
from quantfleet_domain.measurement.latency import summarize
from quantfleet_domain.measurement.quiet import Conditions
from quantfleet_protos.v1 import base_pb2, control_pb2, fleet_pb2, hardware_pb2, job_pb2, task_pb2
from quantfleet_protos.v1.artifacts_pb2_grpc import ArtifactsStub
from quantfleet_protos.v1.fleet_pb2_grpc import FleetStub
from quantfleet_wire.codec import decode_union, encode
from quantfleet_wire.content import digest_bytes
from quantfleet_wire.transfer import upload

TENSORS = ("x", "y")
SHAPES = (InputShape("x", (1, 4)),)


def device(
    name: str = "cpu:0", *, cores: int = 4, slots: int = 2, machine: str = "m1", isa: str = "avx2"
) -> DeviceFacts:
    hardware = CpuFacts("Test CPU", "Test", "x86_64", ("avx2", "fma"), 1, cores, cores, 2**34, None, None, None, "")
    engines = tuple(EngineFacts(e, "1.0", ("fp32", "int8"), True, "") for e in ("onnxruntime-cpu", "paddle-cpu"))
    return DeviceFacts(
        name, "cpu", hardware, engines, tuple(range(cores)), tuple(range(slots)), machine, f"x86_64/{isa}", True
    )


def ref(name: str, content: bytes) -> FileRef:
    return FileRef(name, digest_bytes(content), len(content))


MODEL = b"a model"
SAMPLES = [f"sample {index}".encode() for index in range(12)]
MANIFEST = Manifest(tuple(Sample(f"{i}.bin", digest_bytes(s), len(s), i % 3) for i, s in enumerate(SAMPLES))).to_json()
FILES = [MODEL, MANIFEST, *SAMPLES]
DATA = DataSet(ref("manifest.json", MANIFEST), len(SAMPLES))
TARGET = TargetSpec("", ("onnxruntime-cpu",), ("fp32", "int8"), (1,), (1,))


def job_spec(
    *,
    shards: int = 3,
    targets: tuple[TargetSpec, ...] = (TARGET,),
    evaluate: bool = True,
    reuse: bool = False,
    **fields: Any,
) -> JobSpec:
    model = ModelSpec(
        name="net",
        format="onnx",
        files=(ref("net.onnx", MODEL),),
        input_shapes=(),
        preprocess=None,
        calibration=CalibrationSpec(DATA, "absmax", 99.99, shards, reuse=reuse),
        targets=targets,
        evaluate=EvaluateSpec(DATA, ("top1", "top5"), 2) if evaluate else None,
    )
    spec = JobSpec("test", (model,), BenchmarkSpec(("runtime",), 1, 10, False), (), 3600.0, "the job file")
    return replace(spec, **fields)


async def submit(fleet: Any, spec: JobSpec, request_id: str = "", **fields: Any) -> str:
    """Upload what every job here needs, and submit; the job's identifier."""
    for content in FILES:
        await upload(fleet.artifacts, content, digest_bytes(content))
    request = control_pb2.SubmitJobRequest(
        request_id=request_id or secrets.token_hex(8), spec=encode(spec, job_pb2.JobSpec), **fields
    )
    response: control_pb2.SubmitJobResponse = await fleet.control.SubmitJob(request)
    return response.job_id


@dataclass
class ScriptedNode:
    """One run of a node's agent."""

    channel: grpc.aio.Channel
    devices: Sequence[DeviceFacts] = (device(),)
    incarnation: str = field(default_factory=lambda: secrets.token_hex(8))
    last_reply: int = 0
    done: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fleet = FleetStub(self.channel)
        self.artifacts = ArtifactsStub(self.channel)

    async def register(self) -> fleet_pb2.RegisterResponse:
        devices = [encode(facts, hardware_pb2.DeviceFacts) for facts in self.devices]
        request = fleet_pb2.RegisterRequest(incarnation=self.incarnation, devices=devices, version="1.0")
        return await self.fleet.Register(request)

    async def acquire(self, wait_s: float = 0.0) -> list[fleet_pb2.LeasedTask]:
        request = fleet_pb2.AcquireTasksRequest(incarnation=self.incarnation, last_reply=self.last_reply, wait_s=wait_s)
        response = await self.fleet.AcquireTasks(request)
        self.last_reply = response.reply
        return list(response.tasks)

    async def heartbeat(self, held: Sequence[fleet_pb2.LeasedTask] = (), doing: str = "") -> list[str]:
        """What the coordinator says to stop."""
        items = [
            fleet_pb2.HeldTask(job_id=t.job_id, task_id=t.task_id, epoch=t.epoch, progress=0.5, doing=doing)
            for t in held
        ]
        request = fleet_pb2.HeartbeatRequest(incarnation=self.incarnation, last_reply=self.last_reply, held=items)
        return [task.task_id for task in (await self.fleet.Heartbeat(request)).stop]

    async def complete(self, leased: fleet_pb2.LeasedTask, result: Result | None = None) -> None:
        if result is None:
            result, files = make_result(leased)
            for content in files:
                await upload(self.artifacts, content, digest_bytes(content))
        await self.fleet.Complete(
            fleet_pb2.CompleteRequest(
                incarnation=self.incarnation,
                job_id=leased.job_id,
                task_id=leased.task_id,
                epoch=leased.epoch,
                result=encode(result, task_pb2.Result),
            )
        )
        self.done.append((leased.task_id, leased.epoch))

    async def fail(self, leased: fleet_pb2.LeasedTask, code: ErrorCode, log_tail: str = "") -> None:
        await self.fleet.Fail(
            fleet_pb2.FailRequest(
                incarnation=self.incarnation,
                job_id=leased.job_id,
                task_id=leased.task_id,
                epoch=leased.epoch,
                failure=base_pb2.Failure(code=code, what=f"it ended with {code}", todo="look"),
                log_tail=log_tail,
            )
        )

    async def acquire_until(self, task: str, bound_s: float = 10.0) -> fleet_pb2.LeasedTask:
        """Work until this task is leased to this node, and return it with nothing done for it."""
        async with asyncio.timeout(bound_s):
            while True:
                tasks = await self.acquire(1.0)
                found = next((t for t in tasks if t.task_id == task), None)
                for other in tasks:
                    if other is not found:
                        await self.complete(other)
                if found:
                    return found

    async def work(self) -> None:
        """For ever: acquire and complete; whatever goes wrong is tried again."""
        held: list[fleet_pb2.LeasedTask] = []
        while True:
            try:
                held += await self.acquire(1.0) if not held else []
                while held:
                    await self.complete(held[0])
                    held.pop(0)
            except QuantfleetError as error:
                if error.code in (ErrorCode.LEASE_STALE, ErrorCode.ARTIFACT_NOT_FOUND):
                    held.pop(0)
                elif error.code not in (ErrorCode.COORDINATOR_UNREACHABLE, ErrorCode.STORAGE_FULL):
                    raise
                await asyncio.sleep(0.05)


def make_result(leased: fleet_pb2.LeasedTask) -> tuple[Result, list[bytes]]:
    """A result that this task can have, and the artifacts that it refers to."""
    work: Work = decode_union(leased.work, Work)
    match work:
        case InspectWork():
            recipe = "r" * 64
            weights = (WeightTensor("w", 0, (1.0,)),)
            graph = CalibrationGraph(
                (), (), TENSORS, weights, {}, {}, (), recipe, (Layer("y", "w", 1, True),)
            ).to_json()
            model = model_sha256(work.files)
            numerics = NumericsClass("onnxruntime-cpu", "1.0", "x86_64/avx2", model, recipe, "none", 1)
            reference = b"reference " + model.encode()
            files = (ref("reference.onnx", reference), ref("graph.json", graph))
            return InspectResult(*files, numerics, SHAPES, ()), [reference, graph]
        case CalibrateWork():
            # A partial for each sample: none of them is of two parts.
            contents = []
            for index in range(work.data.first, work.data.first + work.data.count):
                observed = PartialAccumulator(work.numerics, TENSORS)
                values = np.random.default_rng(index).normal(size=(2, 16)).astype(np.float32)
                observed.observe(index, f"{index}.bin", dict(zip(TENSORS, values, strict=True)))
                contents.append(observed.partial().encode())
            partials = tuple(ref("partial.bin", content) for content in contents)
            return CalibrateResult(partials, work.data.count, 0.1, "numpy"), contents
        case ScoreWork() | CorrectWork():
            quantities = {name: np.array([value], np.float32) for name, value in quantities_of(work).items()}
            added = SumsAccumulator(work.numerics, "s", dict.fromkeys(quantities, -30))
            for index in range(work.data.first, work.data.first + work.data.count):
                added.add(index, f"{index}.bin", quantities)
            content = added.sums().to_json()
            return SumsResult(ref("sums.json", content), work.data.count, 0.1), [content]
        case QuantizeWork():
            content = b"quantized for " + work.runtime.encode()
            form = ModelForm("u8s8", (ref("net.onnx", content),))
            return QuantizeResult(work.runtime, (form,), ()), [content]
        case BenchmarkWork():
            rows = tuple(
                Measured(
                    precision=variant.precision,
                    quantization=variant.quantization,
                    form=variant.forms[0].form,
                    mode=mode,
                    threads=threads,
                    batch=batch,
                    latency=summarize([[1_000_000, 1_100_000]]),
                    speedup=None if variant.precision == "fp32" else Ratio(1.0, 0.9, 1.1),
                    quiet=True,
                    noise=(),
                    conditions=Conditions(),
                    settings=(),
                    int8_nodes=0 if variant.precision == "fp32" else 3,
                    quantizable_nodes=3,
                    fallbacks=(),
                    model_bytes=7,
                    input_shapes=SHAPES,
                )
                for variant in work.variants
                for mode in work.modes
                for threads in work.threads
                for batch in work.batch_sizes
            )
            samples = f"samples of {leased.task_id}".encode()
            result = BenchmarkResult(
                work.engine,
                "1.0",
                leased.device,
                1.8e9,
                work.warmup,
                work.repeat,
                1,
                rows,
                (),
                ref("samples.json", samples),
            )
            return result, [samples]
        case EvaluateWork():
            indices = range(work.data.first, work.data.first + work.data.count)
            labels = tuple(index % 3 for index in indices)
            precision, quantization = work.variant.precision, work.variant.quantization
            ran = work.variant.forms[0].form
            predicted = tuple(0 for _ in labels)
            best = tuple(True for _ in labels)
            outcome = ClassOutcome(labels, predicted, best)
            return EvaluateResult(work.engine, "1.0", precision, quantization, ran, work.data.first, outcome), []
