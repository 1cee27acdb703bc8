-- Search: the nearest rows.

-- name: scan_on
-- Lets an index scan of this transaction go on until enough rows pass the pipeline's `where` (pgvector 0.8 and later;
-- an older one takes it for a setting of somebody else's).
SELECT set_config('hnsw.iterative_scan', 'strict_order', true), set_config('ivfflat.iterative_scan', 'relaxed_order', true);

-- name: nearest
-- The nearest rows, joined to the source with the pipeline's `where`, so that what is gone is never shown.
SELECT {key_json} AS key, pgvector_sync_stored.chunk_no,
       pgvector_sync_stored.embedding OPERATOR({operator_schema}.{operator}) %(query)s::{vector}::{column_type} AS distance,
       coalesce(pgvector_sync_stored.chunk, ({text})::text) AS text
FROM {stored}
JOIN LATERAL (SELECT * FROM {source} WHERE {stored_of_row} AND {wanted} OFFSET 0) AS {alias} ON true
ORDER BY pgvector_sync_stored.embedding OPERATOR({operator_schema}.{operator}) %(query)s::{vector}::{column_type}
LIMIT %(limit)s;
