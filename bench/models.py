"""Writes ResNet50 and MobileNetV2 with random weights, as ONNX and as Paddle programs. For cost, not for accuracy.

Nothing is downloaded: the architectures are paddle.vision's, the weights come from a fixed seed. What calibration costs
depends on how many values there are and how many of them are zero, so the activations have natural sizes: batch
normalisation takes its statistics from generated pictures, and is then folded into the convolutions.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from bench.cases import Array

NETWORKS = ("resnet50", "mobilenet_v2")
INPUT = "x"
_BATCHES, _BATCH = 2, 16
_SIZE = 224


def pictures(count: int, seed: int) -> list[Array]:
    """Generated pictures [1, 3, 224, 224], zero mean and unit variance: noise whose amplitude falls as 1/f.

    Photographs have that spectrum (Field 1987), so neighbouring values resemble each other as they do there.
    """
    generator = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(_SIZE)[:, None], np.fft.rfftfreq(_SIZE)[None, :]
    amplitude = 1 / np.maximum(np.hypot(rows, columns), 1 / _SIZE)
    result = []
    for _ in range(count):
        noise = generator.standard_normal((3, _SIZE, _SIZE // 2 + 1)) + 1j * generator.standard_normal(
            (3, _SIZE, _SIZE // 2 + 1)
        )
        picture = np.fft.irfft2(noise * amplitude, s=(_SIZE, _SIZE))
        picture = (picture - picture.mean()) / picture.std()
        result.append(np.ascontiguousarray(picture[None], dtype=np.float32))
    return result


def write(name: str, folder: Path) -> None:
    """Write `folder`/model.onnx and `folder`/inference.pdmodel with inference.pdiparams; call it in a fresh process."""
    # The older program format is what PaddleSlim and paddle2onnx read.
    os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112 - Paddle's own name
    import paddle
    import paddle2onnx

    folder.mkdir(parents=True, exist_ok=True)
    network = getattr(paddle.vision.models, name)(pretrained=False)
    _fill(network)
    _settle(network, paddle)
    network.eval()
    for parent in network.sublayers(include_self=True):
        _fold(parent, paddle)
    # Batch 1 and a fixed size: a convolution's cost is the same, and every tool gets its shapes.
    spec = [paddle.static.InputSpec([1, 3, _SIZE, _SIZE], "float32", INPUT)]
    paddle.jit.save(network, str(folder / "inference"), input_spec=spec)
    paddle2onnx.export(
        str(folder / "inference.pdmodel"),
        str(folder / "inference.pdiparams"),
        save_file=str(folder / "model.onnx"),
        opset_version=13,
        optimize_tool="None",  # any other choice installs packages at run time
    )


def zeros_after_relu(model: Path, samples: list[Array]) -> dict[str, float]:
    """The share of zeros in the output of every Relu or Clip of an ONNX file; raises ValueError for other values than
    natural ones: anything infinite, a largest magnitude outside [0.1, 100].
    """
    import onnx
    import onnxruntime as ort

    graph = onnx.load(model)
    names = [node.output[0] for node in graph.graph.node if node.op_type in ("Relu", "Clip")]
    del graph.graph.output[:]
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    runs = [session.run(names, {INPUT: sample}) for sample in samples]
    shares = {}
    for name, values in zip(names, zip(*runs, strict=True), strict=True):
        largest = max(float(np.abs(value).max()) for value in values)
        if not 0.1 <= largest <= 100:
            raise ValueError(f"{name} reaches {largest}")
        shares[name] = float(np.mean([np.mean(value == 0) for value in values]))
    return shares


def _fill(network: Any) -> None:
    """Weights by He et al. 2015, from numpy's generator: the same on every version of Paddle."""
    generator = np.random.default_rng(20)
    for parameter in network.parameters():
        shape = tuple(parameter.shape)
        if len(shape) == 4:
            scale = np.sqrt(2 / (shape[1] * shape[2] * shape[3]))
            parameter.set_value((generator.standard_normal(shape) * scale).astype(np.float32))
        elif len(shape) == 2:
            parameter.set_value((generator.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32))


def _settle(network: Any, paddle: Any) -> None:
    """Set every batch normalisation's statistics to those of generated pictures, and its scale and shift to a spread
    of values: with the same in all channels exactly half of each tensor would be zero.
    """
    generator = np.random.default_rng(21)
    layers = [layer for layer in network.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    for layer in layers:
        layer._momentum = 0.0  # the last batch's statistics are kept
        channels = layer.weight.shape
        layer.weight.set_value(generator.uniform(0.6, 1.4, channels).astype(np.float32))
        layer.bias.set_value(generator.normal(0, 0.3, channels).astype(np.float32))
    network.train()
    samples = pictures(_BATCHES * _BATCH, seed=22)
    with paddle.no_grad():
        for start in range(0, len(samples), _BATCH):
            network(paddle.to_tensor(np.concatenate(samples[start : start + _BATCH])))
    for layer in layers:
        # Few digits: the last ones depend on the machine's threads, and the file should not.
        for statistic in (layer._mean, layer._variance):
            statistic.set_value(statistic.numpy().astype(np.float16).astype(np.float32))


def _fold(parent: Any, paddle: Any) -> None:
    """Multiply every batch normalisation among the children of `parent` into the convolution before it."""
    convolution = None
    for name, layer in list(parent.named_children()):
        if isinstance(layer, paddle.nn.Conv2D):
            convolution = layer
        elif isinstance(layer, paddle.nn.BatchNorm2D) and convolution is not None:
            scale = layer.weight.numpy() / np.sqrt(layer._variance.numpy() + layer._epsilon)
            convolution.weight.set_value(convolution.weight.numpy() * scale[:, None, None, None])
            shift = layer.bias.numpy() - layer._mean.numpy() * scale
            if convolution.bias is None:
                convolution.bias = convolution.create_parameter(list(shift.shape), is_bias=True)
                convolution._bias_attr = None
            convolution.bias.set_value(shift)
            setattr(parent, name, paddle.nn.Identity())
