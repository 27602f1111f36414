"""Chooses a calibrator for each tensor by its error on samples that it did not see. Not for the calibrators themselves.

Samples are dealt into parts by their content alone, so what is chosen depends neither on how the work was sharded nor
on which statistics an earlier job left, and a sample that is there twice is in one part. Each part is held back once,
and the calibrators are given the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from quantfleet_domain.calibration.calibrators import AUTO, CALIBRATORS
from quantfleet_domain.calibration.error import Density, range_error
from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.calibration.partial import Partial, merge_partials
from quantfleet_domain.calibration.scales import ScaleTable
from quantfleet_domain.calibration.statistic import TensorStatistic

PARTS = 5
"""Into how many parts the samples are dealt."""

# As in `mse`: errors are compared in steps of 2^-40 of the tensor's power.
_RESOLUTION = 2.0**40


def part_of(digest: str) -> int:
    """The part, in [0, PARTS), of the sample whose content has this hexadecimal SHA-256. Parts are about equal."""
    return int(digest, 16) % PARTS


def choose(*tensors: Sequence[TensorStatistic]) -> str:
    """The name of the calibrator, at its default parameter, with the least squared error on what it did not see.

    Each of `tensors` is one tensor's statistics of all parts, in one order; several are tensors that must share a
    calibrator, and count alike. For each part the calibrators are fitted to all the others together, and what their
    ranges cost that part (`error.range_error`) is summed over the parts, as a share of the tensor's power. Of equals,
    the first in the order of `CALIBRATORS`, which begins with absmax; so too where there is nothing to tell them apart,
    as with one part only.
    """
    costs = dict.fromkeys(CALIBRATORS, 0.0)
    for parts in tensors:
        for name, cost in _costs(parts).items():
            costs[name] += cost
    return min(costs, key=lambda name: float(np.rint(costs[name] * _RESOLUTION)))


def _costs(parts: Sequence[TensorStatistic]) -> Mapping[str, float]:
    errors = dict.fromkeys(CALIBRATORS, 0.0)
    power = 0.0
    for held_back, part in enumerate(parts):
        others = [other for index, other in enumerate(parts) if index != held_back]
        if not (others and part.samples.size):
            continue
        fit, density = reduce(TensorStatistic.merge, others), Density.of(part)
        power += density.power
        for name, calibrator in CALIBRATORS.items():
            errors[name] += range_error(density, calibrator.clip_range(fit))
    return {name: error / power for name, error in errors.items()} if power else errors


def candidate_tables(
    parts: Sequence[Partial], graph: CalibrationGraph, *, manifest: str, preprocessing: str
) -> Mapping[str, ScaleTable]:
    """The table of every calibrator at its default parameter, and that of `auto`, by name; `auto` is the last.

    `parts` are the merged partials of each part, in the order of their numbers. The method of a tensor is chosen by
    samples held back; its range is then that method's range of all samples together, so every sample has its say and
    a row of `auto` is the row of its method's own table. Tied tensors get one method. Raises as `merge_partials` and
    `ScaleTable.build`.
    """
    merged = merge_partials(list(parts))
    tables = {
        name: ScaleTable.build(merged, graph, calibrator, manifest=manifest, preprocessing=preprocessing)
        for name, calibrator in CALIBRATORS.items()
    }
    best: dict[str, str] = {}
    for group in (*graph.ties, *((name,) for name in graph.activations)):
        if group[0] not in best:
            chosen = choose(*([part.tensors[name] for part in parts] for name in group))
            best |= dict.fromkeys(group, chosen)
    some = next(iter(tables.values()))
    tables[AUTO] = replace(
        some,
        header=replace(some.header, calibrator=AUTO, parameter=None),
        activations=tuple(tables[best[name]].activations[place] for place, name in enumerate(graph.activations)),
    )
    return tables
