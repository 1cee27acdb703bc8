-- How many rows a table has.

-- name: count_up_to
-- The rows that meet `where`, counted up to `limit`: the planner's estimate is 0 for a table that was never analyzed.
SELECT count(*) AS rows FROM (SELECT FROM {relation} WHERE {wanted} LIMIT %(limit)s) AS counted;

-- name: estimate
-- The planner's estimate of the rows that meet `where`.
EXPLAIN (FORMAT JSON) SELECT FROM {relation} WHERE {wanted};

-- name: estimated_rows
-- How many rows a table has, as the catalog estimates.
SELECT ({leaf_rows})::bigint AS rows FROM pg_catalog.pg_class leaf WHERE leaf.oid = %(oid)s;
