"""Checks that a source's triggers exist, are enabled and are the ones this version creates."""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.capture.faults import Fault, FaultKind
from pgvector_sync.engine.watch import Verdict
from pgvector_sync.model import Pipeline
from pgvector_sync.observe.doctor.verdicts import Verdicts
from pgvector_sync.observe.finding import Finding, error, ok, warning

APPLY = "pgvector-sync apply"


def triggers(verdicts: Verdicts, pipeline: Pipeline) -> Iterator[Finding]:
    """Yield nothing if the source is missing, which the check `source` reports."""
    verdict = verdicts.of(pipeline)
    if verdict is None or verdict.capture is None:
        return
    meanwhile = "a deep reconciliation then starts automatically and finds the changes that were missed"
    for problem in verdict.trigger_problems:
        yield error(
            problem.what, problem.command + (" -- " if problem.command.endswith(";") else "; ") + meanwhile
        )
    if verdict.facts.unread:
        yield error(
            f"changes of {pipeline.source.label} were captured without a key, because the key couldn't be read",
            f"fix what the check `source` reports; {meanwhile}",
        )
    yield from _harmless_faults(verdict)
    if not (verdict.trigger_problems or verdict.facts.unread or verdict.faults):
        replicated = ", replicated changes too" if verdict.capture.replicated else ""
        yield ok(f"triggers on {', '.join(verdict.capture.tracked)}{replicated}")


def _harmless_faults(verdict: Verdict) -> Iterator[Finding]:
    """Faults that lose no change."""
    if unswept := _of_kind(verdict, FaultKind.UNSWEPT):
        places = ", ".join(fault.place for fault in unswept)
        yield warning(f"no TRUNCATE trigger on {places}, attached since the last apply", APPLY)
    if delayed := _of_kind(verdict, FaultKind.DELAYED):
        yield warning(
            f"{delayed[0]} is missing or disabled: vectors of deleted rows are removed by the drain, not at once",
            APPLY,
        )
    if stray := _of_kind(verdict, FaultKind.STRAY):
        places = ", ".join(sorted({fault.place for fault in stray}))
        yield warning(f"triggers of {verdict.facts.source.label} are also on {places}", APPLY)
    if _of_kind(verdict, FaultKind.OUTDATED) and not verdict.trigger_problems:
        yield warning(
            f"the triggers on {verdict.facts.source.label} were created for another version of pgvector-sync, "
            "PostgreSQL or the table",
            APPLY,
        )


def _of_kind(verdict: Verdict, kind: FaultKind) -> list[Fault]:
    return [fault for fault in verdict.faults if fault.kind is kind]
