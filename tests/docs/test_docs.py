"""The documentation says what the code says: every code, key, field and limit of it, and no other. Links lead on."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from tests.docs.pages import DOCS, ROOT, rows_of, section_of, text_of

from quantfleet.jobfile import document, fastdeploy, judging, measuring, quantizing, samples, trainings
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
from quantfleet_domain.hardware.precisions import PRECISIONS
from quantfleet_domain.jobs.lifecycle import ENGINE_RETRIES, INFRASTRUCTURE_RETRIES
from quantfleet_domain.jobs.manifest import Sample
from quantfleet_domain.jobs.settling import SMALLEST_SHARD
from quantfleet_domain.jobs.spec import METRICS, QUANTIZATIONS
from quantfleet_domain.measurement.protocol import Protocol
from quantfleet_domain.measurement.quiet import LIMITS
from quantfleet_domain.reporting import gates
from quantfleet_domain.reporting.codec import union_members
from quantfleet_domain.reporting.csv import to_csv
from quantfleet_domain.reporting.report import JobSummary, Report
from quantfleet_wire.errors import EXIT_CODE_OF, STATUS_OF
from quantfleet_worker.agent.agent import POLL_S

PAGES = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in ("README.md", "deploy/README.md"))]
PAGES += sorted((ROOT / "deploy/helm").glob("*/README.md"))
PAGES += sorted((ROOT / "examples").glob("*/README.md"))
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


def _slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# errors


def test_every_error_code_has_one_row_with_its_category_status_and_exit_code() -> None:
    rows = rows_of(text_of("reference/errors.md"), width=6)
    assert sorted(rows) == sorted(ErrorCode)
    for code, category in CATALOGUE.items():
        expected = [f"`{category}`", f"`{STATUS_OF[category].name}`", str(EXIT_CODE_OF[category])]
        assert rows[code][1:4] == expected, code
        assert all(rows[code][4:]), f"{code} says neither what it means nor what to do"


def test_every_category_has_its_status_and_exit_code() -> None:
    rows = rows_of(text_of("reference/errors.md"), width=3)
    assert {name: cells[1:] for name, cells in rows.items()} == {
        category: [f"`{STATUS_OF[category].name}`", str(EXIT_CODE_OF[category])] for category in STATUS_OF
    }


# the job file

SECTIONS = {
    "The job": document.JOB_KEYS,
    "A model": document.MODEL_KEYS,
    "Calibration": document.CALIBRATION_KEYS,
    "Given": quantizing.GIVEN_KEYS,
    "Distill": trainings.DISTILL_KEYS,
    "QAT": trainings.QAT_KEYS,
    "Evaluate": judging.KEYS,
    "Data": samples.KEYS,
    "A target": measuring.TARGET_KEYS,
    "Benchmark": measuring.BENCHMARK_KEYS,
    "FastDeploy keys": fastdeploy.KEYS,
}


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_of_the_job_file_has_a_row_and_no_other_has(heading: str) -> None:
    assert sorted(rows_of(section_of("reference/job-file.md", heading))) == sorted(SECTIONS[heading])


@pytest.mark.parametrize(
    ("heading", "key", "default"),
    [
        ("Calibration", "calibrator", DEFAULT_CALIBRATOR),
        ("Calibration", "percentile", f"{document.DEFAULT_PERCENTILE:.10g}"),
        ("Calibration", "shards", f" {SMALLEST_SHARD} samples"),
        ("Distill", "batch_size", str(trainings.DEFAULT_BATCH_SIZE)),
        ("QAT", "save_interval", str(trainings.DEFAULT_SAVE_INTERVAL)),
        ("QAT", "log_iters", str(trainings.DEFAULT_LOG_INTERVAL)),
        ("Benchmark", "warmup", str(measuring.DEFAULT_WARMUP)),
        ("Benchmark", "repeat", str(measuring.DEFAULT_REPEAT)),
        ("The job", "patience", f"{measuring.DEFAULT_PATIENCE_S:g} s"),
        ("The job", "apiVersion", document.API_VERSION),
    ],
)
def test_defaults_of_the_job_file_are_those_of_the_code(heading: str, key: str, default: str) -> None:
    row = rows_of(section_of("reference/job-file.md", heading))[key]
    assert default in (row[3] if default.startswith(" ") or key == "apiVersion" else row[2])


@pytest.mark.parametrize(
    ("heading", "key", "known"),
    [
        ("Calibration", "calibrator", list(CALIBRATOR_NAMES)),
        ("Evaluate", "metrics", list(METRICS)),
        ("A target", "engines", list(ENGINES)),
        ("A target", "precisions", list(PRECISIONS)),
    ],
)
def test_every_choice_of_the_job_file_is_named(heading: str, key: str, known: list[str]) -> None:
    row = " ".join(rows_of(section_of("reference/job-file.md", heading))[key])
    assert [name for name in known if f"`{name}`" not in row] == []


def test_every_calibrator_is_explained() -> None:
    assert sorted(rows_of(section_of("guide/calibration.md", "Calibrators"))) == sorted(CALIBRATOR_NAMES)


def test_every_quantity_of_a_gate_has_a_row() -> None:
    section = section_of("reference/job-file.md", "Gates")
    assert sorted(rows_of(section)) == sorted(
        ["speedup", "latency_ms", *gates.FIGURES, *METRICS, *gates.DROPS],
    )
    for name in (*gates.LATENCY_FIELDS, *gates.SPEEDUP_FIELDS, *PRECISIONS, *QUANTIZATIONS):
        assert f"`{name}`" in section
    for expression in re.findall(r"`([^`]+ (?:[<>]=?) [\d.]+)`", section):
        gates.parse(expression)


def test_every_pool_and_every_fact_has_a_row() -> None:
    rows = rows_of(section_of("reference/job-file.md", "Pools"))
    built_in = {pool.name: f"`{pool.selector_text}`" for pool in pools.BUILT_IN_POOLS}
    assert {name: rows.pop(name)[1] for name in built_in} == built_in
    with pytest.raises(QuantfleetError) as caught:
        pools.parse("nonsense == 1")
    facts = caught.value.todo.partition("facts are ")[2].split(", ")
    assert sorted(rows) == sorted(facts)


def _job_examples() -> list[tuple[str, str]]:
    found = []
    guide = [f"guide/{name}.md" for name in ("getting-started", "jobs", "tasks", "quantization")]
    for page in (*guide, "../README.md"):
        blocks = [text for text in re.findall(r"(?ms)^```yaml\n(.*?)^```", text_of(page)) if "apiVersion" in text]
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
    quantized = ("mobilenet_nncf.onnx", "resnet50_slim/model.pdmodel", "resnet50_slim/model.pdiparams")
    for name in (*quantized, "train/a.png", "net.yml", "fp32.pdparams"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\x22\x10DequantizeLinear \x1a\x11dequantize_linear")
    (tmp_path / "train.txt").write_text("a.png 3\n" * 4)
    (tmp_path / "act.yaml").write_text("QuantAware: {}\n")
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
    rows = rows_of(section_of("reference/report.md", place if whole else f"`{place}`"))
    assert list(rows) == (["schema"] if whole else []) + names


def test_the_columns_of_the_csv_are_those_listed() -> None:
    empty = Report(JobSummary("id", "name", "succeeded"), (), (), {}, "", {}, (), (), (), ())
    listed = re.findall(r"`([a-z0-9_]+)`", section_of("reference/report.md", "CSV columns").split("\n\n")[-1])
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
    section = section_of("reference/formats.md", heading)
    named = set(re.findall(r"`([^`]+)`", section))
    assert {field.name for kind in kinds for field in fields(kind)} <= named


# limits, terms


def test_every_limit_of_quiet_is_in_its_table() -> None:
    section = section_of("guide/measurement.md", "Quiet or noisy")
    stated = re.findall(r"(?m)^\| [^|]+ \| `(\w+)` \| ([\d.]+)", section)
    assert {name: float(limit) for name, limit in stated} == {
        field.name: getattr(LIMITS, field.name) for field in fields(LIMITS)
    }


def test_the_terms_of_operations_are_those_of_the_code() -> None:
    text = text_of("guide/operations.md")
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
    linked = set(re.findall(r"\]\(([^)#\s]+)", text_of("README.md")))
    pages = {f"{folder}/{page.name}" for folder in ("guide", "reference") for page in (DOCS / folder).glob("*.md")}
    assert pages <= linked
