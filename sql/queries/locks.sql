-- Our locks, see docs/decisions/0031. FOR UPDATE requires UPDATE on the table, so a role that may only read can't take one.

-- name: try_lock
-- Takes a lock without waiting. `known` is false if its row doesn't exist yet.
SELECT EXISTS (SELECT FROM pgvector_sync.lock WHERE id = %(id)s) AS known,
       EXISTS (SELECT FROM pgvector_sync.lock WHERE id = %(id)s FOR UPDATE SKIP LOCKED) AS locked;

-- name: lock
-- Takes a lock. Waits up to lock_timeout for another holder of it.
SELECT FROM pgvector_sync.lock WHERE id = %(id)s FOR UPDATE;

-- name: add
-- Adds the row of a lock. Waits for a session that adds it at the same time.
INSERT INTO pgvector_sync.lock (id) VALUES (%(id)s) ON CONFLICT DO NOTHING;

-- name: lock_ledger
-- Doesn't block readers, and a role that may only read can't take a conflicting lock.
LOCK TABLE pgvector_sync.applied_migration IN SHARE ROW EXCLUSIVE MODE;
