-- Creating, renaming and dropping vector indexes. DDL takes no parameters, so names and numbers are composed.

-- part: halfvec_of
-- The expression of an index over half the precision of a column.
({vector_column}::{vector_schema}.halfvec({dimensions}))

-- part: bits_of
-- The expression of an index over one bit per dimension: whether the value is positive.
({vector_schema}.binary_quantize({vector_column})::pg_catalog.bit({dimensions}))

-- name: create
-- Creates an index while others write. A failure leaves an invalid index of this name. Runs outside of a transaction.
CREATE INDEX CONCURRENTLY {index_name} ON {target} USING {method} ({indexed} {operator_class}) WITH ({parameters});
