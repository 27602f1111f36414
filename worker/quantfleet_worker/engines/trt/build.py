"""Builds a serialized engine from an ONNX file. Not for deciding how, nor for keeping it."""

# TensorRT is not installed where this is checked; tests/opt_in/gpu_types has its signatures.
# pyright: reportMissingImports=false

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError

from . import calibration
from .library import Log, extents
from .plan import BuildPlan

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True)
class Built:
    """A serialized engine, and the timings that building it took or confirmed."""

    engine: bytes
    timings: bytes


def build(
    network_file: Path,
    plan: BuildPlan,
    shapes: Mapping[str, tuple[int, ...]],
    timings: bytes = b"",
    calibrator: object | None = None,
) -> Built:
    """The engine for inputs of exactly these shapes; takes seconds to minutes.

    TF32 is off, so that what is called FP32 is. Raises QuantfleetError: MODEL_UNREADABLE with what the parser says,
    ENGINE_FAILED with what the builder says.
    """
    import tensorrt as trt

    log = Log(trt)
    builder = trt.Builder(log.logger)
    network = builder.create_network(_creation_flags(plan))
    _parse(network, network_file, log)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)
    for name in plan.flags:
        config.set_flag(getattr(trt.BuilderFlag, name))
    cache = config.create_timing_cache(timings)
    if not config.set_timing_cache(cache, ignore_mismatch=False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, ignore_mismatch=False)
    profile = _profile(builder, network, shapes)
    if profile is not None:
        config.add_optimization_profile(profile)
    if plan.calibrated:
        calibration.attach(config, profile, calibrator)
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise QuantfleetError(ErrorCode.ENGINE_FAILED, f"TensorRT cannot build {network_file.name}: {log.errors()}")
    return Built(_content(serialized), _content(cache.serialize()))


def _content(memory: Any) -> bytes:
    """What an IHostMemory holds; it is a buffer, which its type does not say."""
    return bytes(memoryview(memory))


def _creation_flags(plan: BuildPlan) -> int:
    import tensorrt as trt

    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if plan.strongly_typed else 0


def _parse(network: "trt.INetworkDefinition", network_file: Path, log: Log) -> None:
    import tensorrt as trt

    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(network_file)):
        said = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise QuantfleetError(
            ErrorCode.MODEL_UNREADABLE,
            f"TensorRT cannot read {network_file.name}: {'; '.join(said) or log.errors()}",
            "check the model with onnx.checker; a quantized one needs QuantizeLinear with int8 and zero points 0",
        )


def _profile(
    builder: "trt.Builder", network: "trt.INetworkDefinition", shapes: Mapping[str, tuple[int, ...]]
) -> "trt.IOptimizationProfile | None":
    """A profile of one point; None where the file leaves no dimension open."""
    import tensorrt as trt

    open_inputs = [
        tensor.name
        for tensor in map(network.get_input, range(network.num_inputs))
        if min(extents(tensor.shape), default=0) < 0
    ]
    if not open_inputs:
        return None
    profile = builder.create_optimization_profile()
    for name in open_inputs:
        only = trt.Dims(shapes[name])
        profile.set_shape(name, only, only, only)
    return profile
