"""The task `quantize` for Paddle-TensorRT: both of its forms, as a job's engines get them."""

import json
from pathlib import Path

from quantfleet_domain.jobs.work import ModelForm
from quantfleet_worker.doctor.specimens import Specimens, make
from quantfleet_worker.engines.paddle_cuda.model import open_model
from quantfleet_worker.engines.paddle_cuda.plan import Form, plan
from quantfleet_worker.tasks.workspace import Workspace


def test_both_forms_are_made_and_each_is_one_that_the_engine_knows(tmp_path: Path) -> None:
    files, scratch = tmp_path / "files", tmp_path / "scratch"
    files.mkdir()
    scratch.mkdir()
    asked = {
        "files": str(files),
        "scratch": str(scratch),
        "isa": ["sm_75"],
        "format": "paddle",
        "runtimes": ["paddle-tensorrt"],
    }
    made = Specimens.from_json(make(json.dumps(asked).encode(), lambda *_: None))
    forms: dict[str, ModelForm] = {form.form: form for form in made.static["paddle-tensorrt"]}
    workspace = Workspace(files, files, scratch)
    for name, form in forms.items():
        model = open_model(workspace.bundle(name, form.files))
        assert model.form is Form(name)
        assert plan("int8+fp16", model.form).calibrated is (name == "table")
        assert model.meant.quantized
    assert list(forms) == ["qdq", "table"]
