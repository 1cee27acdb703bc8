"""Which periodic jobs exist? One file per job, and the two lists of them.

To add a job, write a file with `JOB = Job(name, every, run_once)` and list it here. Test its effect or the event
that it emits.
"""

from __future__ import annotations

from pgvector_sync.engine.jobs import (
    build_indexes,
    discard_dead_letters,
    forget_history,
    forget_query_samples,
    forget_rates,
    measure_recall,
    record_history,
    schema_watch,
    start_reconciles,
)
from pgvector_sync.engine.jobs.job import Job, Jobs

__all__ = ["ALL", "URGENT", "Job", "Jobs"]

URGENT = (schema_watch.JOB,)
"""Jobs that can't wait while beat is down (G15). The elected relay runs them as well."""
ALL = (
    *URGENT,
    start_reconciles.JOB,
    forget_history.JOB,
    discard_dead_letters.JOB,
    forget_rates.JOB,
    forget_query_samples.JOB,
    record_history.JOB,
    build_indexes.JOB,
    measure_recall.JOB,
)
"""Jobs that run in beat's tick and in `sync`."""
