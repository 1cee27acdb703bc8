"""A connection that explains every statement before it runs it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import DictRow

from pgvector_sync.database import connect, register_vectors

EXPLAIN = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) ")
SCANS = ("Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Tid Scan")


@dataclass(frozen=True)
class Plan:
    """The plan of an executed statement, from EXPLAIN ANALYZE."""

    text: str
    root: dict[str, Any]

    @property
    def nodes(self) -> Iterator[dict[str, Any]]:
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.get("Plans", [])

    @property
    def seq_scans(self) -> set[str]:
        return {node["Relation Name"] for node in self.nodes if node["Node Type"] == "Seq Scan"}

    def touched(self, relation: str) -> int:
        """The number of rows of a relation that scans read, including rows that a filter removed."""
        return sum(
            round(
                node["Actual Loops"]
                * (
                    node["Actual Rows"]
                    + node.get("Rows Removed by Filter", 0)
                    + node.get("Rows Removed by Index Recheck", 0)
                )
            )
            for node in self.nodes
            if node.get("Relation Name") == relation and node["Node Type"] in SCANS
        )

    @property
    def pairs_thrown_away(self) -> int:
        return sum(node["Actual Loops"] * node.get("Rows Removed by Join Filter", 0) for node in self.nodes)

    def buffers(self, relation: str) -> int:
        """The number of pages that the scans of a relation read, including its indexes."""
        return sum(
            node["Shared Hit Blocks"] + node["Shared Read Blocks"]
            for node in self.nodes
            if node.get("Relation Name") == relation and node["Node Type"] in SCANS
        )

    def __str__(self) -> str:
        """A short form of the plan."""
        lines = [self.text]

        def describe(node: dict[str, Any], depth: int) -> None:
            words = [node["Node Type"], node.get("Relation Name", ""), node.get("Index Name", "")]
            lines.append("  " * depth + " ".join(filter(None, words)))
            lines[-1] += f" rows={node['Actual Rows']}x{node['Actual Loops']} (expected {node['Plan Rows']})"
            conditions = ("Index Cond", "Filter", "Join Filter", "Hash Cond", "Rows Removed by Filter")
            shown = [name for name in (*conditions, "Rows Removed by Join Filter") if name in node]
            lines.extend("  " * depth + f"    {name}: {node[name]}" for name in shown)
            for inner in node.get("Plans", []):
                describe(inner, depth + 1)

        describe(self.root, 0)
        return "\n".join(lines)


class _Cursor(psycopg.Cursor[Any]):
    def execute(self, query: Any, params: Any = None, **more: Any) -> Any:
        plans = getattr(self.connection, "plans", None)
        if plans is not None and self.connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS:
            text = query.as_string(self.connection)
            if (
                "DEALLOCATE" in text
            ):  # the check of store/trust.py, which is several statements that EXPLAIN can't take
                return super().execute(query, params, **more)
            with psycopg.Cursor(self.connection) as explaining:
                explaining.execute("SAVEPOINT explained")
                explaining.execute(EXPLAIN + query, params)
                [row] = explaining.fetchall()
                explaining.execute("ROLLBACK TO explained")
            root = (row["QUERY PLAN"] if isinstance(row, dict) else row[0])[0]["Plan"]
            plans.append(Plan(text, root))
        return super().execute(query, params, **more)


@dataclass
class Explained:
    """Opens a connection, and collects the plans of the statements that run on it inside a transaction."""

    url: str
    plans: list[Plan] = field(default_factory=list)

    def __enter__(self) -> psycopg.Connection[DictRow]:
        self.connection = connect(self.url)
        register_vectors(self.connection)
        self.connection.cursor_factory = _Cursor
        self.connection.plans = self.plans  # type: ignore[attr-defined]
        return self.connection

    def __exit__(self, *_: object) -> None:
        self.connection.close()
