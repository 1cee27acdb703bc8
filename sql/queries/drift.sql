-- Drift: where source and target differ, though nothing waits. Found page by page, counted, and never mended here.

-- name: bound
-- The last key of the next page, so far that neither table has more than `limit` rows in it. No row: it is the last page.
SELECT {key_bound} AS key FROM (
    (SELECT {columns_source} FROM {source} WHERE {after_source} ORDER BY {columns_source} OFFSET %(limit)s - 1 LIMIT 1)
    UNION ALL
    (SELECT {columns_stored} FROM {stored} WHERE {after_stored}
     ORDER BY {columns_stored}, pgvector_sync_stored.chunk_no OFFSET %(limit)s - 1 LIMIT 1)
) AS pgvector_sync_bound ORDER BY {columns_bound} LIMIT 1;

-- part: seen_deep
-- A part of `page`: the rows' fingerprints, made as quickly as can be. A blank text has one here, one over the limit has
-- none: whatever differs is judged again.
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
-- A part of `page`: the same, with neither text nor vector read.
(pgvector_sync_seen.pgvector_sync_fingerprint IS NULL) <> (pgvector_sync_stored.fingerprint IS NULL)
    OR pgvector_sync_stored.model <> %(model)s

-- name: page
-- One page of both tables, compared: its rows, its vectors, and the keys that differ in any way.
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
-- Of keys that may have drifted those that have, each with its kind. In one snapshot with outbox and work, so that what
-- is only waiting is no drift, nor what a backfill has yet to reach (OFFSET 0: looked up key by key).
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
  AND NOT EXISTS (SELECT FROM pgvector_sync.outbox o
                  WHERE o.source_id = %(source_id)s AND o.key IS NULL AND o.error_class IS NULL)
  AND NOT EXISTS (SELECT FROM {source} WHERE {match_source} AND {to_backfill} OFFSET 0)
ORDER BY pgvector_sync_key.key;

-- name: waits
-- Whether a key is in outbox or work anyway.
SELECT EXISTS (SELECT FROM pgvector_sync.work w WHERE w.pipeline_id = %(pipeline_id)s AND w.key = %(key)s)
    OR EXISTS (SELECT FROM pgvector_sync.outbox o WHERE o.source_id = %(source_id)s
               AND (o.key = %(key)s OR o.key IS NULL AND o.error_class IS NULL)) AS waits;

-- name: stuck
-- Work that is beyond any lease: held by nobody who is left, or due later than any back-off would have it.
SELECT w.key FROM pgvector_sync.work w
WHERE w.pipeline_id = %(pipeline_id)s AND w.parked_at IS NULL
  AND (w.lease IS NOT NULL
           AND NOT EXISTS (SELECT FROM pgvector_sync.lease l
                           WHERE l.id = w.lease AND l.expires_at >= statement_timestamp() - %(overdue)s)
           -- else they wait for their provider, or for tomorrow's tokens
           AND EXISTS (SELECT FROM pgvector_sync.pipeline p WHERE p.id = w.pipeline_id AND p.state = 'active')
       OR w.visible_at > statement_timestamp() + %(longest)s)
ORDER BY w.key LIMIT %(limit)s;

-- name: free
-- Due now, with the lane and the attempts that it has. A lease stays, so that few rows at a time are taken over; one that
-- isn't known (a restored table, say) goes.
UPDATE pgvector_sync.work w SET visible_at = least(w.visible_at, statement_timestamp()),
    lease = (SELECT l.id FROM pgvector_sync.lease l WHERE l.id = w.lease)
WHERE w.pipeline_id = %(pipeline_id)s AND w.key = ANY (%(keys)s::jsonb[]) AND w.parked_at IS NULL
  AND (w.visible_at > statement_timestamp() + %(longest)s
       OR w.lease IS NOT NULL AND NOT EXISTS (SELECT FROM pgvector_sync.lease l WHERE l.id = w.lease));

-- name: take_orphans
-- The next of the orphans that were kept until their number was known; they leave the list as they are enqueued.
DELETE FROM pgvector_sync.run_key WHERE run_id = %(run_id)s AND key = ANY (ARRAY(
    SELECT key FROM pgvector_sync.run_key WHERE run_id = %(run_id)s ORDER BY key LIMIT %(limit)s)) RETURNING key;

-- name: note
-- What a reconciliation has found, for the trend.
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
-- Figures that are older than anybody looks at.
DELETE FROM pgvector_sync.drift WHERE at < statement_timestamp() - %(older_than)s;
