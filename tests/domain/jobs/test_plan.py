"""From a job to its graph, and from each task to its work."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.domain.jobs.sample_jobs import (
    DATA,
    NUMERICS,
    ONNX,
    PADDLE,
    TARGET,
    job_spec,
    model_spec,
    quantized_in,
    results_of,
)

from quantfleet_domain.calibration.graph import MIXED
from quantfleet_domain.calibration.statistic import EXTREMES_VERSION
from quantfleet_domain.hardware.offers import ENGINES
from quantfleet_domain.hardware.precisions import PRECISIONS
from quantfleet_domain.jobs.assignment import (
    files_of,
    is_idle,
    slices_of,
    work,
)
from quantfleet_domain.jobs.lifecycle import TaskKind
from quantfleet_domain.jobs.made import corrections_of
from quantfleet_domain.jobs.plan import Plan, make_plan, shard_of
from quantfleet_domain.jobs.requirements import requirement
from quantfleet_domain.jobs.settling import settled
from quantfleet_domain.jobs.spec import QUANTIZATIONS, EvaluateSpec, FileRef, JobSpec, ModelSpec, OutputKind
from quantfleet_domain.jobs.task_results import (
    InspectResult,
    QuantizeResult,
    RecallResult,
    Result,
    SettleResult,
)
from quantfleet_domain.jobs.variants import VariantKey, asked_for
from quantfleet_domain.jobs.work import (
    BenchmarkWork,
    CalibrateWork,
    CorrectWork,
    EvaluateWork,
    QuantizeWork,
)


@given(samples=st.integers(1, 5000), shards=st.integers(1, 200))
def test_shards_cut_the_samples_into_runs_of_nearly_one_size(samples: int, shards: int) -> None:
    runs = [shard_of(samples, shard, shards) for shard in range(shards)]
    assert [index for first, count in runs for index in range(first, first + count)] == list(range(samples))
    assert max(count for _, count in runs) - min(count for _, count in runs) <= 1


def _judged(*metrics: str, annotations: FileRef | None = None) -> ModelSpec:
    return model_spec(evaluate=EvaluateSpec(replace(DATA, annotations=annotations), metrics, 4))


def test_a_task_is_told_what_the_model_says_of_a_sample_and_by_what_it_is_judged() -> None:
    spec = job_spec(_judged("map", "map50", annotations=ONNX))
    plan = make_plan(settled(spec, 1, lambda _: ()))
    results = results_of(plan)
    evaluation = work(spec, plan.details["net/evaluate/0/onnxruntime-cpu/int8/static/0"], results)
    assert isinstance(evaluation, EvaluateWork)
    assert (evaluation.kind, evaluation.annotations) == (OutputKind.BOXES, ONNX)
    assert ONNX in files_of(evaluation)
    timed = work(spec, plan.details["net/benchmark/0/onnxruntime-cpu"], results)
    assert isinstance(timed, BenchmarkWork)
    assert timed.kind is OutputKind.BOXES
    assert ONNX.digest in spec.inputs()


OWN = (TaskKind.RECALL, TaskKind.MERGE, TaskKind.CHOOSE, TaskKind.SETTLE, TaskKind.REPORT)
AUTO = model_spec().calibration and replace(model_spec().calibration, calibrator="auto", bias_correction=False)

SPECS = st.builds(
    job_spec,
    st.builds(
        model_spec,
        st.sampled_from(["net", "report"]),
        st.booleans(),
        calibration=st.sampled_from([model_spec().calibration, AUTO, None]),
        evaluate=st.sampled_from([model_spec().evaluate, None]),
        targets=st.lists(
            st.builds(
                replace,
                st.just(TARGET),
                engines=st.lists(st.sampled_from(list(ENGINES)), min_size=1, max_size=3, unique=True).map(tuple),
                precisions=st.sampled_from([("fp32",), ("int8",), ("fp32", "int8"), PRECISIONS]),
            ),
            max_size=3,
        ).map(tuple),
    ),
    st.one_of(
        st.builds(model_spec, st.just("second"), st.booleans()),
        st.builds(
            lambda names, engines: quantized_in(*names, name="second", targets=(replace(TARGET, engines=engines),)),
            st.lists(st.sampled_from(QUANTIZATIONS), unique=True),
            st.lists(st.sampled_from(list(ENGINES)), min_size=1, max_size=3, unique=True).map(tuple),
        ),
    ),
    benchmark=st.sampled_from([job_spec().benchmark, replace(job_spec().benchmark, modes=())]),
)


@given(spec=SPECS)
def test_a_plan_has_needs_first_and_work_for_every_task(spec: JobSpec) -> None:
    plan = make_plan(spec)
    results = results_of(plan)
    seen: set[str] = set()
    for task in plan.tasks:
        assert {*task.needs, *task.after} <= seen
        assert task.id not in seen
        seen.add(task.id)
        if task.kind in OWN:
            continue
        # What it needs is enough: nothing else is looked into.
        known = _reachable(plan, results, task.id)
        if task.kind is TaskKind.BENCHMARK:  # whatever of these has not failed
            known |= {name: results[name] for name in task.after}
        asked = work(spec, plan.details[task.id], known)
        assert requirement(spec, plan.details[task.id], known).engines
        assert all(ref.digest for ref in files_of(asked))
        for part in slices_of(asked):
            assert part.first >= 0
            assert part.count >= 1 or is_idle(spec, plan.details[task.id], known)
            assert part.first + part.count <= DATA.samples
        if isinstance(asked, BenchmarkWork):
            assert asked.variants
            assert asked.modes == spec.benchmark.modes
            assert all(form.files for variant in asked.variants for form in variant.forms)
    assert plan.tasks[-1].id == "report"
    assert set(plan.tasks[-1].after) == seen - {"report"}
    # Every cell that was asked for is either a task's or said not to be offered.
    absent = {(cell.model, cell.engine, VariantKey(cell.precision, cell.quantization)) for cell in plan.not_offered}
    for model in spec.models:
        for index, target in enumerate(model.targets):
            for engine in target.engines:
                for key in asked_for(model, target.precisions):
                    done = f"{model.name}/evaluate/{index}/{engine}/{key.name}/0" in seen
                    assert done or (model.name, engine, key) in absent or not model.evaluate


def _reachable(plan: Plan, results: dict[str, Result], name: str) -> dict[str, Result]:
    needs = {task.id: task.needs for task in plan.tasks}
    found: set[str] = set()
    left = list(needs[name])
    while left:
        task = left.pop()
        found.add(task)
        left.extend(needs[task])
    return {key: result for key, result in results.items() if key in found}


def test_an_engine_that_does_not_read_the_format_is_no_failure() -> None:
    plan = make_plan(job_spec())
    assert {(cell.engine, cell.precision) for cell in plan.not_offered} == {
        ("paddle-cpu", "fp32"),
        ("paddle-cpu", "int8"),
    }
    assert not any("paddle" in task.id for task in plan.tasks)


def test_int8_without_calibration_data_is_no_failure_and_nothing_is_run_for_it() -> None:
    target = replace(TARGET, engines=("onnxruntime-cpu",), precisions=("int8",))
    plan = make_plan(job_spec(model_spec(calibration=None, evaluate=None, targets=(target,))))
    assert [task.id for task in plan.tasks] == ["net/inspect", "report"]
    assert [cell.reason for cell in plan.not_offered] == ["the job brings neither calibration data nor scales"]


def test_engines_of_one_runtime_share_a_quantized_model() -> None:
    targets = (TARGET, replace(TARGET, pool="xeon-vnni"))
    plan = make_plan(job_spec(model_spec(paddle=True, targets=targets)))
    kinds = [task.id for task in plan.tasks if task.kind is TaskKind.QUANTIZE]
    assert kinds == ["net/quantize/onnx", "net/quantize/paddle"]


def test_each_engine_gets_the_files_that_it_executes() -> None:
    spec = job_spec(model_spec(paddle=True))
    plan = make_plan(spec)
    results = results_of(plan)

    def files(engine: str, variant: str) -> tuple[object, ...]:
        asked = work(spec, plan.details[f"net/evaluate/0/{engine}/{variant}/0"], results)
        assert isinstance(asked, EvaluateWork)
        return asked.variant.forms[0].files

    inspected, quantized = results["net/inspect"], results["net/quantize/paddle"]
    assert isinstance(inspected, InspectResult)
    assert isinstance(quantized, QuantizeResult)
    assert files("paddle-cpu", "fp32") == PADDLE
    assert files("onnxruntime-cpu", "fp32") == (inspected.reference,)
    assert files("paddle-cpu", "int8/static") == quantized.forms[0].files


def test_what_a_task_requires_of_a_device() -> None:
    spec = job_spec(model_spec(paddle=True, targets=(replace(TARGET, pool="x86"),)))
    plan = make_plan(spec)
    results = results_of(plan)

    def of(name: str) -> tuple[object, ...]:
        needed = requirement(spec, plan.details[name], results)
        return needed.engines, needed.pool, needed.exclusive, needed.cores, needed.numerics

    assert of("net/inspect") == (("onnxruntime-cpu", "paddle-cpu"), "", False, 1, None)
    assert of("net/calibrate/0") == (("onnxruntime-cpu",), "", False, 1, NUMERICS)
    assert of("net/quantize/paddle") == (("paddle-cpu",), "", False, 1, None)
    assert of("net/benchmark/0/paddle-cpu") == (("paddle-cpu",), "x86", True, 2, None)
    assert of("net/evaluate/0/paddle-cpu/fp32/0") == (("paddle-cpu",), "x86", False, 1, None)


def test_nodes_of_any_instruction_set_may_calibrate_where_the_job_allows_it() -> None:
    calibration = model_spec().calibration
    assert calibration is not None
    spec = job_spec(model_spec(calibration=replace(calibration, mixed=True)))
    plan = make_plan(spec)
    needed = requirement(spec, plan.details["net/calibrate/0"], results_of(plan))
    assert needed.numerics == replace(NUMERICS, isa=MIXED)


def test_extremes_alone_are_another_statistic_than_counts() -> None:
    calibration = model_spec().calibration
    assert calibration is not None
    spec = job_spec(model_spec(calibration=replace(calibration, calibrator="avg", extremes_only=True)))
    plan = make_plan(spec)
    asked = work(spec, plan.details["net/calibrate/0"], results_of(plan))
    assert isinstance(asked, CalibrateWork)
    assert asked.numerics == replace(NUMERICS, statistic_version=EXTREMES_VERSION)


def test_a_shard_without_samples_is_idle() -> None:
    spec = job_spec()
    plan = make_plan(spec)
    results = results_of(plan)
    recalled = results["net/recall"]
    assert isinstance(recalled, RecallResult)
    results["net/recall"] = replace(recalled, samples=2)
    idle = [is_idle(spec, plan.details[f"net/calibrate/{shard}"], results) for shard in range(3)]
    assert sorted(idle) == [False, False, True]


def test_biases_are_corrected_in_stages_each_on_what_the_one_before_left() -> None:
    spec = job_spec()
    plan = make_plan(spec)
    results = results_of(plan)
    for stage in range(5):
        known = _reachable(plan, results, f"net/correct/{stage}/0")
        asked = work(spec, plan.details[f"net/correct/{stage}/0"], known)
        assert isinstance(asked, CorrectWork)
        before = results[f"net/settle/{stage - 1}"] if stage else None
        assert asked.corrections == (before.corrections if isinstance(before, SettleResult) else None)
    quantized = work(spec, plan.details["net/quantize/onnx"], results)
    assert isinstance(quantized, QuantizeWork)
    assert quantized.corrections == corrections_of("net", results)


def test_a_model_that_is_calibrated_twice_waits_for_what_the_first_run_counts() -> None:
    calibration = model_spec().calibration
    assert calibration is not None
    other = model_spec("again", calibration=replace(calibration, calibrator="mse"))
    tasks = {task.id: task for task in make_plan(job_spec(model_spec(), other)).tasks}
    assert tasks["again/recall"].after == ("net/merge",)
    assert tasks["net/recall"].after == ()
