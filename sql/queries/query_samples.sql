-- Vectors of real queries, with which recall is measured.

-- name: keep
-- Stores vectors of queries. Needs INSERT on four columns, and SELECT on `pipeline`, which an application has for its searches.
INSERT INTO pgvector_sync.query_sample (pipeline_id, spec_version, model, vector)
SELECT p.id, s.spec_version, s.model, s.vector::real[]
FROM unnest(%(names)s::text[], %(spec_versions)s::bigint[], %(models)s::text[], %(arrays)s::text[])
     WITH ORDINALITY AS s (name, spec_version, model, vector, place)
JOIN pgvector_sync.pipeline p ON p.name = s.name ORDER BY s.place;

-- name: recent
-- The newest vectors that can be compared with those of the pipeline: of its model, and neither zero nor infinite.
SELECT s.vector FROM pgvector_sync.query_sample s JOIN pgvector_sync.pipeline p ON p.id = s.pipeline_id
WHERE p.id = %(pipeline_id)s AND s.model = p.model AND cardinality(s.vector) = p.dimensions
  AND 0 <> ANY (s.vector) AND NOT s.vector && '{NaN,Infinity,-Infinity}'::real[]
ORDER BY s.id DESC LIMIT %(limit)s;

-- name: forget
-- Deletes what is old, more than `kept` newer ones per pipeline, or of another model than the pipeline's.
DELETE FROM pgvector_sync.query_sample s
USING (SELECT o.id, row_number() OVER (PARTITION BY o.pipeline_id ORDER BY o.id DESC) AS place FROM pgvector_sync.query_sample o) AS n
WHERE n.id = s.id AND (n.place > %(kept)s OR s.at < statement_timestamp() - %(older_than)s OR NOT EXISTS (
    SELECT FROM pgvector_sync.pipeline p WHERE p.id = s.pipeline_id AND p.model = s.model));
