"""What is installed is what is imported: every package has its extra, and images and Makefile install them alike."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
FOR_GPUS = ("gpu", "tensorrt", "tensorrt-cu12", "onnxruntime-tensorrt")
NOT_HERE = {"tensorrt": "tensorrt-cu13"}
"""Modules whose distributions cannot be had without NVIDIA's own index."""
FOR_USERS = ("report", "worker", "onnxruntime", "openvino", "paddle", "training")


def distributions(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


def imported(folder: Path) -> set[str]:
    found: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return {name for name in found if name not in sys.stdlib_module_names and not name.startswith("quantfleet")}


def test_every_package_that_a_worker_imports_is_in_an_extra() -> None:
    known = distributions(PROJECT["dependencies"])
    for name in (*FOR_USERS, *FOR_GPUS):
        known |= distributions(EXTRAS[name])
    owners = {**packages_distributions(), **{module: [name] for module, name in NOT_HERE.items()}}
    for module in imported(ROOT / "worker"):
        assert known & {owner.lower().replace("_", "-") for owner in owners[module]}, module


def test_all_means_every_extra_of_a_machine_without_a_gpu() -> None:
    assert EXTRAS["all"] == [f"quantfleet[{','.join(FOR_USERS)}]"]


def test_the_workers_image_has_every_engine_and_what_trains() -> None:
    (installed,) = re.findall(r'"\.\[([\w,]+)\]"', (ROOT / "deploy/worker-cpu.Dockerfile").read_text())
    assert set(installed.split(",")) == set(FOR_USERS) - {"report"}


def test_the_image_for_gpus_installs_extras_that_exist_and_one_version_of_onnxruntime() -> None:
    text = (ROOT / "deploy/worker-gpu.Dockerfile").read_text()
    (installed,) = re.findall(r'"\.\[([\w,-]+)\]"', text)
    assert {"worker", "onnxruntime", "gpu", "onnxruntime-tensorrt"} <= set(installed.split(",")) <= set(EXTRAS)
    pinned = re.findall(r"(?m)^onnxruntime==(.*)$", (ROOT / "constraints.txt").read_text())
    versions = re.findall(r"onnxruntime-gpu(?:\[[\w,]+\])?==([\d.]+)", text)
    assert versions == pinned * 2, "the package that is written over the other must be of its version"


def test_paddleslim_is_of_one_version_and_without_its_dependencies_wherever_it_is_installed() -> None:
    places = ("Makefile", "deploy/worker-cpu.Dockerfile", "deploy/README.md", "docs/guide/quantization.md")
    slim = ROOT / "worker/quantfleet_worker/training/slim.py"
    for place in (*(ROOT / name for name in places), slim):
        assert re.findall(r"--no-deps paddleslim==([\d.]+)", place.read_text()) == ["2.6.0"], place


def test_every_requirement_of_ours_is_pinned_where_all_of_them_were_tried_together() -> None:
    pinned = distributions((ROOT / "constraints.txt").read_text().splitlines())
    asked = distributions([item for name in FOR_USERS for item in EXTRAS[name]]) - {"quantfleet", "pip"}
    assert asked <= pinned
