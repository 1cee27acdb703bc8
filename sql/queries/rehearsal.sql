-- A rehearsal: a table in a schema of its own, with a pipeline's vectors and more like them.

-- name: begin
-- Whether no other session rehearses with this schema, and this one may from now on. The lock lasts as long as the session.
SELECT pg_try_advisory_lock(hashtextextended(%(rehearsal)s, 0)) AS locked,
       has_database_privilege(current_database(), 'CREATE') AS may_create, current_database()::text AS database,
       current_user::text AS role, pg_is_in_recovery() AS standby;

-- name: left_over
-- Schemas of rehearsals that this role may drop: those whose session was killed, and those in use.
SELECT n.nspname::text AS name FROM pg_catalog.pg_namespace n
WHERE starts_with(n.nspname, 'pgvector_sync_rehearsal_') AND obj_description(n.oid, 'pg_namespace') = %(comment)s
  AND pg_has_role(n.nspowner, 'USAGE')
ORDER BY n.nspname;

-- name: lock
-- Whether no session rehearses with this schema.
SELECT pg_try_advisory_lock(hashtextextended(%(rehearsal)s, 0)) AS locked;

-- name: unlock
-- Lets other sessions rehearse with this schema.
SELECT pg_advisory_unlock(hashtextextended(%(rehearsal)s, 0));

-- name: drop
-- Drops a schema of a rehearsal.
DROP SCHEMA IF EXISTS {rehearsal_schema} CASCADE;

-- name: create
-- Creates the schema and the table. UNLOGGED: nothing of it has to survive a crash, and standbys don't receive it.
CREATE SCHEMA {rehearsal_schema};
COMMENT ON SCHEMA {rehearsal_schema} IS {comment};
CREATE UNLOGGED TABLE {rehearsed} WITH (autovacuum_enabled = off) AS
SELECT {key_columns}, chunk_no, chunk, embedding, fingerprint, model, embedded_at FROM {target} LIMIT 0;

-- name: copy_real
-- Copies real vectors, at most `limit` of them, each with the same probability, without those that are queries.
INSERT INTO {rehearsed}
SELECT {key_columns}, chunk_no, NULL, embedding, fingerprint, model, embedded_at FROM {stored}
WHERE model = %(model)s AND NOT embedding OPERATOR({operator_schema}.=) ANY (%(query_vectors)s::text[]::{column_type}[])
ORDER BY random() LIMIT %(limit)s;

-- name: copy_grown
-- Receives further vectors. Their keys are null, since nothing is joined to them.
COPY {rehearsed} (embedding, fingerprint, model, embedded_at) FROM STDIN (FORMAT binary);

-- name: analyze
-- Lets the planner know the table.
ANALYZE {rehearsed};

-- name: sizes
-- The size of the table without its indexes, and its rows.
SELECT to_regclass(%(rehearsed)s)::oid AS oid, pg_table_size(to_regclass(%(rehearsed)s)) AS bytes,
       (SELECT count(*) FROM {rehearsed}) AS rows;

-- name: progress
-- How much of an index build is done, of the phase that Postgres reports.
SELECT c.phase, coalesce(c.blocks_done::float8 / nullif(c.blocks_total, 0), c.tuples_done::float8 / nullif(c.tuples_total, 0), 0) AS done
FROM pg_catalog.pg_stat_progress_create_index c WHERE c.relid = to_regclass(%(rehearsed)s)::oid;
