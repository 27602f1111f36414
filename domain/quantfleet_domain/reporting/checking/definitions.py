"""The ways in which a derived cell (a speed-up, a difference of accuracies) may follow from others of its row.

Not for judging cells: which way a column means is for who has seen all of it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from quantfleet_domain.reporting.checking.columns import BASELINE, Column, Kind
from quantfleet_domain.reporting.checking.figures import Interval
from quantfleet_domain.reporting.checking.groups import Cell, Group

_PLAIN = "INT8"


@dataclass(frozen=True)
class Derived:
    """What a cell should be: the value of the printed figures, the `interval` of what they stand for, the `working`."""

    value: Fraction
    interval: Interval
    working: str


@dataclass(frozen=True)
class Form:
    """How a ratio s = a ÷ b (above 1: faster) is written: `of` s, never falling. `words` has places for {a} and {b}."""

    words: str
    of: Callable[[Fraction], Fraction]


TIMES = Form("{a} ÷ {b}", lambda s: s)
GAIN = Form("{a} ÷ {b} \N{MINUS SIGN} 1", lambda s: 100 * (s - 1))
REDUCTION = Form("1 \N{MINUS SIGN} {b} ÷ {a}", lambda s: 100 * (1 - 1 / s))
SHARE = Form("{a} ÷ {b}", lambda s: 100 * s)
_IN_PERCENT = (GAIN, REDUCTION, SHARE)


@dataclass(frozen=True)
class Definition:
    """One way: its `words`, and what it makes of a row (by index); None where the row lacks a figure for it."""

    words: str
    form: Form | None
    derive: Callable[[int], Derived | None]


def speedups(column: Column, groups: Sequence[Group], percent: bool) -> Iterator[Definition]:
    """How a speed-up in this column, in percent or in times, may be meant; the likeliest first.

    FP32 over the fastest INT8 figure, or over plain INT8 where the header does not say that it is the largest; for
    throughputs the other way round. A header like `INT8/FP32` is taken at its word. In percent it may be the gain in
    speed, the reduction of latency, or the ratio itself.
    """
    for group in _nearest(column, groups, (Kind.LATENCY, Kind.THROUGHPUT, Kind.BARE)):
        if column.ratio:
            yield _stated_ratio(group, column.ratio, SHARE if percent else TIMES)
            continue
        more_is_faster = {Kind.LATENCY: (False,), Kind.THROUGHPUT: (True,), Kind.BARE: (False, True)}[group.kind]
        for throughput in more_is_faster:
            for words, precision in _picks(column, group):
                for form in _IN_PERCENT if percent else (TIMES,):
                    yield _speedup(group, words, precision, form, throughput)


def differences(column: Column, groups: Sequence[Group], percent: bool) -> Iterator[Definition]:
    """How a difference of accuracies may be meant: INT8 − FP32 or FP32 − INT8, in points where it is in percent."""
    for group in _nearest(column, groups, (Kind.ACCURACY,)):
        for precision in dict.fromkeys(cell.precision for row in group.own for cell in group.variants(row)):
            for first, second in ((precision, BASELINE), (BASELINE, precision)):
                for scale in (1, 100) if percent else (1,):
                    yield _difference(group, first, second, scale)


def _nearest(column: Column, groups: Sequence[Group], kinds: Sequence[Kind]) -> list[Group]:
    """The groups of these kinds, those that end closest to the column first."""
    of_kinds = (group for group in groups if group.kind in kinds)
    return sorted(of_kinds, key=lambda group: abs(column.index - group.columns[-1].index))


def _picks(column: Column, group: Group) -> Iterator[tuple[str, str | None]]:
    """Which variant may be meant: in words, and the one precision (None: the fastest of the row)."""
    if column.precision and column.precision != BASELINE:
        yield column.precision, column.precision
        return
    rows = [group.variants(row) for row in group.own]
    precisions = {cell.precision for cells in rows for cell in cells}
    several = any(len(cells) > 1 for cells in rows)
    yield "fastest INT8" if several else precisions.pop() if len(precisions) == 1 else "the row's precision", None
    if several and not any(word in column.header.casefold() for word in ("max", "最大", "best")):
        yield _PLAIN, _PLAIN


def _speedup(group: Group, words: str, precision: str | None, form: Form, throughput: bool) -> Definition:
    fastest = max if throughput else min

    def derive(row: int) -> Derived | None:
        base = group.cell(row, BASELINE)
        variants = [cell for cell in group.variants(row) if precision in (None, cell.precision)]
        if not base or not variants:
            return None
        best = fastest(variants, key=lambda cell: cell.figure.value)
        # Any of them may have been the fastest before it was rounded.
        reach = Interval(
            fastest(cell.figure.interval.low for cell in variants),
            fastest(cell.figure.interval.high for cell in variants),
        )
        if throughput:
            return _quotient(best, reach, base, base.figure.interval, form)
        return _quotient(base, base.figure.interval, best, reach, form)

    a, b = (words, BASELINE) if throughput else (BASELINE, words)
    return Definition(form.words.format(a=a, b=b), form, derive)


def _stated_ratio(group: Group, ratio: tuple[str, str], form: Form) -> Definition:
    def derive(row: int) -> Derived | None:
        above, below = (group.cell(row, precision) for precision in ratio)
        if not above or not below:
            return None
        return _quotient(above, above.figure.interval, below, below.figure.interval, form)

    return Definition(form.words.format(a=ratio[0], b=ratio[1]), form, derive)


def _quotient(a: Cell, of_a: Interval, b: Cell, of_b: Interval, form: Form) -> Derived | None:
    ratio = of_a.over(of_b)
    if ratio is None:
        return None
    working = form.words.format(a=a.figure.text, b=b.figure.text)
    return Derived(form.of(a.figure.value / b.figure.value), ratio.mapped(form.of), working)


def _difference(group: Group, first: str, second: str, scale: int) -> Definition:
    words = "{a} \N{MINUS SIGN} {b}"

    def derive(row: int) -> Derived | None:
        a, b = group.cell(row, first), group.cell(row, second)
        if not a or not b:
            return None
        interval = (a.figure.interval - b.figure.interval).mapped(lambda value: scale * value)
        working = words.format(a=a.figure.text, b=b.figure.text)
        return Derived(scale * (a.figure.value - b.figure.value), interval, working)

    return Definition(words.format(a=first, b=second), None, derive)
