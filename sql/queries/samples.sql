-- Which rows an estimate looks at.

-- name: count
-- How many rows meet all conditions.
SELECT count(*) AS rows FROM {source} WHERE {wanted} AND {filter};

-- name: sample
-- Keys of some of them, any with the same chance.
SELECT {key_json} AS key FROM {source} WHERE {wanted} AND {filter} ORDER BY random() LIMIT %(limit)s;

-- name: sample_blocks
-- Rows of some blocks of a large table, and which of them are asked for: nobody reads all of it for an estimate.
SELECT {key_json} AS key, ({wanted} AND {filter}) IS TRUE AS asked FROM {source} TABLESAMPLE SYSTEM (%(percent)s)
ORDER BY random() LIMIT %(limit)s;
