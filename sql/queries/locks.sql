-- Locks of ours, see docs/decisions/0031. FOR UPDATE asks for UPDATE on the table: a role that may only read can't take it.

-- name: try_lock
-- Never waits. `known` is false where the row is still to be added.
SELECT EXISTS (SELECT FROM pgvector_sync.lock WHERE id = %(id)s) AS known,
       EXISTS (SELECT FROM pgvector_sync.lock WHERE id = %(id)s FOR UPDATE SKIP LOCKED) AS locked;

-- name: lock
-- Waits, up to lock_timeout, and only for somebody who wants the same lock.
SELECT FROM pgvector_sync.lock WHERE id = %(id)s FOR UPDATE;

-- name: add
-- Once per lock; whoever does so at the same moment is waited for.
INSERT INTO pgvector_sync.lock (id) VALUES (%(id)s) ON CONFLICT DO NOTHING;

-- name: lock_ledger
-- Reading goes on; a role that may only read can't take a lock that conflicts with this one.
LOCK TABLE pgvector_sync.applied_migration IN SHARE ROW EXCLUSIVE MODE;
