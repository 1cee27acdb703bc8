-- What an advice about a pipeline's index is based on: its history, the server's settings, and some of its vectors.

-- name: history
-- The oldest and the newest state of a pipeline that is known, and how many vectors were stored per second on average.
SELECT min(h.at) AS first_at, max(h.at) AS last_at,
       (array_agg(h.source_rows ORDER BY h.at))[1] AS first_source_rows,
       (array_agg(h.source_rows ORDER BY h.at DESC))[1] AS last_source_rows,
       (array_agg(h.fresh_rows ORDER BY h.at))[1] AS first_fresh_rows,
       (array_agg(h.fresh_rows ORDER BY h.at DESC))[1] AS last_fresh_rows,
       coalesce(avg(h.rows_per_second), 0) AS rows_per_second
FROM pgvector_sync.history h WHERE h.pipeline_id = %(pipeline_id)s;

-- name: settings
-- The server's settings that matter for vector indexes; sizes are bytes.
SELECT pg_size_bytes(current_setting('effective_cache_size')) AS effective_cache_size,
       pg_size_bytes(current_setting('maintenance_work_mem')) AS maintenance_work_mem,
       current_setting('random_page_cost')::float8 AS random_page_cost;

-- name: sample
-- Some vectors of the pipeline's model, each with the same probability.
SELECT sampled.embedding FROM (
    SELECT pgvector_sync_target.embedding FROM {target} AS pgvector_sync_target TABLESAMPLE SYSTEM (%(percent)s)
    WHERE pgvector_sync_target.model = %(model)s ORDER BY random() LIMIT %(limit)s
) AS sampled;

-- name: out_of_line
-- Whether the vectors of a target are stored outside of its rows (TOAST).
SELECT c.reltoastrelid <> 0 AND pg_relation_size(c.reltoastrelid) > 0 AS out_of_line
FROM pg_catalog.pg_class c WHERE c.oid = %(oid)s;

-- name: set_locally
-- Changes a setting until the end of the transaction.
SELECT set_config(%(setting_name)s, %(setting_value)s, true);
