"""Why Postgres uses the vector index for a search, or doesn't: proven by EXPLAIN where there is an index."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pgvector_sync.database import Connection
from pgvector_sync.model import Metric
from pgvector_sync.observe.finding import Finding, ok, warning
from pgvector_sync.observe.index_facts import Read
from pgvector_sync.store import index_facts, search, sizes
from pgvector_sync.store.conditions import Condition
from pgvector_sync.store.search import OPERATORS, Wanted
from pgvector_sync.store.shape import Shape

LIMITS = (10, 100, 1_000)
_PAGE_COST = "ALTER DATABASE … SET random_page_cost = 1.1;"
_CHEAP_PAGES: Mapping[str, str] = {"random_page_cost": "1.1"}
_NO_OTHER_WAY: Mapping[str, str] = {"enable_seqscan": "off", "enable_sort": "off"}
_VISITED = 20_000
"""pgvector's default of `hnsw.max_scan_tuples`."""


def explain(connection: Connection, shape: Shape, read: Read, condition: Condition | None) -> Iterator[Finding]:
    """Say when Postgres uses a vector index for searches of this pipeline."""
    said = list(_of_searches(connection, shape, read, condition))
    yield from said
    if read.settings.random_page_cost > 2 and not any(_PAGE_COST in (each.advice or "") for each in said):
        yield ok(
            f"random_page_cost is {read.settings.random_page_cost:g}, which is meant for spinning disks: an index "
            "scan looks more expensive than it is on an SSD or in memory",
            _PAGE_COST,
        )


def _of_searches(
    connection: Connection, shape: Shape, read: Read, condition: Condition | None
) -> Iterator[Finding]:
    yield _form(shape.pipeline.options.metric)
    if not read.facts.existing:
        yield from _without_index(read)
    elif read.queries:
        yield from _by_limit(connection, shape, read, condition)
    if condition is not None:
        yield from _selectivity(connection, shape, read, condition)
    if read.out_of_line:
        yield ok(
            "vectors are stored out of line (TOAST), which the planner leaves out of its estimate: comparing all "
            "vectors looks cheaper than it is (pgvector's README)",
            "SET min_parallel_table_scan_size = 1; lets exact searches use several processors",
        )


def _form(metric: Metric) -> Finding:
    return ok(
        f"a query uses a vector index only with ORDER BY embedding {OPERATORS[metric]} … LIMIT n: ascending, "
        "by this operator, with nothing around it (pgvector's README)",
        "`search` and `Sync.search` write it so",
    )


def _without_index(read: Read) -> Iterator[Finding]:
    for index in read.indexes:
        if not index.valid:
            yield warning(f"{index.name} isn't valid, so no query uses it", "pgvector-sync index status")
        elif index.condition is not None:
            yield ok(f"{index.name} is partial: only queries with the condition {index.condition} use it")
        else:
            yield warning(
                f"{index.name} ({index.method}, {index.operator_class}) is of another metric, kind or expression: "
                "searches of this pipeline don't use it",
                "pgvector-sync index status",
            )


def _by_limit(connection: Connection, shape: Shape, read: Read, condition: Condition | None) -> Iterator[Finding]:
    """Ask the planner for growing limits, then find out what would change its mind."""
    used: list[int] = []
    unused: list[int] = []
    for limit in LIMITS:
        (used if _uses(connection, shape, read, Wanted(limit, condition)) else unused).append(limit)
    which = "with this condition" if condition is not None else "without a condition"
    if used:
        yield ok(f"EXPLAIN: searches for {_listed(used)} rows {which} use a vector index")
    if not unused:
        return
    seen = f"EXPLAIN: searches for {_listed(unused)} rows {which} compare all vectors that qualify"
    wanted = Wanted(unused[0], condition)
    if _uses(connection, shape, read, wanted, _CHEAP_PAGES):
        yield warning(
            f"{seen}: with random_page_cost = 1.1 the planner uses the index",
            f"{_PAGE_COST} -- if the data is on an SSD or in memory",
        )
    elif _uses(connection, shape, read, wanted, _NO_OTHER_WAY):
        yield ok(
            f"{seen}: an index could serve them, and the planner estimates it as more expensive, which is right "
            "for few rows, a large LIMIT or a selective condition",
            "the result is exact. To compare the times: SET LOCAL enable_seqscan = off;",
        )
    else:
        yield warning(f"{seen}: no index can serve them", "pgvector-sync index status")


def _listed(limits: list[int]) -> str:
    return ", ".join(f"{limit:,}" for limit in limits)


def _uses(
    connection: Connection,
    shape: Shape,
    read: Read,
    wanted: Wanted,
    settings: Mapping[str, str] | None = None,
) -> bool:
    with connection.transaction(force_rollback=True):
        index_facts.set_locally(connection, settings or {})
        return search.is_approximate(connection, shape, read.queries[0], wanted)


def _selectivity(connection: Connection, shape: Shape, read: Read, condition: Condition) -> Iterator[Finding]:
    rows = max(read.facts.vectors, 1)
    meeting = sizes.estimate(connection, shape.source, condition.sql)
    part = min(1.0, meeting / rows)
    seen = f"about {meeting:,} of {rows:,} rows meet the condition"
    if not part * _VISITED >= 2 * LIMITS[0]:
        yield warning(
            f"{seen}: a scan of the vector index ends after {_VISITED:,} entries (hnsw.max_scan_tuples), before "
            "it has found enough",
            "CREATE INDEX on the condition's columns, so that these rows are found first and compared exactly",
        )
    else:
        yield ok(
            f"{seen}: a scan of the vector index visits about {round(1 / part):,} entries per row that it returns",
            "an index on the condition's columns lets the planner choose",
        )
