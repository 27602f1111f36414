from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.domain.reporting.sample_reports import failed_report, sample_report, tuned_report, two_model_report

from quantfleet_domain.reporting.checking.findings import Checked
from quantfleet_domain.reporting.checking.lint import check_markdown
from quantfleet_domain.reporting.markdown import to_markdown


@pytest.mark.parametrize("make", [sample_report, tuned_report, two_model_report, failed_report])
def test_our_own_tables_have_nothing_to_find(make: object) -> None:
    assert callable(make)
    assert check_markdown(to_markdown(make())).findings == ()


def measured(mean_ms: dict[tuple[str, str], float], extra: float) -> Checked:
    """Our own report of other latencies, in which decoding takes `extra` of the runtime latency."""
    report = sample_report()
    results = []
    for result in report.results:
        assert result.latency_ms
        longer = 1.0 if result.mode == "runtime" else 1 + extra
        mean = mean_ms[result.engine, result.precision] * longer
        base = mean_ms[result.engine, "fp32"] * longer
        summary = replace(
            result.latency_ms, **dict.fromkeys(("mean", "median", "min", "max", "p90", "p95", "p99"), mean)
        )
        speedup = result.speedup and replace(result.speedup, value=base / mean, low=base / mean, high=base / mean)
        results.append(replace(result, latency_ms=summary, throughput_per_s=1000 / mean, speedup=speedup))
    return check_markdown(to_markdown(replace(report, results=tuple(results))))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0.01, 5000), min_size=4, max_size=4), st.floats(0.01, 3))
def test_our_own_tables_are_clean_whatever_was_measured(means: list[float], extra: float) -> None:
    keys = [(engine, precision) for engine in ("onnxruntime-cpu", "paddle-cpu") for precision in ("fp32", "int8")]
    checked = measured(dict(zip(keys, means, strict=True)), extra)
    assert checked.findings == ()
    assert (checked.judged["derived_cells"], checked.judged["end2end_latencies"]) == (8, 12)
