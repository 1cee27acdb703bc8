"""The schema watch: is what is installed still what each pipeline needs?

Columns and tables are renamed and swapped; triggers are lost in a restore, disabled, dropped. Several times per
minute one process compares, shows what is wrong in the pipeline's state, repairs what needs no decision, and has
all texts compared wherever changes may have been missed (G15).
"""

from __future__ import annotations

from datetime import timedelta

import psycopg

from pgvector_sync.capture import triggers
from pgvector_sync.database import LOCK_CONFLICT, OUTAGE, Connection, Database
from pgvector_sync.engine.watch.problems import Problem, Verdict, judge
from pgvector_sync.errors import DatabaseRefuses, Refused
from pgvector_sync.model import Pipeline, State
from pgvector_sync.model.request import Reconcile
from pgvector_sync.runs.requests import request_reconcile
from pgvector_sync.store import locks, pipelines, watch
from pgvector_sync.store.target_table import demands
from pgvector_sync.store.trust import strangers
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.runs import ReconcileDue, ReconcileNotStarted
from pgvector_sync.telemetry.events.schema import (
    SchemaProblem,
    SchemaProblemEnded,
    SequenceRepaired,
    TriggersInstalled,
)

__all__ = ["Problem", "Verdict", "judge", "look_now", "note", "verdict_of", "verdicts"]

REPAIR_LOCK_TIMEOUT = timedelta(milliseconds=200)
"""How long installing a trigger waits for writers of a source, and they behind it; the next look tries again."""


REFUSING = ("column", "identity", "rule")
"""Demands of a target that no write satisfies; what else is wrong with one has words of its own."""


def look_now(database: Database, pipeline: str | None = None) -> list[Verdict]:
    """Compares, repairs, stores what is left, and starts the deep reconciliations that are owed.

    Returns the verdicts after the repair, of all pipelines or one.
    """
    with database.transaction() as connection:
        found = verdicts(connection)
    if repairable := [verdict for verdict in found if verdict.repairable]:
        for source_id in sorted({verdict.facts.source.id for verdict in repairable}):
            _repair(database, source_id)
        with database.transaction() as connection:
            found = verdicts(connection)
    for verdict in found:
        _note(database, verdict)
    for verdict in found:
        if (verdict.facts.recheck or verdict.missed) and verdict.problem is None:
            _recheck(database, verdict)
    with database.transaction() as connection:
        watch.forget_unread(connection)
        _repair_sequences(connection)
    return [verdict for verdict in found if pipeline in (None, verdict.facts.name)]


def verdicts(connection: Connection) -> list[Verdict]:
    """What is wrong with every pipeline, now. Changes nothing."""
    found = watch.read_facts(connection)
    refusing = {
        pipeline.id: [demand for demand in demands(connection, pipeline) if demand.kind in REFUSING]
        for pipeline in pipelines.all_pipelines(connection)
    }
    strange = {
        facts.id: strangers(connection, facts.source, facts.read_columns, facts.needs, facts.target)
        for facts in found
    }
    return judge(found, connection.info.server_version, refusing, strange)


def verdict_of(connection: Connection, pipeline: Pipeline) -> Verdict | None:
    """What is wrong with one pipeline, now; None while it is being removed."""
    return next((found for found in verdicts(connection) if found.facts.id == pipeline.id), None)


def note(connection: Connection, verdict: Verdict) -> bool:
    """Stores what was found, in a transaction of the caller's; False if it was known already."""
    return watch.note(
        connection, verdict.facts, problem=verdict.reason, stops=verdict.stops, missed=verdict.missed
    )


def _note(database: Database, verdict: Verdict) -> None:
    known, found = verdict.facts, (verdict.reason, verdict.stops)
    if (known.problem, known.problem_stops) == found and (known.recheck or not verdict.missed):
        return
    if database.retry_on_lock_conflict(lambda connection: note(connection, verdict)):
        if verdict.reason is not None:
            emit(SchemaProblem(pipeline=known.name, reason=Words(verdict.reason)))
        elif known.problem is not None:
            emit(SchemaProblemEnded(pipeline=known.name))


def _repair(database: Database, source_id: int) -> None:
    """Installs the triggers of one source, if that is still necessary. What can't be done stays a problem."""
    try:
        with database.transaction(lock_timeout=REPAIR_LOCK_TIMEOUT, durable=True) as connection:
            locks.lock_drain(connection)  # as `apply` and `remove` do: neither is half done while we look again
            same = [found for found in verdicts(connection) if found.facts.source.id == source_id]
            if not same or not all(found.repairable for found in same):
                return
            wanted = same[0].capture
            if wanted is None:
                return
            triggers.install(connection, wanted)
            for found in same:
                watch.note(connection, found.facts, problem=None, stops=False, missed=found.missed)
    except LOCK_CONFLICT:
        return
    except psycopg.errors.InsufficientPrivilege:
        return  # a worker's role may not; `apply` is run by one that may
    emit(TriggersInstalled(source=same[0].facts.source.label))


def _recheck(database: Database, verdict: Verdict) -> None:
    """Starts the deep reconciliation that is owed; while another runs, the next look tries again."""
    if verdict.facts.state is State.PAUSED:
        return
    with database.transaction(read_only=True) as connection:
        found = pipelines.find_pipeline(connection, verdict.facts.name)
    if found is None:
        return
    share = found.options.reconcile.database_share
    try:
        started = request_reconcile(database, found.name, Reconcile(deep=True, database_share=share))
    except (Refused, DatabaseRefuses, *LOCK_CONFLICT):
        return
    except OUTAGE:
        raise
    except psycopg.Error as error:
        emit(ReconcileNotStarted(pipeline=found.name, sqlstate=error.sqlstate))
        return
    if not started.joined:
        emit(ReconcileDue(pipeline=found.name, deep=True))


def _repair_sequences(connection: Connection) -> None:
    """After a logical replication upgrade they would give out ids that are taken."""
    for behind in watch.sequences(connection, repair=True):
        if behind.repaired:
            emit(SequenceRepaired(sequence=behind.table))
