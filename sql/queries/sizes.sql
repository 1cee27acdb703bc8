-- How many rows a table has.

-- part: rows_of_leaf
-- How many rows the table `leaf`, which isn't partitioned, has: as of its last ANALYZE, or as counted by the statistics if it had
-- none yet.
CASE WHEN leaf.reltuples < 0 THEN pg_catalog.pg_stat_get_live_tuples(leaf.oid) ELSE leaf.reltuples END

-- name: count_up_to
-- The rows that meet `where`, counted up to `limit`: the planner's estimate is 0 for a table that was never analyzed.
SELECT count(*) AS rows FROM (SELECT FROM {relation} WHERE {wanted} LIMIT %(limit)s) AS counted;

-- name: estimate
-- The planner's estimate of the rows that meet `where`.
EXPLAIN (FORMAT JSON) SELECT FROM {relation} WHERE {wanted};

-- name: estimated_rows
-- How many rows a table has, as the catalog estimates.
SELECT ({rows_of_leaf})::bigint AS rows FROM pg_catalog.pg_class leaf WHERE leaf.oid = %(oid)s;
