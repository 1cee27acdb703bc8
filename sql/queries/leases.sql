-- Leases: a row of work or a run that refers to one is held until the lease is lost.

-- name: renew
-- Renews all leases of a process, except those that are lost, have ended or don't exist.
UPDATE pgvector_sync.lease
SET expires_at = least(statement_timestamp() + %(expires_after)s, ends_at), suspected_at = NULL
WHERE id = ANY (%(leases)s::uuid[]) AND lost_at IS NULL AND ends_at > statement_timestamp()
RETURNING id;

-- name: expire
-- Suspects leases that weren't renewed, and loses those that still aren't renewed `grace` later. So live workers keep their
-- rows after an outage of the database, during which they couldn't renew.
UPDATE pgvector_sync.lease
SET suspected_at = coalesce(suspected_at, statement_timestamp()),
    lost_at = CASE WHEN suspected_at <= statement_timestamp() - %(grace)s THEN statement_timestamp() END
WHERE lost_at IS NULL AND expires_at <= statement_timestamp()
  AND (suspected_at IS NULL OR suspected_at <= statement_timestamp() - %(grace)s)
RETURNING lost_at IS NOT NULL AS lost;

-- name: lose
-- Loses the leases of a process that is known to be dead.
UPDATE pgvector_sync.lease SET lost_at = statement_timestamp() WHERE holder = %(holder)s AND lost_at IS NULL;

-- name: end
-- Deletes the lease of a batch that has ended, unless a row of work still refers to it, and adds its counts to the totals.
WITH ended AS (
    DELETE FROM pgvector_sync.lease
    WHERE id = %(lease)s AND NOT EXISTS (
        SELECT FROM pgvector_sync.work
        WHERE pipeline_id = %(pipeline_id)s AND lane IN ('live', 'bulk') AND lease = %(lease)s)
    RETURNING *)
{add_to_totals};

-- name: forget
-- Deletes lost leases to which nothing refers any more, and adds their counts to the totals.
WITH ended AS (
    DELETE FROM pgvector_sync.lease l
    WHERE l.lost_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM pgvector_sync.work w
                      WHERE w.pipeline_id = l.pipeline_id AND w.lane IN ('live', 'bulk') AND w.lease = l.id OFFSET 0)
      AND NOT EXISTS (SELECT FROM pgvector_sync.run r WHERE r.pipeline_id = l.pipeline_id AND r.lease = l.id)
    RETURNING *)
{add_to_totals};

-- name: held
-- The number of rows that are held, and of rows whose lease expired long ago.
SELECT count(*) FILTER (WHERE l.lost_at IS NULL AND l.expires_at > statement_timestamp()) AS in_flight,
       count(*) FILTER (WHERE l.id IS NULL OR l.expires_at <= statement_timestamp() - %(abandoned_after)s) AS abandoned
FROM pgvector_sync.work w LEFT JOIN pgvector_sync.lease l ON l.id = w.lease
WHERE w.lease IS NOT NULL;
