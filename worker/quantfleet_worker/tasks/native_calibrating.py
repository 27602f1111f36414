"""The task `quantize` of quantization `native`: an engine finds ranges by its own calibrator. Not for scale tables."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from quantfleet_domain.jobs.spec import FileRef
from quantfleet_domain.jobs.task_results import QuantizeResult
from quantfleet_domain.jobs.work import ModelForm, NativeWork
from quantfleet_worker.engines.base import Array, LoadOptions
from quantfleet_worker.engines.registry import engine_named
from quantfleet_worker.execution.child import Report
from quantfleet_worker.tasks.feeding import feeder, inputs_of
from quantfleet_worker.tasks.loading import shapes_at
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace, entry_point

FORM = "native"


def calibrate_natively(work: NativeWork, workspace: Workspace, here: Surroundings, report: Report) -> QuantizeResult:
    """Raises SAMPLE_UNREADABLE, PREPROCESS_INVALID, MODEL_UNREADABLE, ENGINE_MISSING, ENGINE_FAILED."""
    engine = engine_named(work.engine)
    model = entry_point(workspace.bundle("model", work.files), work.files)
    options = LoadOptions(
        "int8",
        threads=1,
        form=FORM,
        shapes=shapes_at(work.input_shapes, 1),
        kept=Path(here.kept) if here.kept else None,
    )
    floating = engine.load(model, replace(options, precision="fp32", form=""))
    feed = feeder(workspace, inputs_of(floating, work.input_shapes), work.preprocess)

    def batches() -> Iterator[Mapping[str, Array]]:
        for done, (_, _, feeds) in enumerate(feed.feeds(workspace, work.data)):
            report(done / work.data.count, f"sample {done + 1} of {work.data.count}")
            yield feeds

    out = workspace.scratch(FORM)
    out.mkdir()
    engine.calibrate_natively(model, batches(), options, out)
    files = [path for path in sorted(out.rglob("*")) if path.is_file()]
    made = tuple(workspace.keep(str(path.relative_to(out)), path.read_bytes()) for path in files)
    configuration: tuple[FileRef, ...] = (work.preprocess,) if work.preprocess else ()
    return QuantizeResult(work.runtime, (ModelForm(FORM, (*made, *configuration)),), ())
