"""How the result of `provider test` is printed."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from pgvector_sync.cli.console import out
from pgvector_sync.observe.provider_test.findings import Finding, Level
from pgvector_sync.observe.provider_test.report import Report
from pgvector_sync.telemetry.printable import printable

MARKS = {Level.OK: (" ", ""), Level.WARNING: ("!", "yellow"), Level.ERROR: ("✗", "bold red")}


def show(report: Report) -> None:
    """Print the findings, and the section to paste into the file."""
    if report.findings:
        _show_table(report.findings)
    calls = f"{report.calls} call{'' if report.calls == 1 else 's'} with {report.texts:,} texts"
    if report.stopped_by is not None:
        out.print(f"stopped after {calls}: {report.stopped_by}", style="yellow")
        for line in (report.advice or "").splitlines():
            out.print(f"  → {line}")
    out.print()
    if report.settings:
        out.print(f"{_verdict(report)}. To paste into the file:\n")
        out.print(Text(report.section))
    else:
        out.print(f"{_verdict(report)}; no setting needs to change" if report.works else _verdict(report))


def _verdict(report: Report) -> str:
    doing = "works" if report.works else "does not work"
    return f"{report.provider} {doing} with the settings it has"


def _show_table(findings: tuple[Finding, ...]) -> None:
    """A terminal gets cells that wrap. Other outputs get one line per finding."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("capability", no_wrap=True)
    table.add_column("result", overflow="fold")
    table.add_column("setting", overflow="fold")
    for finding in findings:
        mark, style = MARKS[finding.level]
        table.add_row(mark, finding.capability, Text(printable(finding.result), style), finding.setting or "")
    out.print(table)
