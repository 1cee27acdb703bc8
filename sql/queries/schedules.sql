-- When each pipeline was last reconciled, and its schedule.

-- name: all
-- For each pipeline that may be reconciled: its schedule, and when it was last reconciled, at all and deeply. A dry run
-- repairs nothing, so it doesn't count.
WITH dry AS (SELECT id FROM pgvector_sync.run WHERE kind = 'reconcile' AND options @> '{"dry_run": true}')
SELECT p.id, p.name, p.reconcile, statement_timestamp() AS now, p.created_at,
       greatest((SELECT max(r.started_at) FROM pgvector_sync.run r WHERE r.pipeline_id = p.id AND r.kind = 'reconcile'
                 AND r.id NOT IN (SELECT id FROM dry)),
                (SELECT max(d.at) FROM pgvector_sync.drift d WHERE d.pipeline_id = p.id
                 AND d.run_id NOT IN (SELECT id FROM dry))) AS last_at,
       greatest((SELECT max(r.started_at) FROM pgvector_sync.run r WHERE r.pipeline_id = p.id AND r.kind = 'reconcile'
                 AND r.options @> '{"deep": true}' AND r.id NOT IN (SELECT id FROM dry)),
                (SELECT max(d.at) FROM pgvector_sync.drift d WHERE d.pipeline_id = p.id AND d.deep
                 AND d.run_id NOT IN (SELECT id FROM dry))) AS last_deep_at
FROM pgvector_sync.pipeline p WHERE p.state NOT IN ('paused', 'removing') AND NOT p.problem_stops ORDER BY p.id;
