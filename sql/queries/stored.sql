-- What is stored for a key. Statements that lock or write use the target itself. All others read this relation, which may be
-- a table, a sub-select or a view.

-- part: relation
-- One row per chunk: the key's columns, chunk_no, chunk, embedding, fingerprint, model, embedded_at. The planner flattens it.
(SELECT {key_columns}, chunk_no, chunk, embedding, fingerprint, model, embedded_at FROM {target}) AS pgvector_sync_stored;
