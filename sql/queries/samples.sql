-- The rows on which an estimate is based.

-- name: count
-- The number of rows that meet all conditions.
SELECT count(*) AS rows FROM {source} WHERE {wanted} AND {filter};

-- name: sample
-- The keys of some of those rows, each with the same probability.
SELECT {key_json} AS key FROM {source} WHERE {wanted} AND {filter} ORDER BY random() LIMIT %(limit)s;

-- name: sample_blocks
-- Rows of some blocks of a large table, and whether they meet all conditions, so that the estimate needn't read all of it.
SELECT {key_json} AS key, ({wanted} AND {filter}) IS TRUE AS matches FROM {source} TABLESAMPLE SYSTEM (%(percent)s)
ORDER BY random() LIMIT %(limit)s;
