-- Leases: a row of work or a run that names one is held until the lease is lost.

-- name: renew
-- All leases of a process at once. One that is lost, has ended or is gone doesn't come back.
UPDATE pgvector_sync.lease
SET expires_at = least(statement_timestamp() + %(expires_after)s, ends_at), suspected_at = NULL
WHERE id = ANY (%(leases)s::uuid[]) AND lost_at IS NULL AND ends_at > statement_timestamp()
RETURNING id;

-- name: silent
-- Whether `expire` has something to do.
SELECT EXISTS (SELECT FROM pgvector_sync.lease
               WHERE lost_at IS NULL AND expires_at <= statement_timestamp()
                 AND (suspected_at IS NULL OR suspected_at <= statement_timestamp() - %(grace)s)) AS silent;

-- name: expire
-- A lease that wasn't renewed is suspected, and lost if it still isn't renewed `grace` later. So an outage of the
-- database, in which nobody could renew, takes nothing away from a worker that lives.
UPDATE pgvector_sync.lease
SET suspected_at = coalesce(suspected_at, statement_timestamp()),
    lost_at = CASE WHEN suspected_at <= statement_timestamp() - %(grace)s THEN statement_timestamp() END
WHERE lost_at IS NULL AND expires_at <= statement_timestamp()
  AND (suspected_at IS NULL OR suspected_at <= statement_timestamp() - %(grace)s)
RETURNING lost_at IS NOT NULL AS lost;

-- name: lose
-- The leases of a process that is known to be dead.
UPDATE pgvector_sync.lease SET lost_at = statement_timestamp() WHERE holder = %(holder)s AND lost_at IS NULL;

-- name: end
-- Its batch has ended. It stays while a row of work names it.
DELETE FROM pgvector_sync.lease
WHERE id = %(lease)s AND NOT EXISTS (
    SELECT FROM pgvector_sync.work
    WHERE pipeline_id = %(pipeline_id)s AND lane IN ('live', 'bulk') AND lease = %(lease)s);

-- name: forget
-- Lost leases that nothing names any more.
DELETE FROM pgvector_sync.lease l
WHERE l.lost_at IS NOT NULL
  AND NOT EXISTS (SELECT FROM pgvector_sync.work w
                  WHERE w.pipeline_id = l.pipeline_id AND w.lane IN ('live', 'bulk') AND w.lease = l.id OFFSET 0)
  AND NOT EXISTS (SELECT FROM pgvector_sync.run r WHERE r.pipeline_id = l.pipeline_id AND r.lease = l.id);

-- name: held
-- Rows that are held, and rows whose lease ran out long ago.
SELECT count(*) FILTER (WHERE l.lost_at IS NULL AND l.expires_at > statement_timestamp()) AS in_flight,
       count(*) FILTER (WHERE l.id IS NULL OR l.expires_at <= statement_timestamp() - %(abandoned_after)s) AS abandoned
FROM pgvector_sync.work w LEFT JOIN pgvector_sync.lease l ON l.id = w.lease
WHERE w.lease IS NOT NULL;
