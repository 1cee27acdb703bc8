-- Sources: the tables that pipelines read.

-- name: find
-- The id of a source, if any pipeline has ever read it.
SELECT id FROM pgvector_sync.source WHERE schema_name = %(schema)s AND table_name = %(table)s;

-- name: put
-- Adds or updates a source. Its id is part of the names of its trigger functions.
INSERT INTO pgvector_sync.source (schema_name, table_name, key_columns, key_types, tracked_columns, capture_replicated)
VALUES (%(schema)s, %(table)s, %(key_columns)s, %(key_types)s, %(tracked_columns)s, %(capture_replicated)s)
ON CONFLICT (schema_name, table_name) DO UPDATE SET key_columns = excluded.key_columns,
    key_types = excluded.key_types, tracked_columns = excluded.tracked_columns,
    capture_replicated = excluded.capture_replicated
RETURNING id;

-- name: pipelines
-- The pipelines of a source, for the union of the columns that they read.
SELECT p.name, p.read_columns, p.capture_replicated
FROM pgvector_sync.pipeline p WHERE p.source_id = %(source_id)s ORDER BY p.id;

-- name: rekey
-- Changes the names or types of a source's key, if the key is still the one on which the plan is based.
UPDATE pgvector_sync.source SET key_columns = %(key_columns)s, key_types = %(key_types)s,
    tracked_columns = %(tracked_columns)s
WHERE id = %(id)s AND key_columns = %(columns_before)s AND key_types = %(types_before)s;

-- name: forget
-- Deletes a source that no pipeline reads any more, and its events.
WITH gone AS (DELETE FROM pgvector_sync.source s WHERE s.id = %(source_id)s
              AND NOT EXISTS (SELECT FROM pgvector_sync.pipeline p WHERE p.source_id = s.id) RETURNING id),
     events AS (DELETE FROM pgvector_sync.outbox WHERE source_id IN (SELECT id FROM gone)),
     sweeps AS (DELETE FROM pgvector_sync.sweep WHERE source_id IN (SELECT id FROM gone)),
     parked AS (DELETE FROM pgvector_sync.parked WHERE source_id IN (SELECT id FROM gone))
SELECT count(*) AS gone FROM gone;
