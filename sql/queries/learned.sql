-- What was learned about the requests to a provider's model. It is read together with the pipeline, by `pipelines.all`.

-- name: note
-- Stores what a batch has learned, unless another batch has done so since the version that this one started with (0: none).
INSERT INTO pgvector_sync.learned AS l (provider, model, version, max_inputs, refused_inputs, max_bytes, refused_bytes,
    bytes_per_second, slow_bytes, parallel, limited_bytes, failed_trials, retry_at)
SELECT r.name, %(model)s, %(version)s + 1, %(max_inputs)s, %(refused_inputs)s, %(max_bytes)s, %(refused_bytes)s,
    %(bytes_per_second)s, %(slow_bytes)s, %(parallel)s, %(limited_bytes)s, %(failed_trials)s, statement_timestamp() + %(wait)s
FROM pgvector_sync.provider r
WHERE r.name = %(provider)s
  AND (%(version)s = 0 OR EXISTS (SELECT FROM pgvector_sync.learned o WHERE o.provider = r.name AND o.model = %(model)s))
ON CONFLICT (provider, model) DO UPDATE SET version = excluded.version, max_inputs = excluded.max_inputs,
    refused_inputs = excluded.refused_inputs, max_bytes = excluded.max_bytes, refused_bytes = excluded.refused_bytes,
    bytes_per_second = excluded.bytes_per_second, slow_bytes = excluded.slow_bytes, parallel = excluded.parallel,
    limited_bytes = excluded.limited_bytes, failed_trials = excluded.failed_trials, retry_at = excluded.retry_at
WHERE l.version = %(version)s;

-- name: forget
-- After a change of a provider: what was learned may no longer be true.
DELETE FROM pgvector_sync.learned WHERE provider = %(provider)s;
