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
    SELECT embedding::{vector} AS embedding FROM {target} AS pgvector_sync_target
    WHERE pgvector_sync_target.fingerprint = wanted.fingerprint AND chunk_no + 0 = 0
      AND NOT (embedding {equals} {zeros})
      AND NOT EXISTS (SELECT FROM pgvector_sync.run r WHERE r.pipeline_id = %(pipeline_id)s AND r.kind = 'reembed'
                      AND r.state = 'running' AND r.options @> '{{"force": true}}'
                      AND pgvector_sync_target.embedded_at < r.started_at)
    LIMIT 1) AS stored;

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
WHERE {match_target} RETURNING pgvector_sync_key.key;

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

-- name: demands
-- What a target asks of a write that we can't, or can't always, satisfy: certainly where no value of ours would do.
-- No row where there is no such table, or nothing to say. Only the catalog is read.
WITH target_ AS (
    SELECT c.oid, array_append(%(key_columns)s::text[], 'chunk_no') AS identity,
           %(key_columns)s::text[] || '{chunk_no,chunk,embedding,fingerprint,model,embedded_at}'::text[] AS ours
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s
), column_ AS (
    SELECT a.attnum, a.attname::text AS name, t.typname::text AS type, a.atttypmod, a.attgenerated,
           (a.attnotnull OR t.typnotnull) AND NOT a.atthasdef AND a.attidentity = '' AND t.typdefault IS NULL AS required
    FROM target_ JOIN pg_catalog.pg_attribute a ON a.attrelid = target_.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
), unique_ AS (
    SELECT i.indexrelid, i.indnkeyatts, i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid AND i.indimmediate AS plain,
           ARRAY(SELECT column_.name FROM column_ WHERE column_.attnum = ANY (i.indkey::int2[])) AS names
    FROM target_ JOIN pg_catalog.pg_index i ON i.indrelid = target_.oid AND i.indisunique
)
SELECT 'column' AS kind, column_.name, column_.type AS detail, true AS certain
FROM target_, column_ WHERE column_.required AND column_.name <> ALL (target_.ours)
UNION ALL
SELECT 'missing', name, NULL, true
FROM target_, unnest(target_.ours) AS name WHERE name NOT IN (SELECT column_.name FROM column_)
UNION ALL
SELECT 'type', column_.name, column_.type || CASE WHEN column_.atttypmod > 0 THEN '(' || column_.atttypmod || ')' ELSE '' END, true
FROM target_, column_ WHERE column_.name = 'embedding'
 AND (column_.type <> %(vector_type)s OR column_.atttypmod NOT IN (-1, %(dimensions)s) OR column_.attgenerated <> '')
UNION ALL
SELECT 'identity', array_to_string(target_.identity, ', '), NULL, true
FROM target_ WHERE NOT EXISTS (SELECT FROM unique_ WHERE unique_.plain AND unique_.names <@ target_.identity
    AND target_.identity <@ unique_.names AND unique_.indnkeyatts = cardinality(target_.identity))
UNION ALL
SELECT 'unique', unique_.indexrelid::regclass::text, NULL, false
FROM target_, unique_ WHERE NOT (unique_.plain AND target_.identity <@ unique_.names)
UNION ALL
SELECT CASE k.contype WHEN 'c' THEN 'check' WHEN 'f' THEN 'foreign key' ELSE 'exclusion' END, k.conname::text, NULL, false
FROM target_ JOIN pg_catalog.pg_constraint k ON k.conrelid = target_.oid WHERE k.contype IN ('c', 'f', 'x')
UNION ALL
SELECT 'trigger', g.tgname::text, NULL, false
FROM target_ JOIN pg_catalog.pg_trigger g ON g.tgrelid = target_.oid WHERE NOT g.tgisinternal AND g.tgenabled <> 'D'
UNION ALL
SELECT 'rule', r.rulename::text, NULL, true
FROM target_ JOIN pg_catalog.pg_rewrite r ON r.ev_class = target_.oid AND r.ev_type IN ('2', '3', '4') AND r.ev_enabled <> 'D'
UNION ALL
SELECT 'grant', p.privilege, current_user::text, true
FROM target_, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS p (privilege)
WHERE NOT has_table_privilege(target_.oid, p.privilege)
ORDER BY 4 DESC, 1, 2;
