"""Which task a device is given: exclusivity, priority, classes, pools, and the words for waiting."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.jobs.sample_jobs import NUMERICS, device, gpu, phone

from quantfleet_domain.calibration.graph import MIXED, NumericsClass
from quantfleet_domain.hardware.facts import DeviceFacts
from quantfleet_domain.hardware.pools import parse
from quantfleet_domain.jobs.placement import Candidate, Claim, Place, choose, reason, why_not
from quantfleet_domain.jobs.requirements import Requirement

SHARED = Requirement(("onnxruntime-cpu",), "", False, 1, None)
ALONE = Requirement(("onnxruntime-cpu",), "", True, 2, None)
ON_GPU, GPU_ALONE = (Requirement(("tensorrt",), "", alone, 1, None) for alone in (False, True))
PHONE_ALONE = Requirement(("paddle-lite",), "", True, 4, None)


def candidate(task: str, needed: Requirement = SHARED, pool: str = "") -> Candidate:
    return Candidate("job", task, needed, parse(pool) if pool else None)


def place(node: str = "n1", facts: DeviceFacts | None = None) -> Place:
    return Place(node, facts or device())


def names(chosen: list[Candidate]) -> list[str]:
    return [found.task for found in chosen]


PLACES = st.lists(
    st.builds(
        Place,
        st.sampled_from(["n1", "n2", "n3"]),
        st.builds(
            device,
            st.sampled_from(["cpu:0", "cpu:1"]),
            cores=st.integers(1, 4),
            slots=st.integers(0, 3),
            machine=st.sampled_from(["m1", "m2"]),
            engines=st.sampled_from([("onnxruntime-cpu",), ("onnxruntime-cpu", "paddle-cpu"), ()]),
        ),
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda found: (found.node, found.facts.device),
)
NESTED_PLACES = [
    Place("n1", device("cpu:0", slots=2)),
    Place("n2", device("cpu:1", slots=1)),
    Place("n1", gpu("cuda:0")),
    Place("n1", gpu("cuda:1", uuid="GPU-12")),
    Place("n1", phone("9f3a")),
    Place("n3", device("cpu:0", machine="m12")),
    Place("n3", gpu("cuda:0", uuid="GPU-3", machine="m12")),
]
NESTED_REQUIREMENTS = st.sampled_from([SHARED, ALONE, ON_GPU, GPU_ALONE, PHONE_ALONE])
REQUIREMENTS = st.builds(
    Requirement,
    st.sampled_from([("onnxruntime-cpu",), ("paddle-cpu",)]),
    st.just(""),
    st.booleans(),
    st.integers(1, 4),
    st.sampled_from([None, NUMERICS]),
)


@settings(deadline=None)
@given(
    places=PLACES,
    needs=st.lists(REQUIREMENTS, max_size=12),
    turns=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), max_size=40),
)
def test_an_exclusive_task_never_shares_its_machine(
    places: list[Place], needs: list[Requirement], turns: list[tuple[int, int]]
) -> None:
    ready = [candidate(str(index), needed) for index, needed in enumerate(needs)]
    leased: list[tuple[Candidate, Place]] = []
    for turn, ending in turns:
        asking = places[turn % len(places)]
        claims = [Claim(at.facts.measurement_domain, task.requirement.exclusive) for task, at in leased]
        mine = sum(at is asking for _, at in leased)
        for task in choose(ready, asking, len(asking.facts.slots) - mine, claims, places):
            assert not why_not(task.requirement, task.selector, asking.facts)
            ready.remove(task)
            leased.append((task, asking))
        for machine in ("m1", "m2"):
            here = [task for task, at in leased if at.facts.measurement_domain == machine]
            assert len(here) <= 1 or not any(task.requirement.exclusive for task in here)
        for at in places:
            shared = [t for t, where in leased if where is at and not t.requirement.exclusive]
            assert len(shared) <= len(at.facts.slots)
        if leased and ending % 2:
            leased.pop(ending % len(leased))
    # Nothing is left waiting for ever: whatever some place can serve is served once the others end.
    able = [task for task in ready if any(_can(task, at) for at in places)]
    for _ in range(3 * len(able) + 3):
        for at in places:
            for task in choose(able, at, len(at.facts.slots), [], places):
                able.remove(task)
    assert able == []


def _can(task: Candidate, at: Place) -> bool:
    fits = not why_not(task.requirement, task.selector, at.facts)
    return fits and (task.requirement.exclusive or bool(at.facts.slots))


def test_a_waiting_benchmark_keeps_new_shared_tasks_off_its_machine_only() -> None:
    ready = [candidate("shard"), candidate("bench", ALONE, "device == cpu:0")]
    one, two = place("n1", device("cpu:0")), place("n2", device("cpu:1"))
    far = place("n3", device("cpu:1", machine="m2"))
    places = [one, two, far]
    busy = [Claim("m1", False)]
    assert choose(ready, one, 1, busy, places) == []
    assert choose(ready, two, 1, busy, places) == []
    assert names(choose(ready, far, 1, busy, places)) == ["shard"]
    assert names(choose(ready, one, 1, [], places)) == ["bench"]
    assert choose(ready, two, 1, [], places) == []
    assert choose(ready, one, 1, [Claim("m1", True)], places) == []
    # A benchmark that no live device here can serve keeps nobody waiting.
    assert names(choose(ready, two, 1, busy, [two, far])) == ["shard"]


def test_older_tasks_go_first_and_free_slots_are_the_limit() -> None:
    ready = [candidate(str(index)) for index in range(5)]
    assert names(choose(ready, place(), 2, [], [place()])) == ["0", "1"]
    assert choose(ready, place(), 0, [], [place()]) == []
    assert choose(ready, place(), -1, [], [place()]) == []


@pytest.mark.parametrize(
    ("needed", "pool", "facts", "said"),
    [
        (SHARED, "", device(), ""),
        (SHARED, "architecture == aarch64", device(), "architecture is x86_64"),
        (SHARED, "", device(engines=("paddle-cpu",)), "onnxruntime-cpu is missing: not installed there"),
        (Requirement(("onnxruntime-cpu",), "", True, 5, None), "", device(), "5 threads are asked for, it has 4 cores"),
        (Requirement(("onnxruntime-cpu",), "", False, 5, None), "", device(), ""),
        (Requirement(("onnxruntime-cpu",), "", False, 1, NUMERICS), "", device(), ""),
        (
            Requirement(("onnxruntime-cpu",), "", False, 1, replace(NUMERICS, isa=MIXED)),
            "",
            device(isa="x86_64/avx512_core"),
            "",
        ),
        (
            Requirement(("onnxruntime-cpu",), "", False, 1, NUMERICS),
            "",
            device(isa="x86_64/avx512_core"),
            "on x86_64/avx512_core, the job's is onnxruntime-cpu 1.0 on x86_64/avx2",
        ),
        (
            Requirement(("onnxruntime-cpu",), "", False, 1, NumericsClass("other", "1", "x86_64/avx2", "", "", "", 1)),
            "",
            device(),
            "the job's is other 1 on x86_64/avx2",
        ),
    ],
)
def test_a_device_that_cannot_serve_a_task_says_why(
    needed: Requirement, pool: str, facts: DeviceFacts, said: str
) -> None:
    found = why_not(needed, parse(pool) if pool else None, facts)
    assert said in found
    assert bool(found) == bool(said)


def test_what_a_task_waits_for_is_said() -> None:
    task, bench = candidate("shard"), candidate("bench", ALONE)
    assert "no live node" in reason(task, [], [])
    lacking = place("n2", device(engines=()))
    assert "n2/cpu:0: onnxruntime-cpu is missing" in reason(task, [lacking], [])
    assert (
        reason(bench, [place()], [Claim("m1", False)]) == "it needs its machine alone; 1 leased task(s) must end first"
    )
    assert reason(bench, [place(), lacking], []) == "it is next in line for n1/cpu:0"


def test_a_task_avoids_the_node_that_just_failed_it_while_another_could_try() -> None:
    failed = Candidate("job", "again", SHARED, None, failed_on="n1")
    both = [place("n1"), place("n2", device(machine="m2"))]
    assert choose([failed], both[0], 2, [], both) == []
    assert choose([failed], both[1], 2, [], both) == [failed]
    assert choose([failed], both[0], 2, [], both[:1]) == [failed], "there is nobody else"
    unable = place("n2", device(machine="m2", engines=()))
    assert choose([failed], both[0], 2, [], [both[0], unable]) == [failed], "the other cannot serve it"


def claims_of(*places: Place, alone: bool) -> list[Claim]:
    return [Claim(at.facts.measurement_domain, alone) for at in places]


CPU, GPU, OTHER_GPU = place("n1", device("cpu:0")), place("n1", gpu()), place("n1", gpu("cuda:1", uuid="GPU-12"))
MACHINE = [CPU, GPU, OTHER_GPU]


def test_a_machine_that_is_measured_alone_keeps_its_gpus_idle() -> None:
    ready = [candidate("evaluate", ON_GPU), candidate("bench", GPU_ALONE)]
    measured = claims_of(CPU, alone=True)
    assert choose(ready, GPU, 1, measured, MACHINE) == []
    elsewhere = claims_of(place("n9", device(machine="m")), alone=True)
    assert names(choose(ready, GPU, 1, elsewhere, MACHINE)) == ["bench"], "m is no part of m1, nor the reverse"


def test_a_gpu_that_is_measured_leaves_its_machine_to_shared_tasks_but_not_to_a_measurement() -> None:
    measured = claims_of(GPU, alone=True)
    assert names(choose([candidate("shard")], CPU, 1, measured, MACHINE)) == ["shard"]
    assert choose([candidate("bench", ALONE)], CPU, 1, measured, MACHINE) == []
    assert choose([candidate("bench", ALONE)], CPU, 1, claims_of(GPU, alone=False), MACHINE) == []


def test_two_gpus_of_one_machine_are_measured_side_by_side() -> None:
    ready = [candidate("first", GPU_ALONE, "device == cuda:0"), candidate("second", GPU_ALONE, "device == cuda:1")]
    assert names(choose(ready, GPU, 1, [], MACHINE)) == ["first"]
    assert names(choose(ready[1:], OTHER_GPU, 1, claims_of(GPU, alone=True), MACHINE)) == ["second"]
    # One GPU's name may begin like another's.
    assert names(choose(ready[:1], GPU, 1, claims_of(OTHER_GPU, alone=True), MACHINE)) == ["first"]


def test_a_measurement_that_waits_for_its_gpu_stops_shared_work_there_and_none_on_the_processor() -> None:
    ready = [candidate("shard"), candidate("evaluate", ON_GPU), candidate("bench", GPU_ALONE, "device == cuda:0")]
    busy = claims_of(GPU, alone=False)
    assert names(choose(ready, CPU, 2, busy, MACHINE)) == ["shard"]
    assert choose(ready, GPU, 1, busy, MACHINE) == []
    assert names(choose(ready, OTHER_GPU, 1, busy, MACHINE)) == ["evaluate"]
    assert names(choose(ready, GPU, 1, claims_of(CPU, alone=False), MACHINE)) == ["bench"]


def test_a_measurement_that_waits_for_its_machine_stops_new_work_on_the_gpus() -> None:
    ready = [candidate("bench", ALONE), candidate("evaluate", ON_GPU), candidate("later", GPU_ALONE)]
    assert choose(ready, GPU, 1, claims_of(CPU, alone=False), MACHINE) == []
    assert names(choose(ready, CPU, 1, [], MACHINE)) == ["bench"]
    earlier = [candidate("earlier", GPU_ALONE), *ready]
    assert names(choose(earlier, GPU, 1, claims_of(CPU, alone=False), MACHINE)) == ["earlier"]


def test_a_phone_is_measured_whatever_its_host_does() -> None:
    hanging = place("n1", phone())
    places = [*MACHINE, hanging, place("n1", phone("9f3a2"))]
    bench = [candidate("bench", PHONE_ALONE)]
    for claims in (claims_of(CPU, alone=True), claims_of(CPU, GPU, alone=False), claims_of(places[-1], alone=True)):
        assert names(choose(bench, hanging, 1, claims, places)) == ["bench"]
    assert choose(bench, hanging, 1, claims_of(hanging, alone=False), places) == []
    waiting = [candidate("bench", ALONE), *bench]
    assert names(choose(waiting, CPU, 1, claims_of(hanging, alone=True), places)) == ["bench"]


def test_what_a_measurement_waits_for_is_counted_by_what_must_end_first() -> None:
    on_gpu, on_machine = candidate("gpu", GPU_ALONE, "device == cuda:0"), candidate("machine", ALONE)
    everywhere = claims_of(CPU, GPU, OTHER_GPU, alone=False)
    assert reason(on_gpu, MACHINE, everywhere) == "it needs its GPU alone; 1 leased task(s) must end first"
    assert reason(on_machine, MACHINE, everywhere) == "it needs its machine alone; 3 leased task(s) must end first"
    assert "its GPU alone; 1 leased" in reason(on_gpu, MACHINE, claims_of(CPU, alone=True))
    assert reason(on_gpu, MACHINE, claims_of(CPU, alone=False)) == "it is next in line for n1/cuda:0"


def _may_meet(one: Claim, other: Claim) -> bool:
    """What is measured shares with nothing; what is measured as a whole shares no part of it either."""
    if one.domain == other.domain:
        return not (one.exclusive or other.exclusive)
    pairs = ((one, other), (other, one))
    return not any(whole.exclusive and part.domain.startswith(f"{whole.domain}/") for whole, part in pairs)


@settings(deadline=None)
@given(
    needs=st.lists(NESTED_REQUIREMENTS, min_size=4, max_size=15),
    turns=st.lists(st.tuples(st.sampled_from(NESTED_PLACES), st.integers(0, 20)), min_size=4, max_size=50),
)
def test_no_two_leases_ever_meet_that_may_not(needs: list[Requirement], turns: list[tuple[Place, int]]) -> None:
    places = NESTED_PLACES
    ready = [candidate(str(index), needed) for index, needed in enumerate(needs)]
    leased: list[tuple[Claim, Place]] = []
    for asking, ending in turns:
        free = len(asking.facts.slots) - sum(at is asking for _, at in leased)
        for task in choose(ready, asking, free, [claim for claim, _ in leased], places):
            ready.remove(task)
            leased.append((Claim(asking.facts.measurement_domain, task.requirement.exclusive), asking))
        claims = [claim for claim, _ in leased]
        assert all(_may_meet(one, other) for i, one in enumerate(claims) for other in claims[:i])
        if leased and ending % 2:
            leased.pop(ending % len(leased))
    # While nothing new comes, whatever some place can serve is served as the leases end one by one.
    able = [task for task in ready if any(_can(task, at) for at in places)]
    for _ in range(3 * (len(able) + len(leased)) + 3):
        for at in places:
            free = len(at.facts.slots) - sum(where is at for _, where in leased)
            for task in choose(able, at, free, [claim for claim, _ in leased], places):
                able.remove(task)
                leased.append((Claim(at.facts.measurement_domain, task.requirement.exclusive), at))
        leased = leased[1:]
    assert able == []
