-- The statements that begin a transaction and look at a new connection. They aren't in queries/, because `database`, the
-- layer below `store`, runs them.

-- name: begin
-- Pins the settings that render values, limits our waits, and refuses to read through row-level security.
-- Names are looked up in pg_catalog only: in a schema where other roles may create, they could add functions and operators that
-- match better, which would then run with our rights. In this statement all names are qualified, because it still runs with
-- the search_path of the database's owner. Other pinned settings could change the meaning of our literals (which texts are
-- blank, for example), or which rows are found. `constraint_exclusion` is off, so that the planner evaluates no CHECK
-- constraint, whose code belongs to the table's owner. `enable_seqscan` is off for look-ups by key: before a new table is first
-- analyzed, the planner assumes that 256 keys are half of it, and would read the whole table for every batch.
SELECT pg_catalog.set_config('lock_timeout', %(lock_timeout)s, true),
       pg_catalog.set_config('row_security', 'off', true),
       pg_catalog.set_config('TimeZone', 'UTC', true),
       pg_catalog.set_config('DateStyle', 'ISO, YMD', true),
       pg_catalog.set_config('IntervalStyle', 'postgres', true),
       pg_catalog.set_config('bytea_output', 'hex', true),
       pg_catalog.set_config('extra_float_digits', '1', true),
       pg_catalog.set_config('lc_monetary', 'C', true),
       pg_catalog.set_config('lc_numeric', 'C', true),
       pg_catalog.set_config('lc_time', 'C', true),
       pg_catalog.set_config('xmloption', 'content', true),
       pg_catalog.set_config('standard_conforming_strings', 'on', true),
       pg_catalog.set_config('transform_null_equals', 'off', true),
       pg_catalog.set_config('quote_all_identifiers', 'off', true),
       pg_catalog.set_config('array_nulls', 'on', true),
       pg_catalog.set_config('gin_fuzzy_search_limit', '0', true),
       pg_catalog.set_config('constraint_exclusion', 'off', true),
       pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true),
       pg_catalog.set_config(
           'enable_seqscan', coalesce(%(enable_seqscan)s, pg_catalog.current_setting('enable_seqscan')), true),
       pg_catalog.set_config('synchronous_commit', %(synchronous_commit)s, true),
       pg_catalog.set_config('idle_in_transaction_session_timeout', %(idle_in_transaction)s, true);

-- name: limit_statements
-- Unlike lock_timeout, it also limits the total wait for several locks. A lower limit that is already set stays.
SELECT set_config('statement_timeout', %(statement_timeout)s, true)
WHERE current_setting('statement_timeout') = '0' OR current_setting('statement_timeout')::interval > %(statement_timeout)s::interval;

-- name: read_only
-- Until the end of the transaction or savepoint. Nothing that runs within can reverse it.
SET LOCAL transaction_read_only = on;

-- name: vector_type
-- The extension's schema and the OIDs of its types, which differ between databases. It runs outside of our transactions,
-- so all names are qualified.
SELECT n.nspname AS schema, e.extversion AS version, t.typname AS name, t.oid, t.typarray AS array_oid
FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
LEFT JOIN pg_catalog.pg_type t ON t.typnamespace OPERATOR(pg_catalog.=) n.oid
    AND (t.typname OPERATOR(pg_catalog.=) 'vector' OR t.typname OPERATOR(pg_catalog.=) 'halfvec')
WHERE e.extname OPERATOR(pg_catalog.=) 'vector';

-- name: backend_pid
-- The process that executes our statements.
SELECT pg_catalog.pg_backend_pid() AS pid;
