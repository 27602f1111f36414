"""Calibrators of TensorRT up to 10: one hands over a cache, one makes one. Not for version 11, which has none.

TensorRT calls them while it builds; an exception out of such a call would end the process, so it is kept and raised
afterwards.
"""

# TensorRT is not installed where this is checked; tests/opt_in/gpu_types has its signatures.
# pyright: reportMissingImports=false

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from quantfleet_domain.calibration.tensorrt_cache import KIND, CalibrationCache
from quantfleet_domain.errors import ErrorCode, QuantfleetError

from ..base import Array
from ..cuda.memory import DeviceBuffer, Stream
from .plan import Version

if TYPE_CHECKING:
    import tensorrt as trt


def cache_for(version: Version, cache: bytes) -> bytes:
    """The cache under the head that this version writes: TensorRT may refuse one of another version, though a scale is
    the same number in all of them. The number is major × 10000 + minor × 100 + patch (NvInferVersion.h, 10.x).

    Raises QuantfleetError(SCALES_INVALID).
    """
    known = CalibrationCache.from_text(cache, "the model's calibration cache")
    major, minor, patch = version
    return CalibrationCache(f"{major * 10000 + minor * 100 + patch}", KIND, known.scales).to_text()


class Samples:
    """Samples for a calibrator, one by one in device memory; they are counted, and what goes wrong is kept."""

    def __init__(self, batches: Iterable[Mapping[str, Array]]) -> None:
        self._batches: Iterator[Mapping[str, Array]] = iter(batches)
        self._stream: Stream | None = None
        self._buffers: dict[str, DeviceBuffer] = {}
        self._count = 0
        self._error: Exception | None = None

    def next(self, names: Sequence[str]) -> list[int] | None:
        """The addresses of the next sample's inputs, or None at the end or after an error."""
        if self._error is not None:
            return None
        try:
            sample = next(self._batches, None)
            if sample is None:
                return None
            self._count += 1
            return [self._on_device(name, sample[name]) for name in names]
        except Exception as error:  # kept for `finish`: it must not pass through TensorRT
            self._error = error
            return None

    def finish(self) -> int:
        """How many samples were taken. Raises what went wrong, and QuantfleetError(DATA_EMPTY) for none at all."""
        if self._error is not None:
            raise self._error
        if not self._count:
            raise QuantfleetError(ErrorCode.DATA_EMPTY, "there are no samples to calibrate with", "give at least one")
        return self._count

    def _on_device(self, name: str, array: Array) -> int:
        self._stream = self._stream or Stream()
        if name not in self._buffers or self._buffers[name].nbytes != array.nbytes:
            self._buffers[name] = DeviceBuffer(array.nbytes)
        self._stream.to_device(int(array.ctypes.data), self._buffers[name], array.nbytes)
        self._stream.synchronize()
        return self._buffers[name].address


def attach(config: "trt.IBuilderConfig", profile: "trt.IOptimizationProfile | None", calibrator: Any) -> None:
    """Have the ranges of the network that `config` is for come from `calibrator`."""
    config.int8_calibrator = calibrator
    if profile is not None:
        config.set_calibration_profile(profile)


class Collected:
    """The cache that a calibrator wrote."""

    def __init__(self) -> None:
        self.cache = b""


def reading(cache: bytes) -> "trt.IInt8Calibrator":
    """An IInt8EntropyCalibrator2 that gives `cache` and has no batches: TensorRT cannot calibrate anew with it."""
    import tensorrt as trt

    class Reader(trt.IInt8EntropyCalibrator2):  # type: ignore[misc] # its base has no type without TensorRT
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: Sequence[str]) -> list[int]:  # noqa: ARG002 - TensorRT's interface
            return []

        def read_calibration_cache(self) -> bytes:
            return cache

        def write_calibration_cache(self, cache: Any) -> None:
            """Nothing: TensorRT writes back what it read."""

    return Reader()


def collecting(samples: Samples, collected: Collected) -> "trt.IInt8Calibrator":
    """An IInt8EntropyCalibrator2 over `samples`, whose cache ends in `collected`."""
    import tensorrt as trt

    class Collector(trt.IInt8EntropyCalibrator2):  # type: ignore[misc] # its base has no type without TensorRT
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: Sequence[str]) -> list[int]:
            return samples.next(names) or []

        def read_calibration_cache(self) -> bytes:
            return b""

        def write_calibration_cache(self, cache: Any) -> None:
            collected.cache = bytes(cache)

    return Collector()
