"""What capture costs the application's writes, beside the same table without it.

    python benchmarks/writers.py                     about a minute

Bulk statements: the extra time per row of one statement over 20,000 rows of about 400 characters. Single rows:
the median latency of an autocommitted statement, on a server that doesn't wait for its disk. Noise is the
difference between two tables without triggers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from declared import pipeline

from support.endpoint import Endpoint
from support.servers import Postgres, new_database, running_postgres
from support.synced import DOCS

CAPTURED, BARE, OTHER = "docs", "bare", "other"
"""The source, and two tables of the same form without triggers."""
TABLES = (BARE, CAPTURED, OTHER)
SERVER = {"autovacuum": "off", "max_wal_size": "8GB"}
"""Settings of a server for `bulk` and `single`: nothing else writes meanwhile."""
DIMENSIONS = (256, 1_536)
INSERT = "INSERT INTO {table} SELECT i, i || repeat(' word', 80), 'note' FROM generate_series(1, {rows}) AS i"
UPDATE = "UPDATE {table} SET body = body || '.'"
DELETE = "DELETE FROM {table}"
INSERT_ONE = "INSERT INTO {table} VALUES (%(id)s, %(body)s, 'note')"
UPDATE_ONE = "UPDATE {table} SET body = %(body)s WHERE id = %(id)s"
STORE = """
INSERT INTO docs_embedding (id, embedding, fingerprint, model, embedded_at)
SELECT id, array_fill(0.5::real, ARRAY[{dimensions}])::vector, '\\x00', 'm', now() FROM docs
"""


Taken = dict[tuple[str, str], list[float]]
"""Seconds by kind of write and table."""


@dataclass(frozen=True)
class Write:
    """The time of one kind of write, in µs per row: medians of rounds that alternate between the tables."""

    name: str
    captured: float
    bare: float
    other: float
    """The second table without triggers."""

    @property
    def extra(self) -> float:
        return self.captured - self.bare

    @property
    def ratio(self) -> float:
        return self.captured / self.bare

    @property
    def noise(self) -> float:
        """The difference between two tables without triggers."""
        return abs(self.bare - self.other)


def bulk(server: Postgres, *, rows: int = 20_000, rounds: int = 5) -> list[Write]:
    """Measures one statement over `rows` rows: INSERT, UPDATE, and DELETE with vectors of each dimension."""
    writes = []
    for dimensions in DIMENSIONS:
        with _tables(server, dimensions) as connection:
            _bulk_round(connection, rows, dimensions, defaultdict(list))  # warms up
            taken: Taken = defaultdict(list)
            for _ in range(rounds):
                _bulk_round(connection, rows, dimensions, taken)
        if not writes:
            writes += [_write(name, taken, rows) for name in ("INSERT", "UPDATE")]
        deleted = _write("DELETE", taken, rows)
        writes.append(replace(deleted, name=f"DELETE, {dimensions:,} dimensions"))
    return writes


def single(server: Postgres, *, statements: int = 3_000) -> list[Write]:
    """Measures prepared, autocommitted statements of one row, which alternate between the tables."""
    text = "one" + " word" * 80
    taken: Taken = defaultdict(list)
    with _tables(server, DIMENSIONS[-1]) as connection:
        for name, statement in (("INSERT", INSERT_ONE), ("UPDATE", UPDATE_ONE)):
            for number in range(statements):
                values = {"id": number, "body": f"{name} {text}"}
                for table in TABLES:
                    query = statement.format(table=table)
                    taken[name, table].append(_seconds(lambda: connection.execute(query, values, prepare=True)))  # noqa: B023
    return [replace(_write(name, taken, 1), name=f"{name} of one row") for name in ("INSERT", "UPDATE")]


@contextmanager
def _tables(server: Postgres, dimensions: int) -> Iterator[psycopg.Connection]:
    """Yields a connection to a new database with the three tables."""
    with (
        new_database(server) as database,
        Endpoint() as endpoint,
        pipeline(database, endpoint, dimensions=dimensions),
        database.connect() as connection,
    ):
        for table in (BARE, OTHER):
            connection.execute(DOCS.replace("docs", table))
        yield connection


def _bulk_round(connection: psycopg.Connection, rows: int, dimensions: int, taken: Taken) -> None:
    for name, statement in (("INSERT", INSERT), ("UPDATE", UPDATE), ("DELETE", DELETE)):
        if name == "DELETE":
            connection.execute(STORE.format(dimensions=dimensions))
        for table in TABLES:
            query = statement.format(table=table, rows=rows)
            taken[name, table].append(_seconds(lambda: connection.execute(query)))  # noqa: B023
    (left,) = connection.execute("SELECT count(*) FROM docs_embedding").fetchone()
    assert left == 0, "the statement didn't delete the vectors"
    connection.execute("TRUNCATE pgvector_sync.outbox")
    connection.execute(f"VACUUM {', '.join(TABLES)}, docs_embedding")


def _seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _write(name: str, taken: Taken, rows: int) -> Write:
    captured, bare, other = (
        statistics.median(taken[name, table]) / rows * 1e6 for table in (CAPTURED, BARE, OTHER)
    )
    return Write(name, captured, bare, other)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="rows per bulk statement")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of bulk statements")
    parser.add_argument("--singles", type=int, default=3_000, help="statements of one row per table")
    parser.add_argument("--postgres", type=int, choices=(16, 18), default=18)
    options = parser.parse_args()
    with running_postgres(options.postgres, **SERVER) as server:
        writes = bulk(server, rows=options.rows, rounds=options.rounds)
        writes += single(server, statements=options.singles)
    print(f"{'µs per row':28}{'without':>9}{'with':>9}{'extra':>9}{'noise':>9}{'ratio':>8}")
    for write in writes:
        figures = f"{write.bare:9.2f}{write.captured:9.2f}{write.extra:9.2f}{write.noise:9.2f}{write.ratio:8.2f}"
        print(f"{write.name:28}{figures}")


if __name__ == "__main__":
    main()
