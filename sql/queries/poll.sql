-- The look for work, which the relay and `sync` take many times per second, mostly in vain.

-- name: look
-- What a turn would find, in one statement without a transaction around it. So the search_path is that of the database's
-- owner, and every name and operator is qualified. Each answer may be true in vain, since the turn decides with statements of
-- its own. `events` is true on a read-only server, so that the turn raises the error. Of `jobs`, it returns those that are due.
SELECT pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'on' OR (
           SELECT o.id FROM pgvector_sync.outbox o
           WHERE o.id OPERATOR(pg_catalog.>) %(after_id)s ORDER BY o.id LIMIT 1) IS NOT NULL AS events,
       EXISTS (SELECT FROM pgvector_sync.sweep) AS sweeps,
       EXISTS (SELECT FROM pgvector_sync.lease l
               WHERE l.lost_at IS NULL AND l.expires_at OPERATOR(pg_catalog.<=) pg_catalog.statement_timestamp()
                 AND (l.suspected_at IS NULL OR l.suspected_at OPERATOR(pg_catalog.<=)
                      (pg_catalog.statement_timestamp() OPERATOR(pg_catalog.-) %(grace)s::pg_catalog.interval))) AS leases,
       EXISTS (SELECT FROM pgvector_sync.run r
               JOIN pgvector_sync.pipeline p ON p.id OPERATOR(pg_catalog.=) r.pipeline_id
               WHERE r.state OPERATOR(pg_catalog.=) 'running' AND NOT p.problem_stops
                 AND r.visible_at OPERATOR(pg_catalog.<=) pg_catalog.statement_timestamp()
                 AND p.state OPERATOR(pg_catalog.<>) ALL (ARRAY['paused', 'removing'])
                 AND NOT EXISTS (SELECT FROM pgvector_sync.lease l
                                 WHERE l.id OPERATOR(pg_catalog.=) r.lease AND l.lost_at IS NULL)) AS runs,
       EXISTS (SELECT FROM pgvector_sync.pipeline p CROSS JOIN (VALUES ('live'), ('bulk')) AS lane (lane)
               LEFT JOIN {hints}
               WHERE {may_call}
                 AND ((SELECT w.visible_at FROM pgvector_sync.work w
                       WHERE w.pipeline_id OPERATOR(pg_catalog.=) p.id AND w.lane OPERATOR(pg_catalog.=) lane.lane
                         AND w.lease IS NULL AND w.parked_at IS NULL AND {from_hint}
                         AND w.visible_at OPERATOR(pg_catalog.<=) pg_catalog.statement_timestamp()
                       ORDER BY w.visible_at LIMIT 1) IS NOT NULL
                      OR EXISTS (SELECT FROM pgvector_sync.lease l
                                 WHERE l.pipeline_id OPERATOR(pg_catalog.=) p.id AND l.lost_at IS NOT NULL
                                   AND EXISTS (SELECT FROM pgvector_sync.work w
                                               WHERE w.pipeline_id OPERATOR(pg_catalog.=) p.id
                                                 AND w.lane OPERATOR(pg_catalog.=) lane.lane
                                                 AND w.lease OPERATOR(pg_catalog.=) l.id OFFSET 0)))) AS work,
       ARRAY(SELECT j.name FROM pg_catalog.unnest(%(jobs)s::pg_catalog.text[]) AS j (name)
             WHERE NOT EXISTS (SELECT FROM pgvector_sync.tick t
                               WHERE t.name OPERATOR(pg_catalog.=) j.name
                                 AND t.visible_at OPERATOR(pg_catalog.>) pg_catalog.statement_timestamp())) AS jobs;
