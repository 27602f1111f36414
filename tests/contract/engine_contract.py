"""What every engine must do. A test module subclasses `EngineContract` and provides the fixtures below."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from quantfleet_worker.doctor.contract import CHECKS, Subject
from quantfleet_worker.engines.base import Engine, LoadOptions, Session

FP32 = LoadOptions("fp32", threads=1)
INT8 = LoadOptions("int8", threads=1)
Check = Callable[[Subject], str]


class EngineContract:
    """Subclasses define the fixtures `engine`, `fp32_model`, `int8_model`, `unreadable_model` and `sample`.

    Both models compute one network with a free batch axis, one float32 input and at least one convolution; `sample` is
    an input for it with a batch of 1; `unreadable_model` is a path whose content no runtime accepts.
    """

    @pytest.fixture
    def subject(
        self,
        engine: Engine,
        fp32_model: Path,
        int8_model: Path,
        unreadable_model: Path,
        sample: NDArray[np.float32],
    ) -> Subject:
        def load(options: LoadOptions) -> Session:
            return engine.load(int8_model if options.precision == "int8" else fp32_model, options)

        (exact, *_) = load(FP32).run({self.input_name(engine, fp32_model): sample}).values()
        return Subject(engine, "int8", load, sample, exact, unreadable_model, threads=2)

    @staticmethod
    def input_name(engine: Engine, model: Path) -> str:
        (name,) = engine.load(model, FP32).inputs
        return name

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_in_int8(self, check: Check, subject: Subject) -> None:
        check(subject)

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_in_fp32(self, check: Check, subject: Subject) -> None:
        check(replace(subject, precision="fp32"))

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

    def test_a_batch_that_is_free_is_none(self, engine: Engine, fp32_model: Path) -> None:
        ((shape, _),) = engine.load(fp32_model, FP32).inputs.values()
        assert shape[0] is None

    def test_a_form_is_preferred_for_every_cpu(self, engine: Engine) -> None:
        assert engine.preferred_form(("avx2", "avx512f", "avx512_vnni"), "int8")
        assert engine.preferred_form(("avx2",), "int8")
