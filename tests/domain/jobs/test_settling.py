"""What a job leaves open is settled for the fleet that it is submitted to."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.domain.jobs.sample_jobs import DATA, TARGET, job_spec, model_spec

from quantfleet_domain.jobs.settling import settled
from quantfleet_domain.jobs.spec import EvaluateSpec


@given(samples=st.integers(1, 5000), shards=st.integers(0, 6000), slots=st.integers(0, 64))
def test_a_settled_job_has_a_number_of_shards_that_its_samples_allow(samples: int, shards: int, slots: int) -> None:
    model = model_spec()
    assert model.calibration is not None
    assert model.evaluate is not None
    data = replace(DATA, samples=samples)
    model = replace(
        model,
        calibration=replace(model.calibration, data=data, shards=shards),
        evaluate=replace(model.evaluate, data=data, shards=shards),
    )
    found_model = settled(job_spec(model), slots, lambda _: ()).models[0]
    assert found_model.calibration is not None
    assert found_model.evaluate is not None
    for found in (found_model.calibration.shards, found_model.evaluate.shards):
        assert 1 <= found <= samples
        if shards:
            assert found == min(shards, samples)
        else:
            assert found <= 2 * max(slots, 1)


def test_a_target_without_engines_gets_those_of_the_fleet_that_read_the_model() -> None:
    spec = job_spec(model_spec(targets=(replace(TARGET, engines=()),)))
    (target,) = settled(spec, 2, lambda _: {"paddle-cpu", "onnxruntime-cpu"}).models[0].targets
    assert target.engines == ("onnxruntime-cpu",)
    (target,) = settled(spec, 2, lambda _: ()).models[0].targets
    assert target.engines == ("onnxruntime-cpu", "openvino-cpu")


def test_a_model_that_no_cpu_reads_waits_for_the_engines_that_do() -> None:
    targets = (replace(TARGET, engines=()),)
    spec = job_spec(model_spec(format="paddle-lite", quantized=True, calibration=None, targets=targets))
    (target,) = settled(spec, 2, lambda _: {"paddle-cpu", "paddle-lite"}).models[0].targets
    assert target.engines == ("paddle-lite",)
    (target,) = settled(spec, 2, lambda _: {"paddle-cpu"}).models[0].targets
    assert target.engines == ("paddle-lite", "paddle-lite-armv7")


def test_a_target_of_a_pool_gets_the_engines_of_that_pool() -> None:
    of_pools = {"": {"onnxruntime-cpu", "tensorrt"}, "t4": {"tensorrt"}}
    spec = job_spec(model_spec(targets=(replace(TARGET, engines=(), pool="t4"),)))
    (target,) = settled(spec, 2, lambda pool: of_pools[pool]).models[0].targets
    assert target.engines == ("tensorrt",)


def test_engines_that_a_target_names_stay_whatever_the_fleet_has() -> None:
    (target,) = settled(job_spec(), 2, lambda _: {"openvino-cpu"}).models[0].targets
    assert target.engines == TARGET.engines


def test_boxes_are_evaluated_in_one_shard() -> None:
    model = model_spec(evaluate=EvaluateSpec(DATA, ("map",), 5))
    evaluate = settled(job_spec(model), 8, lambda _: ()).models[0].evaluate
    assert evaluate
    assert evaluate.shards == 1
