"""The documentation says what the code says: every code, key, field and limit of it, and no other. Links lead on."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from quantfleet.jobfile import document, fastdeploy, judging, measuring, samples
from quantfleet_coordinator.jobs.dispatcher import LONGEST_POLL_S
from quantfleet_coordinator.settings import Settings
from quantfleet_domain.calibration.calibrators import CALIBRATOR_NAMES, DEFAULT_CALIBRATOR
from quantfleet_domain.calibration.correction import Corrections, FormCorrections, LayerCorrection
from quantfleet_domain.calibration.graph import CalibrationGraph, Layer, NumericsClass
from quantfleet_domain.calibration.scales import ActivationRow, ScalesHeader, WeightRow
from quantfleet_domain.calibration.sums import ExactSum, Sums
from quantfleet_domain.errors import CATALOGUE, ErrorCode, QuantfleetError
from quantfleet_domain.hardware import pools
from quantfleet_domain.hardware.offers import ENGINES
from quantfleet_domain.jobs.lifecycle import ENGINE_RETRIES, INFRASTRUCTURE_RETRIES
from quantfleet_domain.jobs.manifest import Sample
from quantfleet_domain.jobs.settling import SMALLEST_SHARD
from quantfleet_domain.jobs.spec import METRICS
from quantfleet_domain.measurement.protocol import Protocol
from quantfleet_domain.measurement.quiet import LIMITS
from quantfleet_domain.reporting import gates
from quantfleet_domain.reporting.codec import union_members
from quantfleet_domain.reporting.csv import to_csv
from quantfleet_domain.reporting.report import JobSummary, Report
from quantfleet_wire.errors import EXIT_CODE_OF, STATUS_OF
from quantfleet_worker.agent.agent import POLL_S

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in ("README.md", "deploy/README.md"))]
PAGES += sorted((ROOT / "examples").glob("*/README.md"))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def _text(page: str) -> str:
    return (DOCS / page).read_text()


def _section(page: str, heading: str) -> str:
    """What stands between a heading and the next one of its level or above."""
    found = re.search(rf"(?ms)^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,2}} |\Z)", _text(page))
    assert found, f"docs/{page} has no section {heading!r}"
    return found[2]


def _rows(text: str, width: int | None = None) -> dict[str, list[str]]:
    """The rows of all tables (of so many columns) by every `name` in their first cell."""
    rows: dict[str, list[str]] = {}
    lines = text.splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if following.startswith("|---") or len(cells) != (width or len(cells)):
            continue
        for name in re.findall(r"`([^`]+)`", cells[0]) if cells else ():
            assert name not in rows, f"{name} has two rows"
            rows[name] = cells
    return rows


def _slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# errors


def test_every_error_code_has_one_row_with_its_category_status_and_exit_code() -> None:
    rows = _rows(_text("reference/errors.md"), width=6)
    assert sorted(rows) == sorted(ErrorCode)
    for code, category in CATALOGUE.items():
        expected = [f"`{category}`", f"`{STATUS_OF[category].name}`", str(EXIT_CODE_OF[category])]
        assert rows[code][1:4] == expected, code
        assert all(rows[code][4:]), f"{code} says neither what it means nor what to do"


def test_every_category_has_its_status_and_exit_code() -> None:
    rows = _rows(_text("reference/errors.md"), width=3)
    assert {name: cells[1:] for name, cells in rows.items()} == {
        category: [f"`{STATUS_OF[category].name}`", str(EXIT_CODE_OF[category])] for category in STATUS_OF
    }


# the job file

SECTIONS = {
    "The job": document.JOB_KEYS,
    "A model": document.MODEL_KEYS,
    "Calibration": document.CALIBRATION_KEYS,
    "Evaluate": judging.KEYS,
    "Data": samples.KEYS,
    "A target": measuring.TARGET_KEYS,
    "Benchmark": measuring.BENCHMARK_KEYS,
    "FastDeploy keys": fastdeploy.KEYS,
}


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_of_the_job_file_has_a_row_and_no_other_has(heading: str) -> None:
    assert sorted(_rows(_section("reference/job-file.md", heading))) == sorted(SECTIONS[heading])


@pytest.mark.parametrize(
    ("heading", "key", "default"),
    [
        ("Calibration", "calibrator", DEFAULT_CALIBRATOR),
        ("Calibration", "percentile", f"{document.DEFAULT_PERCENTILE:.10g}"),
        ("Calibration", "shards", f" {SMALLEST_SHARD} samples"),
        ("Benchmark", "warmup", str(measuring.DEFAULT_WARMUP)),
        ("Benchmark", "repeat", str(measuring.DEFAULT_REPEAT)),
        ("The job", "patience", f"{measuring.DEFAULT_PATIENCE_S:g} s"),
        ("The job", "apiVersion", document.API_VERSION),
    ],
)
def test_defaults_of_the_job_file_are_those_of_the_code(heading: str, key: str, default: str) -> None:
    row = _rows(_section("reference/job-file.md", heading))[key]
    assert default in (row[3] if default.startswith(" ") or key == "apiVersion" else row[2])


@pytest.mark.parametrize(
    ("heading", "key", "known"),
    [
        ("Calibration", "calibrator", list(CALIBRATOR_NAMES)),
        ("Evaluate", "metrics", list(METRICS)),
        ("A target", "engines", list(ENGINES)),
    ],
)
def test_every_choice_of_the_job_file_is_named(heading: str, key: str, known: list[str]) -> None:
    row = " ".join(_rows(_section("reference/job-file.md", heading))[key])
    assert [name for name in known if f"`{name}`" not in row] == []


def test_every_calibrator_is_explained() -> None:
    assert sorted(_rows(_section("guide/calibration.md", "Calibrators"))) == sorted(CALIBRATOR_NAMES)


def test_every_quantity_of_a_gate_has_a_row() -> None:
    section = _section("reference/job-file.md", "Gates")
    assert sorted(_rows(section)) == sorted(
        ["speedup", "latency_ms", *gates.FIGURES, *METRICS, *gates.DROPS],
    )
    for name in (*gates.LATENCY_FIELDS, *gates.SPEEDUP_FIELDS, *gates.PRECISIONS):
        assert f"`{name}`" in section
    for expression in re.findall(r"`([^`]+ (?:[<>]=?) [\d.]+)`", section):
        gates.parse(expression)


def test_every_pool_and_every_fact_has_a_row() -> None:
    rows = _rows(_section("reference/job-file.md", "Pools"))
    built_in = {pool.name: f"`{pool.selector_text}`" for pool in pools.BUILT_IN_POOLS}
    assert {name: rows.pop(name)[1] for name in built_in} == built_in
    with pytest.raises(QuantfleetError) as caught:
        pools.parse("nonsense == 1")
    facts = caught.value.todo.partition("facts are ")[2].split(", ")
    assert sorted(rows) == sorted(facts)


def _job_examples() -> list[tuple[str, str]]:
    found = []
    for page in ("guide/getting-started.md", "guide/jobs.md", "guide/tasks.md", "../README.md"):
        blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```", _text(page))
        found += [(f"{page}: {re.findall(r'name: (.*)', block)[0]}", block) for block in blocks]
    return found


@pytest.mark.parametrize(("place", "text"), _job_examples(), ids=[place for place, _ in _job_examples()])
def test_every_job_in_the_guide_can_be_read(place: str, text: str, tmp_path: Path) -> None:
    files = ("mobilenet.onnx", "inference_cls.yaml", "images/a.png", "other-images/b.png", "val/c.png")
    paddle = ("resnet50/inference.pdmodel", "resnet50/inference.pdiparams", "resnet50/inference_cls.yaml")
    text_model = ("bert/model.onnx", "bert/tokenizer.json", "reviews/a.txt")
    segmenter = ("pp_liteseg/model.pdmodel", "pp_liteseg/model.pdiparams", "pp_liteseg/deploy.yaml")
    detector = ("picodet/model.pdmodel", "picodet/model.pdiparams", "picodet/infer_cfg.yml")
    data = ("cityscapes/a.png", "cityscapes/m.png", "coco/val/a.jpg")
    for name in (*files, *paddle, *text_model, *segmenter, *detector, *data):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    (tmp_path / "val.txt").write_text("c.png 3\n" * 300)
    (tmp_path / "reviews.txt").write_text("a.txt 1\n" * 300)
    for name in ("train", "val"):
        (tmp_path / "cityscapes" / f"{name}.txt").write_text("a.png m.png\n" * 100)
    coco = '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": []}'
    (tmp_path / "coco" / "instances.json").write_text(coco)
    assert document.read_text(text, place, tmp_path).models


# the report and the other formats


def _report_fields(kind: Any, place: str) -> Iterator[tuple[str, list[str]]]:
    """The place of every dataclass in the report as its page heads it, and its fields."""
    yield place, [field.name for field in fields(kind)]
    for name, hint in get_type_hints(kind).items():
        for member in union_members(hint):
            inner = [*get_args(member), member]
            found = next((part for part in inner if is_dataclass(part)), None)
            if found is not None:
                item = f"{place}.{name}".removeprefix("The document.")
                many = bool(get_args(member)) and get_args(member)[-1] is Ellipsis
                yield from _report_fields(found, item + "[]" * many)


@pytest.mark.parametrize(("place", "names"), list(_report_fields(Report, "The document")))
def test_every_field_of_the_report_has_a_row_and_no_other_has(place: str, names: list[str]) -> None:
    whole = place == "The document"
    rows = _rows(_section("reference/report.md", place if whole else f"`{place}`"))
    assert list(rows) == (["schema"] if whole else []) + names


def test_the_columns_of_the_csv_are_those_listed() -> None:
    empty = Report(JobSummary("id", "name", "succeeded"), (), (), {}, "", {}, (), (), (), ())
    listed = re.findall(r"`([a-z0-9_]+)`", _section("reference/report.md", "CSV columns").split("\n\n")[-1])
    assert listed == to_csv(empty).splitlines()[0].split(",")


@pytest.mark.parametrize(
    ("heading", "kinds"),
    [
        ("Scale table", (ScalesHeader, NumericsClass, ActivationRow, WeightRow)),
        ("Manifest", (Sample,)),
        ("Raw samples", (Protocol,)),
        ("Sums", (Sums, ExactSum)),
        ("Corrections", (Corrections, FormCorrections, LayerCorrection)),
        ("Reference graph", (CalibrationGraph, Layer)),
    ],
)
def test_every_field_of_a_format_is_on_its_page(heading: str, kinds: tuple[Any, ...]) -> None:
    section = _section("reference/formats.md", heading)
    named = set(re.findall(r"`([^`]+)`", section))
    assert {field.name for kind in kinds for field in fields(kind)} <= named


# limits, terms


def test_every_limit_of_quiet_is_in_its_table() -> None:
    section = _section("guide/measurement.md", "Quiet or noisy")
    stated = re.findall(r"(?m)^\| [^|]+ \| `(\w+)` \| ([\d.]+)", section)
    assert {name: float(limit) for name, limit in stated} == {
        field.name: getattr(LIMITS, field.name) for field in fields(LIMITS)
    }


def test_the_terms_of_operations_are_those_of_the_code() -> None:
    text = _text("guide/operations.md")
    defaults = Settings(Path())
    assert f"| lease without a heartbeat | {defaults.lease_s:g} s |" in text
    assert f"| heartbeat | {defaults.heartbeat_s:g} s |" in text
    assert f"| long poll for tasks | {POLL_S:g} s |" in text
    assert POLL_S <= LONGEST_POLL_S
    assert f"up to {INFRASTRUCTURE_RETRIES} times" in text
    assert ENGINE_RETRIES == 1
    assert "once after an engine's failure" in text


# links


@pytest.mark.parametrize("name", NAMES)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text())
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{name}: {target} leads nowhere"
        if anchor:
            headings = re.findall(r"(?m)^#+ (.+)$", linked.read_text())
            assert anchor in map(_slug, headings), f"{name}: {target} has no such heading"


def test_every_page_of_the_guide_and_the_reference_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([^)#\s]+)", _text("README.md")))
    pages = {f"{folder}/{page.name}" for folder in ("guide", "reference") for page in (DOCS / folder).glob("*.md")}
    assert pages <= linked
