"""Prints digests of everything that calibration derives from given activations: the same on every machine.

The folder holds `graph.json`, and `activations.npz` with float32 arrays `<sample> <tensor>`. Not for the activations.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from quantfleet_domain.calibration.auto import candidate_tables
from quantfleet_domain.calibration.calibrators import CALIBRATORS
from quantfleet_domain.calibration.correction import FP32, Corrections, forms_in, quantity
from quantfleet_domain.calibration.forms import ActivationForm, activation_parameters, weight_scales
from quantfleet_domain.calibration.graph import CalibrationGraph, NumericsClass
from quantfleet_domain.calibration.outliers import outliers
from quantfleet_domain.calibration.partial import Partial, PartialAccumulator, merge_partials
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.sums import Sums, SumsAccumulator, merge_sums, unit_exponent

FORM = "u8s8"
SHARDS = 3

folder = Path(sys.argv[1])
graph = CalibrationGraph.from_json((folder / "graph.json").read_bytes())
numerics = NumericsClass("onnxruntime-cpu", "1", "given", "0" * 64, graph.recipe, "none", 1)
stored = np.load(folder / "activations.npz")
count = len(stored.files) // len(graph.activations)
samples = [{name: stored[f"{index} {name}"] for name in graph.activations} for index in range(count)]


def partials() -> list[Partial]:
    made = []
    for shard in range(SHARDS):
        accumulator = PartialAccumulator(numerics, graph.activations)
        for index in range(shard, count, SHARDS):
            accumulator.observe(index, str(index), samples[index])
        made.append(accumulator.partial())
    return made


def sums() -> Sums:
    """Means of each layer's channels, as they are and rounded to halves, in shards."""
    layers = [layer.output for layer in graph.layers if layer.output in graph.activations]
    exponents = {
        quantity(what, form, layer): unit_exponent(1e3)
        for layer in layers
        for what, form in (("mean", FP32), ("mean", FORM), ("signal", FP32), ("error", FORM))
    }
    made = []
    for shard in range(SHARDS):
        accumulator = SumsAccumulator(numerics, "given", exponents)
        for index in range(shard, count, SHARDS):
            accumulator.add(index, str(index), dict(_means(index, layers)))
        made.append(accumulator.sums())
    return merge_sums(made)


def _means(index: int, layers: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    for layer in layers:
        # Sums of whole multiples of 2^-10 are exact, so that nothing but the calibration itself is compared.
        exact = np.rint(samples[index][layer][0].astype(np.float64) * 1024) / 1024
        coarse = np.rint(exact * 2) / 2
        axes = tuple(range(1, exact.ndim))
        yield quantity("mean", FP32, layer), exact.mean(axis=axes).astype(np.float32)
        yield quantity("mean", FORM, layer), coarse.mean(axis=axes).astype(np.float32)
        yield quantity("signal", FP32, layer), np.mean(exact**2, keepdims=True).astype(np.float32).ravel()
        yield quantity("error", FORM, layer), np.mean((exact - coarse) ** 2, keepdims=True).astype(np.float32).ravel()


found: dict[str, bytes] = {}
parts = partials()
merged = merge_partials(parts)
for number, part in enumerate(parts):
    found[f"partial {number}"] = part.encode()
found["merged"] = merged.encode()
for name, calibrator in CALIBRATORS.items():
    for tensor, statistic in merged.tensors.items():
        found[f"threshold {name} {tensor}"] = calibrator.threshold(statistic).hex().encode()
for name, table in candidate_tables(parts, graph, manifest="0" * 64, preprocessing="0" * 64).items():
    found[f"table {name}"] = table.to_json()
    assert ScaleTable.from_json(table.to_json()) == table
    for row in table.activations:
        for form in ActivationForm:
            made = activation_parameters(form, row.lo, row.hi)
            found[f"form {name} {form} {row.tensor}"] = made.scale.tobytes() + made.zero_point.tobytes()
for weight in graph.weights:
    found[f"weight {weight.name}"] = weight_scales(weight.absmax).tobytes()
found["outliers"] = repr(outliers(merged)).encode()
total = sums()
found["sums"] = total.to_json()
layers = tuple(layer for layer in graph.layers if quantity("mean", FP32, layer.output) in total.quantities)
first = Corrections.first(total, replace(graph, layers=layers), forms_in(total), "0" * 64, 5.0)
found["corrections"] = first.to_json()
found["refined"] = first.refined(total).to_json()
json.dump({name: sha256(content).hexdigest() for name, content in found.items()}, sys.stdout)
