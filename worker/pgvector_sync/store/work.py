"""Claims rows of work, and acknowledges, releases or parks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import sql

from pgvector_sync.database import Connection, one, tuples
from pgvector_sync.database.packing import PackedBytes, PackedKeys
from pgvector_sync.database.statements import composed_once, part, statement
from pgvector_sync.model import Key, Lane, Pipeline
from pgvector_sync.store import leases, totals
from pgvector_sync.store.due_hints import BEGINNING, DueHints
from pgvector_sync.store.leases import Lease

Place = str
"""Where a row of work is in its table (ctid), as text. It stays the same while we have the row locked."""


class ClaimedRow(NamedTuple):
    """One row of work as it was claimed. Its lease and generation fence off other workers and newer changes.

    In the order in which `work.claim` returns them.
    """

    key: Key
    generation: int
    attempts: int
    """The number of attempts, including this one."""
    force: bool
    verdict: str | None
    failed_fingerprint: bytes | None
    error_class: str | None
    """The class of the last failure."""
    error_message: str | None
    run_id: int | None = None
    """The run that has enqueued it."""


@dataclass(frozen=True, slots=True)
class Due:
    """The due rows of a pipeline in one lane."""

    pipeline: str
    lane: Lane
    state: str
    batch_size: int | None
    rows: int
    """The number of due rows, up to the limit."""
    in_flight: int
    """The number of batches in flight, in both lanes."""
    provider: str
    model: str
    dialect: str
    """The dialect of the provider."""
    parallel: int | None
    """How many requests at once the provider is known to answer in time, see `Learned`."""


@dataclass(frozen=True, slots=True)
class Held:
    """What batches hold of a pipeline's work, in both lanes."""

    batches: int
    """The number of batches in flight."""
    lost: bool
    """Whether a lease is lost, and may have left rows behind."""


def held(connection: Connection, pipeline: Pipeline) -> Held:
    """Returns what batches hold of a pipeline's work."""
    return Held(**one(connection, statement("work.held"), {"pipeline_id": pipeline.id}, prepare=True))


def claim(
    connection: Connection,
    pipeline: Pipeline,
    lane: Lane,
    lease: Lease,
    *,
    limit: int,
    max_attempts: int,
    hints: DueHints,
    lost: bool = True,
) -> list[ClaimedRow]:
    """Claims up to `limit` due rows: those whose lease is lost, alone or a few at a time, or else fresh ones.

    The lease is inserted together with the claim, unless there are no rows. If `lost` is false, no lease is lost.
    """
    since = hints.since(pipeline.id, lane)
    params = {
        **lease.params,
        "pipeline_id": pipeline.id,
        "lane": lane,
        "limit": limit,
        "max_attempts": max_attempts,
        "due_since": since,
    }
    rows = tuples(connection, statement("work.claim_expired"), params) if lost else []
    if not rows:
        taken = tuples(connection, statement("work.claim"), params)
        hints.learn(pipeline.id, lane, since=since, due_from=taken[0][-1])
        rows = [row[:-1] for row in taken if row[0] is not None]
    return [ClaimedRow(tuple(row[0]), *row[1:]) for row in rows]


def park_crashed(connection: Connection, pipeline: Pipeline, lane: Lane, *, max_attempts: int) -> int:
    """Parks rows whose lease was lost on their last attempt; returns how many."""
    params = {"pipeline_id": pipeline.id, "lane": lane, "max_attempts": max_attempts}
    return _rows(connection, statement("work.park_crashed"), params)


@dataclass(frozen=True, slots=True)
class Holding:
    """The rows of one lease. Every statement on them checks that the lease still holds them."""

    pipeline: Pipeline
    lease: UUID

    def _params(self, keys: Sequence[Key], **more: Any) -> dict[str, Any]:
        return {"pipeline_id": self.pipeline.id, "lease": self.lease, "keys": PackedKeys(keys), **more}

    def note_attempt(self, connection: Connection, tried: dict[Key, bytes]) -> dict[Key, int]:
        """Stores which content is about to be embedded; returns how many attempts this content has had, by key."""
        params = self._params(list(tried), fingerprints=PackedBytes(list(tried.values())))
        rows = connection.execute(statement("work.note_attempt"), params)
        return {tuple(row["key"]): row["attempts"] for row in rows}

    def lock(self, connection: Connection, rows: Sequence[ClaimedRow]) -> dict[Key, Place]:
        """Locks rows that we still hold in the claimed generation; returns their places.

        Others were superseded.
        """
        claimed = {row.key: row.generation for row in rows}
        held = tuples(connection, statement("work.lock_claimed"), self._params(list(claimed)))
        locked = ((tuple(key), generation, place) for key, generation, place in held)
        return {key: place for key, generation, place in locked if claimed[key] == generation}

    def ack(
        self,
        connection: Connection,
        places: Sequence[Place],
        *,
        stored: int,
        removed: int,
        absent: int,
        unchanged: int,
    ) -> int:
        """Deletes rows that this transaction has locked; returns how many.

        Counts them in the lease, by what was done with them.
        """
        by_outcome = {"stored": stored, "removed": removed, "absent": absent, "unchanged": unchanged}
        # as one text, since psycopg would look at each element
        listed = '{"' + '","'.join(places) + '"}'
        params = {"pipeline_id": self.pipeline.id, "lease": self.lease, "places": listed, **by_outcome}
        acknowledged = one(connection, _ack(), params, prepare=True)
        if not acknowledged["counted"]:
            totals.add_apart(
                connection,
                self.lease,
                **by_outcome,
                wait_seconds=acknowledged["seconds"],
                wait_buckets=acknowledged["buckets"],
            )
        return int(acknowledged["rows"])

    def end(self, connection: Connection) -> None:
        """Ends the lease of a batch that holds no rows any more."""
        leases.end(connection, self.pipeline.id, self.lease)

    def release(
        self,
        connection: Connection,
        keys: Sequence[Key],
        *,
        refund: bool = True,
        delay: timedelta = timedelta(0),
    ) -> int:
        """Releases rows that we still hold; returns how many. Without `refund`, the attempt is used up."""
        params = self._params(keys, refund=refund, delay=delay)
        return _rows(connection, statement("work.release"), params)

    def release_superseded(
        self,
        connection: Connection,
        keys: Sequence[Key],
        *,
        refund: bool = True,
        first: timedelta,
        longest: timedelta,
    ) -> int:
        """Releases rows whose content has changed; returns how many. Without `refund`, the attempt is used up."""
        params = self._params(keys, refund=refund, backoff_first=first, backoff_longest=longest)
        released = one(connection, statement("work.release_superseded"), params)
        if released["rows"] and not released["counted"]:
            totals.add_apart(connection, self.lease, superseded=released["rows"])
        return int(released["rows"])

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
        """Releases rows after a failed attempt, which is used up, if they have another; returns how many."""
        params = self._params(
            keys,
            error_class=error_class,
            error_message=error_message,
            backoff_first=first,
            backoff_longest=longest,
            max_attempts=max_attempts,
        )
        return _rows(connection, statement("work.back_off"), params)

    def park(
        self,
        connection: Connection,
        rows: Sequence[tuple[ClaimedRow, bytes | None]],
        *,
        error_class: str,
        error_message: str,
        verdict: str | None = None,
    ) -> set[Key]:
        """Parks rows as dead letters; returns their keys. Rows changed since the claim aren't parked.

        rows: (row, the fingerprint that failed).
        """
        params = self._params(
            [row.key for row, _ in rows],
            generations=[row.generation for row, _ in rows],
            fingerprints=PackedBytes([fingerprint for _, fingerprint in rows]),
            error_class=error_class,
            error_message=error_message,
            verdict=verdict,
        )
        return {tuple(row["key"]) for row in connection.execute(statement("work.park"), params)}


@composed_once
def _ack() -> sql.Composed:
    return statement("work.ack").format(
        wait_buckets=totals.buckets_of("seconds", totals.WAIT_BOUNDS_SECONDS),
    )


def _rows(connection: Connection, query: sql.SQL | sql.Composed, params: dict[str, Any]) -> int:
    """Runs a statement that returns how many rows it has changed."""
    return int(one(connection, query, params)["rows"])


def may_call() -> sql.SQL:
    """Returns the condition that pipeline `p` may call its provider for rows of `lane.lane`."""
    return part("work.may_call")


def hinted() -> dict[str, sql.SQL]:
    """Returns the fragments of a statement that searches all lanes from their hints on, see `params_of`."""
    return {"hints": part("work.hints"), "from_hint": part("work.from_hint")}


def params_of(hints: Mapping[tuple[int, Lane], float]) -> dict[str, str]:
    """Returns the parameters of such a statement: arrays as text, since psycopg would look at each element."""
    return {
        "hint_pipelines": f"{{{','.join(str(pipeline_id) for pipeline_id, _ in hints)}}}",
        "hint_lanes": f"{{{','.join(lane for _, lane in hints)}}}",
        "hint_since": f"{{{','.join(map(str, hints.values()))}}}",
    }


def due(connection: Connection, *, limit: int, hints: DueHints) -> list[Due]:
    """Returns what is due in every pipeline that may call its provider now, the live lane first."""
    query = statement("work.due").format(may_call=may_call(), **hinted())
    known = hints.all()
    counted = []
    for row in connection.execute(query, {"limit": limit, **params_of(known)}):
        lane = Lane(row["lane"])
        since = known.get((row["id"], lane), BEGINNING)
        hints.learn(row["id"], lane, since=since, due_from=row["due_from"])
        counted.append(
            Due(
                row["name"],
                lane,
                row["state"],
                row["batch_size"],
                row["due"],
                row["in_flight"],
                row["provider"],
                row["model"],
                row["dialect"],
                row["parallel"],
            )
        )
    return counted
