"""What every engine must do. A test module subclasses `EngineContract` and provides the fixtures below."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.base import Engine, LoadOptions, Session

FP32 = LoadOptions("fp32", threads=1)
INT8 = LoadOptions("int8", threads=1)


class EngineContract:
    """Subclasses define the fixtures `engine`, `fp32_model`, `int8_model`, `unreadable_model` and `sample`.

    Both models compute one network with a free batch axis, one float32 input and at least one convolution; `sample` is
    an input for it with a batch of 1; `unreadable_model` is a path whose content no runtime accepts.
    """

    def test_its_version_is_known(self, engine: Engine) -> None:
        assert engine.version()[0].isdigit()

    def test_its_class_says_what_it_is(self, engine: Engine) -> None:
        assert engine.runtime in ("onnx", "paddle")
        assert engine.kind in ("cpu", "cuda", "arm")
        assert {"fp32", "int8"} <= set(engine.precisions)

    def test_what_a_cpu_has_is_some_of_what_the_engine_offers(self, engine: Engine) -> None:
        assert {"fp32", "int8"} <= set(engine.precisions_on(())) <= set(engine.precisions)

    def test_listing_engines_imports_no_runtime(self, engine: Engine) -> None:
        code = (
            "import sys; from quantfleet_worker.engines.registry import engines, engine_named\n"
            f"assert '{engine.name}' in [item.name for item in engines(())]; engine_named('{engine.name}')\n"
            "assert not {'onnxruntime', 'openvino', 'paddle', 'onnx', 'tensorrt'} & sys.modules.keys()\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_inputs_are_described_with_a_free_batch(
        self, engine: Engine, fp32_model: Path, sample: NDArray[np.float32]
    ) -> None:
        ((shape, dtype),) = engine.load(fp32_model, FP32).inputs.values()
        assert shape == (None, *sample.shape[1:])
        assert dtype == np.float32

    def test_int8_computes_nearly_what_fp32_computes(
        self, engine: Engine, fp32_model: Path, int8_model: Path, sample: NDArray[np.float32]
    ) -> None:
        exact = _first(engine.load(fp32_model, FP32), sample)
        approximate = _first(engine.load(int8_model, INT8), sample)
        assert exact.shape == approximate.shape
        assert np.abs(exact - approximate).max() < 0.1 * np.abs(exact).max() + 0.02
        assert not np.array_equal(exact, approximate)

    def test_a_sample_is_the_same_alone_and_in_a_batch(
        self, engine: Engine, fp32_model: Path, sample: NDArray[np.float32]
    ) -> None:
        session = engine.load(fp32_model, LoadOptions("fp32", threads=1, batch=2))
        other = np.ascontiguousarray(sample[:, :, ::-1])
        both = _first(session, np.concatenate([sample, other]))
        np.testing.assert_allclose(both[:1], _first(session, sample), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(both[1:], _first(session, other), rtol=1e-4, atol=1e-6)

    def test_running_a_bound_batch_again_gives_the_same_bits(
        self, engine: Engine, int8_model: Path, sample: NDArray[np.float32]
    ) -> None:
        session = engine.load(int8_model, INT8)
        name = next(iter(session.inputs))
        session.bind({name: sample})
        session.run_bound()
        first = session.outputs()
        session.run_bound()
        for key, value in session.outputs().items():
            assert value.tobytes() == first[key].tobytes()

    def test_outputs_belong_to_the_caller(self, engine: Engine, fp32_model: Path, sample: NDArray[np.float32]) -> None:
        session = engine.load(fp32_model, FP32)
        first = _first(session, sample)
        kept = first.copy()
        second = _first(session, np.ascontiguousarray(sample[:, :, ::-1]))
        np.testing.assert_array_equal(first, kept)
        assert not np.array_equal(first, second)

    def test_settings_are_text_and_name_the_threads(self, engine: Engine, fp32_model: Path) -> None:
        settings = engine.load(fp32_model, LoadOptions("fp32", threads=2)).settings_in_effect()
        assert all(isinstance(key, str) and isinstance(value, str) for key, value in settings.items())
        assert any("threads" in key and value == "2" for key, value in settings.items())

    def test_the_nodes_of_an_int8_model_are_accounted_for(
        self, engine: Engine, fp32_model: Path, int8_model: Path, sample: NDArray[np.float32]
    ) -> None:
        loaded = engine.load(int8_model, INT8)
        _first(loaded, sample)
        counts = loaded.node_counts()
        assert 0 < counts.int8 <= counts.quantizable
        assert len(counts.fallbacks) == counts.quantizable - counts.int8
        plain = engine.load(fp32_model, FP32)
        _first(plain, sample)
        assert plain.node_counts().int8 == 0

    def test_a_wrong_shape_is_an_error_that_names_the_input(
        self, engine: Engine, fp32_model: Path, sample: NDArray[np.float32]
    ) -> None:
        session = engine.load(fp32_model, FP32)
        name = next(iter(session.inputs))
        with pytest.raises(QuantfleetError, match=name) as caught:
            session.run({name: np.zeros((1, sample.shape[1] + 1, *sample.shape[2:]), np.float32)})
        assert caught.value.code is ErrorCode.ENGINE_FAILED

    def test_what_is_no_model_is_unreadable(self, engine: Engine, unreadable_model: Path) -> None:
        with pytest.raises(QuantfleetError) as caught:
            engine.load(unreadable_model, FP32)
        assert caught.value.code is ErrorCode.MODEL_UNREADABLE

    def test_a_form_is_preferred_for_every_cpu(self, engine: Engine) -> None:
        assert engine.preferred_form(("avx2", "avx512f", "avx512_vnni"), "int8")
        assert engine.preferred_form(("avx2",), "int8")


def _first(session: Session, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """A session's first output for a batch given to its first input."""
    (result, *_) = session.run({next(iter(session.inputs)): batch}).values()
    return result
