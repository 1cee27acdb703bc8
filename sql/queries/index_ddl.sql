-- Creating, renaming and dropping vector indexes. DDL takes no parameters, so names and numbers are composed.

-- part: halfvec_of
-- The expression of an index over half the precision of a column.
({vector_column}::{vector_schema}.halfvec({dimensions}))

-- part: bits_of
-- The expression of an index over one bit per dimension: whether the value is positive.
({vector_schema}.binary_quantize({vector_column})::pg_catalog.bit({dimensions}))

-- part: contents
-- What the index `i` contains of the column of vectors: `vector`, `halfvec` or `bit`. NULL: another column or expression.
-- The text is that under our search_path, in which names of pgvector have their schema.
(SELECT CASE pg_get_indexdef(i.indexrelid, 1, true) WHEN 'embedding' THEN vector_type.typname::text
     WHEN format('(embedding::%%I.halfvec(%%s))', vector_schema.nspname, embedding.atttypmod) THEN 'halfvec'
     WHEN format('(%%I.binary_quantize(embedding)::bit(%%s))', vector_schema.nspname, embedding.atttypmod) THEN 'bit' END
 FROM pg_catalog.pg_attribute embedding JOIN pg_catalog.pg_type vector_type ON vector_type.oid = embedding.atttypid
 JOIN pg_catalog.pg_namespace vector_schema ON vector_schema.oid = vector_type.typnamespace
 WHERE embedding.attrelid = i.indrelid AND embedding.attname = 'embedding')

-- name: create
-- Creates an index while others write. A failure leaves an invalid index of this name. Runs outside of a transaction.
CREATE INDEX CONCURRENTLY {index_name} ON {target} USING {method} ({indexed} {operator_class}) WITH ({parameters});

-- name: create_at_once
-- Creates an index in a table that nobody else uses: with one scan, without waiting for other transactions.
CREATE INDEX {index_name} ON {target} USING {method} ({indexed} {operator_class}) WITH ({parameters});

-- name: drop
-- Drops an index while others read and write. Runs outside of a transaction.
DROP INDEX CONCURRENTLY IF EXISTS {index};

-- name: rename
-- Renames an index. Its lock lets others read and write.
ALTER INDEX {index} RENAME TO {index_name};
