import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from tests.domain.reporting.sample_reports import (
    failed_report,
    phone_report,
    sample_report,
    trained_report,
    tuned_report,
    two_model_report,
)

from quantfleet.rendering.html import headlines, to_html
from quantfleet.rendering.plots import accuracy_plot, latency_plot, loss_plot
from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.reporting.report import Accuracy, Report
from quantfleet_domain.reporting.table import tables

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)> $\\frac{ & {{ 7 * 7 }}'


class Page(HTMLParser):
    """Collects every element, its attributes and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes.extend((name, value or "") for name, value in attrs)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def html() -> str:
    return to_html(sample_report())


def test_the_page_asks_for_nothing_from_outside(html: str) -> None:
    page = Page(html)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(page.elements)
    for name, value in page.attributes:
        assert name not in ("src", "srcset", "action", "data", "background")
        assert not name.startswith("on")
        if name in ("href", "xlink:href"):
            assert value.startswith("#")
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)]*)\)", html))
    assert "@import" not in html
    assert "default-src 'none'" in html


def test_names_that_users_chose_stay_text() -> None:
    hostile = replace(sample_report(HOSTILE), job_file=f"</pre>{HOSTILE}", warnings=(HOSTILE,))
    page = Page(to_html(hostile))
    assert "script" not in page.elements
    assert "img" not in page.elements
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert " ".join(HOSTILE.split()) in page.text
    assert "49" not in page.text.split("Job file")[1]


def test_the_same_report_gives_the_same_bytes(html: str) -> None:
    assert to_html(Report.from_json(sample_report().to_json())) == html


def test_every_id_on_the_page_is_its_own_and_every_reference_has_one() -> None:
    trainings = trained_report().training
    html = to_html(replace(two_model_report(), training=trainings + trainings))
    ids = Counter(value for name, value in Page(html).attributes if name == "id")
    assert max(ids.values()) == 1
    assert set(re.findall(r'(?:url\(#|href="#)([^)"]+)', html)) <= set(ids)


def test_the_page_shows_what_was_measured_where_and_how(html: str) -> None:
    text = Page(html).text
    for expected in (
        "Intel(R) Xeon(R) Gold 6271C CPU @ 2.60GHz",
        "fc7 (MatMul): output left in float",
        "no node of pool t4 came within 600 s",
        "200 warm-up runs, then 1000 timed runs in 20 blocks",
        "noisy: CPU time of other processes: 12.0%, limit 5.0%",
        "int8.top1_drop <= 1.0",
        "✗ missed",
        "affinity cpu 2; threads 1",
        "onnxruntime 1.31.1",
        "c0" * 32,
        "apiVersion: quantfleet/v1",
    ):
        assert expected in text
    for table in tables(sample_report()):
        assert table.title in text
        assert all(str(row.max_speedup) in text for row in table.rows)


def test_the_page_shows_what_auto_chose_and_what_stretches_ranges() -> None:
    text = Page(to_html(tuned_report())).text
    for expected in ("auto: entropy", "27 layers in 5 stages", "What auto chose from", "Samples that drive ranges"):
        assert expected in text
    page = Page(to_html(tuned_report(HOSTILE)))
    assert f"lamp of {' '.join(HOSTILE.split())}.jpg" in page.text
    assert "script" not in page.elements


def test_the_page_says_how_a_training_went_and_draws_its_loss() -> None:
    html = to_html(trained_report())
    page = Page(html)
    for expected in ("2.25 → 0.5", "iteration 100, Top-1 56.25 %", "QuantizeLinear", "conv1 (Conv); fc7 (MatMul)"):
        assert expected in page.text
    drawn = [value for name, value in page.attributes if name == "aria-label" and value.startswith("Training loss")]
    assert drawn == ["Training loss of mobilenet by qat: from 2.25 at iteration 10 to 0.5 at iteration 200, best 100"]
    assert "iteration 10 " not in Page(to_html(sample_report())).text


def test_a_loss_plot_is_well_formed_whatever_the_models_name() -> None:
    (training,) = trained_report(HOSTILE).training
    svg = loss_plot(training, 0)
    assert HOSTILE in (ET.fromstring(svg).get("aria-label") or "")  # noqa: S314 - our own output
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#000000", "#ffffff"}
    assert loss_plot(replace(training, losses={"10": 2.25}), 0) == ""


def test_points_of_several_quantizations_are_told_apart_in_the_accuracy_plot() -> None:
    report = trained_report()
    text = " ".join("".join(ET.fromstring(accuracy_plot(report, tables(report)[0])).itertext()).split())  # noqa: S314 - ours
    assert "paddle-cpu INT8 static" in text
    assert "paddle-cpu INT8 qat" in text


def test_int8_that_is_slower_is_asked_why() -> None:
    report = sample_report()
    slower = tuple(replace(r, speedup=r.speedup and replace(r.speedup, value=0.8)) for r in report.results)
    assert "Why is INT8 slower?" in to_html(replace(report, results=slower))


def test_a_job_that_failed_says_why_and_draws_nothing() -> None:
    html = to_html(failed_report())
    assert "mobilenet.onnx is not an ONNX model" in html
    assert "svg" not in Page(html).elements
    assert "nothing to judge it by" in html


def test_without_accuracy_there_is_no_accuracy_plot() -> None:
    report = sample_report()
    blind = replace(report, results=tuple(replace(r, accuracy=()) for r in report.results))
    assert accuracy_plot(blind, tables(blind)[0]) == ""
    assert "Accuracy against speed" not in to_html(blind)


def test_a_dollar_in_a_name_is_no_formula() -> None:
    report = sample_report("$x^2$")
    assert "$x^2$" in "".join(ET.fromstring(latency_plot(report, tables(report)[0])).itertext())  # noqa: S314 - our own output


def test_a_phones_bars_are_its_means_and_its_slowest_runs() -> None:
    report = phone_report()
    svg = latency_plot(report, tables(report)[0])
    label = ET.fromstring(svg).get("aria-label") or ""  # noqa: S314 - our own output
    assert "mean 13.4" in label
    assert "slowest run 40." in label
    assert "bar to the mean, whisker from the fastest run to the slowest run" in svg
    assert "median" not in svg


@pytest.mark.parametrize("draw", [latency_plot, accuracy_plot])
@pytest.mark.parametrize("model", ["mobilenet", HOSTILE, "x" * 300, "模型 ü"])
def test_a_plot_is_well_formed_and_takes_all_its_colours_from_the_page(draw: object, model: str) -> None:
    assert callable(draw)
    report = sample_report(model)
    svg = draw(report, tables(report)[0])
    root = ET.fromstring(svg)  # noqa: S314 - our own output
    assert root.get("role") == "img"
    assert "13.3" in (root.get("aria-label") or "") or "13.4" in (root.get("aria-label") or "")
    assert "var(--series-0)" in svg
    assert "var(--series-3)" in svg
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#000000", "#ffffff"}


def test_the_headline_is_the_largest_speedup_of_each_mode_and_model() -> None:
    found = headlines(sample_report())
    assert [figure for figure, _, _ in found] == ["2.27\N{MULTIPLICATION SIGN}", "1.57\N{MULTIPLICATION SIGN}"]
    assert found[1][2] == "paddle-cpu INT8 · Top-1 \N{MINUS SIGN}2.50 points · noisy"
    # What is fastest is not what is most accurate: a headline is of one of them.
    report = sample_report()
    fp32, int8 = report.results[:2]
    mixed = replace(int8, precision="int8+fp16", accuracy=(Accuracy("top1", 50.0, "percent", 200),))
    assert int8.latency_ms is not None
    slower = replace(int8, latency_ms=replace(int8.latency_ms, mean=int8.latency_ms.mean * 2))
    ((_, _, where),) = headlines(replace(report, results=(fp32, slower, mixed)))
    assert where == "onnxruntime-cpu INT8+FP16 · Top-1 \N{MINUS SIGN}6.50 points"
    assert len(headlines(two_model_report())) == 4
    assert headlines(failed_report()) == ()


def test_importing_the_renderer_loads_no_plotting_library() -> None:
    code = "import sys, quantfleet.rendering.html; sys.exit(bool({'matplotlib', 'jinja2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_package_is_one_clear_error(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(QuantfleetError, match=package) as caught:
        to_html(sample_report())
    assert caught.value.code is ErrorCode.USAGE
    assert "quantfleet[report]" in caught.value.todo
