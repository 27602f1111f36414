"""Puts the probes together: the devices of this host with their verified facts. Not who may use them when."""

import os
from collections.abc import Sequence

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import DeviceFacts, EngineFacts, numerics_isa
from quantfleet_worker.engines.registry import EngineListing, engines
from quantfleet_worker.equipment import Equipment
from quantfleet_worker.probes import int8_selftest
from quantfleet_worker.probes.boot import boot_id
from quantfleet_worker.probes.cpu import cpu_facts, sve_bits, usable_cores
from quantfleet_worker.probes.software import software


def probe(
    slots: tuple[int, ...] | None = None,
    allowed_code: tuple[str, ...] = (),
    equipment: Equipment | None = None,  # noqa: ARG001 - what reads it comes next
) -> tuple[DeviceFacts, ...]:
    """Look at this host: its CPU as `cpu:0`, with the engines that can run there. Takes about a second.

    `slots` are the logical cores that this node may fill with tasks side by side (all that are usable unless told), so
    that several nodes on one machine can share it out. `allowed_code` are the packages whose code jobs may run here.
    Raises QuantfleetError(USAGE) for a core that is not usable.
    """
    cores = usable_cores(frozenset(os.sched_getaffinity(0)))
    share = cores if slots is None else slots
    if not share or len(set(share)) != len(share) or not set(share) <= set(cores):
        raise QuantfleetError(
            ErrorCode.USAGE,
            f"cores {list(share)} cannot be this node's share",
            f"choose some of the usable cores, each once: {list(cores)}",
        )
    hardware = cpu_facts(*int8_selftest.run(share[0]))
    return (
        DeviceFacts(
            device="cpu:0",
            kind="cpu",
            hardware=hardware,
            engines=engine_facts(engines(hardware.isa), "cpu"),
            cores=cores,
            slots=tuple(share),
            measurement_domain=boot_id(),
            numerics_isa=numerics_isa(hardware.architecture, hardware.isa, sve_bits()),
            verified=True,
            software=software(),
            allowed_code=allowed_code,
        ),
    )


def engine_facts(listings: Sequence[EngineListing], kind: str) -> tuple[EngineFacts, ...]:
    """The engines of one kind of device; a broken plug-in, whose kind is not known, is listed with every kind."""
    return tuple(
        EngineFacts(
            name=listing.name,
            version=listing.version or "",
            precisions=listing.precisions,
            available=listing.version is not None,
            missing=listing.missing or "",
        )
        for listing in listings
        if listing.kind in (kind, "")
    )
