"""Claims and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.model import Key, Lane, Pipeline
from pgvector_sync.store import leases
from pgvector_sync.store.leases import Lease


@dataclass(frozen=True, slots=True)
class ClaimedRow:
    """One row of work as it was claimed; lease and generation together fence off everybody else."""

    key: Key
    generation: int
    attempts: int
    """Counting this one."""
    force: bool
    verdict: str | None
    failed_fingerprint: bytes | None
    error_class: str | None
    """Of the last failure."""
    error_message: str | None


@dataclass(frozen=True, slots=True)
class Due:
    """How much a pipeline has waiting in one lane."""

    pipeline: str
    lane: Lane
    state: str
    batch_size: int | None
    rows: int
    """Up to the limit that was asked for."""
    in_flight: int
    """Batches, of both lanes."""
    dialect: str
    """The provider's."""


def jsonb_keys(keys: Sequence[Key]) -> list[Jsonb]:
    return [Jsonb(list(key)) for key in keys]


def in_flight(connection: Connection, pipeline: Pipeline) -> int:
    """Batches that are held right now, of both lanes."""
    return int(one(connection, statement("work.in_flight"), {"pipeline_id": pipeline.id})["batches"])


def claim(
    connection: Connection,
    pipeline: Pipeline,
    lane: Lane,
    lease: Lease,
    *,
    limit: int,
    max_attempts: int,
) -> list[ClaimedRow]:
    """Takes up to `limit` due rows: first those whose lease is lost, alone or few at a time, else fresh ones.

    The lease is made with them, and not where there are none.
    """
    params = {
        **lease.params,
        "pipeline_id": pipeline.id,
        "lane": lane,
        "limit": limit,
        "max_attempts": max_attempts,
    }
    rows = connection.execute(statement("work.claim_expired"), params).fetchall()
    if not rows:
        rows = connection.execute(statement("work.claim"), params).fetchall()
    return [
        ClaimedRow(
            tuple(row["key"]),
            row["generation"],
            row["attempts"],
            row["force"],
            row["verdict"],
            row["failed_fingerprint"],
            row["error_class"],
            row["error_message"],
        )
        for row in rows
    ]


def park_crashed(connection: Connection, pipeline: Pipeline, lane: Lane, *, max_attempts: int) -> int:
    """Parks rows on which every attempt ended in a lost lease; returns how many."""
    params = {"pipeline_id": pipeline.id, "lane": lane, "max_attempts": max_attempts}
    return connection.execute(statement("work.park_crashed"), params).rowcount


@dataclass(frozen=True, slots=True)
class Holding:
    """The rows of one lease; every statement on them repeats the fence."""

    pipeline: Pipeline
    lease: UUID

    def _params(self, keys: Sequence[Key], **more: Any) -> dict[str, Any]:
        return {"pipeline_id": self.pipeline.id, "lease": self.lease, "keys": jsonb_keys(keys), **more}

    def note_attempt(self, connection: Connection, tried: dict[Key, bytes]) -> dict[Key, int]:
        """Stores which content is about to be tried; returns the attempts that this content has had."""
        params = self._params(list(tried), fingerprints=list(tried.values()))
        rows = connection.execute(statement("work.note_attempt"), params)
        return {tuple(row["key"]): row["attempts"] for row in rows}

    def lock(self, connection: Connection, rows: Sequence[ClaimedRow]) -> set[Key]:
        """Locks those that are still ours, of the generation we claimed; the others were superseded."""
        claimed = {row.key: row.generation for row in rows}
        found = connection.execute(statement("work.lock_claimed"), self._params(list(claimed)))
        locked = ((tuple(row["key"]), row["generation"]) for row in found)
        return {key for key, generation in locked if claimed[key] == generation}

    def ack(self, connection: Connection, keys: Sequence[Key]) -> int:
        return connection.execute(statement("work.ack"), self._params(keys)).rowcount

    def end(self, connection: Connection) -> None:
        """The batch has ended: nothing is held any more."""
        leases.end(connection, self.pipeline.id, self.lease)

    def release(
        self,
        connection: Connection,
        keys: Sequence[Key],
        *,
        refund: bool = True,
        delay: timedelta = timedelta(0),
    ) -> int:
        """Gives rows back; rows that are no longer ours are left alone. Not `refund`: the attempt is used up."""
        params = self._params(keys, refund=refund, delay=delay)
        return connection.execute(statement("work.release"), params).rowcount

    def release_superseded(
        self,
        connection: Connection,
        keys: Sequence[Key],
        *,
        refund: bool = True,
        first: timedelta,
        longest: timedelta,
    ) -> int:
        """Gives rows back whose content has changed meanwhile. Not `refund`: the attempt is used up."""
        params = self._params(keys, refund=refund, backoff_first=first, backoff_longest=longest)
        return connection.execute(statement("work.release_superseded"), params).rowcount

    def back_off(
        self,
        connection: Connection,
        keys: Sequence[Key],
        *,
        error_class: str,
        error_message: str,
        first: timedelta,
        longest: timedelta,
        max_attempts: int,
    ) -> int:
        """The attempt is used up; those that have one left wait for it."""
        params = self._params(
            keys,
            error_class=error_class,
            error_message=error_message,
            backoff_first=first,
            backoff_longest=longest,
            max_attempts=max_attempts,
        )
        return connection.execute(statement("work.back_off"), params).rowcount

    def park(
        self,
        connection: Connection,
        rows: Sequence[tuple[ClaimedRow, bytes | None]],
        *,
        error_class: str,
        error_message: str,
        verdict: str | None = None,
    ) -> set[Key]:
        """Dead letters: (row, the fingerprint that failed). Rows changed since the claim are not parked."""
        params = self._params(
            [row.key for row, _ in rows],
            generations=[row.generation for row, _ in rows],
            fingerprints=[fingerprint for _, fingerprint in rows],
            error_class=error_class,
            error_message=error_message,
            verdict=verdict,
        )
        return {tuple(row["key"]) for row in connection.execute(statement("work.park"), params)}


def due(connection: Connection, *, limit: int) -> list[Due]:
    """What waits, live lane first, for every pipeline that may call its provider now."""
    return [
        Due(
            row["name"],
            Lane(row["lane"]),
            row["state"],
            row["batch_size"],
            row["due"],
            row["in_flight"],
            row["dialect"],
        )
        for row in connection.execute(statement("work.due"), {"limit": limit})
    ]
