-- The gauges of /metrics. A column is a label, or the metric of its name (observe/metrics/catalogue.py); NULL: no sample.

-- name: lanes
-- What waits and is in flight, and the age of the oldest change that isn't stored yet, by pipeline and lane. Counted up to `limit`.
-- Events that aren't drained yet count as live. ORDER BY makes the planner use the index for every pipeline, also beside one with a
-- large backlog.
SELECT p.name AS pipeline, lane.lane, waiting.rows AS waiting_rows, held.rows AS in_flight_rows,
       greatest(0, coalesce(extract(epoch FROM statement_timestamp() - least(
           -- in a deep backlog it looks only at the rows due longest, since an exact answer would read all of it
           (SELECT min(o.waiting_since) FROM (
                SELECT w.waiting_since FROM pgvector_sync.work w
                WHERE w.pipeline_id = p.id AND w.lane = lane.lane AND w.lease IS NULL AND w.parked_at IS NULL
                ORDER BY w.visible_at LIMIT CASE WHEN waiting.rows < %(limit)s THEN %(limit)s ELSE 1000 END) AS o),
           held.since,
           CASE WHEN lane.lane = 'live' THEN
               least((SELECT o.at FROM pgvector_sync.outbox o WHERE o.source_id = p.source_id AND isfinite(o.at)
                      ORDER BY o.id LIMIT 1),
                     (SELECT min(o.at) FROM pgvector_sync.sweep o WHERE o.source_id = p.source_id AND isfinite(o.at)))
           END))::float8, 0)) AS lag_seconds
FROM pgvector_sync.pipeline p CROSS JOIN (VALUES ('live'), ('bulk')) AS lane (lane)
CROSS JOIN LATERAL (
    SELECT count(*) AS rows FROM (
        SELECT FROM pgvector_sync.work w
        WHERE w.pipeline_id = p.id AND w.lane = lane.lane AND w.lease IS NULL AND w.parked_at IS NULL
        ORDER BY w.visible_at LIMIT %(limit)s) AS counted) AS waiting
CROSS JOIN LATERAL (
    SELECT count(*) AS rows, min(w.waiting_since) AS since FROM (
        SELECT w.waiting_since FROM pgvector_sync.work w
        WHERE w.pipeline_id = p.id AND w.lane = lane.lane AND w.lease IS NOT NULL ORDER BY w.lease LIMIT %(limit)s) AS w) AS held
ORDER BY p.name, lane.lane;

-- name: dead_letters
-- Dead letters by the class of their failure, counted up to `limit` per pipeline.
SELECT p.name AS pipeline, dead.error_class, count(*) AS dead_letters
FROM pgvector_sync.pipeline p
CROSS JOIN LATERAL (
    (SELECT w.error_class FROM pgvector_sync.work w
     WHERE w.pipeline_id = p.id AND w.parked_at IS NOT NULL AND w.verdict = 'dead' LIMIT %(limit)s)
    UNION ALL
    (SELECT o.error_class FROM pgvector_sync.parked o WHERE o.source_id = p.source_id AND o.key IS NOT NULL LIMIT %(limit)s)
) AS dead
GROUP BY p.name, dead.error_class ORDER BY p.name, dead.error_class;

-- name: drift
-- What each pipeline's last reconciliation has found.
SELECT p.name AS pipeline, kind.kind, kind.drift_rows
FROM pgvector_sync.pipeline p
CROSS JOIN LATERAL (SELECT * FROM pgvector_sync.drift d WHERE d.pipeline_id = p.id ORDER BY d.at DESC LIMIT 1) AS d
CROSS JOIN LATERAL (VALUES ('missing', d.missing), ('stale', d.stale), ('orphaned', d.orphaned),
                           ('wrong_model', d.wrong_model), ('broken', d.broken), ('incomplete', d.incomplete),
                           ('stuck', d.stuck)) AS kind (kind, drift_rows)
ORDER BY p.name, kind.kind;

-- name: runs
-- Runs that are running, by kind: the least advanced one, and the time until the last one ends at the pace it has had. A row that
-- was enqueued and still waits isn't done; store/runs.py has the same rule.
SELECT p.name AS pipeline, r.kind, count(*) AS running_runs,
       min(CASE WHEN far.total > 0 THEN far.done::float8 / far.total END) AS run_progress_ratio,
       max(CASE WHEN far.done > 0
           THEN extract(epoch FROM statement_timestamp() - r.started_at)::float8 * (far.total - far.done) / far.done
           END) AS run_left_seconds
FROM pgvector_sync.run r JOIN pgvector_sync.pipeline p ON p.id = r.pipeline_id
CROSS JOIN LATERAL (
    SELECT greatest(0, r.rows_seen - (SELECT count(*) FROM pgvector_sync.work w
                                      WHERE w.run_id = r.id AND w.parked_at IS NULL)) AS done,
           CASE WHEN r.walked THEN r.rows_seen WHEN r.rows_total IS NOT NULL THEN greatest(r.rows_total, r.rows_seen) END AS total) AS far
WHERE r.state = 'running' GROUP BY p.name, r.kind ORDER BY p.name, r.kind;

-- name: usage
-- What each pipeline has sent and bought, in total and today, and when it was last reconciled.
SELECT p.name AS pipeline, coalesce(sum(u.inputs), 0)::bigint AS inputs_total, coalesce(sum(u.tokens), 0)::bigint AS tokens_total,
       coalesce(sum(u.usd), 0)::float8 AS cost_usd_total, coalesce(sum(u.truncated_inputs), 0)::bigint AS truncated_inputs_total,
       coalesce(sum(u.tokens) FILTER (WHERE u.day = (statement_timestamp() AT TIME ZONE 'UTC')::date), 0)::bigint AS day_tokens,
       p.tokens_per_day AS day_tokens_limit,
       (SELECT extract(epoch FROM max(d.at))::float8 FROM pgvector_sync.drift d WHERE d.pipeline_id = p.id)
           AS last_reconciliation_timestamp_seconds
FROM pgvector_sync.pipeline p LEFT JOIN pgvector_sync.usage u ON u.pipeline_id = p.id
GROUP BY p.id ORDER BY p.name;

-- name: saved
-- Inputs that needed no call, by reason.
SELECT p.name AS pipeline, saved.reason, sum(saved.inputs)::bigint AS saved_inputs_total
FROM pgvector_sync.usage u JOIN pgvector_sync.pipeline p ON p.id = u.pipeline_id
CROSS JOIN LATERAL (VALUES ('unchanged', u.saved_unchanged), ('equal', u.saved_equal), ('stored', u.saved_stored))
    AS saved (reason, inputs)
GROUP BY p.name, saved.reason ORDER BY p.name, saved.reason;

-- name: indexes
-- Whether the indexes of each target are valid, except those that are being built.
SELECT p.name AS pipeline, i.relname AS index, (x.indisvalid AND x.indisready)::int AS index_valid
FROM pgvector_sync.pipeline p
JOIN pg_catalog.pg_namespace n ON n.nspname = p.target_schema
JOIN pg_catalog.pg_class t ON t.relnamespace = n.oid AND t.relname = p.target_table
JOIN pg_catalog.pg_index x ON x.indrelid = t.oid JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index b WHERE b.index_relid = x.indexrelid)
ORDER BY p.name, i.relname;

-- name: recall
-- The last measurement of each index that still is as it was measured: the recall of `search`, that with the default setting, and
-- that with the same setting after the build. Nothing for pipelines that are no longer measured.
SELECT p.name AS pipeline, s.setting, s.recall, s.recall_target, s.last_recall_timestamp_seconds, s.index_churn_ratio
FROM pgvector_sync.pipeline p
CROSS JOIN LATERAL (SELECT * FROM pgvector_sync.recall r WHERE r.pipeline_id = p.id AND r.is_default ORDER BY r.at DESC LIMIT 1) AS d
CROSS JOIN LATERAL (
    SELECT * FROM pgvector_sync.recall r
    WHERE r.pipeline_id = d.pipeline_id AND r.filenode = d.filenode AND r.is_default AND r.value = d.value AND r.source = d.source
    ORDER BY r.at LIMIT 1) AS b
JOIN pgvector_sync.recall u ON u.pipeline_id = d.pipeline_id AND u.at = d.at AND u.is_used
CROSS JOIN LATERAL (VALUES
    ('search', u.recall, d.target, extract(epoch FROM d.at)::float8,
     ((SELECT coalesce(sum(t.stored + t.removed), 0) FROM pgvector_sync.batch_totals t WHERE t.pipeline_id = p.id) - b.changes)::float8
         / greatest(d.rows, 1)),
    ('default', d.recall, NULL, NULL, NULL),
    ('build', b.recall, NULL, NULL, NULL)) AS s (setting, recall, recall_target, last_recall_timestamp_seconds, index_churn_ratio)
WHERE p.vector_index ->> 'measure_every' IS DISTINCT FROM 'off' AND EXISTS (
    SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = p.target_schema AND c.relname = d.index_name AND c.relfilenode = d.filenode)
ORDER BY p.name, s.setting;

-- name: ticks
-- When the relay last looked for work, and beat last ticked.
SELECT component.component, extract(epoch FROM statement_timestamp() - component.at)::float8 AS tick_age_seconds
FROM (VALUES ('relay', (SELECT max(w.relayed_at) FROM pgvector_sync.worker w)),
             ('beat', (SELECT t.last_at FROM pgvector_sync.tick t WHERE t.name = 'tick'))) AS component (component, at);

-- name: hot_tables
-- The rows of the tables that are written all the time, as the statistics count them.
SELECT t.relname AS table, t.n_live_tup AS live_tuples, t.n_dead_tup AS dead_tuples
FROM pg_catalog.pg_stat_user_tables t WHERE t.schemaname = 'pgvector_sync' AND t.relname IN ('outbox', 'work')
ORDER BY t.relname;

-- name: server
-- The version of the schema, and what holds back vacuum. A role without pg_read_all_stats doesn't see how old the
-- transactions of others are: then the age is unknown rather than zero. It does see their snapshots.
SELECT (SELECT max(m.number) FROM pgvector_sync.applied_migration m) AS schema_version,
       CASE WHEN pg_has_role('pg_read_all_stats', 'USAGE') THEN coalesce((
           SELECT extract(epoch FROM max(clock_timestamp() - a.xact_start))::float8 FROM pg_catalog.pg_stat_activity a
           WHERE a.pid <> pg_backend_pid() AND (a.backend_xid IS NOT NULL OR a.backend_xmin IS NOT NULL)
             AND a.backend_type = 'client backend'), 0) END AS oldest_transaction_seconds,
       greatest((SELECT max(age(a.backend_xmin)) FROM pg_catalog.pg_stat_activity a),
                (SELECT max(age(s.xmin)) FROM pg_catalog.pg_replication_slots s),
                (SELECT max(age(x.transaction)) FROM pg_catalog.pg_prepared_xacts x), 0) AS oldest_xmin_transactions;
