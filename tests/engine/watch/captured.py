"""What must hold wherever pipelines were restored or upgraded."""

from __future__ import annotations

from pgvector_sync.engine.watch import verdicts
from support.synced import Synced


def captures_everything(there: Synced) -> None:
    """Inserts, updates and deletes are all captured, and nothing differs from what `apply` would install."""
    there.run(
        "INSERT INTO docs VALUES (10, 'ten')",
        "UPDATE docs SET body = 'uno' WHERE id = 1",
        "DELETE FROM docs WHERE id = 2",
    )
    assert sorted(there.events()) == [[1], [2], [10]]
    there.sync()
    with there.runtime.database.transaction() as connection:
        assert [verdict.faults for verdict in verdicts(connection)] == [()]
    assert there.plan().empty
