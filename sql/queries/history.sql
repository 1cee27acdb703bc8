-- The state of each pipeline minute by minute, for charts.

-- name: record
-- Stores this minute's state of pipelines that exist.
INSERT INTO pgvector_sync.history (pipeline_id, at, lag_seconds, waiting, in_flight, dead, source_rows, fresh_rows, rows_per_second)
SELECT p.id, date_trunc('minute', statement_timestamp()), s.lag_seconds, s.waiting, s.in_flight, s.dead, s.source_rows,
       s.fresh_rows, s.rows_per_second
FROM unnest(%(names)s::text[], %(lags)s::float8[], %(waiting)s::bigint[], %(in_flight)s::bigint[], %(dead)s::bigint[],
            %(source_rows)s::bigint[], %(fresh_rows)s::bigint[], %(rates)s::float8[])
     AS s (name, lag_seconds, waiting, in_flight, dead, source_rows, fresh_rows, rows_per_second)
JOIN pgvector_sync.pipeline p ON p.name = s.name
ON CONFLICT (pipeline_id, at) DO NOTHING;

-- name: lately
-- The last `window` in intervals of `every`, oldest first: the worst lag and the most waiting rows of each, and the rest at its end.
SELECT date_bin(%(every)s, h.at, timestamptz '2000-01-01 00:00:00+00') AS at,
       max(h.lag_seconds) AS lag_seconds, max(h.waiting) AS waiting,
       (array_agg(h.in_flight ORDER BY h.at DESC))[1] AS in_flight, (array_agg(h.dead ORDER BY h.at DESC))[1] AS dead,
       (array_agg(h.source_rows ORDER BY h.at DESC))[1] AS source_rows,
       (array_agg(h.fresh_rows ORDER BY h.at DESC))[1] AS fresh_rows, avg(h.rows_per_second) AS rows_per_second
FROM pgvector_sync.history h JOIN pgvector_sync.pipeline p ON p.id = h.pipeline_id
WHERE p.name = %(name)s AND h.at > statement_timestamp() - %(window)s
GROUP BY 1 ORDER BY 1;

-- name: forget
-- Deletes what is older than `older_than`.
DELETE FROM pgvector_sync.history WHERE at < statement_timestamp() - %(older_than)s;
