"""What a node says of its software is what is installed, and nothing of what is not."""

import platform

import numpy as np
import pytest

from quantfleet_worker.probes import software as probe


def test_the_versions_are_those_that_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "DISTRIBUTIONS", ("numpy", "no-such-distribution"))
    found = {package.name: package.version for package in probe.software()}
    assert found == {"linux": platform.release(), "numpy": np.__version__, "python": platform.python_version()}
