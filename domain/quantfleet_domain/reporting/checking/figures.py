"""What a printed figure stands for: every value that rounds, or is cut off, to its digits. Not for measured values."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

_FIGURE = re.compile(
    r"[~≈]?\s*(?P<number>[+\-\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[+-]?\d+)?)"
    r"\s*(?P<unit>%|[xX\u00d7]|ms|s|us|[µμ]s|ns|fps|(?:images?|imgs?|samples?)/s)?"
    r"\s*(?:[(\[].*)?"
)


@dataclass(frozen=True)
class Interval:
    """All values from `low` to `high`, both included; exact, so that no bound is missed by a rounding of our own."""

    low: Fraction
    high: Fraction

    def meets(self, other: "Interval") -> bool:
        """Whether the two have a value in common."""
        return self.low <= other.high and other.low <= self.high

    def __sub__(self, other: "Interval") -> "Interval":
        return Interval(self.low - other.high, self.high - other.low)

    def over(self, other: "Interval") -> "Interval | None":
        """The quotients; None unless both intervals are positive, as latencies are."""
        if self.low <= 0 or other.low <= 0:
            return None
        return Interval(self.low / other.high, self.high / other.low)

    def mapped(self, rising: Callable[[Fraction], Fraction]) -> "Interval":
        """The image under a function that never falls."""
        return Interval(rising(self.low), rising(self.high))


@dataclass(frozen=True)
class Figure:
    """A figure as printed: its `text`, the number, the worth of its last digit, and the unit beside it (or "")."""

    text: str
    value: Fraction
    step: Fraction
    unit: str

    @staticmethod
    def parse(text: str) -> "Figure | None":
        """Read a cell: `91.90`, `1,234`, `2.99X`, `30.6%`, `2.15× [2.10, 2.20]`. None for any other: `—`, `None`."""
        found = _FIGURE.fullmatch(text.strip())
        if not found:
            return None
        number = Decimal(found["number"].replace(",", "").replace("\N{MINUS SIGN}", "-"))
        exponent = number.as_tuple().exponent
        assert isinstance(exponent, int)  # the expression matches neither NaN nor infinity
        shown = found["number"] + ("%" if found["unit"] == "%" else "")
        return Figure(shown, Fraction(number), Fraction(10) ** exponent, found["unit"] or "")

    @property
    def interval(self) -> Interval:
        """What the digits stand for: half a step around for who rounds, a whole step away from zero for who cuts."""
        magnitude, sign = abs(self.value), -1 if self.value < 0 else 1
        if magnitude == 0:
            return Interval(-self.step, self.step)
        ends = sorted((sign * (magnitude - self.step / 2), sign * (magnitude + self.step)))
        return Interval(*ends)

    def alike(self, value: Fraction) -> str:
        """Another value, rounded to as many digits and with the same sign for percent."""
        decimals = len(str(self.step.denominator)) - 1  # the step is a power of ten
        return f"{float(value):.{decimals}f}" + ("%" if self.unit == "%" else "")
