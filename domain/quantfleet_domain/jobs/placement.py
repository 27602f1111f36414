"""Which ready task a device is given: a pure choice. Not for leases or for waiting."""

from collections.abc import Sequence
from dataclasses import dataclass

from quantfleet_domain.calibration.graph import MIXED
from quantfleet_domain.hardware.facts import DeviceFacts
from quantfleet_domain.hardware.pools import Selector
from quantfleet_domain.jobs.requirements import Requirement

_PLACES = {"cpu": "machine", "cuda": "GPU", "arm": "phone"}


@dataclass(frozen=True)
class Candidate:
    """A ready task: where it stands (`job`, `task`) and what it needs; `selector` is its pool, None for any.

    `failed_on` is the node of its last failed attempt (empty: none).
    """

    job: str
    task: str
    requirement: Requirement
    selector: Selector | None
    failed_on: str = ""


@dataclass(frozen=True)
class Place:
    """A device of a live node that takes new tasks."""

    node: str
    facts: DeviceFacts


@dataclass(frozen=True)
class Claim:
    """A lease that stands: its device's measurement domain, and whether it holds the domain alone."""

    domain: str
    exclusive: bool


def why_not(requirement: Requirement, selector: Selector | None, facts: DeviceFacts) -> str:
    """Why a device can never serve a task, for a person; empty where it can."""
    if selector is not None and not selector.matches(facts):
        return selector.why_not(facts)
    engines = {engine.name: engine for engine in facts.engines}
    for name in requirement.engines:
        engine = engines.get(name)
        if engine is None or not engine.available:
            missing = engine.missing if engine and engine.missing else "not installed there"
            return f"{facts.device}: {name} is missing: {missing}"
    installed = {package.name for package in facts.software}
    lacking = next((name for name in requirement.software if name not in installed), None)
    if lacking:
        return f"{facts.device}: {lacking} is not installed there; the guide on training says how it goes in"
    if requirement.code and requirement.code not in facts.allowed_code:
        return f"{facts.device}: its owner has not allowed code of package {requirement.code!r} (--allow-code)"
    if requirement.exclusive and requirement.cores > len(facts.cores):
        return f"{facts.device}: {requirement.cores} threads are asked for, it has {len(facts.cores)} cores"
    numerics = requirement.numerics
    if numerics is not None:
        reference = engines.get(numerics.engine)
        version = reference.version if reference else "(not installed there)"
        same_isa = numerics.isa in (facts.numerics_isa, MIXED)
        if not same_isa or version != numerics.engine_version:
            return (
                f"{facts.device}: its numerics class is {numerics.engine} {version} on {facts.numerics_isa}, "
                f"the job's is {numerics.engine} {numerics.engine_version} on {numerics.isa}"
            )
    return ""


def suits(candidate: Candidate, place: Place, live: Sequence[Place]) -> bool:
    """Whether a place may be given a task now: it can serve it, and did not just fail it while another could try."""
    if why_not(candidate.requirement, candidate.selector, place.facts):
        return False
    return candidate.failed_on != place.node or not any(
        other.node != place.node and not why_not(candidate.requirement, candidate.selector, other.facts)
        for other in live
    )


def choose(
    ready: Sequence[Candidate], place: Place, slots: int, claims: Sequence[Claim], live: Sequence[Place]
) -> list[Candidate]:
    """What this device is given now, oldest job first; `slots` is how many shared tasks it can take.

    A task that needs its measurement domain alone has priority: while one waits that some live device of the domain can
    serve, the domain takes no new shared tasks, so that it falls idle. A GPU's domain lies within its machine's: what
    holds the machine alone keeps the GPU idle too, while a measurement on the GPU, whose feeding core is no slot,
    leaves the other cores to shared tasks. What waits for the whole machine goes before later measurements of a part of
    it, which could take turns for ever. `live` are all places that take tasks.
    """
    domain = place.facts.measurement_domain
    inside = [claim for claim in claims if _within(claim.domain, domain)]
    if any(claim.exclusive for claim in claims if _within(domain, claim.domain)):
        return []
    neighbours = [other for other in live if _within(domain, other.facts.measurement_domain)]
    waiting = [
        candidate
        for candidate in ready
        if candidate.requirement.exclusive and any(suits(candidate, other, live) for other in neighbours)
    ]
    if waiting:
        whole = [other for other in neighbours if other.facts.measurement_domain != domain]
        for candidate in waiting:
            if suits(candidate, place, live):
                return [candidate] if not inside else []
            if any(suits(candidate, other, live) for other in whole):
                return []
        return []
    shared = (c for c in ready if not c.requirement.exclusive)
    return [c for c in shared if suits(c, place, live)][: max(slots, 0)]


def _within(inner: str, outer: str) -> bool:
    """Whether a measurement domain is another, or lies below it."""
    return inner == outer or inner.startswith(f"{outer}/")


def _hinders(claim: Claim, domain: str) -> bool:
    """Whether a lease keeps a domain from being measured."""
    return _within(claim.domain, domain) or (claim.exclusive and _within(domain, claim.domain))


def reason(candidate: Candidate, live: Sequence[Place], claims: Sequence[Claim]) -> str:
    """What a ready task waits for, for a person."""
    if not live:
        return "no live node takes tasks; enrol one, or start it: quantfleet worker run"
    able = [p for p in live if not why_not(candidate.requirement, candidate.selector, p.facts)]
    if not able:
        return "no live device can serve it: " + "; ".join(
            f"{p.node}/{why_not(candidate.requirement, candidate.selector, p.facts)}" for p in live
        )
    domains = {p.facts.measurement_domain for p in able}
    busy = sum(any(_hinders(claim, domain) for domain in domains) for claim in claims)
    if candidate.requirement.exclusive and busy:
        place = _PLACES.get(able[0].facts.kind, "device")
        return f"it needs its {place} alone; {busy} leased task(s) must end first"
    return "it is next in line for " + ", ".join(f"{p.node}/{p.facts.device}" for p in able)
