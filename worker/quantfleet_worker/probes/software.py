"""Which software this node computes with. Not for the engines' own versions, which their listings say."""

import platform
from importlib import metadata

from quantfleet_domain.hardware.facts import Package

DISTRIBUTIONS = (
    "cuda-bindings",
    "grpcio",
    "numpy",
    "nvidia-ml-py",
    "onnx",
    "onnxconverter-common",
    "onnxruntime",
    "onnxruntime-gpu",
    "opencv-python-headless",
    "openvino",
    "paddle2onnx",
    "paddlepaddle",
    "paddleslim",
    "pycocotools",
    "quantfleet",
    "ray",
    "tensorrt-cu12",
    "tensorrt-cu13",
    "tokenizers",
)
"""What can change a figure or a bit of the scale table, as `pip` names it."""


def software() -> tuple[Package, ...]:
    """The kernel, Python, and the distributions that are installed here, by name."""
    found = [Package("linux", platform.release()), Package("python", platform.python_version())]
    for name in DISTRIBUTIONS:
        try:
            found.append(Package(name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(sorted(found, key=lambda package: package.name))
