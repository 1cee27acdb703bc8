"""The methods of `Sync` that list, requeue and discard dead letters."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pgvector_sync.client.keys import AnyKey, keys_of
from pgvector_sync.client.opening import Opening
from pgvector_sync.database import Connection
from pgvector_sync.errors import Refused
from pgvector_sync.model import Key
from pgvector_sync.store import dead_letters
from pgvector_sync.store.dead_letters import DeadLetter


class DeadLetterMethods(Opening):
    """Inherited by `Sync`, which documents the errors that all methods raise."""

    def dead_letters(self, pipeline: str | None = None, *, limit: int = 100) -> list[DeadLetter]:
        """Return dead letters, oldest first. They never contain the rows' text.

        pipeline: the name of one pipeline; None for all.
        limit: the maximum number of dead letters.
        """
        with self._runtime(pipeline) as runtime, runtime.database.transaction(read_only=True) as connection:
            return dead_letters.dead_letters(connection, pipeline, limit=limit)

    def requeue(self, pipeline: str, *, keys: Iterable[AnyKey] | None = None) -> int:
        """Retry dead letters with all their attempts; returns how many were requeued.

        pipeline: the pipeline's name.
        keys: the keys to requeue, as for `reembed`; None for all dead letters of the pipeline. Raises Refused if
            none of the keys has a dead letter.
        """
        return self._change(pipeline, keys, dead_letters.requeue)

    def discard(self, pipeline: str, *, keys: Iterable[AnyKey] | None = None) -> int:
        """Stop counting dead letters until their content changes; returns how many were discarded.

        pipeline: the pipeline's name.
        keys: the keys to discard, as for `reembed`; None for all dead letters of the pipeline. Raises Refused if
            none of the keys has a dead letter.
        """
        return self._change(pipeline, keys, dead_letters.discard)

    def discard_bad_keys(self, pipeline: str) -> int:
        """Delete dead letters whose key can't become work; returns how many were deleted.

        pipeline: the pipeline's name.
        """
        with self._runtime(pipeline) as runtime:
            return runtime.database.retry_on_lock_conflict(
                lambda connection: dead_letters.discard_events(connection, pipeline)
            )

    def _change(
        self,
        pipeline: str,
        keys: Iterable[AnyKey] | None,
        action: Callable[[Connection, str, list[Key] | None], int],
    ) -> int:
        with self._runtime(pipeline) as runtime:
            canonical = None if keys is None else keys_of(runtime.database, pipeline, keys)
            count = runtime.database.retry_on_lock_conflict(
                lambda connection: action(connection, pipeline, canonical)
            )
        if canonical is not None and not count:
            raise Refused(
                "no dead letter has this key" if len(canonical) == 1 else "no dead letter has any of these keys",
                hint=f"list the dead letters: pgvector-sync dead-letters list {pipeline}\n"
                "a discarded one can't be discarded again; one whose key can't become work is deleted by "
                "`discard --bad-keys`",
            )
        return count
