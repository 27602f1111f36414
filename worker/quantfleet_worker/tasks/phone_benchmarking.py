"""The task `benchmark` on a phone: rounds of the phone's own tool, the variants in turns. Not for other devices."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.jobs.measured import BenchmarkResult, Measured, Ratio, Setting
from quantfleet_domain.jobs.spec import InputShape
from quantfleet_domain.jobs.work import Absence, BenchmarkWork, Variant
from quantfleet_domain.measurement.latency import Round, summarize_rounds
from quantfleet_domain.measurement.protocol import Mode, Protocol
from quantfleet_domain.measurement.quiet import Conditions, judge
from quantfleet_domain.measurement.speedup import speedup_of_rounds
from quantfleet_worker.engines.base import Engine
from quantfleet_worker.engines.registry import engine_named
from quantfleet_worker.execution.child import Report
from quantfleet_worker.phones.phone import Phone
from quantfleet_worker.phones.session import OnPhone, PhoneSession
from quantfleet_worker.phones.watching import Watch
from quantfleet_worker.tasks.benchmarking import key_of
from quantfleet_worker.tasks.contenders import Contender, Inputs
from quantfleet_worker.tasks.phone_models import LiteModel, carry, lite_model
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.workspace import Workspace

ROUNDS = 5
"""Rounds of each variant. A round is what the field reports: the job's warm-ups, and all of its repeats."""
SCHEMA = "quantfleet/rounds/v1"
_BASELINE = "fp32"
_CONVERTING = 0.2
"""The share of the task's progress that converting counts for."""
_OF_THE_MODEL = (
    ErrorCode.MODEL_UNREADABLE, ErrorCode.MODEL_UNSUPPORTED, ErrorCode.ENGINE_CRASHED, ErrorCode.ENGINE_FAILED,
)  # fmt: skip
_END2END = "the phone's tool times the inference alone: there is no end2end on a phone"


def benchmark_on_phone(
    work: BenchmarkWork, workspace: Workspace, here: Surroundings, report: Report, phone: Phone
) -> BenchmarkResult:
    """Every latency is the phone's own; a round's mean, least and greatest are all that its tool tells.

    Raises QuantfleetError: PHONE_LOST where the phone goes away, ENGINE_MISSING, STORAGE_FULL, SAMPLE_UNREADABLE,
    PREPROCESS_INVALID; MODEL_UNREADABLE, MODEL_UNSUPPORTED, ENGINE_CRASHED and ENGINE_FAILED where nothing else could
    be measured. A cell that cannot be had, or for which the phone gave fewer threads, is an `Absence`.
    """
    bench = _Bench(work, workspace, here, phone)
    models = bench.convert(report)
    if models:
        with phone.transport.workdir() as directory:
            bench.measure(carry(phone, directory, models), report)
    return bench.result()


@dataclass
class _Cell:
    """One cell while it is measured: per variant its session with what is bound, and the rounds so far."""

    protocol: Protocol
    sessions: dict[str, PhoneSession] = field(default_factory=dict)
    contenders: dict[str, Contender] = field(default_factory=dict)
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    printed: dict[str, list[str]] = field(default_factory=dict)


class _Bench:
    def __init__(self, work: BenchmarkWork, workspace: Workspace, here: Surroundings, phone: Phone) -> None:
        self._work = work
        self._workspace = workspace
        self._here = here
        self._phone = phone
        self._engine: Engine = engine_named(work.engine)
        self._inputs = Inputs(work, workspace)
        self._models: dict[str, LiteModel] = {}
        self._variants: dict[str, Variant] = {}
        self._rows: list[Measured] = []
        self._absent: list[Absence] = list(work.absent)
        self._printed: list[dict[str, object]] = []
        self._refusal: QuantfleetError | None = None
        self._library = ""
        self._warnings: dict[str, None] = {}
        self._started = time.time()

    def convert(self, report: Report) -> dict[str, LiteModel]:
        """The variants that this phone has, as its models by name."""
        present = self._engine.precisions_on(self._here.isa)
        for place, variant in enumerate(self._work.variants):
            report(_CONVERTING * place / len(self._work.variants), f"converting {key_of(variant).name}")
            if variant.precision not in present:
                lacking = f"this phone has no {variant.precision} for {self._engine.name}"
                self._leave_out(variant, None, lacking, applicable=False)
                continue
            try:
                model = lite_model(self._engine, variant, self._phone, self._workspace, self._here)
            except QuantfleetError as error:
                self._refuse(variant, None, error)
            else:
                self._models[key_of(variant).name] = model
                self._variants[key_of(variant).name] = variant
        return self._models

    def measure(self, carried: Mapping[str, OnPhone], report: Report) -> None:
        """All cells, one after another."""
        work = self._work
        cells = [(t, b, m) for t in work.threads for b in work.batch_sizes for m in work.modes]
        for done, (threads, batch, mode) in enumerate(cells):
            protocol = Protocol(mode, work.warmup, work.repeat * ROUNDS, blocks=ROUNDS, threads=threads, batch=batch)
            if mode != Mode.RUNTIME:
                for variant in self._variants.values():
                    self._leave_out(variant, protocol, _END2END, applicable=False)
                continue
            share = _CONVERTING + (1 - _CONVERTING) * done / len(cells)
            report(share, f"{threads} thread(s), batch {batch}: looking at the phone")
            watch = Watch(self._phone.transport)
            cell = self._begin(protocol, carried, watch)
            self._take_turns(cell, watch, report, share)
            if cell.sessions:
                self._keep(cell, watch.conditions())

    def _take_turns(self, cell: _Cell, watch: Watch, report: Report, share: float) -> None:
        """Every round of every variant, and a last look at the one that came last."""
        protocol, loading_ms = cell.protocol, 0.0
        for turn in protocol.turns(list(cell.sessions)) if cell.sessions else ():
            if turn.variant not in cell.sessions:
                continue
            where = f"{protocol.threads} thread(s), batch {protocol.batch}"
            report(share, f"{where}: round {turn.block + 1} of {ROUNDS}, {turn.variant}")
            watch.look_around()
            try:
                said, printed = cell.sessions[turn.variant].timed(protocol.warmup, turn.runs)
            except QuantfleetError as error:
                del cell.sessions[turn.variant]
                self._refuse(self._variants[turn.variant], protocol, error)
                continue
            loading_ms = said.init_ms
            cell.rounds.setdefault(turn.variant, []).append(said.round)
            cell.printed.setdefault(turn.variant, []).append(printed)
        for session in list(cell.sessions.values())[-1:]:
            watch.saw(session.look(loading_ms))

    def _begin(self, protocol: Protocol, carried: Mapping[str, OnPhone], watch: Watch) -> _Cell:
        """Bind every variant and see what it has of the phone; those that it cannot have are absent."""
        cell = _Cell(protocol)
        for name, variant in self._variants.items():
            session = PhoneSession(carried[name], protocol.threads, name.replace("/", "-"))
            try:
                contender = self._inputs.contender(session, self._models[name].form, protocol)
                said, _ = session.timed(0, 1)
                seen = session.look(said.init_ms)
            except QuantfleetError as error:
                self._refuse(variant, protocol, error)
                continue
            self._library = session.library
            if said.converted_by:
                opt = f"the models were converted by opt {said.converted_by}, and the phone's library is {said.version}"
                self._warnings[opt] = None
            watch.saw(seen)
            if seen and seen.threads < protocol.threads:
                reason = f"{protocol.threads} threads are asked for, and the phone ran {seen.threads}"
                self._leave_out(variant, protocol, reason)
                continue
            cell.sessions[name], cell.contenders[name] = session, contender
        return cell

    def _keep(self, cell: _Cell, conditions: Conditions) -> None:
        verdict = judge(conditions)
        protocol = cell.protocol
        self._printed.append({"threads": protocol.threads, "batch": protocol.batch, "variants": cell.printed})
        for name, session in cell.sessions.items():
            variant, model, rounds = self._variants[name], self._models[name], cell.rounds[name]
            if self._work.require_quiet and not verdict.quiet:
                noise = "; ".join(verdict.reasons)
                self._leave_out(variant, protocol, f"the job demands quiet, and it was noisy: {noise}")
                continue
            ratio = None
            if name != _BASELINE and _BASELINE in cell.sessions:
                found = speedup_of_rounds(cell.rounds[_BASELINE], rounds)
                ratio = Ratio(found.value, found.low, found.high)
            settings = session.settings_in_effect() | {
                "opt": model.opt_version,
                "transport": self._phone.transport.kind,
            }
            feeds = cell.contenders[name].feeds
            self._rows.append(
                Measured(
                    precision=variant.precision,
                    quantization=variant.quantization,
                    form=model.form.form,
                    mode=protocol.mode,
                    threads=protocol.threads,
                    batch=protocol.batch,
                    latency=summarize_rounds(rounds),
                    speedup=ratio,
                    quiet=verdict.quiet,
                    noise=verdict.reasons,
                    conditions=conditions,
                    settings=tuple(Setting(key, value) for key, value in sorted(settings.items())),
                    int8_nodes=model.counts.int8,
                    quantizable_nodes=model.counts.quantizable,
                    fallbacks=model.counts.fallbacks,
                    int8_operators=model.counts.ran,
                    model_bytes=model.path.stat().st_size,
                    memory_mb=session.peak_memory_mb() if self._work.memory else None,
                    input_shapes=tuple(InputShape(key, array.shape) for key, array in feeds.items()),
                )
            )

    def _refuse(self, variant: Variant, protocol: Protocol | None, refusal: QuantfleetError) -> None:
        """Leave out what is refused for the model's sake; what is wrong with the phone or this host ends the task."""
        if refusal.code not in _OF_THE_MODEL:
            raise refusal
        self._refusal = self._refusal or refusal
        self._leave_out(variant, protocol, refusal.what)

    def _leave_out(self, variant: Variant, protocol: Protocol | None, reason: str, *, applicable: bool = True) -> None:
        cell = (protocol.mode, protocol.threads, protocol.batch) if protocol else ("", 0, 0)
        self._absent.append(Absence(variant.precision, variant.quantization, *cell, reason, applicable))

    def result(self) -> BenchmarkResult:
        """Everything measured; raises the first refusal where nothing was."""
        if self._refusal and not self._rows:
            raise self._refusal
        document = {"schema": SCHEMA, "warmup": self._work.warmup, "repeat": self._work.repeat, "cells": self._printed}
        raw = json.dumps(document, sort_keys=True, ensure_ascii=False).encode()
        if any(variant.precision == "int8" for variant in self._variants.values()):
            self._warnings |= dict.fromkeys(filter(None, [self._engine.int8_warning(self._here.isa)]))
        return BenchmarkResult(
            engine=self._engine.name,
            engine_version=self._library,
            device=self._here.device,
            measured_at=self._started,
            warmup=self._work.warmup,
            repeat=self._work.repeat * ROUNDS,
            blocks=ROUNDS,
            rows=tuple(self._rows),
            absent=tuple(self._absent),
            samples=self._workspace.keep("rounds.json", raw),
            warnings=tuple(self._warnings),
        )
