-- The server: its version, extension, clock and settings.

-- name: version
-- The server's version, and whether it is a standby.
SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby;

-- name: pgvector
-- The extension's version and schema, whether this role may use the schema, the version of the files on the server's disk (it
-- is newer until ALTER EXTENSION UPDATE, and its code runs already), and whether the server is a 32-bit build.
SELECT e.extversion AS version, n.nspname AS schema, current_user AS role,
       has_schema_privilege(n.oid, 'USAGE') AS usable,
       coalesce((SELECT a.default_version FROM pg_catalog.pg_available_extensions a WHERE a.name = 'vector'), e.extversion) AS files,
       CASE WHEN version() LIKE '%% 32-bit%%' THEN 32 ELSE 64 END AS bits
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
