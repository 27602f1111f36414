"""Which task a device is given: exclusivity, priority, classes, pools, and the words for waiting."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.jobs.sample_jobs import NUMERICS, device

from quantfleet_domain.calibration.graph import MIXED, NumericsClass
from quantfleet_domain.hardware.facts import DeviceFacts
from quantfleet_domain.hardware.pools import parse
from quantfleet_domain.jobs.placement import Candidate, Claim, Place, choose, reason, why_not
from quantfleet_domain.jobs.requirements import Requirement

SHARED = Requirement(("onnxruntime-cpu",), "", False, 1, None)
ALONE = Requirement(("onnxruntime-cpu",), "", True, 2, None)


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
    able = [task for task in ready if any(can(task, at) for at in places)]
    for _ in range(3 * len(able) + 3):
        for at in places:
            for task in choose(able, at, len(at.facts.slots), [], places):
                able.remove(task)
    assert able == []


def can(task: Candidate, at: Place) -> bool:
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
