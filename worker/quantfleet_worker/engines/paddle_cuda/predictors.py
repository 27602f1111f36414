"""Predictors of Paddle Inference on a GPU, configured by a plan. Not for feeding them."""

import gc
from collections.abc import Iterable
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_files import PaddleFiles
from quantfleet_worker.models.paddle_program import said

from ..feeds import Inputs
from .model import Shapes
from .plan import MIN_SUBGRAPH_SIZE, WORKSPACE_BYTES, Plan
from .workplace import Workplace

_POOL_MEBIBYTES = 100
_GPU = 0
"""The only one that the process sees."""


def configured(paddle: Any, program: str, parameters: str, precision: str, stream: Any) -> Any:
    """A configuration for the GPU; `precision` is a name of Paddle's `PrecisionType`, `stream` one of Paddle's."""
    inference = paddle.inference
    config = inference.Config(program, parameters)
    config.enable_use_gpu(_POOL_MEBIBYTES, _GPU, getattr(inference.PrecisionType, precision))
    config.set_exec_stream(stream)
    config.disable_glog_info()
    return config


def with_tensorrt(paddle: Any, workplace: Workplace, plan: Plan, batch: int, stream: Any, *, keep: bool) -> Any:
    """A configuration that gives TensorRT what it can. `keep` has Paddle look for engines, and leave them, there."""
    config = configured(paddle, str(workplace.program), str(workplace.parameters), "Float32", stream)
    config.enable_tensorrt_engine(
        workspace_size=WORKSPACE_BYTES,
        max_batch_size=batch,
        min_subgraph_size=MIN_SUBGRAPH_SIZE,
        precision_mode=getattr(paddle.inference.PrecisionType, plan.mode),
        use_static=keep,
        use_calib_mode=plan.calibrated,
    )
    # Without known shapes, Paddle's passes leave every matrix product out (trt_map_ops_to_matrix_multiply_pass.cc).
    config.enable_tuned_tensorrt_dynamic_shape(str(workplace.shapes), True)
    config.enable_save_optim_model(True)
    config.enable_tensorrt_inspector(True)
    return config


def collect_shapes(paddle: Any, workplace: Workplace, inputs: Inputs, shapes: Iterable[Shapes]) -> None:
    """Have Paddle note every tensor's shape over runs of zeros, on the CPU; TensorRT prepares for the most frequent.

    Raises QuantfleetError(ENGINE_FAILED).
    """
    config = paddle.inference.Config(str(workplace.program), str(workplace.parameters))
    config.disable_gpu()
    config.disable_glog_info()
    config.collect_shape_range_info(str(workplace.shapes))
    predictor = create(paddle, config, workplace.program.name)
    handles = {name: predictor.get_input_handle(name) for name in predictor.get_input_names()}
    failure: str | None = None
    for item in shapes:
        for name in handles:
            handles[name].copy_from_cpu(np.zeros(item[name], inputs[name][1]))
        try:
            predictor.run()
        except Exception as error:  # Paddle raises whatever its C++ core meets: there is no common class
            failure = f"Paddle cannot run the model on inputs of shapes {dict(item)}: {said(error)}"
            break
    # Paddle writes the file when the predictor ends, and ends the process where the folder is gone by then: nothing may
    # hold it any longer, an exception's traceback either.
    del handles, predictor
    gc.collect()
    if failure is not None:
        raise QuantfleetError(ErrorCode.ENGINE_FAILED, failure, "correct the job's input_shapes")


def create(paddle: Any, config: Any, name: str) -> Any:
    """The predictor of a configuration. Raises QuantfleetError(MODEL_UNREADABLE)."""
    try:
        return paddle.inference.create_predictor(config)
    except Exception as error:  # Paddle raises whatever its C++ core meets: there is no common class
        raise QuantfleetError(
            ErrorCode.MODEL_UNREADABLE,
            f"Paddle cannot load {name}: {said(error)}",
            "check that the program and its parameter file are complete and belong together",
        ) from error


def directly(paddle: Any, files: PaddleFiles, precision: str, stream: Any) -> Any:
    """A configuration for Paddle's own kernels."""
    config = configured(paddle, str(files.program), str(files.parameters), precision, stream)
    config.enable_memory_optim()
    return config
