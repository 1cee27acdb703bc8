-- What every transaction starts with.

-- name: begin
-- One statement pins what renders values, bounds our waits and refuses to read through row-level security. Names are looked
-- up in pg_catalog alone: in a schema where others may create, they could make functions and operators that fit better than
-- its own, which would then run with our rights. Where rows are looked up by their keys, `enable_seqscan` is off: until a new table is analyzed for the first time the planner takes 256
-- keys for half of it, and reads all of it for every batch.
SELECT set_config('lock_timeout', %(lock_timeout)s, true),
       set_config('row_security', 'off', true),
       set_config('TimeZone', 'UTC', true),
       set_config('DateStyle', 'ISO, YMD', true),
       set_config('IntervalStyle', 'postgres', true),
       set_config('bytea_output', 'hex', true),
       set_config('extra_float_digits', '1', true),
       set_config('lc_monetary', 'C', true),
       set_config('lc_numeric', 'C', true),
       set_config('lc_time', 'C', true),
       set_config('xmloption', 'content', true),
       set_config('search_path', 'pg_catalog, pg_temp', true),
       set_config('enable_seqscan', coalesce(%(enable_seqscan)s, current_setting('enable_seqscan')), true),
       set_config('synchronous_commit', %(synchronous_commit)s, true),
       set_config('idle_in_transaction_session_timeout', %(idle_in_transaction)s, true);

-- name: limit_statements
-- Waits for several locks together, too, which lock_timeout bounds one by one. A lower limit of the role's own stays.
SELECT set_config('statement_timeout', %(limit)s, true)
WHERE current_setting('statement_timeout') = '0' OR current_setting('statement_timeout')::interval > %(limit)s::interval;

-- name: read_only
-- To the end of the transaction or savepoint; nothing that runs in it can set it back.
SET LOCAL transaction_read_only = on;

-- name: vector_type
-- Where the extension lives and the OIDs of its array types, which differ from database to database.
SELECT n.nspname AS schema, e.extversion AS version, t.typname AS name, t.oid, t.typarray AS array_oid
FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
LEFT JOIN pg_catalog.pg_type t ON t.typnamespace = n.oid AND t.typname IN ('vector', 'halfvec')
WHERE e.extname = 'vector';

-- name: scan_on
-- Lets an index scan of this transaction go on until enough rows pass the pipeline's `where` (pgvector 0.8 and later;
-- an older one takes it for a setting of somebody else's).
SELECT set_config('hnsw.iterative_scan', 'strict_order', true), set_config('ivfflat.iterative_scan', 'relaxed_order', true);
