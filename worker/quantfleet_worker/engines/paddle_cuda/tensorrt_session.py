"""A model that Paddle gives to TensorRT, ready to run. Not for deciding how: see `plan`."""

from collections.abc import Mapping
from importlib import metadata
from typing import Any

from quantfleet_domain.calibration.tensorrt_cache import FILE, CalibrationCache
from quantfleet_domain.errors import ErrorCode, QuantfleetError

from ..base import LoadOptions, NodeCounts
from ..trt.layers import Layer, precisions
from . import predictors
from .counts import count, engine_shares, read_engine_info
from .model import PaddleModel, Shapes
from .plan import Form, Plan
from .program import OptimizedProgram, behind_biases, read_optimized
from .session import GpuSession
from .tables import tables_for, without_table
from .workplace import Workplace


class TensorRtSession(GpuSession):
    """`tensorrt` is the version of the library that Paddle has loaded."""

    def __init__(
        self, paddle: Any, model: PaddleModel, plan: Plan, options: LoadOptions, tensorrt: tuple[int, int, int]
    ) -> None:
        super().__init__(paddle, model.signature.inputs, model.expected(options.shapes), pinned=plan.pinned)
        self._model = model
        self._plan = plan
        self._batch = options.batch
        self._kept = options.kept
        self._tensorrt = tensorrt
        self._program = OptimizedProgram((), ())
        self._layers: tuple[Layer, ...] = ()
        self._from = ""
        self._unscaled: tuple[str, ...] = ()

    def prepare(self, shapes: Shapes) -> tuple[Any, Any]:
        """See GpuSession. Raises QuantfleetError(ENGINE_FAILED) where TensorRT would not do what is asked."""
        workplace = Workplace(self._model, self._facts(shapes), self._kept)
        if not workplace.shapes.exists():
            alone = {name: (1, *shape[1:]) for name, shape in shapes.items()}
            predictors.collect_shapes(self.paddle, workplace, self._expected, (alone, shapes, shapes))
        if self._model.form is Form.TABLE:
            self._write_tables(workplace)
        before = workplace.engines()
        config, predictor = self._built(workplace, keep=self._kept is not None)
        self._program = read_optimized(workplace.optimized())
        self._require_engines()
        texts = (workplace.engine_info(subgraph.engine_key) for subgraph in self._program.subgraphs)
        self._layers = tuple(layer for text in texts if text for layer in read_engine_info(text))
        kept = before and workplace.engines() == before  # Paddle builds anew, and overwrites, what does not load
        self._from = "kept from an earlier run" if kept else "built in this run"
        return config, predictor

    def settings_in_effect(self) -> dict[str, str]:
        """Besides, what went into TensorRT, what its layers compute in, and where the engines are from."""
        told = {
            **super().settings_in_effect(),
            **engine_shares(self._program),
            "layers": precisions(self._layers),
            "engines": self._from,
        }
        if self._unscaled:
            told["tensors_without_scale"] = str(len(self._unscaled))
        return told

    def node_counts(self) -> NodeCounts:
        """From the program that Paddle's passes left, and what TensorRT's inspector says of the engines in it."""
        self.bind_zeros()
        biased = behind_biases(self._model.files.program.read_bytes())
        return count(self._program, self._layers, self._model.meant, biased)

    def _facts(self, shapes: Shapes) -> Mapping[str, str]:
        return {
            "gpu": str(self._device),
            "paddle": str(self.paddle.__version__),
            "tensorrt": ".".join(map(str, self._tensorrt)),
            "model": self._model.digest(),
            "mode": self._plan.mode,
            "calibrated": str(self._plan.calibrated),
            "shapes": repr(sorted(shapes.items())),
            "quantfleet": metadata.version("quantfleet"),  # which writes the tables
        }

    def _built(self, workplace: Workplace, *, keep: bool) -> tuple[Any, Any]:
        config = predictors.with_tensorrt(self.paddle, workplace, self._plan, self._batch, self.stream, keep=keep)
        return config, predictors.create(self.paddle, config, workplace.program.name)

    def _write_tables(self, workplace: Workplace) -> None:
        """Give each engine its table. Paddle's passes have to run for the engines' names: without tables they build
        nothing yet."""
        workplace.set_tables({})
        self._built(workplace, keep=False)
        program = read_optimized(workplace.optimized())
        path = self._model.files.directory / FILE
        major, minor, patch = self._tensorrt
        version = major * 1000 + minor * 100 + patch  # NvInferVersion.h up to 8.6
        tables = tables_for(program, CalibrationCache.from_text(path.read_bytes(), path.name), version)
        workplace.set_tables(tables.files)
        self._unscaled = tables.unscaled

    def _require_engines(self) -> None:
        if not self._program.subgraphs:
            raise QuantfleetError(
                ErrorCode.ENGINE_FAILED,
                "Paddle found no part of the model that TensorRT can run",
                "engine paddle-gpu runs it by Paddle's own kernels",
            )
        lacking = without_table(self._program) if self._plan.calibrated else 0
        if lacking:
            raise QuantfleetError(
                ErrorCode.ENGINE_FAILED,
                f"{lacking} of {len(self._program.subgraphs)} TensorRT engines have no calibration table that Paddle "
                f"{self.paddle.__version__} knows as theirs",
                "calibrate with the version of Paddle that runs the model",
            )
