"""Paddle Inference on a CPU with oneDNN: engine `paddle-cpu`. Not for converting or quantizing models.

Paddle's graph passes and oneDNN write to standard output; the process that loads a model keeps it off its data pipe.
"""

import ctypes
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.engines.base import Array, Engine, LoadOptions, NodeCounts, Session
from quantfleet_worker.engines.onednn_log import capture, count
from quantfleet_worker.models.paddle_files import PaddleFiles, Signature, find_files, read_signature
from quantfleet_worker.models.paddle_program import PRODUCTS, PaddleProgram, load_paddle, said
from quantfleet_worker.models.paddle_quantization import Quantization, QuantizedLayers, integer_filters

NO_SATURATION_FLAGS = frozenset({"avx512_vnni", "avx_vnni"})
CONVOLUTION_TYPES = frozenset({"conv2d", "depthwise_conv2d", "fused_conv2d"})
PASSING_TYPES = frozenset({"pool2d", "concat", "nearest_interp", "nearest_interp_v2"})
"""Operators between convolutions that keep INT8 data as it is."""
PRODUCT_TYPES = frozenset({"fc", "fused_matmul", "matmul", "matmul_v2"})
"""Paddle refuses to hear of `mul` here: its passes make that an `fc`."""


class PaddleCpu(Engine):
    """Paddle Inference with oneDNN, FP32 and INT8."""

    name = "paddle-cpu"
    runtime = "paddle"
    kind = "cpu"
    precisions = ("fp32", "int8")
    distribution = "paddlepaddle"

    def version(self) -> str:
        """The version of the installed paddlepaddle. Raises QuantfleetError(ENGINE_MISSING)."""
        try:
            return metadata.version(self.distribution)
        except metadata.PackageNotFoundError as error:
            raise QuantfleetError(
                ErrorCode.ENGINE_MISSING, f"{self.distribution} is not installed", "pip install 'quantfleet[paddle]'"
            ) from error

    def load(self, model: Path, options: LoadOptions) -> Session:
        """Load a directory with `.pdmodel` or `.json` and `.pdiparams`.

        Precision int8 takes a statically quantized program: what `quantizers.paddle_onednn`, PaddleSlim and
        `paddle.static.quantization` write, in both of their formats, and what `Quant2Int8OnednnPass` made of it.
        Raises QuantfleetError(MODEL_UNSUPPORTED) for any other, and for those that Paddle would compute wrongly.
        """
        self.version()
        files = find_files(model)
        signature = read_signature(files)
        if reason := _why_not(files, signature.layers, options.precision):
            problem, todo = reason
            raise QuantfleetError(ErrorCode.MODEL_UNSUPPORTED, f"{files.program} {problem}", todo)
        return PaddleSession(files, signature, options)

    def preferred_form(self, isa: tuple[str, ...], precision: str) -> str:  # noqa: ARG002 - there is but one
        """`s8-symmetric` where dot products of bytes do not saturate (VNNI, ARM), else `s8-symmetric-headroom`."""
        x86 = platform.machine().lower() in ("x86_64", "amd64")
        return "s8-symmetric-headroom" if x86 and not NO_SATURATION_FLAGS & set(isa) else "s8-symmetric"

    def int8_warning(self, isa: tuple[str, ...]) -> str:
        """What a user is to know of INT8 on a CPU with these flags (as in /proc/cpuinfo); empty where it has VNNI.

        The ratios with AVX-512 are those of Paddle's own page on quantized models, those without were measured on AVX2.
        """
        if NO_SATURATION_FLAGS & set(isa):
            return ""
        if "avx512f" in isa:
            return (
                "this CPU has AVX-512 without VNNI: expect INT8 to be about 1.5 times as fast as FP32; "
                "with avx512_vnni it is 3 to 3.7 times as fast"
            )
        return (
            "this CPU has neither AVX-512 nor VNNI: expect INT8 to be 1.0 to 1.7 times as fast as FP32, and small "
            "networks to gain nothing; with avx512_vnni it is 3 to 3.7 times as fast"
        )


class PaddleSession(Session):
    """A Paddle Inference predictor."""

    def __init__(self, files: PaddleFiles, signature: Signature, options: LoadOptions) -> None:
        inference = load_paddle().inference
        config = inference.Config(str(files.program), str(files.parameters))
        config.disable_gpu()
        config.disable_glog_info()
        config.enable_mkldnn()
        config.set_cpu_math_library_num_threads(options.threads)
        if not files.pir:  # with it, Paddle 3.3 does not load a PIR program
            config.enable_memory_optim()
        if signature.layers.how is Quantization.CONVERTED:
            config.switch_ir_optim(False)  # its graph is what the passes would make of it, INT8 included
        elif options.precision == "int8":
            # This pass would make one float operator of several fully connected layers before they are quantized.
            config.pass_builder().delete_pass("repeated_fc_relu_fuse_pass")
            # The names are those after fusion. A product in the set is quantized even where its weight is in float.
            quantized = {kind for _, kind in signature.layers.quantized}
            products = PRODUCT_TYPES if quantized.intersection(PRODUCTS) else frozenset[str]()
            config.enable_mkldnn_int8({*CONVOLUTION_TYPES, *PASSING_TYPES, *products})
        try:
            self._predictor = inference.create_predictor(config)
        except Exception as error:  # Paddle raises whatever its C++ core meets: there is no common class
            raise QuantfleetError(
                ErrorCode.MODEL_UNREADABLE,
                f"Paddle cannot load {files.program}: {said(error)}",
                "check that the program and its parameter file are complete and belong together",
            ) from error
        self._config = config
        self._signature = signature
        names = self._predictor.get_input_names()
        self._inputs = {name: signature.inputs[name] for name in names}
        self._input_handles = {name: self._predictor.get_input_handle(name) for name in names}
        self._output_names = list(self._predictor.get_output_names())
        self._output_handles = [self._predictor.get_output_handle(name) for name in self._output_names]
        self._bound: list[tuple[Any, Array]] = []
        self._results: list[Array] = []

    @property
    def inputs(self) -> Mapping[str, tuple[tuple[int | None, ...], np.dtype[Any]]]:
        """See Session."""
        return self._inputs

    def bind(self, feeds: Mapping[str, Array]) -> None:
        """See Session. Raises QuantfleetError(ENGINE_FAILED) for other inputs than the model's, or other shapes."""
        if feeds.keys() != self._inputs.keys():
            raise _misfit(f"inputs are {', '.join(self._inputs)}; given are {', '.join(feeds) or 'none'}")
        for name, (shape, dtype) in self._inputs.items():
            given = feeds[name]
            # Paddle takes other sizes than the declared ones where the operators do, so only the rank is checked here.
            if given.ndim != len(shape) or given.dtype != dtype:
                raise _misfit(
                    f"input {name} is {dtype} {list(shape)} (None: any); given is {given.dtype} {list(given.shape)}"
                )
        self._bound = [(handle, feeds[name]) for name, handle in self._input_handles.items()]

    def run_bound(self) -> None:
        """See Session. Raises QuantfleetError(ENGINE_FAILED)."""
        try:
            for handle, values in self._bound:
                handle.copy_from_cpu(values)
            self._predictor.run()
            self._results = [handle.copy_to_cpu() for handle in self._output_handles]
        except Exception as error:  # Paddle raises whatever its C++ core meets: there is no common class
            given = ", ".join(
                f"{name} {list(values.shape)} (declared {list(self._inputs[name][0])})"
                for name, (_, values) in zip(self._inputs, self._bound, strict=True)
            )
            raise _misfit(f"Paddle cannot run the model on {given}: {said(error)}") from error

    def outputs(self) -> dict[str, Array]:
        """See Session."""
        return dict(zip(self._output_names, self._results, strict=True))

    def settings_in_effect(self) -> dict[str, str]:
        """What Paddle's configuration reports of threads and oneDNN, and the ISA that oneDNN reports."""
        config = self._config
        onednn = ctypes.CDLL("libdnnl.so.3")
        onednn.dnnl_cpu_isa2str.restype = ctypes.c_char_p
        return {
            "threads": str(config.cpu_math_library_num_threads()),
            "onednn": str(config.mkldnn_enabled()).lower(),
            "onednn_int8": str(config.mkldnn_int8_enabled()).lower(),
            "onednn_isa": onednn.dnnl_cpu_isa2str(onednn.dnnl_get_effective_cpu_isa()).decode(),
            "ir_optim": str(config.ir_optim()).lower(),
        }

    def node_counts(self) -> NodeCounts:
        """See Session; from oneDNN's own log of one run of the bound batch, or of zeros where nothing is bound."""
        if not self._bound:
            # A dimension that the model leaves open is 1 here; only the batch dimension may be open then.
            self.bind(
                {name: np.zeros([size or 1 for size in shape], dtype) for name, (shape, dtype) in self._inputs.items()}
            )
        self.run_bound()  # the first run also prepares weights
        with capture() as lines:
            self.run_bound()
        return count(lines, self._signature.layers)


def _why_not(files: PaddleFiles, layers: QuantizedLayers, precision: str) -> tuple[str, str] | None:
    """Why this engine cannot run a program as the program means itself, and what to do; None where it can."""
    slim = "quantize the float model with PaddleSlim's quant_post_static, or give the float model"
    if files.pir and layers.how is not Quantization.NONE:
        return (
            "is a quantized PIR program, which Paddle Inference does not run on a CPU",
            "export the quantized model as .pdmodel (FLAGS_enable_pir_api=0)",
        )
    if layers.how is Quantization.DYNAMIC:
        return "is quantized dynamically (only its weights have scales): only Paddle Lite runs such a model", slim
    if precision != "int8":
        return None
    if layers.how is Quantization.LAYERED:
        return "comes from paddle.quantization, of whose programs Paddle Inference computes wrong INT8 values", slim
    if layers.how is Quantization.CONVERTED and integer_filters(PaddleProgram.load(files.directory, files.stem)):
        return (
            "is converted for oneDNN with integer filters, of which Paddle Inference 3 computes wrong values",
            "give the PaddleSlim model from before the conversion: this engine converts it when it loads it",
        )
    if not layers.quantized:
        return (
            "has no quantized operator to run in INT8",
            "quantize a .pdmodel program first; Paddle runs PIR (.json) programs in FP32 only",
        )
    return None


def _misfit(problem: str) -> QuantfleetError:
    return QuantfleetError(ErrorCode.ENGINE_FAILED, problem, "give arrays of the model's shapes and dtypes")


ENGINE = PaddleCpu()
