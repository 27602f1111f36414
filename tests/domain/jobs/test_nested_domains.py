"""Measurement domains within others, a GPU's in its machine's: who yields to whom, and what never meets."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.jobs.sample_jobs import device, gpu, phone
from tests.domain.jobs.test_placement import ALONE, SHARED, can, candidate, names, place

from quantfleet_domain.jobs.placement import Claim, Place, choose, reason
from quantfleet_domain.jobs.requirements import Requirement

ON_GPU, GPU_ALONE = (Requirement(("tensorrt",), "", alone, 1, None) for alone in (False, True))
PHONE_ALONE = Requirement(("paddle-lite",), "", True, 4, None)
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


def test_measurements_that_would_meet_go_by_age_whichever_device_asks_first() -> None:
    on_gpu, on_machine = candidate("gpu", GPU_ALONE, "device == cuda:0"), candidate("machine", ALONE)
    assert choose([on_gpu, on_machine], CPU, 1, [], MACHINE) == [], "the GPU's came first"
    assert names(choose([on_gpu, on_machine], GPU, 1, [], MACHINE)) == ["gpu"]
    assert names(choose([on_machine, on_gpu], CPU, 1, [], MACHINE)) == ["machine"]
    # A machine whose only core feeds its GPU is one domain.
    whole = place("n1", replace(gpu(), measurement_domain="m1"))
    assert choose([on_gpu, on_machine], CPU, 1, [], [CPU, whole]) == []
    assert names(choose([on_gpu, on_machine], whole, 1, [], [CPU, whole])) == ["gpu"]
    assert names(choose([on_gpu, on_machine], CPU, 1, [], [CPU])) == ["machine"], "nobody waits for a GPU that is gone"


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
    able = [task for task in ready if any(can(task, at) for at in places)]
    for _ in range(3 * (len(able) + len(leased)) + 3):
        for at in places:
            free = len(at.facts.slots) - sum(where is at for _, where in leased)
            for task in choose(able, at, free, [claim for claim, _ in leased], places):
                able.remove(task)
                leased.append((Claim(at.facts.measurement_domain, task.requirement.exclusive), at))
        leased = leased[1:]
    assert able == []
