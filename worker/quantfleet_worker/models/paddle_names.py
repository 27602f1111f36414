"""Which Paddle variable is which tensor of the reference graph, proven by values. Not for running either in earnest.

Converters rename tensors, so names prove nothing: the same random inputs go through both programs, and two tensors
are the same one where they have one shape and the same values in every run.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from quantfleet_domain.calibration.graph import CalibrationGraph, InputTensor
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker import onnxruntime_library
from quantfleet_worker.models.paddle_program import Array, PaddleProgram, load_paddle, same_values

RUNS = 2
TIES = 0.001
"""The largest share of an integer output, an argmax say, that two float32 computations may differ in."""


def map_names(reference: bytes, graph: CalibrationGraph, program: PaddleProgram | None) -> CalibrationGraph:
    """Fill `native_names`, `native_weights` and `unmapped` of a graph from its reference model (ONNX bytes).

    `program` is normalised; None (a model without a form that can be quantized) leaves every activation unmapped. Ties,
    i.e. several variables with the values of one tensor, go to the equal name and else to the first in graph order
    that is not taken, and to one before its bias is added only where there is no other: a bias may be zero.

    Raises QuantfleetError(MODEL_UNSUPPORTED) where the two do not compute the same outputs.
    """
    if program is None:
        return replace(graph, native_names={}, native_weights={}, unmapped=graph.activations)
    references: list[dict[str, Array]] = []
    natives: list[dict[str, Array]] = []
    variables = activation_variables(program)
    for run in range(RUNS):
        feeds = random_feeds(graph.inputs, run)
        references.append(_run_reference(reference, graph, feeds))
        natives.append({**program.run(feeds, list(dict.fromkeys((*variables, *program.fetches)))), **feeds})
    _check_outputs(graph.outputs, references, program.fetches, natives)
    before_biases = _before_biases(program)
    order = [*program.feeds, *sorted(variables, key=before_biases.__contains__)]
    names = _match(graph.activations, references, [name for name in order if name in natives[0]], natives)
    weights = _match_weights(reference, [weight.name for weight in graph.weights], program)
    unmapped = tuple(name for name in graph.activations if name not in names)
    return replace(graph, native_names=names, native_weights=weights, unmapped=unmapped)


def _before_biases(program: PaddleProgram) -> set[str]:
    """What is read by the addition of a parameter, and by nothing else."""
    readers = Counter(name for operator in program.operators for name in operator.input_arg_names)
    additions = [operator for operator in program.operators if operator.type == "elementwise_add"]
    return {
        source
        for source, other in ((addition.input("X")[0], addition.input("Y")[0]) for addition in additions)
        if readers[source] == 1 and program.is_parameter(other)
    }


def activation_variables(program: PaddleProgram) -> list[str]:
    """The float32 variables that the program computes and keeps, in the order in which they are computed."""
    block = program.program.global_block()
    float32 = load_paddle().base.core.VarDesc.VarType.FP32
    names: dict[str, None] = {}
    for operator in program.operators:
        if operator.type in ("feed", "fetch"):
            continue
        for slot in operator.output_names:
            # XShape and the saved statistics exist for the backward pass; an inference run leaves them empty.
            if slot in ("XShape", "SavedMean", "SavedVariance", "MeanOut", "VarianceOut", "Mask", "ReserveSpace"):
                continue
            names.update(dict.fromkeys(name for name in operator.output(slot) if not program.is_parameter(name)))
    return [name for name in names if block.var(name).dtype == float32]


def random_feeds(inputs: Sequence[InputTensor], seed: int) -> dict[str, Array]:
    """An array for every input: standard normal floats, or integers 0 and 1."""
    random = np.random.default_rng(seed)
    return {
        tensor.name: random.standard_normal(tensor.shape).astype(tensor.dtype)
        if np.dtype(tensor.dtype).kind == "f"
        else random.integers(0, 2, tensor.shape).astype(tensor.dtype)
        for tensor in inputs
    }


def _run_reference(reference: bytes, graph: CalibrationGraph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    names = dict.fromkeys((*graph.activations, *graph.outputs))
    model = onnx.load_from_string(reference)
    known = {output.name for output in model.graph.output} | {tensor.name for tensor in model.graph.input}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    onnxruntime = onnxruntime_library.load()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    wanted = [name for name in names if name not in feeds]
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        inputs = {tensor.name: feeds[tensor.name] for tensor in session.get_inputs()}
        values: Sequence[Any] = session.run(wanted, inputs)
    except Exception as error:  # onnxruntime's exceptions share no base class but Exception
        shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in feeds.items())
        raise QuantfleetError(
            ErrorCode.JOB_INVALID,
            f"the model's ONNX form does not run on {shapes}: {str(error).splitlines()[0]}",
            "check input_shapes; if they are right, calibrate an ONNX export of the model instead",
        ) from error
    return {**dict(zip(wanted, values, strict=True)), **feeds}


def _check_outputs(
    outputs: Sequence[str],
    references: Sequence[Mapping[str, Array]],
    fetches: Sequence[str],
    natives: Sequence[Mapping[str, Array]],
) -> None:
    for reference, native in zip(references, natives, strict=True):
        for output, fetch in zip(outputs, fetches, strict=True):
            if reference[output].shape != native[fetch].shape or not _same(reference[output], native[fetch]):
                raise QuantfleetError(
                    ErrorCode.MODEL_UNSUPPORTED,
                    f"the Paddle model's output {fetch} and its ONNX form's {output} differ on the same input",
                    "a converter got an operator wrong: calibrate an ONNX export of the model instead",
                )


def _same(reference: Array, native: Array) -> bool:
    """Whether two outputs are one: as float32 computations go; classes may differ where two scores nearly tie."""
    if reference.dtype.kind == "f":
        return same_values(reference, native)
    return float(np.mean(reference != native)) <= TIES


def _match(
    wanted: Sequence[str],
    references: Sequence[Mapping[str, Array]],
    candidates: Sequence[str],
    natives: Sequence[Mapping[str, Array]],
) -> dict[str, str]:
    shapes: dict[tuple[int, ...], list[str]] = {}
    for name in candidates:
        shapes.setdefault(natives[0][name].shape, []).append(name)
    names: dict[str, str] = {}
    taken: set[str] = set()
    for name in wanted:
        equal = [
            candidate
            for candidate in shapes.get(references[0][name].shape, [])
            if all(same_values(references[run][name], natives[run][candidate]) for run in range(RUNS))
        ]
        if not equal:
            continue
        free = [candidate for candidate in equal if candidate not in taken] or equal
        names[name] = name if name in equal else free[0]
        taken.add(names[name])
    return names


def _match_weights(reference: bytes, wanted: Sequence[str], program: PaddleProgram) -> dict[str, str]:
    model = onnx.load_from_string(reference)
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    parameters = {
        name: program.parameter(name)
        for operator in program.operators
        for name in operator.input_arg_names
        if program.is_parameter(name)
    }
    weights: dict[str, str] = {}
    for name in wanted:
        value = numpy_helper.to_array(values[name])
        equal = [
            candidate
            for candidate, parameter in parameters.items()
            if parameter.shape == value.shape and same_values(value, parameter)
        ]
        if equal:
            weights[name] = name if name in equal else equal[0]
    return weights
