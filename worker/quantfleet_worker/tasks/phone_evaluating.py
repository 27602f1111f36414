"""The task `evaluate` on a phone: sample by sample through the phone's own tool. Not for how outputs are judged."""

from quantfleet_domain.jobs.measured import EvaluateResult
from quantfleet_domain.jobs.work import EvaluateWork
from quantfleet_worker.engines.registry import engine_named
from quantfleet_worker.execution.child import Report
from quantfleet_worker.phones.phone import Phone
from quantfleet_worker.phones.session import PhoneSession
from quantfleet_worker.tasks.evaluating import outcome_of
from quantfleet_worker.tasks.phone_models import carry, lite_model
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace

_NAME = "evaluated"


def evaluate_on_phone(
    work: EvaluateWork, workspace: Workspace, here: Surroundings, report: Report, phone: Phone
) -> EvaluateResult:
    """Outputs reach the judge in six significant digits, which is what the tool writes. Every sample loads the model.

    Raises QuantfleetError as `evaluate` does; PHONE_LOST, ENGINE_CRASHED, STORAGE_FULL too; MODEL_UNSUPPORTED for
    outputs that are not float32, and for a model that `phone_models.lite_model` refuses.
    """
    engine = engine_named(work.engine)
    model = lite_model(engine, work.variant, phone, workspace, here)
    with phone.transport.workdir() as directory:
        session = PhoneSession(carry(phone, directory, {_NAME: model})[_NAME], threads=1, name=_NAME)
        outcome = outcome_of(work, session, workspace, report)
    return EvaluateResult(
        engine=engine.name,
        engine_version=session.library,
        precision=work.variant.precision,
        quantization=work.variant.quantization,
        form=model.form.form,
        first=work.data.first,
        outcome=outcome,
    )
