"""Checks a Markdown file: every table of it that holds benchmark figures. Not for report.json (see evidence)."""

from quantfleet_domain.errors import ErrorCode, QuantfleetError
from quantfleet_domain.reporting.checking.columns import columns_of
from quantfleet_domain.reporting.checking.derived import check_derived
from quantfleet_domain.reporting.checking.findings import Checked, Finding
from quantfleet_domain.reporting.checking.groups import groups_of
from quantfleet_domain.reporting.checking.modes import Timed, check_modes, timed
from quantfleet_domain.reporting.checking.published import tables_of
from quantfleet_domain.reporting.checking.statements import check_statements


def check_markdown(markdown: str) -> Checked:
    """Everything that is found in the tables of a file.

    Raises QuantfleetError(REPORT_INVALID) where the file has no table.
    """
    tables = tables_of(markdown)
    if not tables:
        raise QuantfleetError(
            ErrorCode.REPORT_INVALID,
            "this is neither a report.json nor a Markdown file with a table",
            "give a report.json that quantfleet wrote, or a Markdown file with a table that has a line of dashes",
        )
    findings: list[Finding] = []
    latencies: list[Timed] = []
    derived = 0
    for table in tables:
        columns = columns_of(table)
        groups = groups_of(table, columns)
        judged = check_derived(table, columns, groups)
        findings += (*judged.findings, *check_statements(table, columns))
        derived += judged.cells
        latencies += timed(table, columns, groups)
    modes = check_modes(latencies)
    order = [table.name for table in tables]
    return Checked(
        tuple(sorted((*findings, *modes.findings), key=lambda finding: order.index(finding.part))),
        {"tables": len(tables), "derived_cells": derived, "end2end_latencies": modes.cells},
    )
