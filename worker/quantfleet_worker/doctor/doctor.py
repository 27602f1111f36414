"""Tries every engine of a node's devices and says which precisions work there. Not for what is tried (see contract)."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.facts import DeviceFacts, EngineFacts, Proof
from quantfleet_domain.hardware.offers import ENGINES, EngineOffer
from quantfleet_worker.agent.placing import placed
from quantfleet_worker.doctor import examining, specimens
from quantfleet_worker.equipment import Equipment
from quantfleet_worker.execution.outcome import Crashed, Failed, Result
from quantfleet_worker.execution.spec import RunSpec
from quantfleet_worker.execution.supervisor import ChildRun
from quantfleet_worker.tasks.request import Surroundings

Progress = Callable[[str], None]
_PROOFS = "doctor.json"
_CORES = 2
"""How many an engine on a CPU is given, where the device has them: enough to see whether it heeds a thread count."""


def examine(devices: Sequence[DeviceFacts], equipment: Equipment, progress: Progress) -> tuple[DeviceFacts, ...]:
    """The devices with what was found of each engine that is there, in every precision that it offers.

    Each is tried in a child process of its own, on the device's own cores: one that crashes costs its own proof alone.
    `progress` is told what comes next.
    """
    with tempfile.TemporaryDirectory(prefix="quantfleet-doctor-") as folder:
        engines = {engine.name for facts in devices for engine in facts.engines if engine.available}
        runtimes = {ENGINES[name].runtime for name in engines if name in ENGINES and ENGINES[name].quantizations}
        ward = _Ward(Path(folder), runtimes, equipment, progress)
        return tuple(replace(facts, engines=tuple(ward.examined(facts))) for facts in devices)


class _Ward:
    """The small networks, each made when it is first needed, and the children that use them."""

    def __init__(self, folder: Path, runtimes: set[str], equipment: Equipment, progress: Progress) -> None:
        self._folder = folder
        self._runtimes = runtimes
        self._equipment = equipment
        self._progress = progress
        self._made: dict[str, dict[str, Any] | QuantfleetError] = {}
        (folder / "files").mkdir()

    def examined(self, facts: DeviceFacts) -> Iterator[EngineFacts]:
        """The engines of a device with their proofs."""
        for engine in facts.engines:
            offer = ENGINES.get(engine.name)
            if not engine.available or offer is None:
                yield engine
                continue
            proofs = tuple(self._proof(facts, offer, precision) for precision in engine.precisions)
            yield replace(engine, proofs=proofs)

    def _proof(self, facts: DeviceFacts, offer: EngineOffer, precision: str) -> Proof:
        self._progress(f"{facts.device}: {offer.name} in {precision}")
        try:
            networks = self._networks(facts, offer)
            spec = placed(facts, offer.name, _CORES, 0, self._equipment)
            answer = self._ask(spec, examining.HANDLER, self._request(facts, offer, precision, spec, networks))
        except QuantfleetError as error:
            return Proof(precision, passed=False, finding=f"{error.what} ({error.todo})")
        return Proof(precision, bool(answer["passed"]), str(answer["finding"]))

    def _request(
        self, facts: DeviceFacts, offer: EngineOffer, precision: str, spec: RunSpec, networks: dict[str, Any]
    ) -> dict[str, Any]:
        files = str(self._folder / "files")
        here = Surroundings(
            cache=files,
            outputs=files,
            device=facts.device,
            cores=spec.cores,
            isa=facts.isa,
            numerics_isa=facts.numerics_isa,
            companions=(),
            kept=str(self._equipment.kept),
            phones=str(self._equipment.phones or ""),
        )
        scratch = tempfile.mkdtemp(dir=self._folder)
        return {
            "engine": offer.name,
            "precision": precision,
            "here": asdict(here),
            "specimens": networks,
            "scratch": scratch,
        }

    def _networks(self, facts: DeviceFacts, offer: EngineOffer) -> dict[str, Any]:
        """The network in the format that an engine's runtime wants. Raises what making it raised, each time."""
        wanted = offer.formats[0]
        if wanted not in self._made:
            of_format = {other.runtime for other in ENGINES.values() if other.formats[0] == wanted}
            request = {
                "format": wanted,
                "runtimes": sorted(of_format & self._runtimes),
                "files": str(self._folder / "files"),
                "scratch": tempfile.mkdtemp(dir=self._folder),
                "isa": facts.hardware.isa,
            }
            self._progress(f"making a small {wanted} model")
            try:
                self._made[wanted] = self._ask(RunSpec(facts.feeding or facts.cores[:1]), specimens.HANDLER, request)
            except QuantfleetError as error:
                self._made[wanted] = error
        made = self._made[wanted]
        if isinstance(made, QuantfleetError):
            what = f"no small {wanted} model could be made to try it with: {made.what}"
            raise QuantfleetError(made.code, what, made.todo)
        return made

    def _ask(self, spec: RunSpec, handler: str, request: dict[str, Any]) -> dict[str, Any]:
        outcome = ChildRun(replace(spec, handler=handler)).run(json.dumps(request).encode())
        match outcome:
            case Result():
                found: dict[str, Any] = json.loads(outcome.payload)
                return found
            case Failed() | Crashed():
                raise outcome.error
            case _:
                raise QuantfleetError(ErrorCode.WORKER_FAILED, "it was killed", "run the doctor again")


def save_proofs(devices: Sequence[DeviceFacts], state: Path) -> None:
    """Keep what was found in a node's state directory, for `with_proofs`."""
    found = [
        {
            "device": facts.device,
            "model_name": facts.model_name,
            "engine": engine.name,
            "version": engine.version,
            "proofs": [asdict(proof) for proof in engine.proofs],
        }
        for facts in devices
        for engine in facts.engines
        if engine.proofs
    ]
    state.mkdir(parents=True, exist_ok=True)
    temporary = state / f".{_PROOFS}"
    temporary.write_text(json.dumps(found, indent=1) + "\n")
    temporary.replace(state / _PROOFS)


def with_proofs(devices: Sequence[DeviceFacts], state: Path) -> tuple[DeviceFacts, ...]:
    """The devices with what an earlier examination found of them, as far as device and version are still the same."""
    try:
        found = json.loads((state / _PROOFS).read_text())
        proofs = {
            (item["device"], item["model_name"], item["engine"], item["version"]): tuple(
                Proof(**proof) for proof in item["proofs"]
            )
            for item in found
        }
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is another version's: nothing is proven
        return tuple(devices)
    return tuple(
        replace(
            facts,
            engines=tuple(
                replace(e, proofs=proofs.get((facts.device, facts.model_name, e.name, e.version), ()))
                for e in facts.engines
            ),
        )
        for facts in devices
    )
