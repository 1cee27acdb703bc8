-- What the status page shows besides `status`. Each statement reads a bounded number of rows.

-- name: clock
-- The time that the page states.
SELECT statement_timestamp() AS at;

-- name: today
-- What each pipeline, or the named one, has spent since midnight UTC.
SELECT p.name AS pipeline, u.requests, u.tokens, u.inputs, u.usd::float8 AS usd
FROM pgvector_sync.usage u JOIN pgvector_sync.pipeline p ON p.id = u.pipeline_id
WHERE u.day = (statement_timestamp() AT TIME ZONE 'UTC')::date AND (%(pipeline)s::text IS NULL OR p.name = %(pipeline)s);

-- name: lags
-- The worst lag of each interval of `every` within the last `window`, of several pipelines, oldest first.
SELECT p.name AS pipeline, date_bin(%(every)s, h.at, timestamptz '2000-01-01 00:00:00+00') AS at, max(h.lag_seconds) AS lag_seconds
FROM pgvector_sync.history h JOIN pgvector_sync.pipeline p ON p.id = h.pipeline_id
WHERE p.name = ANY (%(names)s::text[]) AND h.at > statement_timestamp() - %(window)s
GROUP BY 1, 2 ORDER BY 1, 2;

-- name: last_drift
-- What the last reconciliation of each pipeline, or of the named one, found. OFFSET 0 makes the planner look it up per pipeline.
SELECT p.name AS pipeline, d.at, d.run_id, d.deep, d.rows, d.vectors, d.missing, d.stale, d.orphaned, d.wrong_model,
       d.broken, d.incomplete, d.stuck
FROM pgvector_sync.pipeline p
CROSS JOIN LATERAL (SELECT * FROM pgvector_sync.drift d WHERE d.pipeline_id = p.id ORDER BY d.at DESC LIMIT 1 OFFSET 0) AS d
WHERE %(pipeline)s::text IS NULL OR p.name = %(pipeline)s;

-- name: dead_classes
-- The classes of a pipeline's dead letters, most frequent first, with some of their keys, oldest first. Of more than `limit` dead
-- letters it reads only as many, in any order.
WITH letter AS (
    (SELECT w.key, w.error_class, w.error_message, w.parked_at AS at FROM pgvector_sync.work w
     WHERE w.pipeline_id = %(pipeline_id)s AND w.parked_at IS NOT NULL AND w.verdict = 'dead' LIMIT %(limit)s)
    UNION ALL
    (SELECT CASE WHEN pgvector_sync.key_fault(o.key, cardinality(s.key_columns)) IS NULL THEN o.key
                 ELSE to_jsonb(left(o.key::text, 200) || CASE WHEN length(o.key::text) > 200 THEN ' …' ELSE '' END) END,
            o.error_class, 'this key can''t become work', o.at
     FROM pgvector_sync.parked o JOIN pgvector_sync.source s ON s.id = o.source_id
     WHERE o.source_id = %(source_id)s AND o.key IS NOT NULL LIMIT %(limit)s)
), numbered AS (
    SELECT l.*, row_number() OVER (PARTITION BY l.error_class ORDER BY l.at, l.key) AS n FROM letter l
)
SELECT n.error_class, count(*) AS count,
       (array_agg(n.error_message ORDER BY n.n))[1] AS message,
       extract(epoch FROM statement_timestamp() - min(n.at) FILTER (WHERE isfinite(n.at)))::float8 AS oldest_seconds,
       jsonb_agg(n.key ORDER BY n.n) FILTER (WHERE n.n <= %(examples)s) AS keys
FROM numbered n GROUP BY n.error_class ORDER BY count(*) DESC, n.error_class;

-- name: workers
-- Every worker that has shown a sign of life within the last hour, the longest running first.
SELECT w.name, w.slots, w.relayed_at > statement_timestamp() - %(silence)s IS TRUE AS relay, w.seen_at > statement_timestamp() - %(silence)s AS alive,
       extract(epoch FROM statement_timestamp() - w.seen_at)::float8 AS seen_seconds
FROM pgvector_sync.worker w ORDER BY alive DESC, w.name, w.id LIMIT %(limit)s;

-- name: index_sizes
-- The bytes of each index of a target. It waits for locks on them.
SELECT c.relname AS name, pg_relation_size(c.oid) AS bytes
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = %(oid)s;
