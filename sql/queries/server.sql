-- The server: its version, extension, clock and settings.

-- name: version
-- The server's version, and whether it is a standby.
SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby;

-- name: pgvector
-- The extension's version and schema, and whether this role may use the schema.
SELECT e.extversion AS version, n.nspname AS schema, current_user AS role,
       has_schema_privilege(n.oid, 'USAGE') AS usable
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname = 'vector';

-- name: clock
-- The database's clock, which is the only one that decides anything.
SELECT clock_timestamp() AS at;

-- name: deadlock_timeout
-- How long a session waits for a lock before the server checks for a deadlock.
SELECT setting::int * interval '1 ms' AS deadlock_timeout FROM pg_catalog.pg_settings WHERE name = 'deadlock_timeout';

-- name: process
-- The server process that serves this transaction.
SELECT pg_backend_pid() AS pid;
