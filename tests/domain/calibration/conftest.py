"""What the calibration tests share: a numerics class, a graph, and statistics of raw data."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from quantfleet_domain.calibration.graph import CalibrationGraph, NumericsClass, WeightTensor
from quantfleet_domain.calibration.statistic import StatisticAccumulator, TensorStatistic

# Nothing here is timed: an example may take as long as a busy machine needs.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

Observe = Callable[..., TensorStatistic]


@pytest.fixture(scope="session")
def numerics() -> NumericsClass:
    return NumericsClass(
        engine="onnxruntime-cpu",
        engine_version="1.31.1",
        isa="x86-64/avx2",
        model="m" * 64,
        recipe="r" * 64,
        preprocessing="imagenet/1",
        statistic_version=1,
    )


@pytest.fixture(scope="session")
def graph() -> CalibrationGraph:
    return CalibrationGraph(
        inputs=(),
        outputs=(),
        activations=("relu", "input", "logits"),
        weights=(WeightTensor("conv.w", 0, (0.5, 0.25)), WeightTensor("fc.w", 1, (1.0,))),
        native_names={"relu": "relu_0.tmp_0", "input": "x"},
        native_weights={"conv.w": "conv2d_0.w_0"},
        unmapped=("logits",),
        recipe="r" * 64,
    )


@pytest.fixture(scope="session")
def observe() -> Observe:
    def statistic(*samples: NDArray[np.floating] | list[float]) -> TensorStatistic:
        accumulator = StatisticAccumulator("tensor")
        for index, sample in enumerate(samples):
            accumulator.observe(index, np.asarray(sample, np.float32), f"{index}.jpg")
        return accumulator.statistic()

    return statistic
