"""Chooses a calibrator for each tensor by its error on samples that it did not see. Not for the calibrators themselves.

Samples are dealt into parts by their place in the manifest alone, so neither the parts nor what is chosen depends on
how the work was sharded. Each part is held back once, and the calibrators are given the others.
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


def part_of(sample_index: int) -> int:
    """The part, in [0, PARTS), of a sample of the manifest."""
    return sample_index % PARTS


def choose(parts: Sequence[TensorStatistic]) -> str:
    """The name of the calibrator, at its default parameter, with the least squared error on what it did not see.

    `parts` are one tensor's statistics of disjoint samples, at least one. For each part the calibrators are fitted to
    all the others together, and what their ranges cost that part (`error.range_error`) is summed over the parts. Of
    equals, the first in the order of `CALIBRATORS`, which begins with absmax; so too where there is nothing to tell
    them apart, as with one part only.
    """
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
    if power == 0:
        return next(iter(CALIBRATORS))
    return min(errors, key=lambda name: float(np.rint(errors[name] / power * _RESOLUTION)))


def candidate_tables(
    parts: Sequence[Partial], graph: CalibrationGraph, *, manifest: str, preprocessing: str
) -> Mapping[str, ScaleTable]:
    """The table of every calibrator at its default parameter, and that of `auto`, by name; `auto` is the last.

    `parts` are the merged partials of each part, in the order of their numbers. The method of a tensor is chosen by
    samples held back; its range is then that method's range of all samples together, so every sample has its say and
    a row of `auto` is the row of its method's own table. Raises as `merge_partials` and `ScaleTable.build`.
    """
    merged = merge_partials(list(parts))
    tables = {
        name: ScaleTable.build(merged, graph, calibrator, manifest=manifest, preprocessing=preprocessing)
        for name, calibrator in CALIBRATORS.items()
    }
    best = [choose([part.tensors[name] for part in parts]) for name in graph.activations]
    some = next(iter(tables.values()))
    tables[AUTO] = replace(
        some,
        header=replace(some.header, calibrator=AUTO, parameter=None),
        activations=tuple(tables[name].activations[place] for place, name in enumerate(best)),
    )
    return tables
