"""Composes what a vector index contains, and the statements that create, rename and drop it.

Pure: needs no connection. Percent signs of names are doubled everywhere, so execute each
statement with parameters, if only with `{}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg import sql

from pgvector_sync.database.statements import part, statement
from pgvector_sync.model import IndexPlan, Method, Metric, Storage
from pgvector_sync.store.shape import Shape, name

EMBEDDING = sql.Identifier("embedding")
_CLASSES: Mapping[Metric, str] = {
    Metric.COSINE: "cosine_ops",
    Metric.L2: "l2_ops",
    Metric.INNER_PRODUCT: "ip_ops",
}


def storage_of(shape: Shape, plan: IndexPlan | None = None) -> Storage:
    """Returns what an index contains; by default, the type of the pipeline's column.

    plan: None for the pipeline's own.
    """
    plan = plan or shape.pipeline.options.index
    return plan.storage or Storage(shape.pipeline.options.vector_type.value)


def indexed(shape: Shape, storage: Storage, column: sql.Composable = EMBEDDING) -> sql.Composable:
    """Composes what an index contains: the column, or an expression in parentheses.

    column: the column with its alias, for a query that has to use the index.
    """
    if storage.value == shape.pipeline.options.vector_type.value:
        return column
    fragment = part("index_ddl.bits_of" if storage is Storage.BIT else "index_ddl.halfvec_of")
    return fragment.format(
        vector_column=column,
        vector_schema=name(shape.vector_schema),
        dimensions=sql.Literal(shape.pipeline.spec.dimensions),
    )


def contents() -> sql.SQL:
    """Returns the expression for what the index `i` contains of the vectors. Read it with `storage_in`."""
    return part("index_ddl.contents")


def storage_in(row: Mapping[str, Any]) -> Storage | None:
    """Reads the column `storage` of a row, as `contents` returns it."""
    return None if row["storage"] is None else Storage(row["storage"])


def operator_class(metric: Metric, storage: Storage) -> str:
    """Returns the name of the operator class, without its schema. Bits are compared by their Hamming distance."""
    return "bit_hamming_ops" if storage is Storage.BIT else f"{storage.value}_{_CLASSES[metric]}"


def create(
    shape: Shape, plan: IndexPlan, index_name: str, *, lists: int = 1, concurrently: bool = True
) -> sql.Composed:
    """Composes the statement that creates an index. Its schema is that of the target.

    plan: with a method.
    lists: of IVFFlat, if the plan leaves it to the number of rows.
    concurrently: while others write.
    """
    if plan.method is None:
        raise ValueError("expected a plan with a method")
    storage = storage_of(shape, plan)
    if plan.method is Method.HNSW:
        parameters = {"m": plan.m, "ef_construction": plan.ef_construction}
    else:
        parameters = {"lists": plan.lists or lists}
    create = statement("index_ddl.create") if concurrently else statement("index_ddl.create_at_once")
    return create.format(
        index_name=name(index_name),
        target=shape.target,
        method=sql.SQL(plan.method.value),
        indexed=indexed(shape, storage),
        operator_class=name(shape.vector_schema, operator_class(shape.pipeline.options.metric, storage)),
        parameters=sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.SQL(key), sql.Literal(value)) for key, value in parameters.items()
        ),
    )


def drop(schema: str, index_name: str) -> sql.Composed:
    """Composes the statement that drops an index."""
    return statement("index_ddl.drop").format(index=name(schema, index_name))


def rename(schema: str, index_name: str, new_name: str) -> sql.Composed:
    """Composes the statement that renames an index."""
    return statement("index_ddl.rename").format(index=name(schema, index_name), index_name=name(new_name))
