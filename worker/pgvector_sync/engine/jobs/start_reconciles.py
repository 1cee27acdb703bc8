"""Start the reconciliations that are due by their pipelines' schedules.

The database decides by its own clock and by the start of the last one. So two processes start only one, and a day
without any process is followed by one reconciliation.
"""

from __future__ import annotations

import psycopg

from pgvector_sync.database import LOCK_CONFLICT, OUTAGE, Database
from pgvector_sync.engine import schedule
from pgvector_sync.engine.jobs.job import Job
from pgvector_sync.errors import DatabaseRefuses, Refused
from pgvector_sync.model.request import Reconcile
from pgvector_sync.runs.requests import request_reconcile
from pgvector_sync.settings import Settings
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.events.runs import ReconcileDue, ReconcileNotStarted


def run_once(database: Database, _settings: Settings) -> None:
    with database.transaction(read_only=True) as connection:
        due = schedule.due(connection)
    for pipeline, planned, deep in due:
        try:
            request = Reconcile(
                deep=deep,
                page_rows=planned.page_rows,
                database_share=planned.database_share,
                window=planned.window,
            )
            request_reconcile(database, pipeline, request)
        except (Refused, DatabaseRefuses, *LOCK_CONFLICT):
            continue  # another one is running, the pipeline is being removed, or its source is locked
        except OUTAGE:
            raise
        except psycopg.Error as error:  # its source is gone or closed to us; continue with the other pipelines
            emit(ReconcileNotStarted(pipeline=pipeline, sqlstate=error.sqlstate))
            continue
        emit(ReconcileDue(pipeline=pipeline, deep=deep))


JOB = Job("start_reconciles", schedule.EVERY, run_once)
