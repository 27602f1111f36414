"""What the columns of a published table hold, by the words of their headers, English or Chinese. Not for figures."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction

from quantfleet_domain.reporting.checking.figures import Figure
from quantfleet_domain.reporting.checking.published import PublishedTable

BASELINE = "FP32"
RUNTIME, END2END = "runtime", "end-to-end"


class Kind(StrEnum):
    """What a column holds. BARE are figures of a precision whose header does not say of what."""

    KEY = "key"
    PRECISION = "precision"
    MODE = "mode"
    LATENCY = "latency"
    THROUGHPUT = "throughput"
    ACCURACY = "accuracy"
    BARE = "bare"
    SPEEDUP = "speed-up"
    DIFFERENCE = "difference"
    OTHER = "other"


@dataclass(frozen=True)
class Column:
    """A column by its `index` (from 0). `precision` and `mode` are those that the header names.

    `measure` is the header without them: columns of one measure are compared with each other. `ratio` are the
    precisions of a header like `INT8/FP32`; `unit_ms` is the unit of time in ms, where the header has one.
    """

    index: int
    header: str
    kind: Kind
    precision: str | None
    mode: str | None
    measure: str
    ratio: tuple[str, str] | None
    unit_ms: Fraction | None


_NAME = r"(?<![a-z0-9])(?:fp32|float32|fp16|float16|bf16|bfloat16|int8|int16)(?:\s*\+\s*[a-z0-9]+)*(?![a-z0-9])"
_PRECISION = re.compile(_NAME, re.IGNORECASE)
_RATIO = re.compile(rf"({_NAME})\s*[/÷]\s*({_NAME})", re.IGNORECASE)
_MODES = {
    # ONNX Runtime is an engine, not a mode.
    RUNTIME: re.compile(r"(?<!onnx )(?<!onnx)(?<![a-z])runtime", re.IGNORECASE),
    END2END: re.compile(r"end[\s-]?(?:2|to)[\s-]?end|(?<![a-z])e2e(?![a-z])|端到端", re.IGNORECASE),
}
_SPEEDUP = re.compile(r"加速比|speed[\s-]?up", re.IGNORECASE)
_AGAINST = re.compile(r"\b(?:vs|versus|over|against|relative to)\b\.?\s+(?!fp32|float32)\S", re.IGNORECASE)
_DIFFERENCE = re.compile(r"\b(?:diff|difference|drop)\b|accuracy loss|精度(?:损失|下降|差)", re.IGNORECASE)
_SIZE = re.compile(r"(?<![a-z])[kmg]i?b(?![a-z])|bytes|memory|体积|大小|内存|显存", re.IGNORECASE)
_ACCURACY = re.compile(
    r"top[\s-]?\d|accuracy|(?<![a-z])acc(?![a-z])|(?<![a-z])map(?![a-z])|miou|精度|准确率", re.IGNORECASE
)
_THROUGHPUT = re.compile(
    r"(?:images?|imgs?|samples?|frames?)\s*/\s*s|(?<![a-z])[fq]ps(?![a-z])|throughput|吞吐", re.IGNORECASE
)
_LATENCY = re.compile(
    r"latency|时延|延时|延迟|耗时|(?:推理|预测)时间|inference time|(?<![a-z])[mµμ]s(?![a-z])|毫秒|(?<![a-z])s/im",
    re.IGNORECASE,
)
_KEY = re.compile(
    r"model|network|engine|backend|runtime|hardware|device|threads?|batch|input|shape|resolution|模型|后端|硬件|设备|线程|输入",
    re.IGNORECASE,
)
_PERCENT = re.compile(r"[(\[]\s*%\s*[)\]]|in %|percent|百分", re.IGNORECASE)
_UNITS_MS = (
    (Fraction(1), re.compile(r"(?<![a-z])ms(?![a-z])|毫秒|millisecond", re.IGNORECASE)),
    (Fraction(1, 1000), re.compile(r"[µμ]s(?![a-z])|微秒|microsecond", re.IGNORECASE)),
    (Fraction(1000), re.compile(r"[(\[]\s*s(?:ec)?\s*[)\]/]|(?<![a-z])s/im|(?<![a-z])seconds?|秒", re.IGNORECASE)),
)


def columns_of(table: PublishedTable) -> tuple[Column, ...]:
    """What each column of a table holds.

    Where no header names a key (the model, the engine, …), the first column is one. Where a header names a precision
    alone, the nearest heading that names a quantity says of what its figures are.
    """
    found = [_column(i, header, [row[i] for row in table.rows]) for i, header in enumerate(table.header)]
    if found[0].kind is Kind.OTHER and not any(column.kind is Kind.KEY for column in found):
        found[0] = replace(found[0], kind=Kind.KEY)
    titles = (_kind_of_figures(title) for title in reversed(table.headings))
    titled = next((kind for kind in titles if kind in (Kind.LATENCY, Kind.THROUGHPUT, Kind.ACCURACY)), Kind.BARE)
    return tuple(replace(column, kind=titled) if column.kind is Kind.BARE else column for column in found)


def precision_of(text: str) -> str | None:
    """The precision that a text begins with, or None: `INT8 + FP16 + PM` is `INT8+FP16+PM`."""
    found = _PRECISION.match(text.strip())
    return _normal(found[0]) if found else None


def mode_of(text: str) -> str | None:
    """The one mode that a text names; None for none or both."""
    named = [mode for mode, pattern in _MODES.items() if pattern.search(text)]
    return named[0] if len(named) == 1 else None


def without_modes(text: str) -> str:
    """A text without the words for modes, in one case and spacing: headings that differ in the mode alone get equal."""
    for pattern in _MODES.values():
        text = pattern.sub(" ", text)
    return " ".join(text.casefold().split())


def unit_ms_of(text: str) -> Fraction | None:
    """The first unit of time that a text names, in ms."""
    return next((factor for factor, pattern in _UNITS_MS if pattern.search(text)), None)


def says_percent(header: str) -> bool:
    """Whether a header gives its figures in percent."""
    return _PERCENT.search(header) is not None


def _column(index: int, header: str, cells: Sequence[str]) -> Column:
    named, ratio = _PRECISION.search(header), _RATIO.search(header)
    return Column(
        index,
        header,
        _kind(header, [cell for cell in cells if cell]),
        _normal(named[0]) if named else None,
        mode_of(header),
        without_modes(_PRECISION.sub(" ", header)),
        (_normal(ratio[1]), _normal(ratio[2])) if ratio else None,
        unit_ms_of(header),
    )


def _kind(header: str, cells: Sequence[str]) -> Kind:
    if cells and all(precision_of(cell) for cell in cells):
        return Kind.PRECISION
    if cells and all(any(pattern.fullmatch(cell) for pattern in _MODES.values()) for cell in cells):
        return Kind.MODE
    kind = _kind_of_figures(header)
    return kind if kind is Kind.KEY or any(Figure.parse(cell) for cell in cells) else Kind.OTHER


def _kind_of_figures(header: str) -> Kind:
    words = (
        (_SIZE, Kind.OTHER),
        (_SPEEDUP, Kind.OTHER if _AGAINST.search(header) else Kind.SPEEDUP),
        (_RATIO, Kind.SPEEDUP),
        (_DIFFERENCE, Kind.OTHER if _LATENCY.search(header) else Kind.DIFFERENCE),
        (_ACCURACY, Kind.ACCURACY),
        (_THROUGHPUT, Kind.THROUGHPUT),
        (_LATENCY, Kind.LATENCY),
        (_KEY, Kind.KEY),
        (_PRECISION, Kind.BARE),
    )
    return next((kind for pattern, kind in words if pattern.search(header)), Kind.OTHER)


def _normal(precision: str) -> str:
    return "".join(precision.split()).upper().replace("BFLOAT", "BF").replace("FLOAT", "FP")
