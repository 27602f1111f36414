"""Which node a GPU belongs to, which core feeds it, and what is left of the cores: on made-up facts of GPUs."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantfleet_domain.hardware.facts import DeviceFacts, GpuFacts
from quantfleet_worker.probes import devices, int8_selftest
from quantfleet_worker.probes.boot import boot_id
from quantfleet_worker.probes.devices import feeding, probe
from quantfleet_worker.probes.gpu import Gpu, Gpus


def gpu(number: int, cores: Sequence[int]) -> Gpu:
    return Gpu(GpuFacts("NVIDIA T4", f"GPU-{number}", "7.5", 1 << 34, "570.1", "12.8", 1590), tuple(cores))


@st.composite
def hosts(draw: st.DrawFn) -> tuple[list[Gpu], list[int], list[list[int]]]:
    """GPUs with the cores near each, the usable cores, and how nodes share these out."""
    usable = sorted(draw(st.sets(st.integers(0, 200), min_size=1, max_size=12)))
    near = draw(st.lists(st.sets(st.sampled_from(usable), min_size=1), max_size=8))
    owners = draw(st.lists(st.integers(0, 3), min_size=len(usable), max_size=len(usable)))
    shares = [[core for core, owner in zip(usable, owners, strict=True) if owner == node] for node in range(4)]
    gpus = [gpu(number, sorted(cores)) for number, cores in enumerate(near)]
    return gpus, usable, draw(st.permutations([share for share in shares if share]))


@given(hosts())
def test_every_gpu_belongs_to_exactly_one_of_the_nodes_that_share_the_cores_out(
    host: tuple[list[Gpu], list[int], list[list[int]]],
) -> None:
    gpus, usable, shares = host
    alone = feeding(gpus, usable, usable)
    by_node = [feeding(gpus, share, usable) for share in shares]
    together = sorted((fed for found in by_node for fed in found), key=lambda fed: fed.number)
    assert together == list(alone)
    assert [(fed.number, fed.gpu) for fed in alone] == list(enumerate(gpus))
    for share, found in zip(shares, by_node, strict=True):
        assert all(fed.core in share for fed in found)


@given(hosts())
def test_a_core_feeds_one_gpu_and_is_near_it_as_long_as_there_are_such_cores(
    host: tuple[list[Gpu], list[int], list[list[int]]],
) -> None:
    gpus, usable, _ = host
    found = feeding(gpus, usable, usable)
    assert len({fed.core for fed in found}) == min(len(gpus), len(usable))
    for place, fed in enumerate(found):
        before = {other.core for other in found[:place]}
        free = [core for core in fed.gpu.cores if core not in before]
        assert fed.core == free[-1] if free else fed.core in usable


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A host of four cores, which is not timed."""
    monkeypatch.setattr(devices, "usable_cores", lambda _: (0, 1, 2, 3))
    monkeypatch.setattr(int8_selftest, "run", lambda _: (None, "not timed here"))
    return monkeypatch


def probed(patch: pytest.MonkeyPatch, near: Sequence[Sequence[int]], share: tuple[int, ...]) -> Sequence[DeviceFacts]:
    gpus = Gpus(tuple(gpu(number, cores) for number, cores in enumerate(near)))
    patch.setattr(devices, "find_gpus", lambda _: gpus)
    return probe(share)


def test_the_cores_that_feed_gpus_are_no_slots_of_the_processor(made_up: pytest.MonkeyPatch) -> None:
    processor, first, second = probed(made_up, [[0, 1], [2, 3]], (0, 1, 2, 3))
    assert (processor.slots, processor.cores) == ((0, 2), (0, 1, 2, 3))
    assert [(facts.device, facts.kind, facts.cores, facts.slots) for facts in (first, second)] == [
        ("cuda:0", "cuda", (1,), (1,)),
        ("cuda:1", "cuda", (3,), (3,)),
    ]
    assert {facts.measurement_domain for facts in (first, second)} == {f"{boot_id()}/GPU-0", f"{boot_id()}/GPU-1"}
    assert processor.measurement_domain == boot_id()


def test_where_every_core_feeds_a_gpu_the_processor_keeps_them_and_they_are_measured_in_turns(
    made_up: pytest.MonkeyPatch,
) -> None:
    processor, *gpus = probed(made_up, [[0, 1], [0, 1], [2, 3]], (0, 1))
    assert processor.slots == (0, 1)
    assert [(facts.device, facts.cores) for facts in gpus] == [("cuda:0", (1,)), ("cuda:1", (0,))]
    assert {facts.measurement_domain for facts in (processor, *gpus)} == {boot_id()}


def test_a_node_has_the_gpus_that_its_cores_feed_under_their_numbers_on_the_host(made_up: pytest.MonkeyPatch) -> None:
    processor, second = probed(made_up, [[0, 1], [2, 3]], (2, 3))
    assert (processor.slots, second.device, second.cores) == ((2,), "cuda:1", (3,))
    (processor,) = probed(made_up, [[0, 1], [2, 3]], (0, 2))
    assert processor.slots == (0, 2)


def test_a_gpu_has_its_own_isa_and_engines_and_the_hosts_processor(made_up: pytest.MonkeyPatch) -> None:
    processor, found = probed(made_up, [[0]], (0, 1))
    assert (found.isa, found.model_name) == (("sm_75",), "NVIDIA T4")
    assert found.hardware == processor.hardware
    assert {"tensorrt", "onnxruntime-cuda", "paddle-tensorrt"} <= {engine.name for engine in found.engines}
    assert not {engine.name for engine in found.engines} & {engine.name for engine in processor.engines}


def test_a_driver_that_does_not_answer_is_a_warning_and_the_rest_is_there(
    made_up: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made_up.setattr(devices, "find_gpus", lambda _: Gpus((), ("the NVIDIA driver does not answer: x",)))
    (processor,) = probe((0, 1))
    assert processor.slots == (0, 1)
    assert "the NVIDIA driver does not answer" in caplog.text
