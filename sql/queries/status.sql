-- What `status` shows. It is fast on large tables: it uses estimates of the catalog, and counts up to a limit.

-- name: pipelines
-- One row per pipeline. `estimated_rows` is the planner's estimate; waiting rows and events are counted up to `limit`.
SELECT p.name, p.provider, to_jsonb(learned_) AS learned, s.schema_name || '.' || s.table_name AS source, p.target_schema || '.' || p.target_table AS target,
       CASE WHEN p.problem IS NULL OR p.state IN ('paused', 'removing') THEN p.state ELSE 'misconfigured' END AS state,
       p.retry_at, p.problem_stops,
       CASE WHEN p.problem IS NOT NULL AND p.state NOT IN ('paused', 'removing') THEN p.problem
            WHEN p.state = 'active' AND p.tokens_per_day <= (
                SELECT coalesce(sum(u.tokens), 0) FROM pgvector_sync.usage u
                WHERE u.pipeline_id = p.id AND u.day = (statement_timestamp() AT TIME ZONE 'UTC')::date)
            THEN 'the day''s ' || p.tokens_per_day || ' tokens are spent: bulk waits until midnight UTC, live continues'
            ELSE p.reason END AS reason,
       EXISTS (SELECT FROM pgvector_sync.run r WHERE r.pipeline_id = p.id AND r.kind = 'backfill' AND r.state = 'running')
           AS backfilling,
       backfill.rows_total AS backfill_total, backfill.rows_seen AS backfill_seen, coalesce(backfill.walked, true) AS backfill_walked,
       (SELECT sum({leaf_rows})::bigint
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        CROSS JOIN LATERAL (SELECT c.oid WHERE c.relkind <> 'p'
                            UNION ALL SELECT t.relid FROM pg_partition_tree(c.oid) t WHERE t.isleaf AND c.relkind = 'p') AS part (oid)
        JOIN pg_catalog.pg_class leaf ON leaf.oid = part.oid
        WHERE n.nspname = s.schema_name AND c.relname = s.table_name) AS estimated_rows,
       depth.alive,
       (SELECT count(*) FROM pgvector_sync.work w
        WHERE w.pipeline_id = p.id AND w.lane IN ('live', 'bulk') AND w.lease = ANY (ARRAY(
            SELECT l.id FROM pgvector_sync.lease l WHERE l.pipeline_id = p.id AND l.lost_at IS NULL))) AS in_flight,
       (SELECT count(*) FROM pgvector_sync.work w WHERE w.pipeline_id = p.id AND w.parked_at IS NOT NULL
        AND w.verdict = 'dead')
         + (SELECT count(*) FROM pgvector_sync.parked o WHERE o.source_id = p.source_id AND o.key IS NOT NULL) AS dead,
       (SELECT count(*) FROM (SELECT FROM pgvector_sync.outbox o WHERE o.source_id = p.source_id LIMIT %(limit)s) AS counted)
         + (SELECT count(*) FROM pgvector_sync.sweep o WHERE o.source_id = p.source_id) AS events,
       extract(epoch FROM statement_timestamp() - least(
           -- in a deep backlog it looks only at the rows due longest, since an exact answer would read all of it
           (SELECT min(w.waiting_since) FROM (VALUES ('live'), ('bulk')) AS lane (lane) CROSS JOIN LATERAL (
                (SELECT o.waiting_since FROM pgvector_sync.work o
                 WHERE o.pipeline_id = p.id AND o.lane = lane.lane AND o.lease IS NULL AND o.parked_at IS NULL
                 ORDER BY o.visible_at LIMIT CASE WHEN depth.alive < %(limit)s THEN %(limit)s ELSE 1000 END)
                UNION ALL
                (SELECT o.waiting_since FROM pgvector_sync.work o
                 WHERE o.pipeline_id = p.id AND o.lane = lane.lane AND o.lease IS NOT NULL
                 ORDER BY o.lease LIMIT CASE WHEN depth.alive < %(limit)s THEN %(limit)s ELSE 1000 END)) AS w),
           (SELECT o.at FROM pgvector_sync.outbox o WHERE o.source_id = p.source_id AND isfinite(o.at) ORDER BY o.id LIMIT 1),
           (SELECT min(o.at) FROM pgvector_sync.sweep o WHERE o.source_id = p.source_id AND isfinite(o.at))))::float8 AS lag_seconds,
       (SELECT coalesce(sum(CASE WHEN t.minute = date_trunc('minute', statement_timestamp()) THEN t.rows
                                 ELSE t.rows * (1 - extract(second FROM statement_timestamp()) / 60) END), 0)::float8 / 60
        FROM pgvector_sync.throughput t WHERE t.pipeline_id = p.id
        AND t.minute >= date_trunc('minute', statement_timestamp()) - interval '1 minute') AS rows_per_second,
       (SELECT coalesce(sum(u.saved_unchanged + u.saved_equal + u.saved_stored), 0)::bigint FROM pgvector_sync.usage u WHERE u.pipeline_id = p.id)
           AS saved_inputs,
       (SELECT coalesce(sum(u.truncated_inputs), 0)::bigint FROM pgvector_sync.usage u WHERE u.pipeline_id = p.id
        AND u.day > (statement_timestamp() AT TIME ZONE 'UTC')::date - 7) AS truncated_inputs
FROM pgvector_sync.pipeline p
JOIN pgvector_sync.source s ON s.id = p.source_id
LEFT JOIN pgvector_sync.learned learned_ ON learned_.provider = p.provider AND learned_.model = p.model
-- ORDER BY makes the planner use the indexes, which have no dead letters: it may think that every pipeline has as many rows as
-- the one with a backlog, and read all of them each time
CROSS JOIN LATERAL (
    SELECT count(*) AS alive FROM (VALUES ('live'), ('bulk')) AS lane (lane) CROSS JOIN LATERAL (
        (SELECT FROM pgvector_sync.work w
         WHERE w.pipeline_id = p.id AND w.lane = lane.lane AND w.lease IS NULL AND w.parked_at IS NULL
         ORDER BY w.visible_at LIMIT %(limit)s)
        UNION ALL
        (SELECT FROM pgvector_sync.work w WHERE w.pipeline_id = p.id AND w.lane = lane.lane AND w.lease IS NOT NULL
         ORDER BY w.lease LIMIT %(limit)s)) AS counted) AS depth
LEFT JOIN LATERAL (
    SELECT r.rows_total, r.rows_seen, r.walked FROM pgvector_sync.run r
    WHERE r.pipeline_id = p.id AND r.kind = 'backfill' AND r.state = 'running' ORDER BY r.id DESC LIMIT 1) AS backfill ON true
WHERE %(name)s::text IS NULL OR p.name = %(name)s
ORDER BY p.name;
