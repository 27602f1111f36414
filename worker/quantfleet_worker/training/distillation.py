"""Distils a Paddle inference model into its own fake-quantized copy, without labels. Not for reading ACT files.

The FP32 model is the teacher. PaddleSlim makes its copy trainable, joins the two programs, gives the loss and inserts
the fake quantization, as its `AutoCompression` does; the loop is ours, so that it can stop and go on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np

from quantfleet_worker.models.paddle_files import find_files
from quantfleet_worker.models.paddle_normalize import normalize
from quantfleet_worker.models.paddle_pir import load_program
from quantfleet_worker.models.paddle_program import Array, PaddleProgram, load_paddle
from quantfleet_worker.training.act_config import ActConfig
from quantfleet_worker.training.checkpoint import Checkpoint
from quantfleet_worker.training.export import Export, export
from quantfleet_worker.training.interval import Interval, Progress, Report, closed, start
from quantfleet_worker.training.samples import SEED, Samples, batches
from quantfleet_worker.training.student import Student, build, learned_ranges

Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class Distiller:
    """The distillation of the model in directory `model`, of either Paddle format."""

    model: Path
    config: ActConfig
    batch_size: int
    num_workers: int = 0

    def interval(
        self, checkpoint: bytes | None, first: int, count: int, samples: Samples[Feeds], report: Report
    ) -> Interval:
        """Train iterations first + 1 … first + count; a function of the arguments and the data alone, on one thread.

        A sample is the model's inputs by name, float32, batch 1. Raises QuantfleetError: MODEL_NOT_FOUND,
        MODEL_UNREADABLE, MODEL_UNSUPPORTED, JOB_INVALID for a node that the model lacks, DATA_EMPTY, ENGINE_MISSING
        without PaddleSlim, ENGINE_FAILED for a loss that is not finite.
        """
        state = start(checkpoint, self._name, first)
        paddle = load_paddle()
        paddle.base.core.set_num_threads(1)
        student = self._student()
        if state is not None:
            student.restore(state.state)
        progress = Progress(first, count, self.config.logging_iter, report, [])
        for done, batch in batches(samples, _as_it_is, first, count, self.batch_size, self.num_workers):
            feeds = {name: np.concatenate([sample[name] for sample in batch]) for name in student.program.feeds}
            progress.note(done, student.step(feeds, self.config.schedule(done), SEED + done))
        return closed(progress.losses, Checkpoint(self._name, first + count, student.state()))

    def export_float(self, checkpoint: bytes | None, out: Path) -> None:
        """Write the FP32 program, normalised, with the trained weights; without a checkpoint with the model's."""
        program = self._program()
        if checkpoint is not None:
            for name, values in Checkpoint.from_bytes(checkpoint, self._name).state.items():
                if program.is_parameter(name):
                    program.set_parameter(name, values)
        out.mkdir(parents=True, exist_ok=True)
        program.save(out, find_files(self.model).stem)

    def export(self, checkpoint: bytes, samples: Samples[Feeds], folder: Path) -> Export:
        """The trained model, ready to be written in any INT8 form; `folder` keeps its FP32 program. Raises as
        `training.export.export`."""
        self.export_float(checkpoint, folder)
        feeds = (samples.get(index) for index in range(samples.count))
        return export(folder, self.learned_ranges(checkpoint), feeds)

    def learned_ranges(self, checkpoint: bytes) -> dict[str, float]:
        """The largest magnitude that the training found for each tensor, by its name in the exported program."""
        return learned_ranges(Checkpoint.from_bytes(checkpoint, self._name).state)

    def simulate(self, checkpoint: bytes | None, feeds: Feeds) -> dict[str, Array]:
        """What the fake-quantized student computes in float32, by output name; without a checkpoint the untrained one,
        whose quantizers have seen nothing yet."""
        student = self._student()
        if checkpoint is not None:
            student.restore(Checkpoint.from_bytes(checkpoint, self._name).state)
        return student.outputs(feeds)

    def _student(self) -> Student:
        return build(self._program(), self._program(), self.config)

    def _program(self) -> PaddleProgram:
        return normalize(load_program(find_files(self.model)))

    @cached_property
    def _name(self) -> str:
        files = find_files(self.model)
        digest = sha256(files.program.read_bytes() + files.parameters.read_bytes())
        digest.update(repr((self.config, self.batch_size)).encode())
        return f"distillation {digest.hexdigest()}"


def _as_it_is(sample: Feeds, done: int, index: int) -> Feeds:
    del done, index
    return sample
