-- Which rows are fresh, in one snapshot: as counts, and as the guarantee G1.

-- part: to_backfill
-- A condition on a source row: beyond the watermark of a running backfill.
EXISTS (SELECT FROM pgvector_sync.run r
        WHERE r.pipeline_id = %(pipeline_id)s AND r.kind = 'backfill' AND r.state = 'running' AND NOT r.walked
          AND (r.watermark IS NULL OR {beyond}))

-- name: exact
-- Counts by reading every row: all rows, the fresh ones, and those beyond the watermark of a running backfill.
SELECT count(*) AS rows,
       count(*) FILTER (WHERE pgvector_sync_now.fingerprint IS NOT DISTINCT FROM pgvector_sync_stored.fingerprint
                        AND (pgvector_sync_stored.model IS NULL OR pgvector_sync_stored.model = %(model)s)) AS fresh,
       count(*) FILTER (WHERE {to_backfill}) AS to_backfill
FROM {source}
LEFT JOIN LATERAL ({now_here}) AS pgvector_sync_now ON true
LEFT JOIN {stored} ON {stored_of_row} AND pgvector_sync_stored.chunk_no = 0;

-- name: not_covered
-- G1 as one query, in one snapshot: the keys that are neither fresh, nor in outbox, nor in work, nor beyond the watermark of a
-- running backfill. Orphaned vectors count as not fresh. The result is always empty.
WITH state_ AS MATERIALIZED (
    SELECT {key_source} AS key, pgvector_sync_now.fingerprint, {to_backfill} AS to_backfill
    FROM {source}
    LEFT JOIN LATERAL ({now_here}) AS pgvector_sync_now ON true
), stored AS MATERIALIZED (
    SELECT {key_stored} AS key, pgvector_sync_stored.fingerprint, pgvector_sync_stored.model
    FROM {stored}
), differing AS (
    SELECT coalesce(state_.key, stored.key) AS key
    FROM state_ FULL JOIN stored ON stored.key = state_.key
    WHERE (state_.fingerprint IS DISTINCT FROM stored.fingerprint OR stored.model <> %(model)s)
      AND NOT coalesce(state_.to_backfill, false)
)
SELECT d.key FROM differing d
WHERE NOT EXISTS (SELECT FROM pgvector_sync.outbox o WHERE o.source_id = %(source_id)s AND o.key = d.key)
  AND NOT EXISTS (SELECT FROM pgvector_sync.sweep o WHERE o.source_id = %(source_id)s)
  AND NOT EXISTS (SELECT FROM pgvector_sync.parked o WHERE o.source_id = %(source_id)s AND (o.key = d.key OR o.key IS NULL))
  AND NOT EXISTS (SELECT FROM pgvector_sync.work w WHERE w.pipeline_id = %(pipeline_id)s AND w.key = d.key);
