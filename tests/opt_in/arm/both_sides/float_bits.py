"""Prints this processor's part of a numerics class, and digests of what is to be the same bits within the class.

They are of the preprocessed pictures and of the reference graphs' activations. Not for the models' own outputs.
"""

import json
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
from samples import read

from quantfleet_domain.hardware.facts import numerics_isa
from quantfleet_worker.models.onnx_model import inspect
from quantfleet_worker.models.reference_run import ReferenceRun
from quantfleet_worker.preprocessing.configuration import parse
from quantfleet_worker.probes.cpu import cpu_facts, sve_bits

digests = {}


def note(name: str, values: np.ndarray) -> None:
    digests[name] = sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


folder, configuration = Path(sys.argv[1]), Path(sys.argv[2])
for path in sorted(path for path in folder.glob("*.onnx") if "." not in path.stem):
    graph = inspect(path, {})[1]
    run = ReferenceRun(path, graph)
    for index, feeds in enumerate(read(path.with_suffix(".npz"))):
        for tensor, values in run.activations(feeds):
            note(f"{path.stem} {tensor} {index}", values)
preprocess = parse(configuration.read_text()).preprocessor(inspect(folder / "digits.onnx", {})[1].inputs)
for path in sorted((folder / "pictures" / "calibration").iterdir()):
    for values in preprocess(path.read_bytes(), path.name).feeds.values():
        note(f"picture {path.name}", values)
facts = cpu_facts(None, "")
json.dump({"class": numerics_isa(facts.architecture, facts.isa, sve_bits()), "digests": digests}, sys.stdout)
