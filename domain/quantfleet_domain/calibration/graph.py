"""What calibration knows of a model: its reference graph's tensors and weights. Not for running the graph."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class NumericsClass:
    """What must be equal for two partial statistics to be merged: everything that can change a bit of an activation.

    `isa` is the level that decides which FP32 kernels run, e.g. `x86-64/avx2` or `x86-64/avx512f`. `recipe` is the
    SHA-256 of the ordered tensor list and the session options, not of a saved graph's bytes. `model` is the SHA-256 of
    the model as submitted.
    """

    engine: str
    engine_version: str
    isa: str
    model: str
    recipe: str
    preprocessing: str
    statistic_version: int
    threads: int = 1
    batch: int = 1


@dataclass(frozen=True)
class InputTensor:
    """A graph input: `shape` with the batch dimension first and equal to 1, `dtype` as numpy names it."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class WeightTensor:
    """A weight that the quantizer will quantize per channel: `absmax[i]` is the peak of slice i of `axis`."""

    name: str
    axis: int
    absmax: tuple[float, ...]


@dataclass(frozen=True)
class CalibrationGraph:
    """The reference graph of a model, as far as calibration and the quantizers need it.

    `activations` are the float32 tensors observed, in recipe order, by their names in the reference graph.
    `native_names` maps such a name to the submitted model's own name for the same tensor (equal for an ONNX model);
    an activation that has no native counterpart is absent from it. `weights` are under reference names and
    `native_weights` maps them likewise. `unmapped` lists activations that the native model lacks, for the report.
    """

    inputs: tuple[InputTensor, ...]
    outputs: tuple[str, ...]
    activations: tuple[str, ...]
    weights: tuple[WeightTensor, ...]
    native_names: Mapping[str, str]
    native_weights: Mapping[str, str]
    unmapped: tuple[str, ...]
    recipe: str
