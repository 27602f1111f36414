"""Checks a report.json: whether its figures follow from each other and say where they come from. Not for tables."""

import itertools
import math
from collections.abc import Iterator

from quantfleet_domain.errors import QuantfleetError
from quantfleet_domain.measurement.latency import LatencySummary, throughput_per_s
from quantfleet_domain.reporting import words
from quantfleet_domain.reporting.checking.findings import Checked, Finding, Rule, Severity
from quantfleet_domain.reporting.gates import evaluate
from quantfleet_domain.reporting.report import GateResult, Report, Result

_SLACK = 1e-9
"""Relative. Other software may have added in another order; it is far below any digit that means something."""

_ASCENDING = ("min", "median", "p90", "p95", "p99", "max")


def check_report(report: Report) -> Checked:
    """Everything that is found in a report, a fault each: a report of ours has no room for a reader's guess."""
    findings: list[Finding] = []
    for at, device in enumerate(report.fleet):
        if not device.hardware:
            part = f"fleet[{at}]: {device.node}/{device.device}"
            findings.append(_fault(Rule.PROVENANCE, part, "hardware", "no fact of this device is known"))
    for at, result in enumerate(report.results):
        part = f"results[{at}]: {_name(result)}"
        findings += (_fault(rule, part, where, what) for rule, where, what in _faults(result, report))
    for at, gate in enumerate(report.gates):
        findings += _gate(f"gates[{at}]: {gate.expression}", gate, report)
    return Checked(tuple(findings), {"results": len(report.results), "gates": len(report.gates)})


def _faults(result: Result, report: Report) -> Iterator[tuple[Rule, str, str]]:
    yield from _provenance(result, report)
    yield from _accuracy(result)
    if result.latency_ms:
        yield from _order(result.latency_ms)
        yield from _throughput(result, result.latency_ms)
        yield from _speedup(result, result.latency_ms, report)
        yield from _end2end(result, result.latency_ms, report)


def _provenance(result: Result, report: Report) -> Iterator[tuple[Rule, str, str]]:
    if not any((d.node, d.device) == (result.node, result.device) for d in report.fleet):
        yield Rule.PROVENANCE, "device", f"{result.node}/{result.device} is not in the fleet: its hardware is not known"
    needed = {"engine_version": "which version of the engine this is"}
    if result.latency_ms:
        needed |= {
            "samples_artifact": "which raw latencies the figures come from",
            "settings_in_effect": "under which settings the engine ran",
            "measured_at": "when it was measured",
            "warmup": "after how many untimed runs it was measured",
            "repeat": "how many runs were timed",
        }
    for name, meaning in needed.items():
        if getattr(result, name) in (None, "", {}):
            yield Rule.PROVENANCE, name, f"it does not say {meaning}"


def _accuracy(result: Result) -> Iterator[tuple[Rule, str, str]]:
    for figure in result.accuracy:
        if figure.unit == "percent" and not 0 <= figure.value <= 100:
            yield Rule.ACCURACY, f"accuracy.{figure.metric}", f"{figure.value:g} percent is not between 0 and 100"


def _order(latency: LatencySummary) -> Iterator[tuple[Rule, str, str]]:
    known = [name for name in _ASCENDING if getattr(latency, name) is not None]
    for below, above in (*itertools.pairwise(known), ("min", "mean"), ("mean", "max")):
        low, high = getattr(latency, below), getattr(latency, above)
        if low > high and not _equal(low, high):
            yield Rule.PERCENTILES, f"latency_ms.{below}", f"{low:.6g} ms is above {above}, {high:.6g} ms"


def _throughput(result: Result, latency: LatencySummary) -> Iterator[tuple[Rule, str, str]]:
    if result.throughput_per_s is None or result.batch is None or latency.mean <= 0:
        return
    expected = throughput_per_s(latency, result.batch)
    if not _equal(result.throughput_per_s, expected):
        working = f"{expected:.6g} = batch {result.batch} ÷ mean {latency.mean:.6g} ms"
        yield Rule.THROUGHPUT, "throughput_per_s", f"{result.throughput_per_s:.6g} should be {working}"


def _speedup(result: Result, latency: LatencySummary, report: Report) -> Iterator[tuple[Rule, str, str]]:
    figure = result.speedup
    if figure is None:
        return
    low, high = (figure.value if bound is None else bound for bound in (figure.low, figure.high))
    if not low <= figure.value <= high:
        yield Rule.INTERVAL, "speedup", f"{figure.value:.6g} is outside of its interval [{low:.6g}, {high:.6g}]"
    against = [
        r.latency_ms
        for r in report.results
        if r.precision == figure.against and r.latency_ms and (_subject(r), r.mode) == (_subject(result), result.mode)
    ]
    if not against:
        what = f"there is no {figure.against} latency of this measurement that it could follow from"
        yield Rule.SPEEDUP, "speedup.value", what
    elif latency.mean > 0 and not any(_equal(figure.value, base.mean / latency.mean) for base in against):
        expected = f"{against[0].mean / latency.mean:.6g} = {against[0].mean:.6g} ms ÷ {latency.mean:.6g} ms"
        yield Rule.SPEEDUP, "speedup.value", f"{figure.value:.6g} should be {expected} ({figure.against} ÷ this row)"


def _end2end(result: Result, latency: LatencySummary, report: Report) -> Iterator[tuple[Rule, str, str]]:
    if result.mode != "end2end":
        return
    for at, other in enumerate(report.results):
        same = (_subject(other), _variant(other)) == (_subject(result), _variant(result))
        if other.mode == "runtime" and same and other.latency_ms and latency.mean <= other.latency_ms.mean:
            runtime = f"{other.latency_ms.mean:.6g} ms (results[{at}])"
            what = f"{latency.mean:.6g} ms is not above the runtime latency that it contains, {runtime}"
            yield Rule.END2END, "latency_ms.mean", what


def _gate(part: str, gate: GateResult, report: Report) -> Iterator[Finding]:
    try:
        (judged,) = evaluate((gate.expression,), report.results)
    except QuantfleetError as error:
        yield _fault(Rule.GATE, part, "expression", error.what)
        return
    if gate.value != judged.value:
        what = f"{_shown(gate.value)} should be {_shown(judged.value)}, the worst of the results"
        yield _fault(Rule.GATE, part, "value", what)
    elif gate.passed is not judged.passed:
        verdicts = {True: "passed", False: "missed"}
        what = f"it says {verdicts[gate.passed]}; a value of {_shown(gate.value)} is {verdicts[judged.passed]}"
        yield _fault(Rule.GATE, part, "passed", what)


def _subject(result: Result) -> tuple[object, ...]:
    """What was measured together: figures of two measurements may lie either way."""
    place = (result.model, result.node, result.device, result.engine)
    return (*place, result.threads, result.batch, result.samples_artifact)


def _variant(result: Result) -> tuple[object, ...]:
    return result.precision, result.quantization, result.form


def _name(result: Result) -> str:
    return f"{result.model}, {result.engine} {result.precision}, {words.place(result)}, {words.setting(result)}"


def _shown(value: float | None) -> str:
    return "null" if value is None else f"{value:.6g}"


def _equal(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_SLACK)


def _fault(rule: Rule, part: str, where: str, what: str) -> Finding:
    return Finding(Severity.FAULT, rule, part, where, what)
