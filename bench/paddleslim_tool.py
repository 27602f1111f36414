"""PaddleSlim's `quant_post_static`, and Paddle Inference to run what it writes. Not ours: nothing here is tuned.

https://github.com/PaddlePaddle/PaddleSlim, docs/zh_cn/api_cn/static/quant/quantization_api.rst
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench.cases import Array
from bench.figures import Outputs

PROGRAM, PARAMETERS = "inference.pdmodel", "inference.pdiparams"


class Samples:
    """A map-style data set of arrays without their batch dimension, as `paddle.io.DataLoader` takes it."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self._arrays = arrays

    def __getitem__(self, index: int) -> tuple[Array]:
        return (self._arrays[index][0],)

    def __len__(self) -> int:
        return len(self._arrays)


class Feeds:
    """What `PostTrainingQuantization` takes for a loader: called, it hands out feeds. `paddle.io.DataLoader` fetches
    ahead in a thread, whose time could not be told from the calibrator's.
    """

    def __init__(self, input_name: str, samples: Sequence[Array]) -> None:
        self._input_name = input_name
        self._samples = samples

    def __call__(self) -> Iterator[dict[str, Array]]:
        """A pass over the samples."""
        return ({self._input_name: sample} for sample in self._samples)


def calibrate(model: Path, input_name: str, samples: Sequence[Array], algorithm: str) -> None:
    """Scales of the whole program, and the program with its quantize nodes, not saved."""
    paddle = _paddle()
    paddle.enable_static()
    paddle.static.quantization.PostTrainingQuantization(
        paddle.static.Executor(paddle.CPUPlace()),
        str(model),
        model_filename=PROGRAM,
        params_filename=PARAMETERS,
        data_loader=Feeds(input_name, samples),
        batch_nums=len(samples),
        batch_size=1,
        algo=algorithm,
        quantizable_op_type=["conv2d", "depthwise_conv2d", "mul", "matmul", "matmul_v2"],
        weight_quantize_type="channel_wise_abs_max",
        onnx_format=True,
    ).quantize()


def quantize(
    model: Path,
    input_name: str,
    arrays: Sequence[Array],
    target: Path,
    algorithm: str,
    *,
    bias_correction: bool = False,
) -> None:
    """Write the quantized program into the folder `target`; batch 1, all other arguments as they come."""
    paddle = _paddle()
    from paddleslim.quant import quant_post_static

    paddle.enable_static()
    place = paddle.CPUPlace()
    fed = paddle.static.data(input_name, [None, *arrays[0].shape[1:]], "float32")
    samples: Any = Samples(arrays)  # a data set by its methods
    loader = paddle.io.DataLoader(
        samples, feed_list=[fed], places=[place], batch_size=1, shuffle=False, return_list=False
    )
    quant_post_static(
        paddle.static.Executor(place),
        str(model),
        str(target),
        data_loader=loader,
        model_filename=PROGRAM,
        params_filename=PARAMETERS,
        save_model_filename=PROGRAM,
        save_params_filename=PARAMETERS,
        batch_size=1,
        batch_nums=len(arrays),
        algo=algorithm,
        bias_correction=bias_correction,
    )


def predict(model: Path, arrays: Sequence[Array], *, precision: str) -> Outputs:
    """The first output for every array, one at a time, one thread.

    `precision`: fp32 (oneDNN); int8 (oneDNN, every operator that Paddle chooses); int8-float-fc (the fully connected
    layer in float, or its logits become eight bits); simulated (quantize and dequantize nodes run as they stand).
    """
    forward = plain(model, precision)
    return np.concatenate([forward(array).reshape(1, -1) for array in arrays])


def plain(model: Path, precision: str = "fp32") -> Callable[[Array], Outputs]:
    """Paddle Inference on one thread; `precision` as in `predict`."""
    inference = _paddle().inference
    config = inference.Config(str(model / PROGRAM), str(model / PARAMETERS))
    config.disable_gpu()
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(1)
    if precision == "simulated":
        config.switch_ir_optim(False)
    else:
        config.enable_mkldnn()
    if precision == "int8":
        config.enable_mkldnn_int8()
    elif precision == "int8-float-fc":
        config.enable_mkldnn_int8({"fused_conv2d", "conv2d", "depthwise_conv2d", "pool2d"})
    predictor = inference.create_predictor(config)
    name = predictor.get_input_names()[0]
    handle, output = predictor.get_input_handle(name), predictor.get_output_handle(predictor.get_output_names()[0])

    def forward(array: Array) -> Outputs:
        handle.copy_from_cpu(array)
        predictor.run()
        result: Outputs = output.copy_to_cpu()
        return result

    return forward


def _paddle() -> Any:
    """Paddle, which reads the flag once, when it is first imported: PaddleSlim 2.6 knows the older programs only."""
    os.environ["FLAGS_enable_pir_api"] = "0"  # noqa: SIM112 - Paddle's own name
    import paddle
    import paddle.inference
    import paddle.static.quantization

    return paddle
