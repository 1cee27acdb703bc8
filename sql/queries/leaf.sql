-- A table that has rows of its own: an ordinary one, or a partition without partitions.

-- part: rows
-- How many rows the table `leaf`, which isn't partitioned, has: as of its last ANALYZE, or as counted by the statistics if it had
-- none yet.
CASE WHEN leaf.reltuples < 0 THEN pg_catalog.pg_stat_get_live_tuples(leaf.oid) ELSE leaf.reltuples END
