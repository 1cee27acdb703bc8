-- Reading and writing a pipeline's target.

-- name: open_to_writes
-- Fails while the whole target is locked, by a plain CREATE INDEX for example: what is embedded now couldn't be stored.
LOCK TABLE {target} IN ROW EXCLUSIVE MODE;

-- name: reusable
-- Vectors already stored for the same fingerprint, that is, for the same spec and text, which needn't be paid for again. It
-- excludes broken vectors, and those that a running forced re-embed is about to replace (a copy would look new). They are looked
-- up one by one, and not by chunk_no (+ 0): before a new target is analyzed, the planner assumes that 0 is rare, and would
-- read the whole target for every batch.
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
-- Writes the vectors of rows whose fingerprint has just been compared. {key_values} reads the key's columns from v.key.
INSERT INTO {target} AS t ({key_columns}, chunk_no, chunk, embedding, fingerprint, model, embedded_at)
SELECT {key_values}, v.chunk_no, NULL, v.embedding::{column_type}, v.fingerprint, %(model)s, statement_timestamp()
FROM unnest(%(keys)s::jsonb[], %(chunk_nos)s::int[], %(embeddings)b::{vector}[], %(fingerprints)s::bytea[])
     AS v (key, chunk_no, embedding, fingerprint)
ON CONFLICT ({key_columns}, chunk_no) DO UPDATE SET
    chunk = excluded.chunk, embedding = excluded.embedding, fingerprint = excluded.fingerprint,
    model = excluded.model, embedded_at = excluded.embedded_at;

-- name: trim
-- Removes chunks beyond the new count of rows just written. It looks them up key by key: for a join, the planner would read
-- the whole table.
DELETE FROM {target} WHERE ctid = ANY (ARRAY(
    SELECT beyond.ctid FROM unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key) CROSS JOIN LATERAL (
        SELECT pgvector_sync_target.ctid FROM {target} AS pgvector_sync_target
        WHERE {match_target} AND pgvector_sync_target.chunk_no >= %(chunks)s OFFSET 0) AS beyond));

-- name: remove
-- Removes all chunks of rows that are deleted, not wanted or blank.
DELETE FROM {target} AS pgvector_sync_target USING unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key)
WHERE {match_target} RETURNING pgvector_sync_key.key;

-- name: lock_page
-- Locks the next page of the target for a sweep, before it checks again whether the source rows exist.
SELECT {key_json} AS key FROM {target} AS pgvector_sync_target WHERE {after} ORDER BY {key_columns_target}, pgvector_sync_target.chunk_no
LIMIT %(limit)s FOR UPDATE;

-- name: remove_orphans
-- Removes the vectors of locked keys without a source row. A row that is inserted later is in the outbox.
DELETE FROM {target} AS pgvector_sync_target USING unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key)
WHERE {match_target} AND NOT EXISTS (SELECT FROM {source} WHERE {match_source});

-- name: known
-- The fingerprints, out of a list, that are stored.
SELECT DISTINCT fingerprint FROM {stored} WHERE fingerprint = ANY (%(fingerprints)s::bytea[]);
