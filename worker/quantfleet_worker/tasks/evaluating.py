"""The task `evaluate`: predict the classes of labelled samples on the engine itself."""

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.work import EvaluateResult, EvaluateWork
from quantfleet_worker.engines.base import LoadOptions
from quantfleet_worker.engines.registry import engine_named
from quantfleet_worker.execution.child import Report
from quantfleet_worker.preprocessing.postprocess import top_classes
from quantfleet_worker.tasks.feeding import feeder
from quantfleet_worker.tasks.loading import load_variant
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace

BEST = 5


def evaluate(work: EvaluateWork, workspace: Workspace, here: Surroundings, report: Report) -> EvaluateResult:
    """Raises SAMPLE_UNREADABLE, DATA_NOT_FOUND for a sample without label, MODEL_UNREADABLE, ENGINE_FAILED."""
    engine = engine_named(work.engine)
    options = LoadOptions(work.variant.precision, threads=1)
    form, session = load_variant(engine, work.variant, options, workspace, here)
    inputs = tuple(InputTensor(shape.name, shape.dims, "float32") for shape in work.input_shapes)
    feed = feeder(workspace, inputs, work.preprocess)
    name = next(iter(session.inputs))
    labels, predicted, in_top5 = [], [], []
    for done, (_, sample, content) in enumerate(workspace.samples(work.data)):
        report(done / work.data.count, f"sample {done + 1} of {work.data.count}")
        if sample.label is None:
            raise QuantfleetError(
                ErrorCode.DATA_NOT_FOUND, f"sample {sample.name} has no label", "name it in the list file: path label"
            )
        scores = next(iter(session.run({name: feed.tensor(content, sample.name)}).values()))
        best = top_classes(scores, BEST)[0].tolist()
        labels.append(sample.label)
        predicted.append(best[0])
        in_top5.append(sample.label in best)
    return EvaluateResult(
        engine=engine.name,
        engine_version=engine.version(),
        precision=work.variant.precision,
        quantization=work.variant.quantization,
        form=form.form,
        first=work.data.first,
        labels=tuple(labels),
        predicted=tuple(predicted),
        in_top5=tuple(in_top5),
    )
