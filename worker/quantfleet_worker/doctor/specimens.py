"""Makes the small network in every form that engines want, by the code that serves jobs. Not for trying an engine."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_domain.calibration.graph import CalibrationGraph
from quantfleet_domain.hardware.precisions import is_quantized
from quantfleet_domain.jobs.spec import FileRef, model_sha256
from quantfleet_domain.jobs.work import InspectWork, ModelForm, QuantizeWork, Variant
from quantfleet_worker.doctor import networks
from quantfleet_worker.execution.child import Report
from quantfleet_worker.models.observed_table import observed_table
from quantfleet_worker.models.reference_session import options, run, session
from quantfleet_worker.tasks.inspecting import inspect
from quantfleet_worker.tasks.quantizing import quantize
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace

HANDLER = "quantfleet_worker.doctor.specimens:make"
_CALIBRATED_ON = 8
_NAME = "doctor"


@dataclass(frozen=True)
class Specimens:
    """The network in FP32 (`floating`), and by runtime in every static INT8 form; `reference` has FP32's outputs for
    `sample`. Files are in the directory that they were made in, by digest; `sample` and `reference` are `.npy`."""

    floating: ModelForm
    static: dict[str, tuple[ModelForm, ...]]
    sample: FileRef
    reference: FileRef

    def variant(self, precision: str, runtime: str) -> Variant:
        """The variant of a precision, for the engines of a runtime."""
        if precision == "int16":  # the engine itself stores the weights so
            return Variant(precision, "dynamic", (self.floating,))
        if is_quantized(precision):
            return Variant(precision, "static", self.static[runtime])
        return Variant(precision, "none", (self.floating,))

    def to_json(self) -> bytes:
        """For `from_json`, in another process."""
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def from_json(data: bytes) -> "Specimens":
        """What `to_json` wrote."""
        found = json.loads(data)
        static = {runtime: tuple(map(_form, forms)) for runtime, forms in found["static"].items()}
        return Specimens(_form(found["floating"]), static, FileRef(**found["sample"]), FileRef(**found["reference"]))


def make(request: bytes, report: Report) -> bytes:
    """The handler of a child process: make the network of a `format` for `runtimes`, in directory `files`.

    Raises QuantfleetError as the tasks `inspect` and `quantize` do.
    """
    asked: dict[str, Any] = json.loads(request)
    files_at = Path(asked["files"])
    workspace = Workspace(files_at, files_at, Path(asked["scratch"]))
    here = Surroundings(str(files_at), str(files_at), "", (), tuple(asked["isa"]), "", ())
    report(0.0, "making a small model")
    files = _written(asked["format"], workspace)
    inspected = inspect(InspectWork(_NAME, asked["format"], files, (), None), workspace, here, report)
    assert inspected.reference is not None
    assert inspected.graph is not None
    reference, graph = workspace.read(inspected.reference), CalibrationGraph.from_json(workspace.read(inspected.graph))
    samples = networks.samples(_CALIBRATED_ON)
    feeds = [{networks.INPUT: sample} for sample in samples]
    scales = workspace.keep("scales.json", observed_table(reference, graph, feeds, model_sha256(files)).to_json())
    static = {}
    for index, runtime in enumerate(asked["runtimes"]):
        report(index / len(asked["runtimes"]), f"quantizing it for {runtime}")
        work = QuantizeWork(
            _NAME, runtime, "static", asked["format"], files, inspected.reference, scales, None, corrections=None
        )
        static[runtime] = quantize(work, workspace, here, report).forms
    made = Specimens(
        floating=ModelForm("", files),
        static=static,
        sample=_kept("sample.npy", samples[0], workspace),
        reference=_kept("reference.npy", _outputs(reference, feeds[0]), workspace),
    )
    return made.to_json()


def _written(model_format: str, workspace: Workspace) -> tuple[FileRef, ...]:
    if model_format == "onnx":
        path = workspace.scratch(f"{_NAME}.onnx")
        networks.write_onnx(path)
        return (workspace.keep(path.name, path.read_bytes()),)
    directory = workspace.scratch("paddle")
    directory.mkdir()
    networks.write_paddle(directory)
    wanted = (path for path in sorted(directory.iterdir()) if path.suffix in (".pdmodel", ".pdiparams"))
    return tuple(workspace.keep(path.name, path.read_bytes()) for path in wanted)


def _outputs(reference: bytes, feeds: dict[str, Any]) -> np.ndarray[Any, Any]:
    opened = session(reference, options(optimize=True))
    (result, *_) = run(opened, [opened.get_outputs()[0].name], feeds)
    return np.asarray(result)


def _kept(name: str, values: np.ndarray[Any, Any], workspace: Workspace) -> FileRef:
    path = workspace.scratch(name)
    np.save(path, values)
    return workspace.keep(name, path.read_bytes())


def _form(found: dict[str, Any]) -> ModelForm:
    return ModelForm(found["form"], tuple(FileRef(**item) for item in found["files"]))
