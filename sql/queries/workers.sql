-- Who works: a row per worker and `sync`, renewed every few seconds.

-- name: note_alive
-- One worker says that it is there; rows of workers that died long ago go on the occasion.
WITH gone AS (
    DELETE FROM pgvector_sync.worker w USING (
        SELECT id FROM pgvector_sync.worker
        WHERE seen_at < statement_timestamp() - interval '1 hour' FOR UPDATE SKIP LOCKED) AS old
    WHERE w.id = old.id)
INSERT INTO pgvector_sync.worker AS w (id, name, slots, seen_at)
VALUES (%(worker)s, %(name)s, %(slots)s, statement_timestamp())
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, slots = excluded.slots;

-- name: note_gone
-- It has ended in order.
DELETE FROM pgvector_sync.worker WHERE id = %(worker)s;

-- name: alive
-- Workers heard of within `silence`, the batches that they can carry at once, and how long ago the last of all workers
-- and the last tick of beat were.
SELECT count(*) FILTER (WHERE w.seen_at > statement_timestamp() - %(silence)s) AS workers,
       coalesce(sum(w.slots) FILTER (WHERE w.seen_at > statement_timestamp() - %(silence)s), 0)::int AS slots,
       extract(epoch FROM statement_timestamp() - max(w.seen_at))::float8 AS seen_seconds,
       (SELECT extract(epoch FROM statement_timestamp() - t.last_at)::float8 FROM pgvector_sync.tick t
        WHERE t.name = 'tick') AS tick_seconds
FROM pgvector_sync.worker w;

-- name: last_tick
-- When beat last ticked; the schedule has a tick of its own, which `sync` takes as well.
SELECT clock_timestamp() - last_at AS age FROM pgvector_sync.tick WHERE name = 'tick' AND last_at IS NOT NULL;
