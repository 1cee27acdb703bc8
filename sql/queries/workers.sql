-- Live workers: one row per worker and `sync`, renewed every few seconds.

-- name: note_alive
-- Renews the row of a worker, and deletes rows of workers that died long ago. `relayed`: it has looked for work since the last time.
WITH gone AS (
    DELETE FROM pgvector_sync.worker w USING (
        SELECT id FROM pgvector_sync.worker
        WHERE seen_at < statement_timestamp() - interval '1 hour' FOR UPDATE SKIP LOCKED) AS old
    WHERE w.id = old.id)
INSERT INTO pgvector_sync.worker AS w (id, name, slots, seen_at, relayed_at)
VALUES (%(worker)s, %(name)s, %(slots)s, statement_timestamp(), CASE WHEN %(relayed)s THEN statement_timestamp() END)
ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, slots = excluded.slots,
    relayed_at = coalesce(excluded.relayed_at, w.relayed_at);

-- name: note_gone
-- Deletes the row of a worker that has ended in an orderly way.
DELETE FROM pgvector_sync.worker WHERE id = %(worker)s;

-- name: alive
-- The number of workers seen within `silence`, the batches that they can process at once, and the ages of the newest sign of
-- life and of beat's last tick.
SELECT count(*) FILTER (WHERE w.seen_at > statement_timestamp() - %(silence)s) AS workers,
       coalesce(sum(w.slots) FILTER (WHERE w.seen_at > statement_timestamp() - %(silence)s), 0)::int AS slots,
       extract(epoch FROM statement_timestamp() - max(w.seen_at))::float8 AS seen_seconds,
       (SELECT extract(epoch FROM statement_timestamp() - t.last_at)::float8 FROM pgvector_sync.tick t
        WHERE t.name = 'tick') AS tick_seconds
FROM pgvector_sync.worker w;
