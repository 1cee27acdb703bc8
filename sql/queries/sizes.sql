-- How many rows a table has.

-- name: count_up_to
-- Rows that `where` accepts, counted no further than `limit`: the planner's estimate is 0 for a table never analyzed.
SELECT count(*) AS rows FROM (SELECT FROM {relation} WHERE {wanted} LIMIT %(limit)s) AS counted;

-- name: estimate
-- The same as the planner has it.
EXPLAIN (FORMAT JSON) SELECT FROM {relation} WHERE {wanted};

-- name: estimated_rows
-- As the planner has it.
SELECT greatest(reltuples, 0)::bigint AS rows FROM pg_catalog.pg_class WHERE oid = %(oid)s;
