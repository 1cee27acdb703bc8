"""Measures which share of the true nearest neighbours a vector index returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from pgvector_sync.database import Connection, one
from pgvector_sync.database.statements import part, statement
from pgvector_sync.model import Key, Method, Storage
from pgvector_sync.store import search, stored
from pgvector_sync.store.conditions import Condition
from pgvector_sync.store.shape import Shape, key_json, name
from pgvector_sync.store.stored import STORED

_ROW = sql.Identifier("pgvector_sync_row")
_ORDERED_BY = "Order By"
"""In a plan, what only a scan of a vector index has."""


@dataclass(frozen=True, slots=True)
class Session:
    """What searches of a role do by default."""

    version: str
    """Of pgvector in this database."""
    counted: bool
    """Whether the server counts scans of indexes."""
    ef_search: int
    probes: int
    hnsw_iterative: str
    ivfflat_iterative: str


@dataclass(frozen=True, slots=True)
class Compared:
    """Which vectors are compared with a query, and how many are returned."""

    shape: Shape
    k: int
    condition: Condition | None = None
    storage: Storage | None = None
    """What the index contains; None: the column."""
    ef_search: int = 0
    """`hnsw.ef_search`; 0 for IVFFlat."""

    @property
    def candidates(self) -> int:
        """How many candidates of an index over an expression are sorted by the full vectors, as `search` does."""
        return search.candidates(self.k, self.storage, self.ef_search)


@dataclass(frozen=True, slots=True)
class Query:
    """A query vector."""

    vector: str
    """As text, which an application's driver can send too."""
    key: Key | None = None
    """The row whose vector it is. It isn't its own neighbour."""


def session(connection: Connection) -> Session:
    """Prepares a transaction that measures. Returns what its searches would do by default."""
    row = one(connection, statement("recall.session"))
    return Session(**{field: row[field] for field in Session.__slots__})


def avoid_all_but_indexes(connection: Connection) -> None:
    """Makes the planner use a vector index in this transaction whenever it can."""
    connection.execute(statement("recall.avoid_all_but_indexes"))


def use(connection: Connection, method: Method, setting: tuple[str, int], iterative: str | None) -> None:
    """Sets how the following searches scan vector indexes. `iterative` is None before pgvector 0.8."""
    params = {
        "setting_name": setting[0],
        "setting_value": str(setting[1]),
        "iterative_name": None if iterative is None else f"{method.value}.iterative_scan",
        "iterative": iterative,
    }
    connection.execute(statement("recall.use"), params)


def scans(connection: Connection, oid: int) -> dict[str, int]:
    """Returns how often each vector index of a target was scanned. Compare two results of one transaction."""
    rows = connection.execute(statement("recall.scans"), {"oid": oid})
    return {row["index_name"]: row["scans"] for row in rows}


def exact(connection: Connection, compared: Compared, query: Query) -> list[float]:
    """Returns the distances of the nearest rows, by comparing all."""
    return _distances(connection, _search(compared, query, exact=True), compared, query)


def answered(connection: Connection, compared: Compared, query: Query) -> list[float]:
    """Returns the distances of the rows that an index returns, if the planner uses it."""
    return _distances(connection, _search(compared, query), compared, query)


def index_used(connection: Connection, compared: Compared, query: Query) -> str | None:
    """Returns the name of the vector index that the planner would use; None: it would compare all vectors."""
    plan = statement("recall.plan").format(search=_search(compared, query))
    [[[root]]] = [row.values() for row in connection.execute(plan, _params(compared, query))]
    return next((node["Index Name"] for node in _nodes(root["Plan"]) if _ORDERED_BY in node), None)


def count(connection: Connection, compared: Compared) -> int:
    """Returns how many vectors may be neighbours."""
    query = statement("recall.count").format(stored=stored.relation(compared.shape), joined=_joined(compared))
    return int(one(connection, query, _params(compared, None))["rows"])


def sample(
    connection: Connection, compared: Compared, *, limit: int, seed: int, percent: float = 100.0
) -> list[tuple[Key, str]]:
    """Returns keys and vectors of some of them, the same for the same seed.

    percent: of the target's blocks that are read.
    """
    shape = compared.shape
    blocks = part("recall.blocks").format(target=shape.target, key_columns=shape.columns())
    query = statement("recall.sample").format(
        stored=stored.relation(shape) if percent >= 100 else blocks,
        joined=_joined(compared),
        key_stored=key_json(shape.pipeline.source, STORED, name),
        **shape.zeros,
    )
    params = _params(compared, None) | {"limit": limit, "seed": seed, "percent": percent}
    return [(tuple(row["key"]), row["vector"]) for row in connection.execute(query, params)]


def _distances(connection: Connection, query: sql.Composed, compared: Compared, wanted: Query) -> list[float]:
    rows: Sequence[Any] = connection.execute(query, _params(compared, wanted)).fetchall()
    return [row["distance"] for row in rows]


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from _nodes(inner)


def _params(compared: Compared, query: Query | None) -> dict[str, Any]:
    params: dict[str, Any] = {
        "model": compared.shape.pipeline.spec.model,
        "limit": compared.k,
        "candidates": compared.candidates,
    }
    if query is not None:
        params |= {"query_vector": query.vector, "key": None if query.key is None else Jsonb(list(query.key))}
    return params if compared.condition is None else params | dict(compared.condition.params)


def _search(compared: Compared, query: Query, *, exact: bool = False) -> sql.Composed:
    shape = compared.shape
    distance = part("recall.distance").format(
        operator_schema=name(shape.vector_schema),
        operator=sql.SQL(search.OPERATORS[shape.pipeline.options.metric]),
        vector=shape.vector,
        column_type=shape.column_type,
    )
    fragments: dict[str, sql.Composable] = {
        "distance": distance,
        "stored": stored.relation(shape),
        "joined": _joined(compared),
        "query_row": sql.SQL("false")
        if query.key is None
        else sql.SQL("({})").format(shape.match(STORED, sql.SQL("%(key)s::pg_catalog.jsonb"))),
    }
    if exact:  # no index has an order by this expression
        return statement("recall.nearest").format(order=sql.SQL("({}) + 0").format(distance), **fragments)
    if compared.storage is None:
        return statement("recall.nearest").format(order=distance, **fragments)
    return statement("recall.reranked").format(
        order=search.distance_in_index(shape, compared.storage), **fragments
    )


def _joined(compared: Compared) -> sql.Composable:
    if compared.condition is None:
        return sql.SQL("")
    shape = compared.shape
    return part("recall.rows_that_meet").format(
        key_columns=shape.columns(),
        source=shape.source,
        wanted=shape.wanted,
        condition=compared.condition.sql,
        same_key=sql.SQL(" AND ").join(
            sql.SQL("{}.{} = {}.{}").format(_ROW, name(column.name), STORED, name(column.name))
            for column in shape.pipeline.source.key
        ),
    )
