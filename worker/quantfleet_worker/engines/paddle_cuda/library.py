"""Paddle on this machine's GPU: whether it is there, and with which TensorRT. Not for loading a model."""

from importlib import metadata
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_program import load_paddle, said

DISTRIBUTION = "paddlepaddle-gpu"
_GUIDE = "make an environment for it as docs/guide/hardware.md says, and name its Python: --interpreter {engine}=python"


def version(engine: str) -> str:
    """The version of the installed paddlepaddle-gpu, without importing it. Raises QuantfleetError(ENGINE_MISSING)."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError as error:
        raise QuantfleetError(
            ErrorCode.ENGINE_MISSING, f"{DISTRIBUTION} is not installed here", _GUIDE.format(engine=engine)
        ) from error


def paddle_on_gpu(engine: str) -> Any:
    """The `paddle` module, untyped, with a GPU to compute on.

    Raises QuantfleetError: ENGINE_MISSING where it is not installed or was built without CUDA, ENGINE_FAILED where it
    sees no GPU.
    """
    version(engine)
    paddle = load_paddle()
    if not paddle.device.is_compiled_with_cuda():
        raise QuantfleetError(
            ErrorCode.ENGINE_MISSING,
            f"the paddle that is imported here, {paddle.__version__}, was built without CUDA",
            f"remove paddlepaddle from this environment, and install {DISTRIBUTION} again",
        )
    if paddle.device.cuda.device_count() == 0:
        raise QuantfleetError(
            ErrorCode.ENGINE_FAILED,
            "Paddle sees no GPU here",
            "nvidia-smi shows which GPUs and which driver the worker has",
        )
    return paddle


def tensorrt_version(paddle: Any) -> tuple[int, int, int]:
    """The version of the TensorRT that Paddle loads here.

    Raises QuantfleetError(ENGINE_MISSING) where Paddle was built without TensorRT, or its libraries are not found.
    """
    built_with = ".".join(map(str, paddle.inference.get_trt_compile_version()))
    if built_with == "0.0.0":
        raise QuantfleetError(
            ErrorCode.ENGINE_MISSING,
            f"Paddle {paddle.__version__} was built without TensorRT",
            f"install {DISTRIBUTION}==2.6.2 from PyPI, which was built with it",
        )
    try:
        major, minor, patch = paddle.inference.get_trt_runtime_version()
    except RuntimeError as error:
        raise QuantfleetError(
            ErrorCode.ENGINE_MISSING,
            f"Paddle does not find TensorRT: {said(error)}",
            f"put the folder with libnvinfer.so and libnvinfer_plugin.so of TensorRT {built_with} on the worker's "
            "LD_LIBRARY_PATH",
        ) from error
    return int(major), int(minor), int(patch)
