from quantfleet_domain.measurement.gpu_conditions import GpuConditions
from quantfleet_domain.measurement.quiet import judge
from quantfleet_worker.probes.watching import watch_over


def test_a_cpus_watch_says_nothing_of_a_gpu() -> None:
    watch = watch_over("cpu", [0], (), [0])
    watch.sample()
    watch.sample()
    assert watch.conditions().gpu is None
    assert watch.conditions().run_queue is not None


def test_a_gpu_that_cannot_be_watched_is_not_called_quiet() -> None:
    watch = watch_over("cuda", [0], (), [0], {"CUDA_VISIBLE_DEVICES": "GPU-00000000-0000-0000-0000-000000000000"})
    watch.sample()
    watch.sample()
    assert watch.conditions().gpu == GpuConditions()
    assert "nothing could be watched on the GPU" in judge(watch.conditions()).reasons
