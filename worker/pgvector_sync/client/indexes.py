"""The methods of `Sync` about indexes: their state, and what they take at another size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgvector_sync.client.opening import Opening

if TYPE_CHECKING:
    from pgvector_sync.observe.indexes import TargetIndexes


class IndexMethods(Opening):
    """Inherited by `Sync`, which documents the errors that all methods raise."""

    def index_status(self, pipeline: str | None = None) -> tuple[TargetIndexes, ...]:
        """Return the vector indexes of each target, what is wrong with them and what to do, the worst first.

        pipeline: the name of one pipeline; None for all.
        """
        from pgvector_sync.observe.indexes import index_state

        with self._runtime() as runtime:
            return tuple(index_state(runtime.database, pipeline))
