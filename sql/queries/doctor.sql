-- What `doctor` looks at. It reads the catalog, statistics and our own tables, and changes nothing.

-- name: server
-- The server's version, and whether it can be written to.
SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby;

-- name: pgvector
-- The extension, where it lives, and whether this role reaches it there.
SELECT e.extversion AS version, n.nspname AS schema, current_user AS role,
       has_schema_privilege(n.oid, 'USAGE') AS usable
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector';

-- name: clock
-- The only clock that decides anything.
SELECT clock_timestamp() AS at;

-- name: deadlock_timeout
-- How long the server lets a session wait before it looks for a deadlock.
SELECT setting::int * interval '1 ms' AS deadlock_timeout FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout';

-- name: process
-- The server process that serves this transaction.
SELECT pg_backend_pid() AS pid;

-- name: newest_migration
-- How far the schema is.
SELECT number, name FROM pgvector_sync.applied_migration ORDER BY number DESC LIMIT 1;

-- name: role
-- Who we are, and whether row-level security applies to us; and whether this is the embedded server, which has one role.
SELECT rolname AS role, rolsuper AS superuser, rolbypassrls AS bypasses, current_setting('cluster_name') = %(embedded)s AS embedded
FROM pg_catalog.pg_roles WHERE rolname = current_user;

-- name: own_schema
-- Whether this role reaches our schema; no row where there is none.
SELECT current_user AS role, has_schema_privilege(oid, 'USAGE') AS usable
FROM pg_catalog.pg_namespace WHERE nspname = 'pgvector_sync';

-- name: closed_to_triggers
-- Owners of trigger functions of ours that may not do what the function does first: every write to the source fails.
SELECT DISTINCT r.rolname AS owner
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_roles r ON r.oid = p.proowner
JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = 'outbox'
WHERE n.nspname = 'pgvector_sync' AND p.prorettype = 'trigger'::regtype
  AND NOT (has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_table_privilege(r.oid, c.oid, 'INSERT'))
ORDER BY 1;

-- name: trigger_superusers
-- Superusers that own trigger functions of ours: every write to a source calls a function with their rights.
SELECT DISTINCT r.rolname AS owner
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_roles r ON r.oid = p.proowner
WHERE n.nspname = 'pgvector_sync' AND p.prosecdef AND r.rolsuper
ORDER BY 1;

-- name: access
-- What this role may do with a table, and how the columns that a pipeline reads are.
SELECT c.oid, n.nspname AS schema, c.relname AS table, current_user AS role,
       has_schema_privilege(n.oid, 'USAGE') AS usable, row_security_active(c.oid) AS filtered,
       ARRAY(SELECT p.privilege FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS p (privilege)
             WHERE NOT has_table_privilege(c.oid, p.privilege)) AS lacking,
       ARRAY(SELECT r.name FROM pgvector_sync.pipeline q CROSS JOIN unnest(q.read_columns) AS r (name)
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = r.name AND NOT a.attisdropped
             WHERE q.id = %(pipeline_id)s AND NOT has_column_privilege(c.oid, a.attnum, 'SELECT')) AS unreadable
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %(oid)s;

-- name: embedding
-- The type of a target's vectors; pgvector keeps the dimensions in the type's modifier, -1 where it has none.
SELECT t.typname AS type, a.atttypmod AS dimensions
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %(oid)s AND a.attname = 'embedding' AND NOT a.attisdropped;

-- name: indexes
-- The indexes of a target, the method and operator class of their first column, and whether one is being built.
SELECT n.nspname AS schema, c.relname AS name, am.amname AS method, o.opcname AS operator_class,
       i.indisvalid AND i.indisready AS valid,
       EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index b WHERE b.index_relid = c.oid) AS building
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_am am ON am.oid = c.relam
JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[0]
WHERE i.indrelid = %(oid)s ORDER BY c.relname;

-- name: estimated_rows
-- As the planner has it.
SELECT greatest(reltuples, 0)::bigint AS rows FROM pg_catalog.pg_class WHERE oid = %(oid)s;

-- name: oldest_event
-- How long the oldest event has waited for the drain; NULL where none does.
SELECT (SELECT clock_timestamp() - at FROM pgvector_sync.outbox WHERE error_class IS NULL ORDER BY id LIMIT 1) AS age;

-- name: leases
-- Rows that are held, and rows whose lease ran out long ago.
SELECT count(*) FILTER (WHERE l.lost_at IS NULL AND l.expires_at > statement_timestamp()) AS in_flight,
       count(*) FILTER (WHERE l.id IS NULL OR l.expires_at <= statement_timestamp() - %(abandoned_after)s) AS abandoned
FROM pgvector_sync.work w LEFT JOIN pgvector_sync.lease l ON l.id = w.lease
WHERE w.lease IS NOT NULL;

-- name: last_tick
-- When beat last ticked; the schedule has a tick of its own, which `sync` takes as well.
SELECT clock_timestamp() - last_at AS age FROM pgvector_sync.tick WHERE name = 'tick' AND last_at IS NOT NULL;

-- name: autovacuum
-- Off, and nothing is ever cleaned.
SELECT current_setting('autovacuum')::boolean AS on;

-- name: hot_tables
-- What is dead in the tables that are written all the time.
SELECT relname AS table, n_dead_tup AS dead_tuples, greatest(last_vacuum, last_autovacuum) AS last_vacuum
FROM pg_catalog.pg_stat_user_tables WHERE schemaname = 'pgvector_sync' AND relname IN ('outbox', 'work', 'lease')
ORDER BY relname;

-- name: holders
-- Whoever holds back vacuum in this database: long transactions, prepared ones, and snapshots of slots and standbys.
SELECT 'session' AS kind, pid::text AS name,
       concat_ws(', ', usename, nullif(application_name, ''), state) AS detail, clock_timestamp() - xact_start AS age
FROM pg_catalog.pg_stat_activity
WHERE pid <> pg_backend_pid() AND (datname = current_database() OR datname IS NULL)
  AND backend_type IN ('client backend', 'walsender') AND (backend_xid IS NOT NULL OR backend_xmin IS NOT NULL)
  AND (xact_start < clock_timestamp() - %(long)s OR age(backend_xmin) > %(old_xids)s)
UNION ALL
SELECT 'prepared', gid, database, clock_timestamp() - prepared FROM pg_catalog.pg_prepared_xacts
WHERE prepared < clock_timestamp() - %(long)s AND database = current_database()
UNION ALL
SELECT 'slot', slot_name, CASE WHEN active THEN 'active' ELSE 'inactive' END, NULL FROM pg_catalog.pg_replication_slots
WHERE xmin IS NOT NULL AND age(xmin) > %(old_xids)s
ORDER BY 1, 2;

-- name: hidden_sessions
-- Without this right, other roles' sessions show no transaction.
SELECT current_user AS role, pg_has_role('pg_read_all_stats', 'USAGE') AS all_visible;
