-- The server and the session in which an index is built: its settings and rights, and the names that are taken.

-- name: index_of
-- An index of a target by its name.
SELECT c.oid, x.indisvalid AND x.indisready AS valid
FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid JOIN pg_catalog.pg_am m ON m.oid = c.relam
JOIN pg_catalog.pg_class t ON t.oid = x.indrelid
WHERE t.oid = to_regclass(%(target)s) AND c.relnamespace = t.relnamespace AND c.relname = %(name)s AND m.amname IN ('hnsw', 'ivfflat');

-- name: relations
-- The names of the relations in the target's schema.
SELECT c.relname::text AS name FROM pg_catalog.pg_class c
WHERE c.relnamespace = (SELECT t.relnamespace FROM pg_catalog.pg_class t WHERE t.oid = to_regclass(%(target)s));

-- name: server
-- What decides how an index can be built: settings of this session, and rights of this role.
SELECT t.oid, current_user AS role, o.rolname::text AS owner, pg_has_role(t.relowner, 'USAGE') AS owned,
       has_schema_privilege(t.relnamespace, 'CREATE') AS may_create, pg_is_in_recovery() AS standby,
       pg_size_bytes(current_setting('maintenance_work_mem')) AS memory_bytes,
       pg_size_bytes(current_setting('shared_buffers')) AS shared_buffers_bytes,
       current_setting('max_parallel_maintenance_workers')::int AS workers,
       current_setting('dynamic_shared_memory_type') AS shared_memory
FROM pg_catalog.pg_class t JOIN pg_catalog.pg_roles o ON o.oid = t.relowner WHERE t.oid = to_regclass(%(target)s);

-- name: long_transactions
-- Transactions of this database for whose end CREATE INDEX CONCURRENTLY will wait. Without pg_read_all_stats, those of other
-- roles aren't visible.
SELECT a.pid, a.usename::text AS role, coalesce(a.application_name, '') AS application, a.state,
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS age_seconds
FROM pg_catalog.pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
  AND a.xact_start < clock_timestamp() - %(long)s
ORDER BY a.xact_start;

-- name: settle
-- The settings of a session that builds. Names are looked up in pg_catalog only. It waits for locks without limit: nothing waits
-- for it meanwhile but DDL and VACUUM, and giving up would lose the build. The server doesn't watch whether our process lives,
-- and sends no notice that would fail then: if it dies, the build goes on. A session that idles ends, and with it the lock.
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false),
       pg_catalog.set_config('lock_timeout', '0', false),
       pg_catalog.set_config('statement_timeout', '0', false),
       CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL THEN
           pg_catalog.set_config('transaction_timeout', '0', false) END,
       pg_catalog.set_config('idle_session_timeout', %(idle)s, false),
       pg_catalog.set_config('client_connection_check_interval', '0', false),
       pg_catalog.set_config('client_min_messages', 'error', false),
       pg_catalog.set_config('row_security', 'off', false),
       pg_catalog.set_config('synchronous_commit', 'on', false);

-- name: afford
-- The memory and the parallel workers of a build; NULL: as the server has them.
SELECT pg_catalog.set_config('maintenance_work_mem', %(kilobytes)s, false),
       pg_catalog.set_config('max_parallel_maintenance_workers',
                             coalesce(%(parallel_workers)s::int::text, pg_catalog.current_setting('max_parallel_maintenance_workers')), false);
