"""Puts the probes together: the devices of this host with their verified facts. Not who may use them when."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import CpuFacts, DeviceFacts, EngineFacts, Package, numerics_isa
from quantfleet_worker.engines import elsewhere
from quantfleet_worker.engines.registry import EngineListing, engines
from quantfleet_worker.equipment import Equipment
from quantfleet_worker.probes import int8_selftest
from quantfleet_worker.probes.boot import boot_id
from quantfleet_worker.probes.cpu import cpu_facts, sve_bits, usable_cores
from quantfleet_worker.probes.gpu import Gpu, find_gpus
from quantfleet_worker.probes.phones import phone_devices
from quantfleet_worker.probes.software import software

_log = logging.getLogger(__name__)


def probe(
    slots: tuple[int, ...] | None = None, allowed_code: tuple[str, ...] = (), equipment: Equipment | None = None
) -> tuple[DeviceFacts, ...]:
    """Look at this host: its CPU as `cpu:0`, its GPUs as `cuda:0` and so on, and the phones of the equipment, each with
    the engines that can run there. Takes about a second, and as long again for each phone.

    `slots` are the logical cores that this node may fill with tasks side by side (all that are usable unless told), so
    that several nodes on one machine can share it out; a GPU is the node's that has its feeding core. `allowed_code`
    are the packages whose code jobs may run here. A GPU or phone that does not answer is left out, with a warning.
    Raises QuantfleetError(USAGE) for a core that is not usable, and for a mistake in the list of phones.
    """
    cores = usable_cores(frozenset(os.sched_getaffinity(0)))
    share = cores if slots is None else slots
    if not share or len(set(share)) != len(share) or not set(share) <= set(cores):
        raise QuantfleetError(
            ErrorCode.USAGE,
            f"cores {list(share)} cannot be this node's share",
            f"choose some of the usable cores, each once: {list(cores)}",
        )
    found = find_gpus(cores)
    for warning in found.warnings:
        _log.warning("%s", warning)
    placed = feeding(found.gpus, share, cores)
    feeders = {gpu.core for gpu in placed}
    hardware = cpu_facts(*int8_selftest.run(share[0]))
    host = _Host(hardware, cores, equipment, software(), allowed_code)
    phones = phone_devices(equipment.phones, share[0]) if equipment and equipment.phones else ()
    return (
        host.cpu(tuple(core for core in share if core not in feeders) or share),
        *(host.cuda(gpu, alone=len(share) > len(feeders)) for gpu in placed),
        *phones,
    )


@dataclass(frozen=True)
class Fed:
    """A GPU of this node: its `number` on the host, and the core that feeds it."""

    number: int
    gpu: Gpu
    core: int


def feeding(gpus: Sequence[Gpu], share: Sequence[int], usable: Sequence[int]) -> tuple[Fed, ...]:
    """Which GPUs belong to the node with this share of the usable cores, and which core feeds each.

    Every node on the host comes to the same answer: a GPU takes the last core near it that no GPU before it has, and
    the last of all where none is left.
    """
    taken: list[int] = []
    found = []
    for number, gpu in enumerate(gpus):
        near = [core for core in gpu.cores if core not in taken] or [core for core in usable if core not in taken]
        core = (near or list(usable))[-1]
        taken.append(core)
        if core in share:
            found.append(Fed(number, gpu, core))
    return tuple(found)


@dataclass(frozen=True)
class _Host:
    """What the devices inside this host have in common."""

    hardware: CpuFacts
    cores: tuple[int, ...]
    equipment: Equipment | None
    software: tuple[Package, ...]
    allowed_code: tuple[str, ...]

    def cpu(self, slots: tuple[int, ...]) -> DeviceFacts:
        """The processor, with these slots."""
        return DeviceFacts(
            device="cpu:0",
            kind="cpu",
            hardware=self.hardware,
            engines=self._engines(self.hardware.isa, "cpu"),
            cores=self.cores,
            slots=slots,
            measurement_domain=boot_id(),
            numerics_isa=numerics_isa(self.hardware.architecture, self.hardware.isa, sve_bits()),
            verified=True,
            software=self.software,
            allowed_code=self.allowed_code,
        )

    def cuda(self, fed: Fed, *, alone: bool) -> DeviceFacts:
        """A GPU; `alone` is whether its feeding core is left to it, so that the rest of the host need not be idle."""
        facts = fed.gpu.facts
        return DeviceFacts(
            device=f"cuda:{fed.number}",
            kind="cuda",
            hardware=self.hardware,
            engines=self._engines(facts.isa, "cuda"),
            cores=(fed.core,),
            slots=(fed.core,),
            measurement_domain=f"{boot_id()}/{facts.uuid}" if alone else boot_id(),
            numerics_isa=numerics_isa(self.hardware.architecture, self.hardware.isa, sve_bits()),
            verified=True,
            software=self.software,
            allowed_code=self.allowed_code,
            gpu=facts,
        )

    def _engines(self, isa: tuple[str, ...], kind: str) -> tuple[EngineFacts, ...]:
        """The engines of a kind of device, those with an interpreter of their own as they are there."""
        known = engine_facts(engines(isa), kind)
        interpreters = self.equipment.interpreters if self.equipment else {}
        found = {engine.name: engine for engine in known}
        for interpreter in sorted({interpreters[name] for name in found if name in interpreters}):
            names = [name for name in found if interpreters.get(name) == interpreter]
            for name, answer in elsewhere.ask(interpreter, names).items():
                here = found[name]
                found[name] = EngineFacts(
                    name=name,
                    version=answer.version or "",
                    precisions=here.precisions,
                    available=answer.version is not None,
                    missing=answer.missing or "",
                )
        return tuple(found.values())


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
