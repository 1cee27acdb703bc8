-- A pipeline's target: vectors in, vectors out.

-- name: open_to_writes
-- Fails while a plain CREATE INDEX, say, locks the target as a whole: what is embedded now could not be stored.
LOCK TABLE {target} IN ROW EXCLUSIVE MODE;

-- name: reusable
-- Vectors already stored for the same fingerprint, that is for the same spec and text: nothing to buy. None that a
-- running re-embed by force is about to replace (borrowed now, it would look new), and none that is broken.
SELECT DISTINCT ON (fingerprint) fingerprint, embedding::{vector} AS embedding
FROM {target} AS pgvector_sync_target WHERE fingerprint = ANY (%(fingerprints)s::bytea[]) AND chunk_no = 0
  AND NOT (embedding {equals} {zeros})
  AND NOT EXISTS (SELECT FROM pgvector_sync.run r WHERE r.pipeline_id = %(pipeline_id)s AND r.kind = 'reembed'
                  AND r.state = 'running' AND r.options @> '{{"force": true}}'
                  AND pgvector_sync_target.embedded_at < r.started_at)
ORDER BY fingerprint;

-- name: write
-- The vectors of rows whose fingerprint was just seen to match; {key_values} reads the key's columns out of v.key.
INSERT INTO {target} AS t ({key_columns}, chunk_no, chunk, embedding, fingerprint, model, embedded_at)
SELECT {key_values}, 0, NULL, v.embedding::{column_type}, v.fingerprint, %(model)s, statement_timestamp()
FROM unnest(%(keys)s::jsonb[], %(embeddings)b::{vector}[], %(fingerprints)s::bytea[]) AS v (key, embedding, fingerprint)
ON CONFLICT ({key_columns}, chunk_no) DO UPDATE SET
    chunk = excluded.chunk, embedding = excluded.embedding, fingerprint = excluded.fingerprint,
    model = excluded.model, embedded_at = excluded.embedded_at;

-- name: trim
-- Chunks beyond the new count of rows just written, looked up key by key: joined, the planner reads the whole table.
DELETE FROM {target} WHERE ctid = ANY (ARRAY(
    SELECT beyond.ctid FROM unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key) CROSS JOIN LATERAL (
        SELECT pgvector_sync_target.ctid FROM {target} AS pgvector_sync_target
        WHERE {match_target} AND pgvector_sync_target.chunk_no >= %(chunks)s OFFSET 0) AS beyond));

-- name: remove
-- All chunks of rows that are gone, not wanted or blank.
DELETE FROM {target} AS pgvector_sync_target USING unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key)
WHERE {match_target};

-- name: lock_page
-- The next target keys after a cursor, locked, for a sweep: lock first, then look again whether the source row exists.
SELECT {key_json} AS key FROM {target} AS pgvector_sync_target WHERE {after} ORDER BY {key_columns_target}, pgvector_sync_target.chunk_no
LIMIT %(limit)s FOR UPDATE;

-- name: remove_orphans
-- Of the locked keys, those without a source row. A row inserted after this look is in the outbox.
DELETE FROM {target} AS pgvector_sync_target USING unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key)
WHERE {match_target} AND NOT EXISTS (SELECT FROM {source} WHERE {match_source});

-- name: search
-- The nearest rows, joined to the source with the pipeline's `where`, so that what is gone is never shown.
SELECT {key_json} AS key, pgvector_sync_target.chunk_no,
       pgvector_sync_target.embedding OPERATOR({operator_schema}.{operator}) %(query)s::{vector}::{column_type} AS distance,
       coalesce(pgvector_sync_target.chunk, ({text})::text) AS text
FROM {target} AS pgvector_sync_target
JOIN LATERAL (SELECT * FROM {source} WHERE {match_stored} AND {wanted} OFFSET 0) AS {alias} ON true
ORDER BY pgvector_sync_target.embedding OPERATOR({operator_schema}.{operator}) %(query)s::{vector}::{column_type}
LIMIT %(limit)s;

-- name: known
-- Which of these fingerprints are stored.
SELECT DISTINCT fingerprint FROM {target} WHERE fingerprint = ANY (%(fingerprints)s::bytea[]);
