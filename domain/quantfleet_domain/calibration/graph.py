"""What calibration knows of a model: its reference graph's tensors and weights. Not for running the graph."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from quantfleet_domain.calibration.statistic import EXTREMES_VERSION
from quantfleet_domain.errors import ErrorCode, QuantfleetError

SCHEMA = "quantfleet/graph/v1"


MIXED = "mixed"
"""The ISA of a numerics class whose user allowed nodes of any; then nothing is exact to the bit."""


@dataclass(frozen=True)
class NumericsClass:
    """What must be equal for two partial statistics to be merged: everything that can change a bit of an activation.

    `isa` is the level that decides which FP32 kernels run, e.g. `x86-64/avx2` or `x86-64/avx512f`. `recipe` is the
    SHA-256 of the ordered tensor list, the session options and what made the graph (with versions), not of its bytes.
    `model` is the SHA-256 of the model as submitted.
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

    @property
    def extremes_only(self) -> bool:
        """Whether its statistics are of extremes alone, and say nothing of how values are distributed between."""
        return self.statistic_version == EXTREMES_VERSION


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
class Layer:
    """A convolution or matrix product with a constant weight and, so that it can be corrected, a place for a bias.

    `output` is the tensor that it computes, before any activation function. `depth` counts the layers on the longest
    way to it, itself included; layers of one depth cannot disturb each other. `last` says that none comes after it.
    """

    output: str
    weight: str
    depth: int
    last: bool


@dataclass(frozen=True)
class CalibrationGraph:
    """The reference graph of a model, as far as calibration and the quantizers need it.

    `activations` are the float32 tensors observed, in recipe order, by their names in the reference graph.
    `native_names` maps such a name to the submitted model's own name for the same tensor (equal for an ONNX model);
    an activation that has no native counterpart is absent from it. `weights` are under reference names and
    `native_weights` maps them likewise. `unmapped` lists activations that the native model lacks, for the report.
    `layers` are in graph order. `ties` are groups of activations, in recipe order, that must share one range.
    """

    inputs: tuple[InputTensor, ...]
    outputs: tuple[str, ...]
    activations: tuple[str, ...]
    weights: tuple[WeightTensor, ...]
    native_names: Mapping[str, str]
    native_weights: Mapping[str, str]
    unmapped: tuple[str, ...]
    recipe: str
    layers: tuple[Layer, ...] = ()
    ties: tuple[tuple[str, ...], ...] = ()

    def to_json(self) -> bytes:
        """Canonical JSON, schema quantfleet/graph/v1."""
        document = {"schema": SCHEMA, **asdict(self)}
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"

    @staticmethod
    def from_json(data: bytes) -> "CalibrationGraph":
        """Read what `to_json` wrote. Raises QuantfleetError(MODEL_UNREADABLE) where it is anything else."""
        try:
            found: dict[str, Any] = json.loads(data)
            if found["schema"] != SCHEMA:
                raise ValueError(f"its schema is {found['schema']!r}")
            return CalibrationGraph(
                inputs=tuple(InputTensor(t["name"], tuple(t["shape"]), t["dtype"]) for t in found["inputs"]),
                outputs=tuple(found["outputs"]),
                activations=tuple(found["activations"]),
                weights=tuple(WeightTensor(w["name"], w["axis"], tuple(w["absmax"])) for w in found["weights"]),
                native_names=dict(found["native_names"]),
                native_weights=dict(found["native_weights"]),
                unmapped=tuple(found["unmapped"]),
                layers=tuple(Layer(x["output"], x["weight"], x["depth"], x["last"]) for x in found["layers"]),
                ties=tuple(tuple(group) for group in found["ties"]),
                recipe=found["recipe"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise QuantfleetError(
                ErrorCode.MODEL_UNREADABLE, f"a calibration graph cannot be read: {error}", "retry the job"
            ) from error
