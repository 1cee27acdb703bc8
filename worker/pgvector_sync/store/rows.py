"""A pipeline's rows: texts and fingerprints of the source, and vectors of the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from psycopg import sql
from psycopg.types.json import Jsonb

from pgvector_sync.database import Connection, tuples
from pgvector_sync.database.packing import PackedBytes, PackedKeys, PackedVectors
from pgvector_sync.errors import DatabaseRefuses
from pgvector_sync.model import Key, Passage
from pgvector_sync.store import expressions, source, target
from pgvector_sync.store.shape import Shape
from pgvector_sync.store.trust import require_own_target, require_trusted

if TYPE_CHECKING:  # numpy takes longer to import than most commands to run
    import numpy as np
    from numpy.typing import NDArray

Vector32: TypeAlias = "NDArray[np.float32]"
"""A vector, of shape (dimensions,)."""


class SourceRow(NamedTuple):
    """A row as it was read from the source."""

    key: Key
    fingerprint: bytes | None
    """None if the row is deleted, not wanted or blank."""
    text: str | None
    """None if there is no fingerprint, or the text wasn't fetched: it is too large, or the batch is full."""
    octets: int | None
    """The size of the text in bytes."""
    stored_fingerprint: bytes | None
    """None if there is no vector."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text that would be embedded."""

    fingerprint: bytes
    text: str | None
    """None if it is too large."""


class Look(NamedTuple):
    """The fingerprints of a row, read again after its work row is locked."""

    fingerprint: bytes | None
    stored_fingerprint: bytes | None
    last_chunk: int | None = None
    """The number of the last stored chunk. None if there is no vector."""


BATCH_BYTES = 8 * 2**20
"""The maximum size of a batch's text. A worker holds it several times while it builds requests."""


def read(
    connection: Connection, shape: Shape, keys: Sequence[Key], *, text_limit: int, batch_bytes: int | None = None
) -> list[SourceRow]:
    """Reads texts and fingerprints. After `batch_bytes` of text, BATCH_BYTES at most, it fetches no further texts.

    Raises psycopg.DataError or similar if an expression fails on a row, and DatabaseRefuses.
    """
    require_trusted(connection, shape.pipeline)
    params = {
        "keys": PackedKeys(keys),
        "spec": shape.pipeline.spec.digest,
        "text_limit": text_limit,
        "bytes": min(BATCH_BYTES, batch_bytes or BATCH_BYTES),
    }
    return [
        SourceRow(keys[number - 1], fingerprint, text, octets, stored)
        for number, octets, fingerprint, text, stored in tuples(connection, source.read(shape), params)
    ]


def texts(connection: Connection, shape: Shape, keys: Sequence[Key], *, text_limit: int) -> list[Text]:
    """Reads the texts of rows that should have a vector. The target needn't exist.

    Raises psycopg.DataError or similar if an expression fails on a row, and DatabaseRefuses.
    """
    require_trusted(connection, shape.pipeline)
    params = {"keys": PackedKeys(keys), "spec": shape.pipeline.spec.digest, "text_limit": text_limit}
    return [Text(row["fingerprint"], row["text"]) for row in connection.execute(source.texts(shape), params)]


def look(connection: Connection, shape: Shape, keys: Sequence[Key], *, text_limit: int) -> dict[Key, Look]:
    """Reads the current fingerprints. Raises DatabaseRefuses."""
    require_trusted(connection, shape.pipeline)
    params = {"keys": PackedKeys(keys), "spec": shape.pipeline.spec.digest, "text_limit": text_limit}
    return {
        keys[number - 1]: Look(fingerprint, stored, last_chunk)
        for number, fingerprint, stored, last_chunk in tuples(connection, source.look(shape), params)
    }


def explain(connection: Connection, shape: Shape, condition: sql.Composable) -> None:
    """Plans a condition on rows of the source, and executes nothing. Raises psycopg.Error if it isn't valid."""
    require_trusted(connection, shape.pipeline)
    expressions.explain(connection, shape.source, condition)


def require_open_to_writes(connection: Connection, shape: Shape) -> None:
    """Raises psycopg.errors.LockNotAvailable while another session locks the whole target."""
    connection.execute(target.open_to_writes(shape), {}, prepare=True)


def reusable(connection: Connection, shape: Shape, fingerprints: Sequence[bytes]) -> dict[bytes, Vector32]:
    """Returns stored vectors with these fingerprints, that is, of the same spec and text."""
    if not fingerprints:
        return {}
    require_trusted(connection, shape.pipeline)
    params = {"fingerprints": PackedBytes(fingerprints), "pipeline_id": shape.pipeline.id}
    rows = connection.cursor(binary=True).execute(target.reusable(shape), params, prepare=True)
    return {row["fingerprint"]: row["embedding"].to_numpy() for row in rows}


def known(connection: Connection, shape: Shape, fingerprints: Sequence[bytes]) -> set[bytes]:
    """Returns those of the fingerprints that are stored."""
    return {
        row["fingerprint"]
        for row in connection.execute(target.known(shape), {"fingerprints": PackedBytes(fingerprints)})
    }


WRITE_STATEMENTS = 2
"""The number of round trips of `write`."""


def write(connection: Connection, shape: Shape, vectors: Sequence[tuple[Passage, Vector32]]) -> None:
    """Replaces the vectors of rows by those of their passages, one per row. Raises DatabaseRefuses."""
    params = {
        "keys": PackedKeys([passage.key for passage, _ in vectors]),
        "chunk_nos": [passage.chunk_no for passage, _ in vectors],
        "embeddings": PackedVectors([vector for _, vector in vectors]),
        "fingerprints": PackedBytes([passage.fingerprint for passage, _ in vectors]),
        "model": shape.pipeline.spec.model,
    }
    require_own_target(connection, shape.pipeline)
    written = connection.execute(target.write(shape), params, prepare=True).rowcount
    if written != len(vectors):  # the keys are distinct and locked
        label = shape.pipeline.target_label
        raise DatabaseRefuses(
            f"{label}: expected {len(vectors)} written rows, got {written}",
            hint="check the triggers and rules of the target",
        )


def trim(connection: Connection, shape: Shape, keys: Sequence[Key]) -> None:
    """Removes the chunks of these rows beyond the first. Raises DatabaseRefuses."""
    require_own_target(connection, shape.pipeline)
    connection.execute(target.trim(shape), {"keys": PackedKeys(keys), "chunks": 1})


def remove(connection: Connection, shape: Shape, keys: Sequence[Key]) -> set[Key]:
    """Removes all chunks of these rows; returns the keys of those that had any."""
    require_own_target(connection, shape.pipeline)
    return {tuple(row["key"]) for row in connection.execute(target.remove(shape), {"keys": PackedKeys(keys)})}


def page(
    connection: Connection,
    shape: Shape,
    after: Key | None,
    *,
    limit: int,
    text_limit: int,
    conditions: Sequence[sql.Composable] = (),
    since: datetime | None = None,
) -> list[tuple[Key, bool]]:
    """Returns the next keys of the source in key order, each with whether its row meets all conditions."""
    require_trusted(connection, shape.pipeline, whole=bool(conditions))
    query = source.page(shape, from_start=after is None, conditions=conditions)
    params = {
        "after": None if after is None else Jsonb(list(after)),
        "limit": limit,
        "since": since,
        "pipeline_id": shape.pipeline.id,
        "spec": shape.pipeline.spec.digest,
        "text_limit": text_limit,
    }
    return [(tuple(key), matches) for key, matches in tuples(connection, query, params)]


def matching(
    connection: Connection,
    shape: Shape,
    keys: Sequence[Key],
    conditions: Sequence[sql.Composable],
    *,
    text_limit: int,
    since: datetime | None,
) -> set[Key]:
    """Returns those of the keys whose row meets all conditions, or is deleted."""
    require_trusted(connection, shape.pipeline, whole=True)
    params = {
        "keys": PackedKeys(keys),
        "since": since,
        "pipeline_id": shape.pipeline.id,
        "spec": shape.pipeline.spec.digest,
        "text_limit": text_limit,
    }
    return {tuple(row["key"]) for row in connection.execute(source.matching(shape, conditions), params)}


def lock_page(connection: Connection, shape: Shape, after: Key | None, *, limit: int) -> list[Key]:
    """Locks the next rows of the target; returns their keys, one per chunk."""
    require_trusted(connection, shape.pipeline)
    query = target.lock_page(shape, from_start=after is None)
    params = {"after": None if after is None else Jsonb(list(after)), "limit": limit}
    return [tuple(row["key"]) for row in connection.execute(query, params)]


def remove_orphans(connection: Connection, shape: Shape, keys: Sequence[Key]) -> int:
    """Removes the vectors of those locked keys that have no source row; returns how many."""
    require_own_target(connection, shape.pipeline)
    return connection.execute(target.remove_orphans(shape), {"keys": PackedKeys(keys)}).rowcount
