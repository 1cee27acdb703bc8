"""The schema watch: does the installed schema still match what each pipeline needs?

Columns and tables are renamed and swapped. Triggers are lost in a restore, disabled or dropped. Several times per
minute one process compares, shows problems in the pipeline's state, repairs what needs no decision, and starts a
deep reconciliation if changes may have been missed (G15).
"""

from __future__ import annotations

from datetime import timedelta

import psycopg

from pgvector_sync.capture import triggers
from pgvector_sync.database import LOCK_CONFLICT, OUTAGE, Connection, Database
from pgvector_sync.engine.watch.problems import Problem, Verdict, judge
from pgvector_sync.errors import DatabaseRefuses, Refused
from pgvector_sync.model import State
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

__all__ = ["Problem", "Verdict", "judge", "look_now", "note", "verdicts"]

REPAIR_LOCK_TIMEOUT = timedelta(milliseconds=200)
"""How long installing a trigger waits for writers of a source, which in turn wait behind it."""


REFUSING = ("column", "identity", "rule")
"""Kinds of demands that no write satisfies. Other problems of a target are reported separately."""


def look_now(database: Database, pipeline: str | None = None) -> list[Verdict]:
    """Compare, repair, store the remaining problems, and start the deep reconciliations that are needed.

    Returns the verdicts after the repair, for all pipelines or for one.
    """
    with database.transaction() as connection:
        judged = verdicts(connection)
    if repairable := [verdict for verdict in judged if verdict.repairable]:
        for source_id in sorted({verdict.facts.source.id for verdict in repairable}):
            _repair(database, source_id)
        with database.transaction() as connection:
            judged = verdicts(connection)
    for verdict in judged:
        _note(database, verdict)
    for verdict in judged:
        if (verdict.facts.recheck or verdict.missed) and verdict.problem is None:
            _recheck(database, verdict)
    with database.transaction() as connection:
        watch.forget_unread(connection)
        _repair_sequences(connection)
    return [verdict for verdict in judged if pipeline in (None, verdict.facts.name)]


def verdicts(connection: Connection) -> list[Verdict]:
    """Return what is wrong with each pipeline now. Changes nothing."""
    every = watch.read_facts(connection)
    refusing = {
        pipeline.id: [demand for demand in demands(connection, pipeline) if demand.kind in REFUSING]
        for pipeline in pipelines.all_pipelines(connection)
    }
    untrusted = {
        facts.id: strangers(connection, facts.source, facts.read_columns, facts.needs, facts.target)
        for facts in every
    }
    return judge(every, connection.info.server_version, refusing, untrusted)


def note(connection: Connection, verdict: Verdict) -> bool:
    """Store a verdict in the caller's transaction. Returns False if it was stored already."""
    return watch.note(
        connection, verdict.facts, problem=verdict.reason, stops=verdict.stops, missed=verdict.missed
    )


def _note(database: Database, verdict: Verdict) -> None:
    known, current = verdict.facts, (verdict.reason, verdict.stops)
    if (known.problem, known.problem_stops) == current and (known.recheck or not verdict.missed):
        return
    if database.retry_on_lock_conflict(lambda connection: note(connection, verdict)):
        if verdict.reason is not None:
            emit(SchemaProblem(pipeline=known.name, reason=Words(verdict.reason)))
        elif known.problem is not None:
            emit(SchemaProblemEnded(pipeline=known.name))


def _repair(database: Database, source_id: int) -> None:
    """Install the triggers of one source if that is still necessary. If it isn't possible, the problem remains."""
    try:
        with database.transaction(lock_timeout=REPAIR_LOCK_TIMEOUT, durable=True) as connection:
            # as in `apply` and `remove`, so that neither is half done while we check again
            locks.lock_drain(connection)
            same_source = [verdict for verdict in verdicts(connection) if verdict.facts.source.id == source_id]
            if not same_source or not all(verdict.repairable for verdict in same_source):
                return
            capture = same_source[0].capture
            if capture is None:
                return
            triggers.install(connection, capture)
            for verdict in same_source:
                watch.note(connection, verdict.facts, problem=None, stops=False, missed=verdict.missed)
    except LOCK_CONFLICT:
        return
    except psycopg.errors.InsufficientPrivilege:
        return  # a worker's role lacks the privilege; `apply` is run by a role that has it
    emit(TriggersInstalled(source=same_source[0].facts.source.label))


def _recheck(database: Database, verdict: Verdict) -> None:
    """Start a deep reconciliation. While another one runs, the next check tries again."""
    if verdict.facts.state is State.PAUSED:
        return
    with database.transaction(read_only=True) as connection:
        pipeline = pipelines.find_pipeline(connection, verdict.facts.name)
    if pipeline is None:
        return
    share = pipeline.options.reconcile.database_share
    try:
        started = request_reconcile(database, pipeline.name, Reconcile(deep=True, database_share=share))
    except (Refused, DatabaseRefuses, *LOCK_CONFLICT):
        return
    except OUTAGE:
        raise
    except psycopg.Error as error:
        emit(ReconcileNotStarted(pipeline=pipeline.name, sqlstate=error.sqlstate))
        return
    if not started.joined:
        emit(ReconcileDue(pipeline=pipeline.name, deep=True))


def _repair_sequences(connection: Connection) -> None:
    """Move sequences that would return used ids, as they do after an upgrade by logical replication."""
    for table in watch.repair_sequences(connection):
        emit(SequenceRepaired(sequence=table))
