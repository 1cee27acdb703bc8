-- What was paid for and saved, the rate of processed rows, and the ticks of scheduled jobs.

-- name: note
-- Adds one batch: requests, tokens and inputs to the day, rows to the minute, and its calls to the totals. Several outcomes are
-- added in order, so that two batches can't wait for each other.
WITH day_ AS (
    INSERT INTO pgvector_sync.usage AS u (pipeline_id, day, requests, tokens, usd, inputs, saved_unchanged, saved_equal,
                                          saved_stored, truncated_inputs)
    VALUES (%(pipeline_id)s, (statement_timestamp() AT TIME ZONE 'UTC')::date, %(requests)s, %(tokens)s, %(usd)s, %(inputs)s,
            %(saved_unchanged)s, %(saved_equal)s, %(saved_stored)s, %(truncated_inputs)s)
    ON CONFLICT (pipeline_id, day) DO UPDATE SET requests = u.requests + excluded.requests,
        tokens = u.tokens + excluded.tokens, usd = u.usd + excluded.usd, inputs = u.inputs + excluded.inputs,
        saved_unchanged = u.saved_unchanged + excluded.saved_unchanged, saved_equal = u.saved_equal + excluded.saved_equal,
        saved_stored = u.saved_stored + excluded.saved_stored,
        truncated_inputs = u.truncated_inputs + excluded.truncated_inputs
), calls_ AS (
    INSERT INTO pgvector_sync.call_totals AS t (pipeline_id, outcome, calls, seconds, buckets)
    SELECT %(pipeline_id)s, c.outcome, count(*), sum(c.seconds), ARRAY[{call_buckets}]
    FROM unnest(%(outcomes)s::text[], %(seconds)s::float8[]) AS c (outcome, seconds)
    GROUP BY c.outcome ORDER BY c.outcome
    ON CONFLICT (pipeline_id, outcome) DO UPDATE SET calls = t.calls + excluded.calls,
        seconds = t.seconds + excluded.seconds, buckets = pgvector_sync.add_each(t.buckets, excluded.buckets))
INSERT INTO pgvector_sync.throughput AS t (pipeline_id, minute, rows)
VALUES (%(pipeline_id)s, date_trunc('minute', statement_timestamp()), %(rows)s)
ON CONFLICT (pipeline_id, minute) DO UPDATE SET rows = t.rows + excluded.rows;

-- name: tokens_today
-- The tokens that a pipeline has spent since midnight UTC.
SELECT coalesce(sum(u.tokens), 0)::bigint AS tokens FROM pgvector_sync.usage u
WHERE u.pipeline_id = %(pipeline_id)s AND u.day = (statement_timestamp() AT TIME ZONE 'UTC')::date;

-- name: rows_per_second
-- The rate of the busiest minute of the last hour: in the others there was less to do.
SELECT (max(t.rows) / 60.0)::float8 AS rate FROM pgvector_sync.throughput t
WHERE t.pipeline_id = %(pipeline_id)s AND t.rows > 0;

-- name: forget_minutes
-- Deletes minutes older than an hour.
DELETE FROM pgvector_sync.throughput WHERE minute < statement_timestamp() - interval '1 hour';

-- name: take_tick
-- Claims the tick of a scheduled job, which runs once per interval even if there are several beats.
INSERT INTO pgvector_sync.tick AS t (name, lease, visible_at, last_at)
VALUES (%(name)s, %(lease)s, statement_timestamp() + %(every)s, statement_timestamp())
ON CONFLICT (name) DO UPDATE SET lease = excluded.lease, visible_at = excluded.visible_at, last_at = excluded.last_at
WHERE t.visible_at <= statement_timestamp()
RETURNING t.name;
