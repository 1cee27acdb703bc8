-- Measurements of recall over time: which are due, what they have found, and what has changed since.

-- part: filenodes
-- The files of a target's valid vector indexes: each build of an index makes another one.
SELECT array_agg(c.relfilenode::bigint ORDER BY c.relfilenode) AS filenodes
FROM pg_catalog.pg_namespace n
JOIN pg_catalog.pg_class t ON t.relnamespace = n.oid AND t.reltuples >= %(least_rows)s
JOIN pg_catalog.pg_index i ON i.indrelid = t.oid AND i.indisvalid AND i.indisready
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am am ON am.oid = c.relam AND am.amname IN ('hnsw', 'ivfflat')
WHERE n.nspname = p.target_schema AND t.relname = p.target_table

-- part: is_due
-- Whether a pipeline is to be measured: never measured, long ago, its index was built again, or the process that measured has died.
a.pipeline_id IS NULL OR a.started_at <= statement_timestamp() - w.every
OR a.ended_at IS NULL AND a.started_at <= statement_timestamp() - %(lost_after)s
OR a.ended_at IS NOT NULL AND a.filenodes <> x.filenodes

-- name: claim
-- Claims one pipeline that is due, unless a backfill is running; returns its name. Of two processes that choose the same, one gets it.
WITH due AS MATERIALIZED (
    SELECT p.id, p.name, x.filenodes, a.lease
    FROM unnest(%(ids)s::int[], %(intervals)s::interval[]) AS w (id, every)
    JOIN pgvector_sync.pipeline p ON p.id = w.id
    CROSS JOIN LATERAL ({filenodes}) AS x
    LEFT JOIN pgvector_sync.recall_attempt a ON a.pipeline_id = p.id
    WHERE x.filenodes IS NOT NULL AND p.state <> 'removing' AND ({is_due})
      AND NOT EXISTS (SELECT FROM pgvector_sync.run r WHERE r.pipeline_id = p.id AND r.kind = 'backfill' AND r.state = 'running')
    ORDER BY a.started_at NULLS FIRST, p.id LIMIT 1
), claimed AS (
    INSERT INTO pgvector_sync.recall_attempt AS t (pipeline_id, lease, filenodes)
    SELECT d.id, %(lease)s, d.filenodes FROM due d
    ON CONFLICT (pipeline_id) DO UPDATE SET lease = excluded.lease, started_at = statement_timestamp(), ended_at = NULL,
        filenodes = excluded.filenodes, reason = NULL
    WHERE t.lease = (SELECT d.lease FROM due d)
    RETURNING pipeline_id
)
SELECT d.name FROM claimed c JOIN due d ON d.id = c.pipeline_id;

-- name: note
-- Stores a measurement and ends its attempt, if it is still this process's and the measured index is that of its start; has searches
-- use the smallest setting that has reached the target.
WITH ended AS (
    UPDATE pgvector_sync.recall_attempt a SET ended_at = statement_timestamp(), reason = NULL
    FROM pgvector_sync.pipeline p
    JOIN pg_catalog.pg_namespace n ON n.nspname = p.target_schema
    JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
    WHERE a.pipeline_id = p.id AND a.lease = %(lease)s AND a.ended_at IS NULL AND p.name = %(name)s
      AND c.relname = %(index_name)s AND c.relfilenode = ANY (a.filenodes)
    RETURNING p.id, c.relfilenode AS filenode
), used AS (
    UPDATE pgvector_sync.pipeline p SET ef_search = %(ef_search)s, probes = %(probes)s
    FROM ended e WHERE p.id = e.id AND num_nonnulls(%(ef_search)s::int, %(probes)s::int) > 0
      AND (p.ef_search, p.probes) IS DISTINCT FROM (%(ef_search)s::int, %(probes)s::int)
)
INSERT INTO pgvector_sync.recall (pipeline_id, index_name, filenode, setting, value, is_default, is_used, k, queries, source,
    recall, low, high, p5, target, rows, changes)
SELECT e.id, %(index_name)s, e.filenode, %(setting_name)s, r.value, r.value = %(default_value)s, r.value = %(used_value)s, %(k)s,
       r.queries, %(query_source)s, r.recall, r.low, r.high, r.p5, %(recall_target)s, %(measured_rows)s,
       (SELECT coalesce(sum(t.stored + t.removed), 0) FROM pgvector_sync.batch_totals t WHERE t.pipeline_id = e.id)
FROM ended e
CROSS JOIN unnest(%(setting_values)s::int[], %(queries)s::int[], %(recalls)s::float8[], %(lows)s::float8[], %(highs)s::float8[],
                  %(worst_recalls)s::float8[]) AS r (value, queries, recall, low, high, p5);

-- name: failed
-- Ends an attempt that couldn't measure, with the reason.
UPDATE pgvector_sync.recall_attempt SET ended_at = statement_timestamp(), reason = %(reason)s
WHERE lease = %(lease)s AND ended_at IS NULL;

-- name: state
-- The last measurement of a pipeline, with the default setting and with the one that `search` uses since; the first measurement
-- of the same build with the same default and source of queries; what was written meanwhile; and why the last attempt failed.
SELECT d.at, d.index_name, d.setting, d.value, d.k, d.queries, d.source, d.recall, d.low, d.high, d.p5, d.target, d.rows,
       u.value AS used_value, u.recall AS used_recall, b.at AS built_at, b.recall AS built_recall,
       (d.changes - b.changes)::float8 / greatest(d.rows, 1) AS churn, a.reason,
       EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = p.target_schema AND c.relname = d.index_name AND c.relfilenode = d.filenode) AS current
FROM pgvector_sync.pipeline p
LEFT JOIN pgvector_sync.recall_attempt a ON a.pipeline_id = p.id
LEFT JOIN LATERAL (SELECT * FROM pgvector_sync.recall r WHERE r.pipeline_id = p.id AND r.is_default ORDER BY r.at DESC LIMIT 1) AS d
    ON true
LEFT JOIN pgvector_sync.recall u ON u.pipeline_id = d.pipeline_id AND u.at = d.at AND u.is_used
LEFT JOIN LATERAL (
    SELECT * FROM pgvector_sync.recall r
    WHERE r.pipeline_id = d.pipeline_id AND r.filenode = d.filenode AND r.is_default AND r.value = d.value AND r.source = d.source
    ORDER BY r.at LIMIT 1) AS b ON true
WHERE p.id = %(pipeline_id)s;

-- name: scans
-- How often measurements have scanned each index of a pipeline's target, as it is now, since `counted_since` (NULL: ever).
SELECT r.index_name, sum(r.queries) AS scans
FROM pgvector_sync.pipeline p
JOIN pgvector_sync.recall r ON r.pipeline_id = p.id AND (%(counted_since)s::timestamptz IS NULL OR r.at > %(counted_since)s)
JOIN pg_catalog.pg_namespace n ON n.nspname = p.target_schema
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = r.index_name AND c.relfilenode = r.filenode
WHERE p.id = %(pipeline_id)s GROUP BY r.index_name;

-- name: forget
-- Deletes what is older than `older_than`, except the first and the last measurement of each build.
DELETE FROM pgvector_sync.recall r
WHERE r.at < statement_timestamp() - %(older_than)s
  AND EXISTS (SELECT FROM pgvector_sync.recall o WHERE o.pipeline_id = r.pipeline_id AND o.filenode = r.filenode AND o.at < r.at)
  AND EXISTS (SELECT FROM pgvector_sync.recall o WHERE o.pipeline_id = r.pipeline_id AND o.filenode = r.filenode AND o.at > r.at);
