import pytest

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.training.act_config import ActConfig, Optimizer, parse
from quantfleet_worker.training.schedule import Constant, Cosine, Piecewise

EXAMPLE = """
Global:
  model_dir: ./ResNet50_vd_infer
  model_filename: inference.pdmodel
  params_filename: inference.pdiparams
  qat_batch_size: 32
Distillation:
  alpha: 1.0
  loss: soft_label
  node:
  - softmax_0.tmp_0
QuantAware:
  onnx_format: true
  use_pact: true
  activation_bits: 8
  weight_bits: 8
  activation_quantize_type: moving_average_abs_max
  weight_quantize_type: channel_wise_abs_max
  not_quant_pattern: [skip_quant]
  quantize_op_types: [conv2d, depthwise_conv2d, pool2d]
TrainConfig:
  epochs: 2
  train_iter: 5000
  eval_iter: 500
  logging_iter: 20
  learning_rate:
    type: CosineAnnealingDecay
    learning_rate: 0.015
    T_max: 8000
  optimizer_builder:
    optimizer: {type: Momentum, momentum: 0.8}
    weight_decay: 4.0e-05
  origin_metric: 0.765
  target_metric: 0.76
"""


def changed(old: str, new: str) -> str:
    assert old in EXAMPLE
    return EXAMPLE.replace(old, new)


def refusal(text: str) -> str:
    with pytest.raises(QuantfleetError) as caught:
        parse(text)
    assert caught.value.code is ErrorCode.JOB_INVALID
    return str(caught.value)


def test_a_file_in_the_form_of_paddleslims_examples_is_read_whole() -> None:
    config = parse(EXAMPLE)
    assert (config.alpha, config.loss, config.nodes) == (1.0, "soft_label", ("softmax_0.tmp_0",))
    assert (config.use_pact, config.moving_rate, config.op_types) == (True, 0.9, ("conv2d", "depthwise_conv2d"))
    assert config.schedule == Cosine(0.015, 8000)
    assert config.optimizer == Optimizer("Momentum", {"momentum": 0.8}, 4e-5)
    assert (config.eval_iter, config.logging_iter, config.batch_size) == (500, 20, 32)
    assert (config.origin_metric, config.target_metric) == (0.765, 0.76)


def test_keys_without_an_effect_are_named_with_the_reason() -> None:
    ignored = parse(EXAMPLE + "PTQ: {calibration_method: avg}\n").ignored
    for key in ("Global.model_dir", "Global.params_filename", "PTQ", "QuantAware.onnx_format", "pool2d"):
        assert any(key in line for line in ignored), key
    assert not any("qat_batch_size" in line for line in ignored)


def test_a_silent_file_means_what_paddleslim_means_by_it() -> None:
    config = parse("QuantAware:\n")
    assert (config.alpha, config.loss, config.nodes, config.op_types) == (1.0, "l2", (), ())
    assert (config.schedule, config.optimizer) == (Constant(0.02), Optimizer("SGD", {}, None))
    assert (config.eval_iter, config.logging_iter) == (1000, 10)


@pytest.mark.parametrize(
    ("train", "iterations"),
    [
        ("{train_iter: 50, epochs: 2}", 6),
        ("{train_iter: 5, epochs: 2}", 5),
        ("{train_iter: 50}", 50),
        ("{epochs: 7}", 21),
        ("{}", 300),
    ],
)
def test_iterations_are_those_of_train_iter_within_the_epochs(train: str, iterations: int) -> None:
    config = parse(f"QuantAware:\nTrainConfig: {train}\n")
    assert config.iterations(samples=13, batch_size=4) == iterations


def test_the_older_name_of_the_quantization_section_is_understood() -> None:
    assert parse(changed("QuantAware:", "Quantization:")).use_pact


def test_a_piecewise_learning_rate_is_read() -> None:
    rates = "QuantAware:\nTrainConfig: {learning_rate: {type: PiecewiseDecay, boundaries: [45], values: [0.5, 0.05]}}\n"
    assert parse(rates).schedule == Piecewise((45,), (0.5, 0.05))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("use_pact", "use_packt", "QuantAware.use_packt: unknown key (did you mean use_pact?)"),
        ("T_max", "T_min", "T_max: it lacks"),
        ("logging_iter", "log_iter", "TrainConfig.log_iter: unknown key (did you mean logging_iter?)"),
        ("momentum: 0.8", "momentun: 0.8", "optimizer.momentun: unknown key (did you mean momentum?)"),
        ("Distillation:", "Distilation:", "Distilation: unknown section (did you mean Distillation?)"),
        ("loss: soft_label", "loss: softlabel", "'softlabel' is not supported (did you mean soft_label?)"),
        ("use_pact: true", "use_pact: 1", "QuantAware.use_pact: expected true or false, found 1"),
        ("alpha: 1.0", "alpha: [1.0]", "Distillation.alpha: expected a number, found [1.0]"),
        ("4.0e-05", "4e-05", "TrainConfig.optimizer_builder.weight_decay: expected a number, found '4e-05' (YAML"),
        ("train_iter: 5000", "train_iter: -1", "TrainConfig.train_iter: expected a positive whole number, found -1"),
        ("weight_bits: 8", "weight_bits: 4", "QuantAware.weight_bits: 4 is not supported (INT8 has 8 bits)"),
        ("type: Momentum", "type: Momentom", "'Momentom' is not supported (did you mean Momentum?)"),
        ("CosineAnnealingDecay", "CosineDecay", "learning_rate.type: 'CosineDecay' is not supported (did you mean"),
        ("node:\n  - softmax_0.tmp_0", "node: [[a], [b]]", "Distillation.node: expected a list of names"),
        ("Global:", "Quantization: {}\nGlobal:", "Quantization: QuantAware is there too"),
        ("Global:", "Global: [\n", "it is not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_path_and_the_nearest_right_key(old: str, new: str, said: str) -> None:
    assert said in refusal(changed(old, new))


def test_a_file_without_quantization_is_refused() -> None:
    assert "QuantAware: the section lacks" in refusal("Distillation: {alpha: 1.0}\n")


def test_configurations_can_be_compared() -> None:
    assert parse(EXAMPLE) == parse(EXAMPLE)
    assert isinstance(parse(EXAMPLE), ActConfig)
