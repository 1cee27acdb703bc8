-- A pipeline's target: vectors in, vectors out.

-- name: open_to_writes
-- Fails while a plain CREATE INDEX, say, locks the target as a whole: what is embedded now could not be stored.
LOCK TABLE {target} IN ROW EXCLUSIVE MODE;

-- name: reusable
-- Vectors already stored for the same fingerprint, that is for the same spec and text: nothing to buy. None that a
-- running re-embed by force is about to replace (borrowed now, it would look new), and none that is broken. Looked up one
-- by one, and not by their chunk's number (+ 0): before a new target is analyzed the planner takes that for rare, and reads
-- all of the target for every batch.
SELECT wanted.fingerprint, stored.embedding FROM unnest(%(fingerprints)s::bytea[]) AS wanted (fingerprint)
CROSS JOIN LATERAL (
    SELECT embedding::{vector} AS embedding FROM {stored}
    WHERE pgvector_sync_stored.fingerprint = wanted.fingerprint AND chunk_no + 0 = 0
      AND NOT (embedding {equals} {zeros})
      AND NOT EXISTS (SELECT FROM pgvector_sync.run r WHERE r.pipeline_id = %(pipeline_id)s AND r.kind = 'reembed'
                      AND r.state = 'running' AND r.options @> '{{"force": true}}'
                      AND pgvector_sync_stored.embedded_at < r.started_at)
    LIMIT 1) AS stored;

-- name: write
-- The vectors of rows whose fingerprint was just seen to match; {key_values} reads the key's columns out of v.key.
INSERT INTO {target} AS t ({key_columns}, chunk_no, chunk, embedding, fingerprint, model, embedded_at)
SELECT {key_values}, v.chunk_no, NULL, v.embedding::{column_type}, v.fingerprint, %(model)s, statement_timestamp()
FROM unnest(%(keys)s::jsonb[], %(chunk_nos)s::int[], %(embeddings)b::{vector}[], %(fingerprints)s::bytea[])
     AS v (key, chunk_no, embedding, fingerprint)
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
WHERE {match_target} RETURNING pgvector_sync_key.key;

-- name: lock_page
-- The next target keys after a cursor, locked, for a sweep: lock first, then look again whether the source row exists.
SELECT {key_json} AS key FROM {target} AS pgvector_sync_target WHERE {after} ORDER BY {key_columns_target}, pgvector_sync_target.chunk_no
LIMIT %(limit)s FOR UPDATE;

-- name: remove_orphans
-- Of the locked keys, those without a source row. A row inserted after this look is in the outbox.
DELETE FROM {target} AS pgvector_sync_target USING unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key)
WHERE {match_target} AND NOT EXISTS (SELECT FROM {source} WHERE {match_source});

-- name: known
-- Which of these fingerprints are stored.
SELECT DISTINCT fingerprint FROM {stored} WHERE fingerprint = ANY (%(fingerprints)s::bytea[]);
