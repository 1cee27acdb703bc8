"""How the result of `provider test` is printed."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from pgvector_sync.cli.console import out
from pgvector_sync.embedding.families.proposal import Proposal
from pgvector_sync.model.counted import counted
from pgvector_sync.observe.level import Level
from pgvector_sync.observe.provider_test.findings import Finding
from pgvector_sync.observe.provider_test.report import Report
from pgvector_sync.telemetry.printable import printable

MARKS = {Level.OK: (" ", ""), Level.WARNING: ("!", "yellow"), Level.ERROR: ("✗", "bold red")}

WIDE = 110
"""Columns; on a narrower terminal, results would wrap beside an empty column."""


def show(report: Report) -> None:
    """Print the findings, and the lines to add to the file."""
    if report.findings:
        out.print(_table(report.findings))
    if report.stopped_by is not None:
        calls = counted(report.calls, "call")
        out.print(f"stopped after {calls}: {report.stopped_by}", style="yellow")
        for line in (report.advice or "").splitlines():
            out.print(f"  → {line}")
    verdict = f"{report.provider} {'works' if report.works else 'does not work'} with the settings it has"
    out.print()
    if report.sections is None:
        out.print(f"{verdict}; no setting needs to change" if report.works else verdict)
    else:
        out.print(f"{verdict}. To add to the file:")
        out.print()
        out.print(Text(report.sections))
    if report.proposal is not None:
        _show_consequences(report.proposal, report.provider)


def _show_consequences(proposal: Proposal, provider: str) -> None:
    if proposal.embeds_again:
        out.print("  → `apply` embeds every row again if the form of documents changes")
    if proposal.dialect is not None:
        out.print(f'  → dialect = "{proposal.dialect}" in [providers.{provider}] gives the model what it expects')


def _table(findings: tuple[Finding, ...]) -> Table:
    """Show one finding per row. On a narrow terminal, its setting is below the result."""
    wide = out.width >= WIDE
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "capability", "result", "setting")[: 4 if wide else 3]:
        table.add_column(column, overflow="fold", no_wrap=column == "capability")
    for finding in findings:
        mark, style = MARKS[finding.level]
        result = Text(printable(finding.result), style)
        if finding.setting is not None and not wide:
            result.append(f"\n→ {finding.setting}", "bold")
        table.add_row(mark, finding.capability, result, *([finding.setting or ""] if wide else []))
    return table
