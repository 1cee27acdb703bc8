"""Estimate rows, tokens, price and time of a backfill or a re-embed from a sample, without calling a provider."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import psycopg
from psycopg import sql

from pgvector_sync.database import Connection, limit_statements
from pgvector_sync.embedding.budget import BURST
from pgvector_sync.embedding.prices import price_for
from pgvector_sync.embedding.tokens import count_tokens
from pgvector_sync.errors import Refused
from pgvector_sync.halving import Parts
from pgvector_sync.model import Key, Lane, Pipeline, Spec
from pgvector_sync.model.request import EVERY_ROW, Reembed
from pgvector_sync.runtime import Runtime, page_limit
from pgvector_sync.runtime.cause import is_of_a_row
from pgvector_sync.store import conditions, grants, pipelines, rows, samples, usage
from pgvector_sync.store.conditions import Condition
from pgvector_sync.store.rows import Text
from pgvector_sync.store.shape import Shape, expression
from pgvector_sync.store.source import is_stale
from pgvector_sync.store.trust import require_trusted

SAMPLE_ROWS = 2_000
BLOCK_ROWS = 10_000
"""Number of rows sampled from a table that is too large to be counted. Whole blocks are read, so some of the rows
aren't selected."""
READ_AT_ONCE = 100
"""Maximum number of texts in memory."""
CONFIDENCE = 1.96
"""Half the width of the 95 % confidence interval of a mean, in standard errors."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimated cost and duration of a backfill or a re-embed."""

    pipeline: str
    model: str
    rows: int
    """Selected rows that have a text."""
    sampled_rows: int
    tokens: int
    """Tokens to be paid for."""
    tokens_error: int
    """Half the width of the 95 % confidence interval, or 0 if every row was counted."""
    tokens_exact: bool
    """Whether the model's tokenizer counted. Otherwise half the bytes are counted, rarely too few."""
    inputs: int
    saved_inputs: int
    """Texts that need no call: stored already, or duplicates within the sample. In total there may be more."""
    usd: float | None
    usd_error: float | None
    duration: timedelta | None
    """Estimated from the limits, or else from the last hour's busiest minute. None if there is neither."""
    bound_by: str | None
    """What determines the duration: `requests_per_minute`, `tokens_per_minute`, `tokens_per_day` or `pace`."""


@dataclass(frozen=True, slots=True)
class Counted:
    """One row of the sample. A `saved` row needs no call."""

    tokens: int
    exact: bool
    saved: bool


def estimate(
    runtime: Runtime, pipeline: str, request: Reembed = EVERY_ROW, *, keys: Sequence[Key] | None = None
) -> Estimate:
    """Estimate a re-embed. `keys` are the rows of a request by keys.

    Raises Refused if the pipeline is unknown, if the condition isn't valid, or if the rows can't be read in time.
    """
    with runtime.database.transaction(read_only=True) as connection:
        stored = pipelines.require_pipeline(connection, pipeline)
        grants.require_sole_author(connection)
        return estimate_of(connection, runtime, stored, Selection(request, keys))


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows to estimate."""

    request: Reembed = EVERY_ROW
    keys: Sequence[Key] | None = None
    has_target: bool = True
    """Whether the target exists. It doesn't for a pipeline that is only declared, so nothing is stored yet."""
    source_rows: int | None = None
    """Number of rows of the source if it is too large to be counted. A sample of its blocks is read then."""


def estimate_of(connection: Connection, runtime: Runtime, pipeline: Pipeline, selection: Selection) -> Estimate:
    """Estimate `selection`. Raises Refused if its condition isn't valid, or if its rows can't be read in time."""
    try:
        return _estimate_of(connection, runtime, pipeline, selection)
    except psycopg.errors.QueryCanceled:
        raise Refused(
            "reading rows for the estimate took too long (57014)",
            hint="find the slow expression (text, where or the condition) with EXPLAIN (ANALYZE) SELECT …",
        ) from None


def _estimate_of(connection: Connection, runtime: Runtime, pipeline: Pipeline, selection: Selection) -> Estimate:
    shape = Shape(pipeline, runtime.database.vector_schema)
    where = selection.request.where
    require_trusted(connection, pipeline, whole=where is not None)
    if where is not None:
        conditions.require_valid(connection, shape, Condition.without_params(where))
    total, sample = _sample(connection, runtime, shape, selection)
    counted: list[Counted] = []
    seen: set[bytes] = set()
    for start in range(0, len(sample), READ_AT_ONCE):
        keys_here = sample[start : start + READ_AT_ONCE]
        counted += _count(connection, runtime, shape, keys_here, seen, selection)
    pace = usage.rows_per_second(connection, pipeline)
    with_text = round(total * len(counted) / len(sample)) if sample else 0
    return project(
        pipeline,
        with_text,
        counted,
        pace=pace,
        batch_rows=runtime.batch_size(pipeline, Lane.BULK),
        price=price_for(pipeline, runtime.settings),
    )


def _sample(connection: Connection, runtime: Runtime, shape: Shape, selection: Selection) -> tuple[int, list[Key]]:
    """Return the number of selected rows, and the keys of a sample of them."""
    if (keys := selection.keys) is not None:
        return len(keys), list(keys) if len(keys) <= SAMPLE_ROWS else random.sample(keys, SAMPLE_ROWS)
    conditions: list[sql.Composable] = [expression(selection.request.where or "true")]
    if selection.request.stale_only and selection.has_target:
        conditions.append(is_stale(shape))
    text_limit = runtime.settings.text_limit_bytes
    if selection.source_rows is not None:
        percent = min(100.0, 100 * BLOCK_ROWS / selection.source_rows)
        read = samples.sample_blocks(
            connection, shape, conditions, percent=percent, limit=BLOCK_ROWS, text_limit=text_limit
        )
        some = [key for key, meets in read if meets]
        return round(selection.source_rows * len(some) / len(read)) if read else 0, some[:SAMPLE_ROWS]
    total = samples.count(connection, shape, conditions, text_limit=text_limit)
    return total, samples.sample(connection, shape, conditions, limit=SAMPLE_ROWS, text_limit=text_limit)


def _count(
    connection: Connection,
    runtime: Runtime,
    shape: Shape,
    keys: Sequence[Key],
    seen: set[bytes],
    selection: Selection,
) -> list[Counted]:
    """Count the rows that have a text. Their fingerprints are added to `seen`, those of the sample so far."""
    texts = _read(connection, runtime, shape, keys)
    with_text = [text for text in texts if text.text is not None]
    known: set[bytes] = set()
    if selection.has_target and not selection.request.force:
        known = rows.known(connection, shape, [text.fingerprint for text in with_text])
    return [_counted(text, shape.pipeline.spec, known, seen) for text in with_text]


def _read(connection: Connection, runtime: Runtime, shape: Shape, keys: Sequence[Key]) -> list[Text]:
    """Read the rows, except those on which `text` or `where` fails: they become dead letters and cost nothing."""
    texts: list[Text] = []
    parts = Parts(keys)
    while part := parts.take():
        try:
            with connection.transaction():
                limit_statements(connection, page_limit(runtime))
                texts += rows.texts(connection, shape, part, text_limit=runtime.settings.text_limit_bytes)
        except psycopg.Error as error:
            if not is_of_a_row(error):
                raise
            parts.cut(part)
    return texts


def _counted(row: Text, spec: Spec, known: set[bytes], seen: set[bytes]) -> Counted:
    saved = row.fingerprint in known or row.fingerprint in seen
    seen.add(row.fingerprint)
    tokens = count_tokens((spec.prefix or "") + (row.text or ""), spec.model)
    return Counted(0 if saved else tokens.about, tokens.about == tokens.at_most, saved)


def project(
    pipeline: Pipeline,
    total: int,
    counted: Sequence[Counted],
    *,
    pace: float | None,
    batch_rows: int,
    price: Decimal | None,
) -> Estimate:
    """Project the sample to all rows. The standard error is s/√n · √(1 - n/N): sampling without replacement."""
    n = len(counted)
    tokens = [row.tokens for row in counted]
    mean = statistics.fmean(tokens) if n else 0.0
    spread = statistics.stdev(tokens) if n > 1 else 0.0
    error = CONFIDENCE * spread / math.sqrt(n) * math.sqrt(max(0.0, 1 - n / total)) * total if n else 0.0
    bought = sum(not row.saved for row in counted) / n * total if n else 0.0
    if not mean:
        price = Decimal(0)
    seconds, bound_by = _time(pipeline, mean * total, bought, pace=pace, batch_rows=batch_rows)
    return Estimate(
        pipeline=pipeline.name,
        model=pipeline.spec.model,
        rows=total,
        sampled_rows=n,
        tokens=round(mean * total),
        tokens_error=math.ceil(error),
        tokens_exact=all(row.exact for row in counted),
        inputs=round(bought),
        saved_inputs=total - round(bought) if n else 0,
        usd=None if price is None else _usd(mean * total, price),
        usd_error=None if price is None else _usd(error, price),
        duration=None if seconds is None else timedelta(seconds=seconds),
        bound_by=bound_by,
    )


def _usd(tokens: float, price: Decimal) -> float:
    return round(float(Decimal(tokens) / 1_000_000 * price), 8)  # that of one token isn't 0


def _time(
    pipeline: Pipeline, tokens: float, inputs: float, *, pace: float | None, batch_rows: int
) -> tuple[float | None, str | None]:
    """Return the duration in seconds by the tightest limit, and the name of that limit."""
    provider, evenly = pipeline.provider, 1 - BURST
    bounds: list[tuple[float, str]] = []
    if provider.requests_per_minute is not None:
        minutes = math.ceil(inputs / batch_rows) / (provider.requests_per_minute * evenly)
        bounds.append((minutes * 60, "requests_per_minute"))
    if provider.tokens_per_minute is not None:
        bounds.append((tokens / (provider.tokens_per_minute * evenly) * 60, "tokens_per_minute"))
    if pipeline.options.tokens_per_day is not None and tokens > pipeline.options.tokens_per_day:
        days = math.ceil(tokens / pipeline.options.tokens_per_day) - 1
        bounds.append((days * timedelta(days=1).total_seconds(), "tokens_per_day"))
    if pace and not bounds:
        bounds.append((inputs / pace, "pace"))
    if not bounds:
        return None, None
    seconds, bound_by = max(bounds)
    return round(seconds, 1), bound_by
