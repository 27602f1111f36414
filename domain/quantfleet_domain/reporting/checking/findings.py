"""What a check finds: faults, which a reader must not believe, and notes. Not for how they are printed."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """A `fault` is a figure that contradicts another one; a `note` says what a reader has to guess."""

    FAULT = "fault"
    NOTE = "note"


class Rule(StrEnum):
    """What a finding breaks."""

    SPEEDUP = "speedup"
    DIFFERENCE = "difference"
    END2END = "end2end"
    INTERVAL = "interval"
    PERCENTILES = "percentiles"
    THROUGHPUT = "throughput"
    ACCURACY = "accuracy"
    PARTS = "parts"
    GATE = "gate"
    PROVENANCE = "provenance"
    DEFINITION = "definition"
    MODE = "mode"
    PROTOCOL = "protocol"
    UNIT = "unit"


@dataclass(frozen=True)
class Finding:
    """One finding: `part` is the table, or the row of a report, that `where` (a cell, a field) is in.

    `what` says what stands there, what should, and from which figures that follows.
    """

    severity: Severity
    rule: Rule
    part: str
    where: str
    what: str


@dataclass(frozen=True)
class Judged:
    """What one rule found, and in how many `cells` it could be applied."""

    findings: tuple[Finding, ...]
    cells: int


@dataclass(frozen=True)
class Checked:
    """All findings in the order of the file, and how much of what was `judged`: nothing judged is no good news."""

    findings: tuple[Finding, ...]
    judged: Mapping[str, int]

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The faults, or the notes."""
        return tuple(finding for finding in self.findings if finding.severity is severity)
