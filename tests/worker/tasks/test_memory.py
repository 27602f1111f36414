"""The child process that a variant's memory is measured in: it loads the variant as the timed process did."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from tests.worker.counting import Counting, CountingSession
from tests.worker.tasks.test_native_calibrating import declare

from quantfleet_domain.jobs.work import ModelForm
from quantfleet_worker.engines.base import Array, LoadOptions
from quantfleet_worker.execution.outcome import Result, Usage
from quantfleet_worker.execution.spec import RunSpec
from quantfleet_worker.tasks import memory
from quantfleet_worker.tasks.contenders import Contender


class Here:
    """Runs the handler in this process, so that its engine can be looked at."""

    def __init__(self, spec: RunSpec) -> None:
        assert spec.handler == f"{memory.__name__}:{memory.run_only.__name__}"

    def run(self, request: bytes) -> Result:
        return Result(usage=Usage(peak_rss_bytes=3 << 20), payload=memory.run_only(request, lambda *_: None))


@pytest.mark.parametrize("kept", [None, Path("/var/engines")])
def test_the_variant_is_loaded_in_its_form_for_its_shapes_and_with_the_engines_that_were_kept(
    kept: Path | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    engine = Counting()
    declare(engine, monkeypatch)
    monkeypatch.setattr(memory, "ChildRun", Here)
    options = LoadOptions("int8", 2, 4, "cache", (("image", (4, 3, 64, 64)),), kept)
    session = CountingSession()
    feeds: Mapping[str, Array] = {"image": np.ones((4, 3, 64, 64), np.float32)}
    contender = Contender(ModelForm("cache", ()), session, feeds, session.run_bound)
    peak = memory.peak_memory_mb(engine.name, tmp_path / "m.onnx", contender, options, (0,), tmp_path / "feeds")
    assert peak == 3
    assert engine.loaded == [(tmp_path / "m.onnx", options)]
