-- Dead letters: rows that can't be embedded as they are, and events that can't become work.

-- name: list
-- Oldest first, with class, message, attempts and age, but without source text. A key that can't become work is returned as
-- a string with its JSON, truncated if it is long. It reads `limit` rows per pipeline and source: each LATERAL follows an index.
SELECT p.name AS pipeline, w.key, w.verdict, w.error_class, w.error_message, w.attempts, w.parked_at,
       extract(epoch FROM statement_timestamp() - w.parked_at)::float8 AS age_seconds
FROM pgvector_sync.pipeline p
CROSS JOIN LATERAL (SELECT * FROM pgvector_sync.work w WHERE w.pipeline_id = p.id AND w.parked_at IS NOT NULL
                    ORDER BY w.parked_at LIMIT %(limit)s) AS w
WHERE %(pipeline)s::text IS NULL OR p.name = %(pipeline)s
UNION ALL
SELECT p.name, CASE WHEN pgvector_sync.key_fault(o.key, cardinality(s.key_columns)) IS NULL THEN o.key
                    ELSE to_jsonb(left(o.key::text, 200) || CASE WHEN length(o.key::text) > 200 THEN ' …' ELSE '' END) END,
       'dead', o.error_class, 'this key can''t become work', 0, o.at,
       CASE WHEN isfinite(o.at) THEN extract(epoch FROM statement_timestamp() - o.at)::float8 ELSE 0 END
FROM pgvector_sync.pipeline p JOIN pgvector_sync.source s ON s.id = p.source_id
CROSS JOIN LATERAL (SELECT * FROM pgvector_sync.parked o WHERE o.source_id = p.source_id AND o.key IS NOT NULL
                    ORDER BY o.at LIMIT %(limit)s) AS o
WHERE %(pipeline)s::text IS NULL OR p.name = %(pipeline)s
ORDER BY parked_at, pipeline
LIMIT %(limit)s;

-- name: requeue
-- Makes dead letters due again, with all their attempts, and forgets what failed.
UPDATE pgvector_sync.work w SET parked_at = NULL, verdict = NULL, failed_fingerprint = NULL,
    attempted_fingerprint = NULL, attempts = 0, superseded = 0, error_class = NULL, error_message = NULL,
    waiting_since = statement_timestamp(), visible_at = statement_timestamp()
FROM pgvector_sync.pipeline p
WHERE p.id = w.pipeline_id AND p.name = %(pipeline)s AND w.parked_at IS NOT NULL
  AND (%(keys)s::jsonb[] IS NULL OR w.key = ANY (%(keys)s::jsonb[]));

-- name: wake_failed
-- After a change of the table: retries rows on which an expression failed, and keys that weren't valid. What still fails is
-- parked again.
UPDATE pgvector_sync.work SET generation = generation + 1, parked_at = NULL, attempts = 0,
    waiting_since = statement_timestamp(), visible_at = statement_timestamp()
WHERE pipeline_id = %(pipeline_id)s AND parked_at IS NOT NULL AND verdict = 'dead'
  AND error_class IN ('expression_failed', 'key_malformed');

-- name: requeue_events
-- Lets events that couldn't become work be drained again.
WITH event AS (
    DELETE FROM pgvector_sync.parked o USING pgvector_sync.pipeline p
    WHERE p.source_id = o.source_id AND p.name = %(pipeline)s AND o.key IS NOT NULL
      AND (%(keys)s::jsonb[] IS NULL OR o.key = ANY (%(keys)s::jsonb[]))
    RETURNING o.source_id, o.key
)
INSERT INTO pgvector_sync.outbox (source_id, key) SELECT source_id, key FROM event;

-- name: discard
-- Excludes dead letters from the counts until their content changes.
UPDATE pgvector_sync.work w SET verdict = 'discarded'
FROM pgvector_sync.pipeline p
WHERE p.id = w.pipeline_id AND p.name = %(pipeline)s AND w.parked_at IS NOT NULL AND w.verdict = 'dead'
  AND (%(keys)s::jsonb[] IS NULL OR w.key = ANY (%(keys)s::jsonb[]));

-- name: discard_events
-- Deletes events that couldn't become work, for all pipelines of their source.
DELETE FROM pgvector_sync.parked o
USING pgvector_sync.pipeline p
WHERE p.source_id = o.source_id AND p.name = %(pipeline)s AND o.key IS NOT NULL
  AND (%(keys)s::jsonb[] IS NULL OR o.key = ANY (%(keys)s::jsonb[]));

-- name: discard_old
-- Discards dead letters that were parked long ago.
UPDATE pgvector_sync.work SET verdict = 'discarded'
WHERE parked_at < statement_timestamp() - %(older_than)s AND verdict = 'dead';
