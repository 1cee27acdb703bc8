-- Drift: where source and target differ although nothing waits. These statements find and count it, but don't repair it.

-- name: bound
-- The last key of the next page, in which neither table has more than `limit` rows. No row: it is the last page.
SELECT {key_bound} AS key FROM (
    (SELECT {columns_source} FROM {source} WHERE {after_source} ORDER BY {columns_source} OFFSET %(limit)s - 1 LIMIT 1)
    UNION ALL
    (SELECT {columns_stored} FROM {stored} WHERE {after_stored}
     ORDER BY {columns_stored}, pgvector_sync_stored.chunk_no OFFSET %(limit)s - 1 LIMIT 1)
) AS pgvector_sync_bound ORDER BY {columns_bound} LIMIT 1;

-- part: seen_deep
-- A part of `page`: the rows' fingerprints, computed in the fastest way. Here a blank text has one, and a text over the limit
-- has none: `judge` checks everything that differs again.
SELECT {columns}, CASE WHEN octet_length(pgvector_sync_text) <= %(text_limit)s
       THEN sha256(%(spec)s::bytea || convert_to(pgvector_sync_text, 'UTF8')) END AS pgvector_sync_fingerprint
FROM (SELECT {columns_source}, CASE WHEN {wanted} THEN ({text})::text END AS pgvector_sync_text
      FROM {source} WHERE {in_page_source} OFFSET 0) AS pgvector_sync_rendered

-- part: seen_cheap
-- A part of `page`: which rows should have vectors, without their texts.
SELECT {columns_source}, CASE WHEN {wanted} THEN '\x'::bytea END AS pgvector_sync_fingerprint
FROM {source} WHERE {in_page_source}

-- part: differs_deep
-- A part of `page`: what may have drifted.
pgvector_sync_seen.pgvector_sync_fingerprint IS DISTINCT FROM pgvector_sync_stored.fingerprint
    OR pgvector_sync_stored.model <> %(model)s OR pgvector_sync_stored.embedding {equals} {zeros}

-- part: differs_cheap
-- A part of `page`: the same, without reading texts or vectors.
(pgvector_sync_seen.pgvector_sync_fingerprint IS NULL) <> (pgvector_sync_stored.fingerprint IS NULL)
    OR pgvector_sync_stored.model <> %(model)s

-- name: page
-- Compares one page of both tables: the number of rows and vectors, and the keys that differ in any way.
SELECT count(pgvector_sync_seen.pgvector_sync_there) AS rows, count(pgvector_sync_stored.fingerprint) AS vectors,
       array_agg({key_either}) FILTER (WHERE {differs}) AS differing,
       ARRAY(SELECT DISTINCT {key_stored} FROM {stored}
             WHERE {in_page_stored} AND pgvector_sync_stored.chunk_no <> 0) AS with_chunks
FROM (SELECT true AS pgvector_sync_there, pgvector_sync_all.* FROM ({seen}) AS pgvector_sync_all) AS pgvector_sync_seen
FULL JOIN (
    SELECT {columns_stored}, pgvector_sync_stored.fingerprint, pgvector_sync_stored.model, pgvector_sync_stored.embedding
    FROM {stored} WHERE {in_page_stored} AND pgvector_sync_stored.chunk_no = 0
) AS pgvector_sync_stored ON {same_key};

-- name: judge
-- The keys that have really drifted, of those that may have, each with the kind of drift. It reads outbox and work in the same
-- snapshot: what only waits, or what a backfill has yet to reach, isn't drift. OFFSET 0 makes the planner look up key by key.
SELECT pgvector_sync_key.key, judged.kind FROM unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key)
LEFT JOIN LATERAL ({now}) AS now_ ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS chunks, min(chunk_no) AS first, count(DISTINCT fingerprint) AS texts,
           (array_agg(fingerprint ORDER BY chunk_no))[1] AS fingerprint,
           bool_or(model <> %(model)s OR {dims}(embedding) <> %(dimensions)s) AS wrong_model,
           bool_or(embedding {equals} {zeros}) AS broken
    FROM {stored} WHERE {stored_of_key}) AS stored
CROSS JOIN LATERAL (SELECT CASE
    WHEN now_.fingerprint IS NULL THEN CASE WHEN stored.chunks > 0 THEN 'orphaned' END
    WHEN stored.chunks = 0 THEN 'missing'
    WHEN stored.wrong_model THEN 'wrong_model'
    WHEN stored.first <> 0 OR stored.chunks <> %(chunks)s OR stored.texts <> 1 THEN 'incomplete'
    WHEN stored.fingerprint <> now_.fingerprint THEN 'stale'
    WHEN stored.broken THEN 'broken' END AS kind) AS judged
WHERE judged.kind IS NOT NULL
  AND NOT EXISTS (SELECT FROM pgvector_sync.work w WHERE w.pipeline_id = %(pipeline_id)s AND w.key = pgvector_sync_key.key)
  AND NOT EXISTS (SELECT FROM pgvector_sync.outbox o WHERE o.source_id = %(source_id)s AND o.key = pgvector_sync_key.key)
  AND NOT EXISTS (SELECT FROM pgvector_sync.parked o WHERE o.source_id = %(source_id)s AND o.key = pgvector_sync_key.key)
  AND NOT EXISTS (SELECT FROM pgvector_sync.sweep o WHERE o.source_id = %(source_id)s)
  AND NOT EXISTS (SELECT FROM {source} WHERE {match_source} AND {to_backfill} OFFSET 0)
ORDER BY pgvector_sync_key.key;

-- name: waits
-- Whether a key is in outbox or work, or parked.
SELECT EXISTS (SELECT FROM pgvector_sync.work w WHERE w.pipeline_id = %(pipeline_id)s AND w.key = %(key)s)
    OR EXISTS (SELECT FROM pgvector_sync.outbox o WHERE o.source_id = %(source_id)s AND o.key = %(key)s)
    OR EXISTS (SELECT FROM pgvector_sync.parked o WHERE o.source_id = %(source_id)s AND o.key = %(key)s)
    OR EXISTS (SELECT FROM pgvector_sync.sweep o WHERE o.source_id = %(source_id)s) AS waits;

-- name: stuck
-- Work that no worker will ever take: its lease is gone or long expired, or it is due later than the longest back-off.
SELECT w.key FROM pgvector_sync.work w
WHERE w.pipeline_id = %(pipeline_id)s AND w.parked_at IS NULL
  AND (w.lease IS NOT NULL
           AND NOT EXISTS (SELECT FROM pgvector_sync.lease l
                           WHERE l.id = w.lease AND l.expires_at >= statement_timestamp() - %(overdue)s)
           -- otherwise the rows wait for their provider, or for tomorrow's tokens
           AND EXISTS (SELECT FROM pgvector_sync.pipeline p WHERE p.id = w.pipeline_id AND p.state = 'active')
       OR w.visible_at > statement_timestamp() + %(longest)s)
ORDER BY w.key LIMIT %(limit)s;

-- name: free
-- Makes stuck work due, in its lane and with its attempts. It keeps an existing lease, so that few rows at a time are taken
-- over, and clears one that doesn't exist, after a restore for example.
UPDATE pgvector_sync.work w SET visible_at = least(w.visible_at, statement_timestamp()),
    lease = (SELECT l.id FROM pgvector_sync.lease l WHERE l.id = w.lease)
WHERE w.pipeline_id = %(pipeline_id)s AND w.key = ANY (%(keys)s::jsonb[]) AND w.parked_at IS NULL
  AND (w.visible_at > statement_timestamp() + %(longest)s
       OR w.lease IS NOT NULL AND NOT EXISTS (SELECT FROM pgvector_sync.lease l WHERE l.id = w.lease));

-- name: take_orphans
-- The next orphans that a reconciliation has collected, removed from the list as they are enqueued.
DELETE FROM pgvector_sync.run_key WHERE run_id = %(run_id)s AND key = ANY (ARRAY(
    SELECT key FROM pgvector_sync.run_key WHERE run_id = %(run_id)s ORDER BY key LIMIT %(limit)s)) RETURNING key;

-- name: note
-- Records what a reconciliation found, for the trend.
INSERT INTO pgvector_sync.drift (pipeline_id, run_id, deep, rows, vectors, missing, stale, orphaned, wrong_model, broken,
                                 incomplete, stuck)
VALUES (%(pipeline_id)s, %(run_id)s, %(deep)s, %(rows)s, %(vectors)s, %(missing)s, %(stale)s, %(orphaned)s,
        %(wrong_model)s, %(broken)s, %(incomplete)s, %(stuck)s);

-- name: trend
-- The latest figures of every pipeline, newest first.
SELECT p.name AS pipeline, d.at, d.run_id, d.deep, d.rows, d.vectors, d.missing, d.stale, d.orphaned, d.wrong_model,
       d.broken, d.incomplete, d.stuck
FROM pgvector_sync.drift d JOIN pgvector_sync.pipeline p ON p.id = d.pipeline_id
WHERE %(pipeline)s::text IS NULL OR p.name = %(pipeline)s
ORDER BY d.at DESC LIMIT %(limit)s;

-- name: forget
-- Deletes old figures.
DELETE FROM pgvector_sync.drift WHERE at < statement_timestamp() - %(older_than)s;
