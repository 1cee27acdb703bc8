"""The methods of `Sync` that show, pause and resume pipelines."""

from __future__ import annotations

from pgvector_sync.client.keys import key_columns_of
from pgvector_sync.client.opening import Opening
from pgvector_sync.client.results import Resumed, Status
from pgvector_sync.model import KeyColumn, Provider, State
from pgvector_sync.observe.status import read_status, read_workers
from pgvector_sync.store import pipelines


class PipelineMethods(Opening):
    """Inherited by `Sync`, which documents the errors that all methods raise."""

    def pipelines(self) -> tuple[str, ...]:
        """Return the names of all pipelines except those that are being removed."""
        with self._runtime() as runtime, runtime.database.transaction(read_only=True) as connection:
            stored = pipelines.all_pipelines(connection)
        return tuple(pipeline.name for pipeline in stored if pipeline.state is not State.REMOVING)

    def key_columns(self, pipeline: str) -> tuple[KeyColumn, ...]:
        """Return the name and type of each key column of the source, in the order of a key's parts.

        pipeline: the pipeline's name.
        """
        with self._runtime() as runtime:
            return key_columns_of(runtime.database, pipeline)

    def provider(self, pipeline: str) -> Provider:
        """Return the provider that embeds a pipeline's texts.

        pipeline: the pipeline's name.
        """
        with self._runtime() as runtime, runtime.database.transaction(read_only=True) as connection:
            return pipelines.require_pipeline(connection, pipeline).provider

    def status(self, pipeline: str | None = None, *, exact: bool = False) -> Status:
        """Return the row counts, lag and state of each pipeline, and the live workers.

        pipeline: the name of one pipeline; None for all.
        exact: count every row instead of estimating. This reads the whole source, on the server.
        """
        with self._runtime() as runtime:
            limit = runtime.settings.text_limit_bytes if exact else None
            statuses = read_status(runtime.database, pipeline, exact_text_limit=limit)
            return Status(read_workers(runtime.database), tuple(statuses))

    def pause(self, pipeline: str, *, reason: str | None = None) -> bool:
        """Stop embedding a pipeline; changes are still captured and wait. Returns False if it is already paused.

        pipeline: the pipeline's name.
        reason: a note that `status` shows.
        """
        with self._runtime(pipeline) as runtime:
            return runtime.database.retry_on_lock_conflict(
                lambda connection: pipelines.pause(connection, pipeline, reason)
            )

    def resume(self, pipeline: str) -> Resumed:
        """End a pause, a cool-down or `misconfigured`, then check the source, the target and the triggers.

        pipeline: the pipeline's name.
        """
        from pgvector_sync.engine import watch

        with self._runtime(pipeline) as runtime:
            changed = runtime.database.retry_on_lock_conflict(
                lambda connection: pipelines.resume(connection, pipeline)
            )
            verdicts = watch.look_now(runtime.database, pipeline)
        return Resumed(changed, tuple(str(verdict.problem) for verdict in verdicts if verdict.problem))
