"""Read text and fingerprint of the claimed rows, and decide what has to be done with each."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

import psycopg

from pgvector_sync.batch.claim import Batch
from pgvector_sync.batch.failure import TOO_SLOW, Failure
from pgvector_sync.database import limit_statements
from pgvector_sync.embedding.learning import batch_bytes
from pgvector_sync.failpoint import Failpoint, reach
from pgvector_sync.halving import Parts
from pgvector_sync.model import Key, Passage
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.runtime import Runtime, batch_limit, part_limit, row_limit
from pgvector_sync.runtime.cause import is_of_a_row
from pgvector_sync.runtime.expression import (
    MIN_FAILED_ROWS,
    fault_of_slowness,
    fault_on_every_row,
    fault_without_rows,
)
from pgvector_sync.store import rows
from pgvector_sync.store.canonical import is_usable
from pgvector_sync.store.rows import SourceRow

SUSPICIOUS_ROWS = 8
"""Number of rows that fail, with none that succeeds, before other rows of the source are tried."""
EMBEDDING_SHARE = 1 / 3
"""Share of the batch's time in which a slow provider should answer: its texts are limited accordingly."""

MALFORMED = Failure("key_malformed", "the key doesn't fit the source's key columns")
"""Failure of a row whose key would make any statement fail, for the whole batch."""


@dataclass
class Reading:
    """What was read. Every claimed key is in at most one collection; keys in none didn't fit and are released."""

    to_embed: dict[Key, Passage] = field(default_factory=dict)
    settled: set[Key] = field(default_factory=set)
    """Rows without anything to buy: gone, excluded by `where`, blank or up to date. The write decides which."""
    failed: dict[Key, Failure] = field(default_factory=dict)
    octets: int = 0
    """Size of the texts to embed, in bytes."""


def read(runtime: Runtime, batch: Batch) -> Reading:
    """Read the batch after its claim has committed.

    Raises psycopg.ProgrammingError if the source has changed, and DatabaseRefuses if an expression fails on every
    row.
    """
    reading = Reading()
    columns = batch.pipeline.source.key
    reading.failed = {key: MALFORMED for key in batch.rows if not is_usable(key, columns)}
    keys = [key for key in batch.rows if key not in reading.failed]
    reader = _Reader(runtime, batch, reading)
    for row in reader.all_rows(keys) if keys else ():
        claimed = batch.rows[row.key]
        if row.fingerprint is None or (row.fingerprint == row.stored_fingerprint and not claimed.force):
            reading.settled.add(row.key)
        elif row.fingerprint == claimed.failed_fingerprint and claimed.verdict is not None:
            # the same content was parked before
            reading.failed[row.key] = Failure(
                claimed.error_class or "same_content",
                claimed.error_message or "this content failed before",
                row.fingerprint,
                verdict=claimed.verdict,
            )
        elif row.text is not None:
            reading.to_embed[row.key] = Passage(row.key, 0, row.text, row.fingerprint)
            reading.octets += row.octets or 0
        elif row.octets is not None and row.octets > (limit := runtime.settings.text_limit_bytes):
            reading.failed[row.key] = Failure(
                "too_large", f"the text has {row.octets:,} bytes, the limit is {limit:,}", row.fingerprint
            )
    unread = _count_unread(batch, reading)
    if reader.fits is not None and TOO_SLOW not in {failure.error_class for failure in reading.failed.values()}:
        # no single row is slow: all of them together take too long
        runtime.learn_size(batch.pipeline, reader.fits, len(batch.rows))
    else:
        runtime.learn_size(batch.pipeline, len(reading.to_embed), unread)
    _count_attempts(runtime, batch, reading)
    reach(Failpoint.READ_DONE)
    return reading


def _count_unread(batch: Batch, reading: Reading) -> int:
    return len(batch.rows) - len(reading.to_embed) - len(reading.settled) - len(reading.failed)


@dataclass
class _Reader:
    """Reads the rows of a batch. A row on which an expression fails or takes too long is found by halving."""

    runtime: Runtime
    batch: Batch
    reading: Reading
    seen: bool = False
    """Whether a row's text was rendered, so that the expression works."""
    planned: bool = False
    """Whether the expression was checked without rows."""
    culprits: set[Key] = field(default_factory=set)
    slow: Parts[Key] = field(default_factory=Parts)
    """Halves of parts that took too long, largest first. Each has a shorter time limit than the whole batch."""
    quick: list[Key] = field(default_factory=list)
    """Some rows that were read in time."""
    fits: int | None = None
    """Number of rows of the largest part that was read in time. None if every part was."""

    def all_rows(self, keys: list[Key]) -> list[SourceRow]:
        """Read the rows within half of the batch's time. Raises DatabaseRefuses if the expression is at fault.

        Rows that remain unread are released, and the next batch claims no more than fits.
        """
        until = min(self.batch.until, Deadline.after(self.runtime.settings.deadline / 2))
        read = self._rows(keys, batch_limit(self.runtime))
        while self.slow and not until.passed:
            read += self._rows(self.slow.take(), part_limit(self.runtime))
        return read

    def _rows(self, keys: list[Key], limit: timedelta) -> list[SourceRow]:
        """Read the rows, except those that are held responsible for a failure or are left in `slow`."""
        all_read: list[SourceRow] = []
        parts = Parts(keys)
        while part := parts.take():
            try:
                read = self._read(part, limit)
            except psycopg.errors.QueryCanceled:
                if self.slow.cut(part, last=True):
                    self.fits = self.fits or 1
                else:
                    all_read += self._read_alone(part[0])
            except psycopg.Error as error:
                if not is_of_a_row(error):
                    raise
                self._require_expression()
                if not parts.cut(part):
                    self._fail_row(part[0], error)
            else:
                self._note(read)
                all_read += read
        return all_read

    def _note(self, read: list[SourceRow]) -> None:
        self.seen |= any(row.fingerprint is not None for row in read)
        self.quick = [row.key for row in read[:MIN_FAILED_ROWS]] or self.quick
        self.fits = None if self.fits is None else max(self.fits, len(read))

    def _read(self, keys: list[Key], limit: timedelta) -> list[SourceRow]:
        with self.runtime.database.transaction(read_only=True, by_key=True) as connection:
            limit_statements(connection, limit)
            rows.require_open_to_writes(connection, self.batch.shape)  # before anything is bought
            return rows.read(
                connection,
                self.batch.shape,
                keys,
                text_limit=self.runtime.settings.text_limit_bytes,
                batch_bytes=batch_bytes(
                    self.batch.pipeline.learned, self.runtime.settings.deadline * EMBEDDING_SHARE
                ),
            )

    def _read_alone(self, key: Key) -> list[SourceRow]:
        """Read one row with the full time limit. Raises DatabaseRefuses if other rows are slow now as well."""
        slow = {key, *(k for k, failure in self.reading.failed.items() if failure.error_class == TOO_SLOW)}
        if (fault := fault_of_slowness(self.runtime, self.batch.shape, slow, self.quick)) is not None:
            raise fault
        try:
            return self._read([key], row_limit(self.runtime))
        except psycopg.errors.QueryCanceled as error:
            words = f"text or where takes too long on this row ({error.sqlstate})"
            self.reading.failed[key] = Failure(TOO_SLOW, words)
        except psycopg.Error as error:
            if not is_of_a_row(error):
                raise
            self._require_expression()
            self._fail_row(key, error)
        return []

    def _require_expression(self) -> None:
        """Raises DatabaseRefuses if `text` or `where` fails without any row. Checks once per batch."""
        if not self.planned:
            self.planned = True
            if (fault := fault_without_rows(self.runtime, self.batch.shape)) is not None:
                raise fault

    def _fail_row(self, key: Key, error: psycopg.Error) -> None:
        # only SQLSTATE and our own words: DETAIL and the message may quote the row (G13)
        words = f"text or where failed on this row ({error.sqlstate})"
        self.reading.failed[key] = Failure("expression_failed", words)
        self.culprits.add(key)
        every = len(self.reading.failed) == len(self.batch.rows)
        if not self.seen and (every or len(self.culprits) == SUSPICIOUS_ROWS):
            fault = fault_on_every_row(self.runtime, self.batch.shape, error, self.culprits)
            if fault is not None:
                raise fault


def _count_attempts(runtime: Runtime, batch: Batch, reading: Reading) -> None:
    """From the second attempt on, store the fingerprints about to be tried, so that attempts belong to content."""
    again = {key: passage.fingerprint for key, passage in reading.to_embed.items() if batch.rows[key].attempts > 1}
    if again:
        counted = runtime.database.retry_on_lock_conflict(
            lambda connection: batch.holding.note_attempt(connection, again)
        )
        for key, attempts in counted.items():
            batch.rows[key] = batch.rows[key]._replace(attempts=attempts)
    for key in [key for key in again if batch.rows[key].attempts > runtime.settings.attempts]:
        # the row changed each time it was about to be parked, and now this content has no attempts left
        row = batch.rows[key]
        reading.to_embed.pop(key)
        reading.failed[key] = Failure(
            row.error_class or "worker_failed",
            row.error_message or "this content has no attempts left",
            again[key],
        )
