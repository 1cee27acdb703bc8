-- Measures which share of the true nearest neighbours a vector index returns.

-- name: session
-- What searches of this role do by default, and whether scans are counted, in a transaction that measures. Row-level security is
-- as for searches. Without JIT, because avoided plans look expensive enough to be compiled.
SELECT e.extversion::text AS version, current_setting('track_counts')::boolean AS counted,
       coalesce(nullif(current_setting('hnsw.ef_search', true), '')::int, 40) AS ef_search,
       coalesce(nullif(current_setting('ivfflat.probes', true), '')::int, 1) AS probes,
       coalesce(nullif(current_setting('hnsw.iterative_scan', true), ''), 'off') AS hnsw_iterative,
       coalesce(nullif(current_setting('ivfflat.iterative_scan', true), ''), 'off') AS ivfflat_iterative,
       set_config('row_security', CASE WHEN has_table_privilege('pgvector_sync.work', 'INSERT') THEN 'off' ELSE 'on' END, true),
       set_config('jit', 'off', true)
FROM pg_catalog.pg_extension e WHERE e.extname = 'vector';

-- name: avoid_all_but_indexes
-- Until the end of the transaction, an index in the order of the distance is cheaper than all else.
SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('enable_sort', 'off', true), set_config('enable_hashjoin', 'off', true),
       set_config('enable_mergejoin', 'off', true);

-- name: use
-- How the following searches scan vector indexes. Before pgvector 0.8, there is no iterative scan.
SELECT set_config(%(setting_name)s, %(setting_value)s, true),
       CASE WHEN %(iterative_name)s::text IS NOT NULL THEN set_config(%(iterative_name)s, %(iterative)s, true) END;

-- name: scans
-- How often this session has scanned each vector index of a target since it last reported that, which it doesn't do within
-- a transaction.
SELECT c.relname::text AS index_name, pg_stat_get_xact_numscans(c.oid) AS scans
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_am am ON am.oid = c.relam
WHERE i.indrelid = %(oid)s AND am.amname <> ALL ('{btree,hash,gist,spgist,gin,brin}');

-- part: distance
-- The distance between the query and what is stored.
pgvector_sync_stored.embedding OPERATOR({operator_schema}.{operator}) %(query_vector)s::{vector}::{column_type}

-- part: rows_that_meet
-- Joins what is stored to the rows that meet a condition. Without one, an application need not join the source.
JOIN (SELECT {key_columns} FROM {source} WHERE {wanted} AND {condition}) AS pgvector_sync_row ON {same_key}

-- part: blocks
-- What is stored in some blocks of a target, the same each time.
(SELECT {key_columns}, chunk_no, embedding, model FROM {target} TABLESAMPLE SYSTEM (%(percent)s) REPEATABLE (%(seed)s))
    AS pgvector_sync_stored

-- name: nearest
-- The distances of the rows nearest to a query, in any order. Nothing is read but what an application's own
-- `ORDER BY embedding <=> … LIMIT …` would read.
SELECT {distance} AS distance
FROM {stored} {joined}
WHERE pgvector_sync_stored.model = %(model)s AND NOT {query_row}
ORDER BY {order} LIMIT %(limit)s;

-- name: reranked
-- The same by an index over an expression: its candidates, sorted by the distance of the full vectors.
SELECT {distance} AS distance
FROM (
    SELECT pgvector_sync_stored.embedding
    FROM {stored} {joined}
    WHERE pgvector_sync_stored.model = %(model)s AND NOT {query_row}
    ORDER BY {order} LIMIT %(candidates)s
) AS pgvector_sync_stored
ORDER BY {distance} LIMIT %(limit)s;

-- name: plan
-- How Postgres would run one of these searches.
EXPLAIN (FORMAT JSON) {search};

-- name: count
-- The number of vectors that may be neighbours.
SELECT count(*) AS rows FROM {stored} {joined} WHERE pgvector_sync_stored.model = %(model)s;

-- name: sample
-- Keys and vectors of some of these, in an order that depends on the seed only. A vector of zeros can't be a query.
SELECT pgvector_sync_query.key, pgvector_sync_query.embedding::text AS vector
FROM (
    SELECT {key_stored} AS key, pgvector_sync_stored.embedding
    FROM {stored} {joined}
    WHERE pgvector_sync_stored.model = %(model)s
    ORDER BY md5({key_stored}::text || pgvector_sync_stored.chunk_no || '/' || %(seed)s::text) LIMIT %(limit)s
) AS pgvector_sync_query
WHERE NOT pgvector_sync_query.embedding {equals} {zeros};
