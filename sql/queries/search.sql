-- Search: the nearest rows.

-- name: settings
-- How the rest of the transaction reads. Row-level security applies to an application's searches, as to its other queries: a
-- hidden row isn't found. A role that may change our tables refuses to search through policies, because they may run code of the
-- source's owner. An index returns at least as many candidates as are needed, and looks at as many as the last measurement of
-- recall has found to be enough; a session's larger value stays. An index scan continues until enough rows meet all conditions,
-- in `relaxed_order`, which finds more of the nearest rows than `strict_order`: that drops what it finds late. The rows are
-- sorted afterwards. Needs pgvector 0.8. Returns pgvector's schema, `hnsw.ef_search`, and what the target's index contains: the
-- first of `storages` over which a whole and valid index of the metric exists.
SELECT n.nspname::text AS vector_schema, chosen.storage,
       set_config('row_security', CASE WHEN has_table_privilege('pgvector_sync.work', 'INSERT') THEN 'off' ELSE 'on' END, true),
       set_config('hnsw.ef_search', least(greatest(
           nullif(current_setting('hnsw.ef_search', true), '')::int,
           CASE chosen.storage WHEN 'bit' THEN %(bit_candidates)s ELSE %(candidates)s END,
           %(ef_search)s, %(least_ef_search)s), 1000)::text, true)::int AS ef_search,
       CASE WHEN %(probes)s > coalesce(nullif(current_setting('ivfflat.probes', true), '')::int, 1) THEN
           set_config('ivfflat.probes', (%(probes)s)::text, true) END,
       CASE WHEN regexp_match(e.extversion, '^([0-9]+)\.([0-9]+)')::int[] >= ARRAY[0, 8] THEN
           set_config('hnsw.iterative_scan', 'relaxed_order', true) || set_config('ivfflat.iterative_scan', 'relaxed_order', true) END
FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
LEFT JOIN LATERAL (
    SELECT wanted.storage FROM unnest(%(storages)s::text[]) WITH ORDINALITY AS wanted(storage, place)
    JOIN pg_catalog.pg_class t ON t.relname = %(target_table)s
    JOIN pg_catalog.pg_namespace s ON s.oid = t.relnamespace AND s.nspname = %(target_schema)s
    JOIN pg_catalog.pg_index i ON i.indrelid = t.oid AND i.indisvalid AND i.indisready AND i.indpred IS NULL
    JOIN pg_catalog.pg_opclass c ON c.oid = i.indclass[0]
    JOIN pg_catalog.pg_amop a ON a.amopfamily = c.opcfamily AND a.amoppurpose = 'o'
    JOIN pg_catalog.pg_operator o ON o.oid = a.amopopr AND o.oprnamespace = n.oid
        AND o.oprname = CASE wanted.storage WHEN 'bit' THEN '<~>' ELSE %(operator)s END
    WHERE {contents} = wanted.storage ORDER BY wanted.place LIMIT 1
) AS chosen ON true
WHERE e.extname = 'vector';

-- part: distance
-- The distance between the query and what is stored. An index is used only for exactly this expression.
pgvector_sync_stored.embedding OPERATOR({operator_schema}.{operator}) %(query_vector)s::{vector}::{column_type}

-- part: distance_in_index
-- The distance in an index over an expression: of half precision, or the number of bits that differ.
{indexed} OPERATOR({operator_schema}.{operator}) {query_indexed}

-- part: after
-- A condition of `nearest`: the row comes after the last one of the previous page.
({distance}, {columns_stored}, pgvector_sync_stored.chunk_no)
    > (%(after_distance)s::float8, {after_key}, %(after_chunk)s::int)

-- name: nearest
-- The nearest rows that exist and meet all conditions. Only vectors of one model are compared, whatever else the target contains.
-- The planner decides whether the vector index or the conditions come first; an index returns rows in about the right order, so
-- more are read than wanted, and sorted by the exact distance, whatever the index contains. `+ 0` keeps PostgreSQL 17 from
-- leaving out that sort. The text is evaluated only for the rows that are returned. `WITH TIES`, since rows at the same distance
-- are ordered by key, which no vector index can do, and before PostgreSQL 17 none would be used. There is always a first row,
-- with the pipeline's version in this snapshot.
WITH pgvector_sync_near AS MATERIALIZED (
    SELECT {columns_stored}, pgvector_sync_stored.chunk_no, pgvector_sync_stored.chunk, {distance} AS pgvector_sync_distance
    FROM {stored}
    JOIN (SELECT {key_columns} FROM {source} WHERE {wanted} AND {condition}) AS pgvector_sync_row ON {same_key}
    WHERE pgvector_sync_stored.model = %(model)s AND {after}
    ORDER BY {order} FETCH FIRST (%(candidates)s) ROWS WITH TIES
), pgvector_sync_page AS MATERIALIZED (
    SELECT *, {similarity} AS pgvector_sync_similarity FROM pgvector_sync_near
    ORDER BY pgvector_sync_distance + 0, {key_columns}, chunk_no LIMIT %(limit)s
)
SELECT pgvector_sync_now.spec_version, (SELECT count(*) FROM pgvector_sync_near) AS candidates, pgvector_sync_hit.*
FROM (SELECT max(spec_version) AS spec_version FROM pgvector_sync.pipeline WHERE id = %(pipeline_id)s) AS pgvector_sync_now
LEFT JOIN (
    SELECT {key_json} AS key, pgvector_sync_page.chunk_no, pgvector_sync_page.chunk, pgvector_sync_distance AS distance,
           pgvector_sync_similarity AS similarity,
           row_number() OVER (ORDER BY pgvector_sync_distance + 0, {columns_page}, chunk_no) AS place,
           pgvector_sync_shown.*
    FROM pgvector_sync_page
    JOIN LATERAL (SELECT {shown} FROM {source} WHERE {page_of_row} OFFSET 0) AS pgvector_sync_shown ON true
    WHERE pgvector_sync_distance < 'NaN'::float8 AND pgvector_sync_similarity >= %(min_similarity)s
) AS pgvector_sync_hit ON true
ORDER BY pgvector_sync_hit.place;

-- name: plan
-- How Postgres would run a search.
EXPLAIN (FORMAT JSON) {search};

-- name: explain
-- How Postgres runs a search, which is executed.
EXPLAIN (ANALYZE, BUFFERS) {search};
