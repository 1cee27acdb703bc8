-- Search: the nearest rows.

-- name: scan_on
-- Lets index scans in this transaction continue until enough rows meet the pipeline's `where`. Needs pgvector 0.8; with an
-- older version these are unknown custom settings, which have no effect.
SELECT set_config('hnsw.iterative_scan', 'strict_order', true), set_config('ivfflat.iterative_scan', 'relaxed_order', true);

-- name: nearest
-- The nearest rows, joined to the source with the pipeline's `where`, so that deleted rows are never returned.
SELECT {key_json} AS key, pgvector_sync_stored.chunk_no,
       pgvector_sync_stored.embedding OPERATOR({operator_schema}.{operator}) %(query_vector)s::{vector}::{column_type} AS distance,
       coalesce(pgvector_sync_stored.chunk, ({text})::text) AS text
FROM {stored}
JOIN LATERAL (SELECT * FROM {source} WHERE {stored_of_row} AND {wanted} OFFSET 0) AS {alias} ON true
ORDER BY pgvector_sync_stored.embedding OPERATOR({operator_schema}.{operator}) %(query_vector)s::{vector}::{column_type}
LIMIT %(limit)s;
