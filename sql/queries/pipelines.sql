-- Providers and pipelines: what `apply` writes and workers read.

-- name: all
-- Every pipeline with its source, its provider, its options, and what was learned about its provider and model.
SELECT p.id, p.name, p.target_schema, p.target_table, p.text_sql, p.where_sql, p.read_columns, p.needs, p.chunking,
       p.spec_version, p.state, p.reason, p.retry_at, p.problem, p.problem_stops, p.ef_search, p.probes, {pipeline_options},
       s.id AS source_id, s.schema_name, s.table_name, s.key_columns, s.key_types, {provider},
       to_jsonb(l) AS learned, coalesce(l.retry_at <= statement_timestamp(), false) AS learned_due
FROM pgvector_sync.pipeline p
JOIN pgvector_sync.source s ON s.id = p.source_id
JOIN pgvector_sync.provider r ON r.name = p.provider
LEFT JOIN pgvector_sync.learned l ON l.provider = p.provider AND l.model = p.model
WHERE %(name)s::text IS NULL OR p.name = %(name)s
ORDER BY p.name;

-- name: put_provider
-- Adds or updates a provider.
INSERT INTO pgvector_sync.provider ({provider_columns}) VALUES ({provider_values})
ON CONFLICT (name) DO UPDATE SET ({provider_columns}) = ROW ({provider_values});

-- name: providers
-- The stored providers.
SELECT {provider_columns} FROM pgvector_sync.provider ORDER BY name;

-- name: rekey
-- After a change of a source's key, in its pipelines: fences off batches and pages of runs that were claimed under the old
-- key, ends a state that the changed table may have caused, and makes a deep reconciliation due.
UPDATE pgvector_sync.pipeline SET spec_version = spec_version + 1,
    read_columns = ARRAY(SELECT coalesce(r.after, c.name) FROM unnest(read_columns) WITH ORDINALITY AS c (name, place)
                         LEFT JOIN unnest(%(columns_before)s::text[], %(key_columns)s::text[]) AS r (before, after)
                             ON r.before = c.name ORDER BY c.place),
    state = CASE WHEN state IN ('cooling_down', 'misconfigured') THEN 'active' ELSE state END,
    reason = CASE WHEN state IN ('cooling_down', 'misconfigured') THEN NULL ELSE reason END,
    retry_at = NULL, failures = 0, problem = NULL, problem_stops = false, recheck = true
WHERE source_id = %(id)s AND state <> 'removing'
RETURNING id, name;

-- name: add
-- Adds a pipeline.
INSERT INTO pgvector_sync.pipeline (name, source_id, target_schema, target_table, text_sql, where_sql, read_columns,
    needs, {options})
VALUES (%(name)s, %(source_id)s, %(target_schema)s, %(target_table)s, %(text_sql)s, %(where_sql)s,
    %(read_columns)s, %(needs)s, {option_values})
RETURNING id;

-- name: change
-- Updates a pipeline. A change of vectors, or of which rows have them, bumps spec_version, which fences off every batch
-- claimed before. It ends a state that the old configuration may have caused.
UPDATE pgvector_sync.pipeline SET text_sql = %(text_sql)s, where_sql = %(where_sql)s, read_columns = %(read_columns)s,
    needs = %(needs)s, ({options}) = ROW ({option_values}),
    spec_version = spec_version + CASE WHEN %(bump)s THEN 1 ELSE 0 END,
    state = CASE WHEN state IN ('cooling_down', 'misconfigured') THEN 'active' ELSE state END,
    reason = CASE WHEN state IN ('cooling_down', 'misconfigured') THEN NULL ELSE reason END,
    retry_at = NULL, failures = 0, problem = NULL, problem_stops = false
WHERE id = %(id)s AND state <> 'removing';

-- name: hold
-- The first step of a write: checks that the pipeline is unchanged since the claim, and keeps it so until commit.
SELECT id FROM pgvector_sync.pipeline
WHERE id = %(id)s AND spec_version = %(spec_version)s AND state NOT IN ('paused', 'removing')
FOR SHARE;

-- name: take_probe
-- A pipeline in cool-down sends one probe: the worker that moves retry_at sends it.
UPDATE pgvector_sync.pipeline SET retry_at = statement_timestamp() + %(hold)s
WHERE id = %(id)s AND state IN ('cooling_down', 'misconfigured') AND retry_at <= statement_timestamp();

-- name: release_probe
-- Nothing was due to probe with, so the next probe may be sent at once.
UPDATE pgvector_sync.pipeline SET retry_at = statement_timestamp()
WHERE id = %(id)s AND state IN ('cooling_down', 'misconfigured');

-- name: recovered
-- A call succeeded: ends the provider states. Writes nothing for a healthy pipeline.
UPDATE pgvector_sync.pipeline SET state = 'active', reason = NULL, retry_at = NULL, failures = 0
WHERE id = %(id)s AND state IN ('cooling_down', 'misconfigured');

-- name: provider_failed
-- The provider failed: waits `retry_after`, or a back-off with jitter. Of the batches that fail at the same time only the
-- first counts, and after it only probes. Never ends a pause.
UPDATE pgvector_sync.pipeline SET state = %(state)s, reason = %(reason)s, failures = least(failures + 1, 1000),
    retry_at = statement_timestamp() + coalesce(%(retry_after)s,
        (0.5 + random()) * least(%(backoff_first)s * power(2, least(failures, 20)), %(backoff_longest)s))
WHERE id = %(id)s AND (state = 'active' OR (%(probe)s AND state IN ('cooling_down', 'misconfigured')));

-- name: rate_limited
-- After `provider_failed`: all other pipelines of the same provider and model wait as well. It skips those that are locked
-- by another session, so that two workers can't deadlock; their own calls will be limited too.
UPDATE pgvector_sync.pipeline p SET state = l.state, reason = l.reason, retry_at = l.retry_at
FROM pgvector_sync.pipeline l
WHERE l.id = %(id)s AND p.id IN (
    SELECT o.id FROM pgvector_sync.pipeline o
    WHERE o.id <> %(id)s AND o.state = 'active'
      AND (o.provider, o.model) = (SELECT provider, model FROM pgvector_sync.pipeline WHERE id = %(id)s)
    ORDER BY o.id FOR NO KEY UPDATE SKIP LOCKED);

-- name: provider_changed
-- After a change of a provider, which may work now: lets its waiting pipelines try at once.
UPDATE pgvector_sync.pipeline SET state = 'active', reason = NULL, retry_at = NULL, failures = 0
WHERE provider = %(provider)s AND state IN ('cooling_down', 'misconfigured');

-- name: pause
-- Pauses a pipeline until `resume`.
UPDATE pgvector_sync.pipeline SET state = 'paused', reason = %(reason)s, retry_at = NULL
WHERE name = %(name)s AND state NOT IN ('paused', 'removing');

-- name: resume
-- Makes a pipeline active, whatever had stopped it.
UPDATE pgvector_sync.pipeline SET state = 'active', reason = NULL, retry_at = NULL, failures = 0
WHERE name = %(name)s AND state IN ('paused', 'cooling_down', 'misconfigured');

-- name: removing
-- Starts the removal of a pipeline: from here on nothing is claimed, drained or written for it.
UPDATE pgvector_sync.pipeline SET state = 'removing', reason = 'being removed' WHERE id = %(id)s;

-- name: hold_runs
-- Before `forget`: waits for pages of runs that are being committed, so that `forget` sees their rows, and blocks new ones.
SELECT FROM pgvector_sync.run WHERE pipeline_id = %(id)s AND state = 'running' FOR UPDATE;

-- name: forget
-- Deletes a pipeline and all its rows in our tables. Dropping the target is a separate statement.
WITH gone AS (DELETE FROM pgvector_sync.pipeline WHERE id = %(id)s RETURNING id),
     work_ AS (DELETE FROM pgvector_sync.work WHERE pipeline_id IN (SELECT id FROM gone)),
     lease_ AS (DELETE FROM pgvector_sync.lease WHERE pipeline_id IN (SELECT id FROM gone)),
     run_ AS (DELETE FROM pgvector_sync.run WHERE pipeline_id IN (SELECT id FROM gone)),
     usage_ AS (DELETE FROM pgvector_sync.usage WHERE pipeline_id IN (SELECT id FROM gone)),
     rate_ AS (DELETE FROM pgvector_sync.throughput WHERE pipeline_id IN (SELECT id FROM gone)),
     batches_ AS (DELETE FROM pgvector_sync.batch_totals WHERE pipeline_id IN (SELECT id FROM gone)),
     calls_ AS (DELETE FROM pgvector_sync.call_totals WHERE pipeline_id IN (SELECT id FROM gone)),
     history_ AS (DELETE FROM pgvector_sync.history WHERE pipeline_id IN (SELECT id FROM gone)),
     recall_ AS (DELETE FROM pgvector_sync.recall WHERE pipeline_id IN (SELECT id FROM gone)),
     attempt_ AS (DELETE FROM pgvector_sync.recall_attempt WHERE pipeline_id IN (SELECT id FROM gone)),
     queries_ AS (DELETE FROM pgvector_sync.query_sample WHERE pipeline_id IN (SELECT id FROM gone)),
     drift_ AS (DELETE FROM pgvector_sync.drift WHERE pipeline_id IN (SELECT id FROM gone)),
     index_ AS (DELETE FROM pgvector_sync.index_build WHERE pipeline_id IN (SELECT id FROM gone)),
     lock_ AS (DELETE FROM pgvector_sync.lock WHERE id IN (SELECT id FROM gone)),
     keys_ AS (DELETE FROM pgvector_sync.run_key WHERE run_id IN (
                   SELECT r.id FROM pgvector_sync.run r WHERE r.pipeline_id = %(id)s))
SELECT count(*) AS gone FROM gone;

-- name: forget_providers
-- Deletes providers that no pipeline uses.
DELETE FROM pgvector_sync.provider r
WHERE NOT EXISTS (SELECT FROM pgvector_sync.pipeline p WHERE p.provider = r.name);
