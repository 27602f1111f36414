"""Quantization-aware training of a user's network, as its recipe says. Not for models without training code.

Paddle's `ImperativeQuantAware` wraps the layers in fake quantization, as PaddleSlim's `QAT` and PaddleSeg's
`qat_train.py` do; the loop is ours, so that it can stop and go on.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_worker.models.paddle_program import Array, load_paddle
from quantfleet_worker.training.checkpoint import Checkpoint
from quantfleet_worker.training.export import Export, export
from quantfleet_worker.training.interval import Interval, Progress, Report, closed, start
from quantfleet_worker.training.network import STEM, FloatNetwork, QuantizedNetwork
from quantfleet_worker.training.pdparams import read_weights
from quantfleet_worker.training.recipe import LoadedRecipe
from quantfleet_worker.training.samples import SEED, Samples, TrainingSample, batches
from quantfleet_worker.training.schedule import Polynomial
from quantfleet_worker.training.tail import Tail

Prepared = tuple[tuple[Array, ...], tuple[Array, ...]]


@dataclass(frozen=True)
class QatTrainer:
    """The training of a recipe's network from the FP32 weights in `model_path`, a `.pdparams`.

    The parameters are those of PaddleSeg's `qat_train.py` and `qat_export.py`. `learning_rate` is the first one;
    `num_workers` threads prepare samples ahead. An exported segmentation network returns the class of each pixel (an
    argmax over the channels, int32) unless `without_argmax`; a classification network returns its scores.
    `with_softmax` makes probabilities of the logits before that.
    """

    loaded: LoadedRecipe
    model_path: Path
    iters: int
    batch_size: int
    learning_rate: float
    num_workers: int = 0
    log_iters: int = 10
    with_softmax: bool = False
    without_argmax: bool = False

    def interval(
        self, checkpoint: bytes | None, first: int, count: int, samples: Samples[TrainingSample], report: Report
    ) -> Interval:
        """Train iterations first + 1 … first + count; a function of the arguments and the data alone, on one thread.

        Raises QuantfleetError: MODEL_UNREADABLE for weights that do not fit, DATA_EMPTY, ENGINE_FAILED for an exception
        in the recipe or a loss that is not finite.
        """
        state = start(checkpoint, self._name, first)
        paddle = load_paddle()
        paddle.base.core.set_num_threads(1)
        network = self._quantized()
        if state is None:
            network.begin(self._weights)
        else:
            network.restore(state.state)
        schedule = Polynomial(self.learning_rate, self.iters)
        progress = Progress(first, count, self.log_iters, report, [])
        for done, batch in batches(samples, self._prepare, first, count, self.batch_size, self.num_workers):
            inputs = [np.stack(values) for values in zip(*(inputs for inputs, _ in batch), strict=True)]
            targets = [np.stack(values) for values in zip(*(targets for _, targets in batch), strict=True)]
            progress.note(done, network.step(inputs, targets, schedule(done), SEED + done))
        return closed(progress.losses, Checkpoint(self._name, first + count, network.state()))

    def export_float(self, checkpoint: bytes | None, out: Path) -> None:
        """Write the network as an FP32 program of the old format, normalised, with the export's tail and the trained
        weights; without a checkpoint with those of `model_path`, which is what to compare with."""
        out.mkdir(parents=True, exist_ok=True)
        self._tail.append(self._float(checkpoint).program(out)).save(out, STEM)

    def export(self, checkpoint: bytes, samples: Samples[TrainingSample], folder: Path) -> Export:
        """The trained network, ready to be written in any INT8 form; `folder` keeps its FP32 program, which returns the
        logits. Raises as `training.export.export`."""
        names = tuple(self.loaded.recipe.inputs)
        feeds = (
            {name: values[None] for name, values in zip(names, self._inputs(samples.get(index)), strict=True)}
            for index in range(samples.count)
        )
        folder.mkdir(parents=True, exist_ok=True)
        self._float(checkpoint).program(folder).save(folder, STEM)
        # The tail goes behind the quantization: the calibration graph maps float tensors only.
        return export(folder, self.learned_ranges(checkpoint), feeds, self._tail)

    def learned_ranges(self, checkpoint: bytes) -> dict[str, float]:
        """The largest magnitude of what each quantized layer reads, by the tensor's name in the exported program."""
        state = Checkpoint.from_bytes(checkpoint, self._name).state
        return self._float(checkpoint).ranges_of(QuantizedNetwork.input_ranges(state))

    def simulate(self, checkpoint: bytes, inputs: tuple[Array, ...]) -> Array:
        """The logits that the fake-quantized network computes in float32 of a batch."""
        network = self._quantized()
        network.restore(Checkpoint.from_bytes(checkpoint, self._name).state)
        return network.evaluate(inputs)

    def _quantized(self) -> QuantizedNetwork:
        return QuantizedNetwork.build(self.loaded, self.learning_rate, self._float(None).unsigned_layers())

    def _float(self, checkpoint: bytes | None) -> FloatNetwork:
        weights = self._weights
        if checkpoint is not None:
            weights = QuantizedNetwork.weights(Checkpoint.from_bytes(checkpoint, self._name).state)
        return FloatNetwork.build(self.loaded, weights)

    @property
    def _tail(self) -> Tail:
        return Tail(self.with_softmax, self.loaded.recipe.task == "segmentation" and not self.without_argmax)

    def _prepare(self, sample: TrainingSample, done: int, index: int) -> Prepared:
        random = np.random.default_rng((SEED, done, index))
        inputs, targets = self.loaded.call("sample", self.loaded.recipe.sample, sample, random)
        return self._checked(sample, inputs), tuple(np.asarray(target) for target in targets)

    def _inputs(self, sample: TrainingSample) -> tuple[Array, ...]:
        inputs, _ = self.loaded.call("sample", self.loaded.recipe.sample, sample, None)
        return self._checked(sample, inputs)

    def _checked(self, sample: TrainingSample, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        found = [(str(values.dtype), tuple(values.shape)) for values in inputs]
        wanted = [("float32", tuple(shape)) for shape in self.loaded.recipe.inputs.values()]
        if found != wanted:
            raise QuantfleetError(
                ErrorCode.ENGINE_FAILED,
                f"{self.loaded.package}: sample made {found} of {sample.name}, and inputs are {wanted}",
                "let sample and inputs of the recipe agree",
            )
        return tuple(inputs)

    @cached_property
    def _weights(self) -> dict[str, Array]:
        return read_weights(self.model_path)

    @cached_property
    def _name(self) -> str:
        digest = sha256(self.model_path.read_bytes())
        settings = (self.loaded.package, self.loaded.config, self.iters, self.batch_size, self.learning_rate)
        digest.update(repr(settings).encode())
        return f"qat {digest.hexdigest()}"
