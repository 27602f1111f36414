"""The engine on a machine without TensorRT and without a GPU, which is what tests run on."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from tests.worker.onnx_networks import classifier, saved

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.base import Array, LoadOptions
from quantfleet_worker.engines.trt.calibration import Samples, cache_for
from quantfleet_worker.engines.trt.engine import ENGINE

OPTIONS = LoadOptions("fp32", threads=1)


def test_a_missing_tensorrt_is_named_with_the_command_that_installs_it(tmp_path: Path) -> None:
    model = saved(classifier(), tmp_path)
    attempts = (
        ENGINE.version,
        lambda: ENGINE.load(model, OPTIONS),
        lambda: ENGINE.calibrate_natively(model, (), OPTIONS, tmp_path),
    )
    for attempt in attempts:
        with pytest.raises(QuantfleetError, match="tensorrt") as caught:
            attempt()
        assert caught.value.code is ErrorCode.ENGINE_MISSING
        assert "pip install quantfleet[tensorrt]" in caught.value.todo


def test_a_cache_gets_the_head_of_the_version_that_reads_it_and_keeps_its_scales() -> None:
    made = b"TRT-0-EntropyCalibration2\nimage: 3c010a14\nstem.w: 00000000\n"
    assert cache_for((10, 16, 1), made) == made.replace(b"TRT-0-", b"TRT-101601-")
    with pytest.raises(QuantfleetError, match=r"the model's calibration cache:1"):
        cache_for((10, 16, 1), b"no cache")


def test_a_sample_that_cannot_be_read_ends_calibration_and_is_raised_afterwards() -> None:
    def broken() -> Iterator[Mapping[str, Array]]:
        raise QuantfleetError(ErrorCode.SAMPLE_UNREADABLE, "sample 3 is no picture")
        yield {}

    samples = Samples(broken())
    assert samples.next(["image"]) is None
    assert samples.next(["image"]) is None
    with pytest.raises(QuantfleetError, match="sample 3 is no picture"):
        samples.finish()


def test_calibrating_with_no_samples_is_an_error() -> None:
    samples = Samples(iter(()))
    assert samples.next(["image"]) is None
    with pytest.raises(QuantfleetError) as caught:
        samples.finish()
    assert caught.value.code is ErrorCode.DATA_EMPTY


def test_without_a_gpu_a_sample_fails_with_the_runtimes_own_words() -> None:
    samples = Samples(iter([{"image": np.zeros((1, 3), np.float32)}]))
    assert samples.next(["image"]) is None
    with pytest.raises(QuantfleetError, match="driver"):
        samples.finish()
