-- The indexes of targets: what they are, what they take, and whether they are used.

-- name: vector_indexes
-- The indexes of a target that may order rows by distance: those of any method that isn't Postgres's own.
-- `built_at` is known if the server records commit times.
SELECT n.nspname::text AS schema, c.relname::text AS name, am.amname::text AS method, o.opcname::text AS operator_class,
       coalesce(c.reloptions, ARRAY[]::text[]) AS parameters, pg_get_indexdef(c.oid, 1, true) AS indexed,
       pg_get_expr(i.indpred, i.indrelid, true) AS condition, i.indkey[0] = 0 AS over_expression, {contents} AS storage,
       i.indisvalid AND i.indisready AS valid,
       EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index b WHERE b.index_relid = c.oid) AS building,
       pg_relation_size(c.oid) AS bytes, s.idx_scan AS scans, b.idx_blks_hit AS hits, b.idx_blks_read AS reads,
       CASE WHEN current_setting('track_commit_timestamp')::boolean THEN pg_xact_commit_timestamp(i.xmin) END AS built_at
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_am am ON am.oid = c.relam
JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[0]
LEFT JOIN pg_catalog.pg_stat_all_indexes s ON s.indexrelid = c.oid
LEFT JOIN pg_catalog.pg_statio_all_indexes b ON b.indexrelid = c.oid
WHERE i.indrelid = %(oid)s AND am.amname NOT IN ('btree', 'hash', 'gist', 'spgist', 'gin', 'brin') ORDER BY c.relname;

-- name: table
-- A target's rows, as the catalog estimates, its dead rows, and since when scans are counted.
SELECT ({leaf_rows})::bigint AS rows, coalesce(s.n_live_tup, 0) AS live_rows, coalesce(s.n_dead_tup, 0) AS dead_rows,
       (SELECT d.stats_reset FROM pg_catalog.pg_stat_database d WHERE d.datname = current_database()) AS counted_since
FROM pg_catalog.pg_class leaf LEFT JOIN pg_catalog.pg_stat_all_tables s ON s.relid = leaf.oid WHERE leaf.oid = %(oid)s;

-- name: key_widths
-- The type and average width in bytes of each key column of a source. The width is null before ANALYZE, or if this role may not
-- read it.
SELECT a.attname::text AS name, t.typlen AS length, t.typalign::text AS alignment, t.typname::text AS type,
       (SELECT max(s.avg_width) FROM pg_catalog.pg_stats s
        WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname) AS average_width
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE c.oid = %(oid)s AND a.attname = ANY (%(key_columns)s) AND NOT a.attisdropped
ORDER BY array_position(%(key_columns)s::text[], a.attname::text);
