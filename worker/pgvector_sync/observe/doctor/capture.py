"""The triggers on a source: there, enabled, and as this program makes them."""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.capture.faults import Fault, FaultKind
from pgvector_sync.engine import watch
from pgvector_sync.engine.watch import Verdict
from pgvector_sync.model import Pipeline
from pgvector_sync.observe.doctor.check import Finding, error, ok, warning
from pgvector_sync.runtime import Runtime

APPLY = "pgvector-sync apply"


def triggers(runtime: Runtime, pipeline: Pipeline) -> Iterator[Finding]:
    """Nothing, where there is no source to have any: the check `source` says so."""
    with runtime.database.transaction(read_only=True) as connection:
        found = watch.verdict_of(connection, pipeline)
    if found is None or found.capture is None:
        return
    meanwhile = "a deep reconciliation starts by itself afterwards, and finds what changed meanwhile"
    for problem in found.trigger_problems:
        yield error(
            problem.what, problem.command + (" -- " if problem.command.endswith(";") else "; ") + meanwhile
        )
    if found.facts.unread:
        yield error(
            f"changes of {pipeline.source.label} were captured without their key, which could not be read",
            f"repair what the check `source` names; {meanwhile}",
        )
    yield from _lesser(found)
    if not (found.trigger_problems or found.facts.unread or found.faults):
        replicated = ", replicated changes too" if found.capture.replicated else ""
        yield ok(f"triggers on {', '.join(found.capture.tracked)}{replicated}")


def _lesser(found: Verdict) -> Iterator[Finding]:
    """Faults under which nothing is missed."""
    if unswept := _of(found, FaultKind.UNSWEPT):
        places = ", ".join(fault.place for fault in unswept)
        yield warning(f"no TRUNCATE trigger on {places}, attached since the last apply", APPLY)
    if stray := _of(found, FaultKind.STRAY):
        places = ", ".join(sorted({fault.place for fault in stray}))
        yield warning(f"triggers of {found.facts.source.label} are on {places} as well", APPLY)
    if _of(found, FaultKind.OUTDATED) and not found.trigger_problems:
        yield warning(
            f"the triggers on {found.facts.source.label} are of another version of the program, of PostgreSQL or "
            "of the table",
            APPLY,
        )


def _of(found: Verdict, kind: FaultKind) -> list[Fault]:
    return [fault for fault in found.faults if fault.kind is kind]
