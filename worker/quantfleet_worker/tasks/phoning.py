"""Which phone a task is for, and which of the tasks that phones have. Not for what they do there."""

from quantfleet_domain.jobs.measured import BenchmarkResult, EvaluateResult
from quantfleet_domain.jobs.work import BenchmarkWork, EvaluateWork
from quantfleet_worker.engines.paddle_lite import ABI_OF_ENGINE
from quantfleet_worker.execution.child import Report
from quantfleet_worker.phones.phone import phone_of
from quantfleet_worker.tasks.phone_benchmarking import benchmark_on_phone
from quantfleet_worker.tasks.phone_evaluating import evaluate_on_phone
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace

_ANSWER_S = 20.0


def on_phone(
    work: BenchmarkWork | EvaluateWork, workspace: Workspace, here: Surroundings, report: Report
) -> BenchmarkResult | EvaluateResult:
    """Do the work on the phone that the device's name means. Raises as `phone_of`, and as the tasks themselves do."""
    phone = phone_of(here.phones, here.device, ABI_OF_ENGINE[work.engine])
    phone.transport.run(["true"], _ANSWER_S)  # models, which may take minutes, are not converted for one that is away
    if isinstance(work, BenchmarkWork):
        return benchmark_on_phone(work, workspace, here, report, phone)
    return evaluate_on_phone(work, workspace, here, report, phone)
