"""From a variant to a model on a phone: prepared, converted, checked, and carried there. Not for running it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.work import ModelForm, Variant
from quantfleet_worker.engines.base import Engine, NodeCounts
from quantfleet_worker.models.paddle_lite_program import prepare
from quantfleet_worker.phones.nb_file import read_given, read_nb
from quantfleet_worker.phones.opt import OptRequest, convert
from quantfleet_worker.phones.phone import Phone
from quantfleet_worker.phones.session import OnPhone
from quantfleet_worker.tasks.loading import form_for, path_of
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace

_DYNAMIC = "dynamic"
_WEIGHT_BITS = {"int8": 8, "int16": 16}


@dataclass(frozen=True)
class LiteModel:
    """A variant as an `.nb` file of this host, with the version of the `opt` that made it, and what is in it; `inputs`
    and `outputs` as `OnPhone` has them."""

    form: ModelForm
    path: Path
    opt_version: str
    inputs: Mapping[str, tuple[tuple[int | None, ...], np.dtype[Any]]]
    outputs: Mapping[str, np.dtype[Any]]
    counts: NodeCounts


def lite_model(engine: Engine, variant: Variant, phone: Phone, workspace: Workspace, here: Surroundings) -> LiteModel:
    """Convert a variant for a phone, unless its file is an `.nb` already.

    Raises QuantfleetError: MODEL_UNREADABLE, MODEL_UNSUPPORTED for what opt or the phone cannot take, and for a model
    quantized statically of which no kernel is in INT8, ENGINE_MISSING, ENGINE_CRASHED, ENGINE_FAILED.
    """
    form = form_for(engine, variant, "", here)
    source = path_of(variant, form, workspace)
    if source.is_file():
        given = read_given(source.read_bytes(), source.name, phone.target)
        return LiteModel(form, source, given.opt_version, given.inputs, given.outputs, given.counts(quantized=True))
    name = f"lite-{variant.precision}-{variant.quantization}"
    program = prepare(source, workspace.scratch(name))
    dynamic = variant.quantization == _DYNAMIC
    request = OptRequest(phone.target, _WEIGHT_BITS[variant.precision] if dynamic else 0)
    path = workspace.scratch(f"{name}.nb")
    converted = convert(phone.opt_interpreter, program.files, request, path.parent)
    path.write_bytes(converted.content)
    nb = read_nb(converted.content, f"what opt made of {variant.precision}")
    nb.require_target(phone.target, f"what opt made of {variant.precision}")
    counts = nb.counts(quantized=variant.precision in _WEIGHT_BITS)
    if variant.precision == "int8" and not dynamic and not counts.int8:
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"opt {converted.version} gave none of the {counts.quantizable} layers a kernel in INT8",
            "give a model that is quantized statically, in Paddle's or PaddleSlim's format",
        )
    return LiteModel(form, path, converted.version, program.inputs, program.outputs, counts)


def carry(phone: Phone, directory: str, models: dict[str, LiteModel]) -> dict[str, OnPhone]:
    """Push the tool and the models, by name, into a directory of the phone. Raises as `Transport.push`."""
    binary = f"{directory}/benchmark_bin"
    phone.transport.push(phone.benchmark_bin, binary, executable=True)
    carried = {}
    for place, (name, model) in enumerate(models.items()):
        remote = f"{directory}/model{place}.nb"
        phone.transport.push(model.path, remote)
        carried[name] = OnPhone(phone, directory, binary, remote, model.inputs, model.outputs, model.counts)
    return carried
