-- What every transaction starts with, and what `database` asks a new connection. Outside of queries/, since it is
-- run below `store`.

-- name: begin
-- One statement pins what renders values, bounds our waits and refuses to read through row-level security. Names are looked
-- up in pg_catalog alone: in a schema where others may create, they could make functions and operators that fit better than
-- its own, which would then run with our rights; here they are qualified, since this runs under the path that the database's
-- owner has set. Nor may such settings change what a literal of ours means (other texts would be blank), or which rows are
-- found. The planner evaluates no CHECK constraint, which a table's owner has written. Where rows are looked up by their
-- keys, `enable_seqscan` is off: until a new table is analyzed for the first time the planner takes 256 keys for half of it,
-- and reads all of it for every batch.
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
-- Waits for several locks together, too, which lock_timeout bounds one by one. A lower limit of the role's own stays.
SELECT set_config('statement_timeout', %(statement_timeout)s, true)
WHERE current_setting('statement_timeout') = '0' OR current_setting('statement_timeout')::interval > %(statement_timeout)s::interval;

-- name: read_only
-- To the end of the transaction or savepoint; nothing that runs in it can set it back.
SET LOCAL transaction_read_only = on;

-- name: vector_type
-- Where the extension lives and the OIDs of its array types, which differ from database to database. Outside of any
-- transaction of ours, so it looks nothing up either.
SELECT n.nspname AS schema, e.extversion AS version, t.typname AS name, t.oid, t.typarray AS array_oid
FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
LEFT JOIN pg_catalog.pg_type t ON t.typnamespace OPERATOR(pg_catalog.=) n.oid
    AND (t.typname OPERATOR(pg_catalog.=) 'vector' OR t.typname OPERATOR(pg_catalog.=) 'halfvec')
WHERE e.extname OPERATOR(pg_catalog.=) 'vector';
