"""The task `benchmark`: measure all variants of one model on one engine, interleaved, alone on the machine."""

import os
import time
from collections.abc import Mapping

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.hardware.precisions import is_int8
from quantfleet_domain.jobs.measured import (
    BenchmarkResult,
    Measured,
    Ratio,
    Setting,
)
from quantfleet_domain.jobs.spec import InputShape
from quantfleet_domain.jobs.variants import VariantKey
from quantfleet_domain.jobs.work import (
    Absence,
    BenchmarkWork,
    Variant,
)
from quantfleet_domain.measurement.latency import summarize
from quantfleet_domain.measurement.protocol import Mode, Protocol
from quantfleet_domain.measurement.quiet import Conditions, judge
from quantfleet_domain.measurement.samples import Samples, encode
from quantfleet_domain.measurement.speedup import speedup
from quantfleet_worker.engines.base import Engine, LoadOptions, NodeCounts
from quantfleet_worker.engines.registry import engine_named
from quantfleet_worker.execution.child import Report
from quantfleet_worker.probes.watching import watch_over
from quantfleet_worker.tasks.affinity import pin_all_threads, pinned_cores
from quantfleet_worker.tasks.contenders import Contender, Inputs
from quantfleet_worker.tasks.loading import load_variant, path_of, settled, shapes_at
from quantfleet_worker.tasks.memory import peak_memory_mb
from quantfleet_worker.tasks.request import Surroundings
from quantfleet_worker.tasks.timing import Times
from quantfleet_worker.tasks.workspace import Workspace

_BASELINE = "fp32"
"""The name of the variant that others are compared with."""


def benchmark(work: BenchmarkWork, workspace: Workspace, here: Surroundings, report: Report) -> BenchmarkResult:
    """Raises MODEL_UNREADABLE, ENGINE_MISSING, ENGINE_FAILED, SAMPLE_UNREADABLE, PREPROCESS_INVALID.

    A cell that cannot be had (mode `end2end` without samples, more threads than cores, a batch that the model does not
    take, a precision that this CPU lacks, noise where quiet is demanded) is an `Absence` with its reason, and no error.
    So is a variant that the engine refuses, or a mode whose output has no meaning here, while another is measured.
    """
    engine_named(work.engine).start()
    bench = _Bench(work, workspace, here, report)
    bench.leave_out_what_the_device_lacks()
    cells = [(t, b, m) for t in work.threads for b in work.batch_sizes for m in work.modes]
    for done, (threads, batch, mode) in enumerate(cells):
        bench.measure(done / len(cells), Protocol(mode, work.warmup, work.repeat, threads=threads, batch=batch))
    return bench.result()


class _Bench:
    def __init__(self, work: BenchmarkWork, workspace: Workspace, here: Surroundings, report: Report) -> None:
        self._work = work
        self._workspace = workspace
        self._here = here
        self._report = report
        self._engine: Engine = engine_named(work.engine)
        self._inputs = Inputs(work, workspace)
        self._rows: list[Measured] = []
        self._absent: list[Absence] = list(work.absent)
        self._refusal: QuantfleetError | None = None
        self._variants = work.variants
        self._samples: list[bytes] = []
        self._counts: dict[tuple[str, int, int], NodeCounts] = {}
        self._started = time.time()
        self._blocks = 0
        self._cells = len(work.threads) * len(work.batch_sizes) * len(work.modes)

    def leave_out_what_the_device_lacks(self) -> None:
        """Take out the variants of a precision that the engine offers, but not on this device."""
        present = self._engine.precisions_on(self._here.isa)
        reason = f"this device has no {{}} for {self._engine.name}"
        for variant in self._work.variants:
            if variant.precision not in present:
                lacking = reason.format(variant.precision)
                self._absent.append(
                    Absence(variant.precision, variant.quantization, "", 0, 0, lacking, applicable=False)
                )
        self._variants = tuple(variant for variant in self._work.variants if variant.precision in present)

    def measure(self, share: float, protocol: Protocol) -> None:
        """One cell: all variants at one mode, thread count and batch size."""
        if protocol.mode == Mode.END2END and self._work.data is None:
            return self._give_up(protocol, "end2end needs samples, and the job brings none", applicable=False)
        if self._engine.kind == "cuda" and protocol.threads > 1:
            return self._give_up(protocol, "threads are a CPU's: one core feeds a GPU", applicable=False)
        if protocol.threads > len(self._here.cores):
            what = f"{protocol.threads} threads are asked for and {len(self._here.cores)} cores are there"
            return self._give_up(protocol, what)
        pin_all_threads(self._here.cores[: protocol.threads])
        where = f"{protocol.mode}, {protocol.threads} thread(s), batch {protocol.batch}"
        self._report(share, f"{where}: warming up")
        contenders = self._warm(protocol)
        if not contenders:
            return None
        turns = protocol.turns(list(contenders))
        self._blocks = len(protocol.block_sizes)
        times = {name: Times() for name in contenders}
        machine = range(os.cpu_count() or 1)
        cores = self._here.cores[: protocol.threads]
        watch = watch_over(self._engine.kind, cores, self._here.companions, machine)
        watch.sample()
        for done, turn in enumerate(turns):
            times[turn.variant].time(contenders[turn.variant], turn.runs)
            watch.sample()
            self._report(share + done / len(turns) / self._cells, f"{where}: block {turn.block + 1} of {self._blocks}")
        self._keep(protocol, contenders, times, watch.conditions())
        return None

    def _warm(self, protocol: Protocol) -> dict[str, Contender]:
        """The variants by name, loaded, fed and warmed up; without those that the engine refuses."""
        contenders: dict[str, Contender] = {}
        refused: list[tuple[Variant, QuantfleetError]] = []
        for variant in self._variants:
            try:
                contender = self._contender(variant, protocol)
                for _ in range(protocol.warmup):
                    contender.run()
            except QuantfleetError as error:
                refused.append((variant, error))
            else:
                contenders[key_of(variant).name] = contender
        for variant, refusal in refused:
            reason = refusal.what
            # A model may be made for one batch size; that it does not take another costs that cell alone.
            if protocol.batch != 1 and refusal.code is ErrorCode.ENGINE_FAILED:
                reason = f"the model does not run at batch {protocol.batch}: {refusal.what}"
            elif not contenders:
                self._refusal = self._refusal or refusal
            self._leave_out(variant, protocol, reason)
        return contenders

    def _contender(self, variant: Variant, protocol: Protocol) -> Contender:
        options = self._options(variant, protocol)
        form, session = load_variant(self._engine, variant, options, self._workspace, self._here, form=self._work.form)
        contender = self._inputs.contender(session, form, protocol)
        # An engine that is built for a batch size may choose other kernels for another.
        key = (key_of(variant).name, protocol.threads, protocol.batch)
        if key not in self._counts:
            self._counts[key] = session.node_counts()
        return contender

    def _options(self, variant: Variant, protocol: Protocol) -> LoadOptions:
        shapes = shapes_at(self._work.input_shapes, protocol.batch)
        return LoadOptions(variant.precision, protocol.threads, protocol.batch, shapes=shapes)

    def _keep(
        self,
        protocol: Protocol,
        contenders: Mapping[str, Contender],
        times: Mapping[str, Times],
        conditions: Conditions,
    ) -> None:
        verdict = judge(conditions)
        timed = {name: tuple(taken.runs) for name, taken in times.items()}
        parts = {name: {part: tuple(b) for part, b in taken.parts.items()} for name, taken in times.items()}
        self._samples.append(encode(Samples(protocol, timed, {name: p for name, p in parts.items() if p})))
        for variant in (variant for variant in self._variants if key_of(variant).name in contenders):
            name = key_of(variant).name
            if self._work.require_quiet and not verdict.quiet:
                noise = "; ".join(verdict.reasons)
                self._leave_out(variant, protocol, f"the job demands quiet, and it was noisy: {noise}")
                continue
            contender, blocks = contenders[name], timed[name]
            ratio = None
            if name != _BASELINE and _BASELINE in timed:
                found = speedup(timed[_BASELINE], blocks)
                ratio = Ratio(found.value, found.low, found.high)
            counts = self._counts[name, protocol.threads, protocol.batch]
            settings = contender.session.settings_in_effect() | {"cores": _listed(pinned_cores())}
            self._rows.append(
                Measured(
                    precision=variant.precision,
                    quantization=variant.quantization,
                    form=contender.form.form,
                    mode=protocol.mode,
                    threads=protocol.threads,
                    batch=protocol.batch,
                    latency=summarize(blocks),
                    speedup=ratio,
                    quiet=verdict.quiet,
                    noise=verdict.reasons,
                    conditions=conditions,
                    settings=tuple(Setting(name, value) for name, value in sorted(settings.items())),
                    int8_nodes=counts.int8,
                    quantizable_nodes=counts.quantizable,
                    fallbacks=counts.fallbacks,
                    int8_operators=counts.ran,
                    conversions=counts.conversions,
                    parts=times[name].means(),
                    model_bytes=contender.model_bytes,
                    memory_mb=self._memory(variant, contender, protocol),
                    input_shapes=tuple(InputShape(name, array.shape) for name, array in contender.feeds.items()),
                )
            )

    def _memory(self, variant: Variant, contender: Contender, protocol: Protocol) -> float | None:
        if not self._work.memory or protocol.mode != Mode.RUNTIME:
            return None
        return peak_memory_mb(
            self._engine.name,
            path_of(variant, contender.form, self._workspace),
            contender,
            settled(self._options(variant, protocol), contender.form, self._here),
            self._here.cores[: protocol.threads],
            self._workspace.scratch(f"feeds-{key_of(variant).name}"),
        )

    def _give_up(self, protocol: Protocol, reason: str, *, applicable: bool = True) -> None:
        for variant in self._variants:
            self._leave_out(variant, protocol, reason, applicable=applicable)

    def _leave_out(self, variant: Variant, protocol: Protocol, reason: str, *, applicable: bool = True) -> None:
        cell = (protocol.mode, protocol.threads, protocol.batch)
        self._absent.append(Absence(variant.precision, variant.quantization, *cell, reason, applicable))

    def result(self) -> BenchmarkResult:
        """Everything measured; raises the first refusal where nothing was."""
        if self._refusal and not self._rows:
            raise self._refusal
        raw = b"[" + b",".join(self._samples) + b"]\n"
        int8 = any(is_int8(variant.precision) for variant in self._variants)
        warning = self._engine.int8_warning(self._here.isa) if int8 else ""
        return BenchmarkResult(
            engine=self._engine.name,
            engine_version=self._engine.version(),
            device=self._here.device,
            measured_at=self._started,
            warmup=self._work.warmup,
            repeat=self._work.repeat,
            blocks=self._blocks,
            rows=tuple(self._rows),
            absent=tuple(self._absent),
            samples=self._workspace.keep("samples.json", raw),
            warnings=(warning,) if warning else (),
        )


def key_of(variant: Variant) -> VariantKey:
    """What a variant is called."""
    return VariantKey(variant.precision, variant.quantization)


def _listed(cores: tuple[int, ...]) -> str:
    return ",".join(str(core) for core in cores)
