"""A rehearsal: a table in a schema of its own, with a pipeline's vectors and more like them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import statement
from pgvector_sync.model import VectorType
from pgvector_sync.store import stored
from pgvector_sync.store.shape import Shape, name
from pgvector_sync.store.trust import require_own_target

PREFIX = "pgvector_sync_rehearsal_"
TABLE = "vectors"
_COMMENT = "A rehearsal of pgvector-sync. If none is running, drop it."
_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_FINGERPRINT = 32


@dataclass(frozen=True, slots=True)
class Begun:
    """Whether a session may rehearse."""

    locked: bool
    """False: another session rehearses the pipeline."""
    may_create: bool
    database: str
    role: str
    standby: bool


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a rehearsal's table has become."""

    oid: int
    bytes: int
    rows: int


def schema_of(shape: Shape) -> str:
    """Returns the name of a pipeline's schema of rehearsals."""
    return f"{PREFIX}{shape.pipeline.id}"


def grown(shape: Shape) -> Shape:
    """Returns the shape of the pipeline whose target is the table of the rehearsal."""
    pipeline = replace(shape.pipeline, target_schema=schema_of(shape), target_table=TABLE)
    return Shape(pipeline, shape.vector_schema)


def begin(session: Connection, shape: Shape) -> Begun:
    """Takes the lock of the pipeline's rehearsals, which lasts as long as the session."""
    return Begun(**one(session, statement("rehearsal.begin"), {"rehearsal": schema_of(shape)}))


def drop_left_over(session: Connection) -> list[str]:
    """Drops the schemas of rehearsals that were killed; returns their names."""
    rows = session.execute(statement("rehearsal.left_over"), {"comment": _COMMENT}).fetchall()
    dropped = []
    for schema in (row["name"] for row in rows):
        if one(session, statement("rehearsal.lock"), {"rehearsal": schema})["locked"]:
            _drop(session, schema)
            session.execute(statement("rehearsal.unlock"), {"rehearsal": schema})
            dropped.append(schema)
    return dropped


def drop(session: Connection, shape: Shape) -> None:
    """Drops the pipeline's schema of rehearsals, if there is one."""
    _drop(session, schema_of(shape))


def _drop(session: Connection, schema: str) -> None:
    session.execute(statement("rehearsal.drop").format(rehearsal_schema=sql.Identifier(schema)))


def create(session: Connection, shape: Shape) -> None:
    """Creates the schema and the table. Raises DatabaseRefuses if the target isn't our table."""
    with session.transaction():
        require_own_target(session, shape.pipeline)
        session.execute(
            statement("rehearsal.create").format(
                rehearsal_schema=sql.Identifier(schema_of(shape)),
                comment=sql.Literal(_COMMENT),
                rehearsed=_table(shape),
                target=_plain(shape),
                key_columns=sql.SQL(", ").join(sql.Identifier(each.name) for each in shape.pipeline.source.key),
            )
        )


def copy_real(session: Connection, shape: Shape, *, without: Sequence[str], limit: int) -> int:
    """Copies real vectors; returns their number.

    without: vectors that are left out, as text. Raises DatabaseRefuses if the target isn't our table.
    """
    query = statement("rehearsal.copy_real").format(
        rehearsed=_table(shape),
        stored=stored.relation(shape),
        key_columns=shape.columns(),
        operator_schema=name(shape.vector_schema),
        column_type=name(shape.vector_schema, shape.pipeline.options.vector_type.value),
    )
    params = {"model": shape.pipeline.spec.model, "query_vectors": list(without), "limit": limit}
    with session.transaction():
        require_own_target(session, shape.pipeline)
        return session.execute(query, params).rowcount


def receiving(shape: Shape) -> sql.Composed:
    """Composes the statement that receives further vectors."""
    return statement("rehearsal.copy_grown").format(rehearsed=_table(shape))


def copy_grown(session: Connection, shape: Shape, parts: Iterable[NDArray[np.float32]]) -> None:
    """Copies further vectors."""
    half = shape.pipeline.options.vector_type is VectorType.HALFVEC
    with (
        session.cursor() as cursor,
        cursor.copy(receiving(shape)) as copy,
    ):
        copy.write(_HEADER)
        for vectors in parts:
            copy.write(_packed(vectors, shape.pipeline.spec.model.encode(), half=half))
        copy.write(_END)


def _packed(vectors: NDArray[np.float32], model: bytes, *, half: bool) -> bytes:
    """Returns rows in the binary format of COPY: the number of columns, then length and value of each."""
    dimensions = vectors.shape[1]
    number: Any = np.dtype(">f2" if half else ">f4")
    rows = np.zeros(
        len(vectors),
        dtype=[
            ("columns", ">i2"), ("length", ">i4"), ("dimensions", ">i2"), ("unused", ">i2"),
            ("vector", number, (dimensions,)), ("fingerprint_length", ">i4"), ("fingerprint", f"V{_FINGERPRINT}"),
            ("model_length", ">i4"), ("model", f"S{len(model)}"), ("at_length", ">i4"), ("at", ">i8"),
        ],
    )  # fmt: skip
    rows["columns"] = 4
    rows["length"] = 4 + number.itemsize * dimensions
    rows["dimensions"] = dimensions
    rows["vector"] = vectors
    rows["fingerprint_length"] = _FINGERPRINT
    rows["model_length"] = len(model)
    rows["model"] = model
    rows["at_length"] = 8
    return rows.tobytes()


def analyze(session: Connection, shape: Shape) -> None:
    """Lets the planner know the table."""
    session.execute(statement("rehearsal.analyze").format(rehearsed=_table(shape)))


def sizes(session: Connection, shape: Shape) -> Sizes:
    """Returns what the table has become."""
    query = statement("rehearsal.sizes").format(rehearsed=grown(shape).target)
    return Sizes(**one(session, query, {"rehearsed": _table(shape).as_string()}))


def progress(connection: Connection, shape: Shape) -> tuple[str, float] | None:
    """Returns the phase of the index build and the share of it that is done; None if there is none."""
    row = connection.execute(statement("rehearsal.progress"), {"rehearsed": _table(shape).as_string()}).fetchone()
    return None if row is None else (row["phase"], row["done"])


def _table(shape: Shape) -> sql.Identifier:
    return sql.Identifier(schema_of(shape), TABLE)


def _plain(shape: Shape) -> sql.Identifier:
    """The target's name, for a statement without parameters."""
    return sql.Identifier(shape.pipeline.target_schema, shape.pipeline.target_table)
