"""Reads the YAML of PaddleSlim's automatic compression (ACT), as far as it is about distillation. Not for running it.

The keys and their meaning are PaddleSlim's (`paddleslim/auto_compression/strategy_config.py`, 2.6); `Global` and `PTQ`
are what FastDeploy's one-click tool adds to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from quantfleet_worker.preprocessing.fields import nearest
from quantfleet_worker.training.act_fields import Section, invalid
from quantfleet_worker.training.schedule import Constant, Cosine, Piecewise, Schedule

OPTIMIZERS: Mapping[str, tuple[str, ...]] = {
    "SGD": (),
    "Momentum": ("momentum",),
    "Adam": ("beta1", "beta2", "epsilon"),
}
"""The optimizers of `optimizer_builder`, with the numbers that each takes."""
OP_TYPES = ("conv2d", "depthwise_conv2d", "mul", "matmul", "matmul_v2")
"""Operators with a weight that an INT8 program can carry; the other types of `quantize_op_types` are ignored."""
DEFAULT_EPOCHS = 100
"""What ACT trains where the file says neither `epochs` nor `train_iter`."""
SECTIONS = ("Global", "Distillation", "QuantAware", "Quantization", "PTQ", "TrainConfig")
_TEACHER = ("teacher_model_dir", "teacher_model_filename", "teacher_params_filename", "merge_feed")
_OF_THE_FORM = ("onnx_format", "for_tensorrt", "is_full_quantize", "window_size", "dtype", "not_quant_pattern")


@dataclass(frozen=True)
class Optimizer:
    """`numbers` are arguments of Paddle's optimizer class of that name; `weight_decay` is the factor of L2 decay."""

    name: str
    numbers: Mapping[str, float]
    weight_decay: float | None


@dataclass(frozen=True)
class ActConfig:
    """A distillation as the file asks for it. Where the file is silent, PaddleSlim's own defaults stand.

    `loss` is `l2` or `soft_label`. `nodes` are the tensors compared, () for the outputs of the last layers. `op_types`
    are those to quantize, () for all that run in INT8. `batch_size` is None where the file has none. `ignored` names
    the keys without an effect here, each with the reason.
    """

    alpha: float
    loss: str
    nodes: tuple[str, ...]
    use_pact: bool
    moving_rate: float
    op_types: tuple[str, ...]
    schedule: Schedule
    optimizer: Optimizer
    epochs: int | None
    train_iter: int | None
    eval_iter: int
    logging_iter: int
    target_metric: float | None
    origin_metric: float | None
    batch_size: int | None
    ignored: tuple[str, ...]

    def iterations(self, samples: int, batch_size: int) -> int:
        """How many iterations the training has: `train_iter`, and no more than `epochs` epochs of whole batches."""
        if self.epochs is None and self.train_iter is not None:
            return self.train_iter
        whole = (self.epochs or DEFAULT_EPOCHS) * (samples // batch_size)
        return whole if self.train_iter is None else min(whole, self.train_iter)


def parse(text: str) -> ActConfig:
    """The configuration of a YAML text.

    Raises QuantfleetError(JOB_INVALID) for an unknown key, a wrong type or what INT8 cannot have, naming its path.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise invalid("the file", f"it is not YAML: {error}") from error
    root = Section.of(document, "")
    for key in root.values:
        if key not in SECTIONS:
            raise invalid(key, "unknown section", nearest(key, SECTIONS))
    ignored: list[str] = []
    batch_size = _global(root.section("Global"), ignored)
    ignored += root.ignore(["PTQ"], "belongs to static quantization, which a job asks for by itself")
    alpha, loss, nodes = _distillation(root.section("Distillation"), ignored)
    use_pact, moving_rate, op_types = _quantization(_quantization_section(root), ignored)
    train = root.section("TrainConfig")
    config = ActConfig(
        alpha,
        loss,
        nodes,
        use_pact,
        moving_rate,
        op_types,
        _schedule(train),
        _optimizer(train.section("optimizer_builder")),
        train.count("epochs"),
        train.count("train_iter"),
        train.count("eval_iter", 1000) or 1000,
        train.count("logging_iter", 10) or 10,
        train.number("target_metric"),
        train.number("origin_metric"),
        batch_size,
        tuple(ignored),
    )
    train.finish()
    return config


def _global(section: Section, ignored: list[str]) -> int | None:
    batch_size = section.count("qat_batch_size")
    others = [key for key in section.values if key != "qat_batch_size"]
    ignored += section.ignore(others, "belongs to the script that read it; the job says the like")
    return batch_size


def _distillation(section: Section, ignored: list[str]) -> tuple[float, str, tuple[str, ...]]:
    ignored += section.ignore(_TEACHER, "the teacher is the FP32 model of the job")
    alpha = section.number("alpha", 1.0)
    loss = section.choice("loss", "l2", ("l2", "soft_label"))
    nodes = section.words("node")
    section.finish(_TEACHER)
    return 1.0 if alpha is None else alpha, loss, nodes


def _quantization_section(root: Section) -> Section:
    names = [name for name in ("QuantAware", "Quantization") if name in root.values]
    if not names:
        raise invalid("QuantAware", "the section lacks", "a distillation here trains a quantized student")
    if len(names) > 1:
        raise invalid("Quantization", "QuantAware is there too", "keep one of them: they are two names of one section")
    return root.section(names[0])


def _quantization(section: Section, ignored: list[str]) -> tuple[bool, float, tuple[str, ...]]:
    use_pact = section.boolean("use_pact", False)
    section.choice("activation_quantize_type", "moving_average_abs_max", ("moving_average_abs_max",))
    section.choice("weight_quantize_type", "channel_wise_abs_max", ("channel_wise_abs_max",))
    for key in ("weight_bits", "activation_bits"):
        if section.count(key, 8) != 8:
            raise invalid(section.where(key), f"{section.get(key)} is not supported", "INT8 has 8 bits")
    rate = section.number("moving_rate", 0.9)
    asked = section.words("quantize_op_types")
    ignored += section.ignore(_OF_THE_FORM, "the exported program has the one form that the INT8 engines take")
    section.finish(_OF_THE_FORM)
    for kind in asked:
        if kind not in OP_TYPES:
            ignored.append(f"{section.where('quantize_op_types')}: {kind} has no weight that runs in INT8 here")
    return use_pact, 0.9 if rate is None else rate, tuple(kind for kind in asked if kind in OP_TYPES)


def _schedule(train: Section) -> Schedule:
    value = train.get("learning_rate")
    if not isinstance(value, Mapping):
        return Constant(_needed(train.number("learning_rate", 0.02), train, "learning_rate"))
    section = train.section("learning_rate")
    kind = section.choice("type", "", ("CosineAnnealingDecay", "PiecewiseDecay"))
    if not kind:
        raise invalid(section.where("type"), "it lacks", "CosineAnnealingDecay or PiecewiseDecay")
    schedule: Schedule
    if kind == "CosineAnnealingDecay":
        rate = _needed(section.number("learning_rate"), section, "learning_rate")
        period = _needed(section.count("T_max"), section, "T_max")
        schedule = Cosine(rate, int(period), section.number("eta_min", 0.0) or 0.0)
    else:
        boundaries, rates = (_numbers(section, key) for key in ("boundaries", "values"))
        if len(rates) != len(boundaries) + 1:
            raise invalid(section.where("values"), f"{len(rates)} rates for {len(boundaries)} boundaries", "one more")
        schedule = Piecewise(tuple(map(int, boundaries)), rates)
    section.finish()
    return schedule


def _optimizer(section: Section) -> Optimizer:
    inner = section.section("optimizer")
    name = inner.choice("type", "SGD", OPTIMIZERS)
    numbers = {key: value for key in OPTIMIZERS[name] if (value := inner.number(key)) is not None}
    weight_decay = section.number("weight_decay")
    inner.finish()
    section.finish()
    return Optimizer(name, numbers, weight_decay)


def _needed(value: float | None, section: Section, key: str) -> float:
    if value is None:
        raise invalid(section.where(key), "it lacks", "give a number")
    return value


def _numbers(section: Section, key: str) -> tuple[float, ...]:
    value: Any = section.get(key)
    if not isinstance(value, list) or not value:
        raise invalid(section.where(key), f"expected a list of numbers, found {value!r}")
    inner = Section(section.where(key), {str(place): item for place, item in enumerate(value)})
    return tuple(_needed(inner.number(name), inner, name) for name in inner.values)
