"""The look for work: one statement that says whether a turn of the engine would find anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.store import work
from pgvector_sync.store.due_hints import DueHints


@dataclass(frozen=True, slots=True)
class Signs:
    """What a turn may find. A sign may be given in vain, since the turn looks again with its own statements."""

    events: bool
    """An event to drain."""
    sweeps: bool
    """A TRUNCATE whose targets must be swept."""
    leases: bool
    """A lease to suspect or to lose."""
    runs: bool
    """A run that no process is carrying out."""
    work: bool
    """A due row of a pipeline that may call its provider."""
    jobs: frozenset[str]
    """Names of the due jobs, of those that were asked for."""

    @property
    def any(self) -> bool:
        return self.events or self.sweeps or self.leases or self.runs or self.work or bool(self.jobs)

    @property
    def everything(self) -> Signs:
        """These signs, with all others given as well."""
        return replace(self, events=True, sweeps=True, leases=True, runs=True, work=True)


def look(
    connection: Connection, *, after_id: int, grace: timedelta, jobs: Sequence[str], hints: DueHints
) -> Signs:
    """Looks for events after `after_id`, and for everything else. Needs no transaction, and only reads."""
    query = statement("poll.look").format(may_call=work.may_call(), **work.hinted())
    known = hints.all()
    params = {"after_id": after_id, "grace": grace, "jobs": list(jobs), **work.params_of(known)}
    row = one(connection, query, params)
    if not known and not row["work"]:
        hints.found_nothing()
    return Signs(row["events"], row["sweeps"], row["leases"], row["runs"], row["work"], frozenset(row["jobs"]))
