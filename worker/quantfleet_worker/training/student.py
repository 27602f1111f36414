"""The training program of a distillation: teacher and fake-quantized student in one. Not for the loop that runs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_program import (
    CONVOLUTIONS,
    PRODUCTS,
    Array,
    PaddleProgram,
    load_paddle,
    old_programs,
)
from quantfleet_worker.preprocessing.fields import nearest
from quantfleet_worker.quantizers.paddle_ranges import unsigned
from quantfleet_worker.training.act_config import ActConfig, Optimizer
from quantfleet_worker.training.codes import U8_BITS, U8_LEVELS
from quantfleet_worker.training.pact import CLIPPED, insert_pact
from quantfleet_worker.training.slim import load_slim, quiet

TEACHER = "teacher_"
"""How PaddleSlim's `merge` prefixes the teacher's names."""
SCALE = "@scale"
"""How Paddle's passes name the moving average of a tensor's largest magnitude."""
QUANTIZED = ".quantized"
"""How they name what they quantize."""
_MOVING = ("InState", "InAccum")
"""The slots of the variables that a moving average is computed from."""


@dataclass(frozen=True)
class Student:
    """One process's copy of the training program; `inference` is its evaluating twin, with the same parameters."""

    program: PaddleProgram
    inference: PaddleProgram
    loss: str
    rate: str

    def step(self, feeds: Mapping[str, Array], rate: float, seed: int) -> float:
        """Run one iteration at a learning rate; returns the loss before it. `seed` is of the model's own dropout."""
        paddle = load_paddle()
        paddle.seed(seed)
        self._set(self.rate, np.array([rate], np.float32))
        return float(self.program.run(feeds, [self.loss])[self.loss])

    def outputs(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """What the fake-quantized network computes, by the model's output names."""
        for operator in self.inference.operators:
            if operator.type == "quantize_linear" and self.inference.is_parameter(operator.input("X")[0]):
                # The scales in the scope are those before the last step of the optimizer.
                weight, axis = self.program.parameter(operator.input("X")[0]), operator.attr("quant_axis")
                others = tuple(other for other in range(weight.ndim) if other != axis)
                self._set(operator.input("Scale")[0], np.abs(weight).max(axis=others))
        return self.inference.run(feeds, self.inference.fetches)

    def state(self) -> dict[str, Array]:
        """Everything that an iteration changes: weights, the optimizer's accumulators, the quantizers' averages."""
        return {key: self.program.parameter(name) for key, name in self._changing().items()}

    def restore(self, state: Mapping[str, Array]) -> None:
        """Set what `state` returned. Raises QuantfleetError(MODEL_UNREADABLE) where that is of another program."""
        changing = self._changing()
        if changing.keys() != state.keys():
            differing = ", ".join(sorted(changing.keys() ^ state.keys())[:5])
            raise QuantfleetError(
                ErrorCode.MODEL_UNREADABLE,
                f"the checkpoint and the training program differ in {differing}",
                "train all intervals with one version of paddlepaddle and of quantfleet",
            )
        for key, name in changing.items():
            self._set(name, state[key])

    def _changing(self) -> dict[str, str]:
        """The variables of the state by the keys that they have in it."""
        program = self.program
        averages: dict[str, str] = {}
        for operator in program.operators:
            # Paddle's passes number these variables in an order that differs from build to build.
            for slot in _MOVING:
                if slot in operator.input_names:
                    averages.update((name, f"{operator.input('X')[0]}@{slot}") for name in operator.input(slot))
        written: set[str] = {name for operator in program.operators for name in operator.output_arg_names}
        keys = {name: averages.get(name, name) for name in written if program.is_parameter(name)}
        return {key: name for name, key in sorted(keys.items()) if not key.startswith(TEACHER)}

    def _set(self, name: str, values: Array) -> None:
        self.program.scope.find_var(name).get_tensor().set(values, load_paddle().CPUPlace())


def build(model: PaddleProgram, teacher: PaddleProgram, config: ActConfig) -> Student:
    """The training program of a normalised model; `teacher` is a second copy. Both are taken over.

    Raises QuantfleetError: ENGINE_MISSING, JOB_INVALID for a node that the model lacks, MODEL_UNSUPPORTED where there
    is nothing to quantize.
    """
    paddle, place = load_paddle(), load_paddle().CPUPlace()
    recover, dist = load_slim("common.recover_program"), load_slim("dist")
    kinds, nonnegative = quantized_kinds(model, config.op_types), unsigned(model)
    with old_programs(), paddle.static.scope_guard(model.scope), paddle.utils.unique_name.guard(), quiet():
        nodes = _nodes(model, config.nodes)
        trainable = recover.recover_inference_program(model.program, paddle.static.Program())
        startup = paddle.static.Program()
        if config.use_pact:
            with paddle.static.program_guard(trainable, startup):
                insert_pact(trainable, kinds)
        evaluating = trainable.clone(for_test=True)
        training = trainable._prune(nodes)
        _merge_teacher(training, teacher, nodes)
        # Paddle names from 0 what a program makes, whatever a loaded program holds already: a loss's `tmp_0` would
        # overwrite the model's.
        training._name_generator = paddle.base.unique_name.UniqueNameGenerator("distillation.")
        loss_of = getattr(dist, config.loss)
        with paddle.static.program_guard(training, startup):
            optimizer = _optimizer(config.optimizer)
            loss: Any = sum(loss_of(TEACHER + node, node) * config.alpha for node in nodes)
            loss.stop_gradient = False
            optimizer.minimize(loss)
            rate = optimizer._global_learning_rate(training).name
        settings = {"quantize_op_types": list(kinds), "moving_rate": config.moving_rate, "onnx_format": True}
        quant_aware = load_slim("quant").quant_aware
        evaluating = quant_aware(evaluating, place, settings, scope=model.scope, for_test=True)
        training = quant_aware(training, place, settings, scope=model.scope, return_program=True)
        model.executor.run(startup)
        student = Student(
            PaddleProgram(training, model.scope, model.executor, model.feeds, (loss.name,)),
            PaddleProgram(evaluating, model.scope, model.executor, model.feeds, model.fetches),
            loss.name,
            rate,
        )
        for program in (student.program, student.inference):
            _count_codes(program, nonnegative)
        _begin_averages(student)
    return student


def quantized_kinds(model: PaddleProgram, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The operator types to fake-quantize: those that the INT8 program will have in INT8, of those asked for.

    A matrix product of a convolutional model is its head, which stays in float there. () asks for all. Raises
    QuantfleetError(MODEL_UNSUPPORTED) where none is left.
    """
    present = {operator.type for operator in model.operators}
    kinds = CONVOLUTIONS if present & set(CONVOLUTIONS) else PRODUCTS
    found = tuple(kind for kind in kinds if kind in present and (not asked or kind in asked))
    if not found:
        raise QuantfleetError(
            ErrorCode.MODEL_UNSUPPORTED,
            f"the model has no operator to train in INT8: of {', '.join(kinds)}, it and quantize_op_types share none",
            "leave quantize_op_types out, or name types that the model has",
        )
    return found


def learned_ranges(state: Mapping[str, Array]) -> dict[str, float]:
    """The largest magnitude of each activation that a training followed, by the model's own names."""
    scales = {
        name.removesuffix(SCALE): float(values.reshape(-1)[0])
        for name, values in state.items()
        if name.endswith(SCALE) and values.size == 1
    }
    clipped = {name.removesuffix(CLIPPED): scale for name, scale in scales.items() if name.endswith(CLIPPED)}
    return scales | clipped


def _nodes(model: PaddleProgram, asked: tuple[str, ...]) -> list[str]:
    names = {name for operator in model.operators for name in operator.output_arg_names}
    for name in asked:
        if name not in names:
            raise QuantfleetError(
                ErrorCode.JOB_INVALID,
                f"ACT configuration: Distillation.node: the model computes no tensor {name!r}",
                nearest(name, names),
            )
    return list(asked) or [value.name() for value in load_slim("common.patterns").find_final_nodes(model.program)]


def _merge_teacher(training: Any, teacher: PaddleProgram, nodes: list[str]) -> None:
    paddle = load_paddle()
    load_slim("common.recover_program")._remove_fetch_node(teacher.program)
    same = {name: name for name in teacher.feeds}
    pruned = teacher.program._prune(nodes)
    load_slim("dist").merge(pruned, training, same, paddle.CPUPlace(), teacher_scope=teacher.scope)
    for operator in training.global_block().ops:
        if any(name.startswith(TEACHER) for name in operator.output_arg_names):
            # `merge` marks it with an attribute that the quantization of products does not read.
            operator._set_attr("op_namescope", "/skip_quant/")


def _optimizer(wanted: Optimizer) -> Any:
    kind = getattr(load_paddle().optimizer, wanted.name)
    return kind(learning_rate=0.0, weight_decay=wanted.weight_decay, **wanted.numbers)


def _count_codes(program: PaddleProgram, nonnegative: set[str]) -> None:
    """Give the tensors that oneDNN stores as u8 the 255 levels that they have there, where Paddle simulates 127."""
    for operator in program.operators:
        if operator.type in ("quantize_linear", "dequantize_linear"):
            tensor = operator.input("X")[0].removesuffix(QUANTIZED).removesuffix(CLIPPED)
            if tensor in nonnegative:
                for attribute, value in (("bit_length", U8_BITS), ("qmin", -U8_LEVELS), ("qmax", U8_LEVELS)):
                    operator._set_attr(attribute, value)


def _begin_averages(student: Student) -> None:
    # Paddle begins a moving average as if the number 1 had been seen before. Without that the first iteration's range
    # is its own, and neither clips nor coarsens.
    for key, name in student._changing().items():
        if key.endswith(_MOVING):
            student._set(name, np.zeros(1, np.float32))
