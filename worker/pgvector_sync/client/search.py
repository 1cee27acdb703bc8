"""The methods of `Sync` that embed queries and search."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from pgvector_sync.client.lent import reading_on
from pgvector_sync.client.opening import Opening
from pgvector_sync.model.search import Hits, QueryVector, Request

if TYPE_CHECKING:
    from pgvector_sync.observe.search import Reading

T = TypeVar("T")


class SearchMethods(Opening):
    """Inherited by `Sync`, which documents the errors that all methods raise."""

    def embed_query(self, pipeline: str, text: str, *, timeout: timedelta | None = None) -> QueryVector:
        """Embed a query as the pipeline says, for `search` or for SQL of your own.

        pipeline: the pipeline's name.
        text: the query.
        timeout: how long the provider may take; None for PGVECTOR_SYNC_PROVIDER_TIMEOUT.

        SQL of your own must compare `model` with the target's column `model`: while a pipeline changes its model,
        the target has vectors of both. The last 256 queries are remembered, and aren't paid for again.

        Raises a subclass of ProviderError if the query can't be embedded: RateLimited, Unavailable, OutOfTime,
        BrokenContract, Misconfigured or InputRejected.
        """
        with self._searcher() as searcher:
            return searcher.embed(pipeline, text, timeout=timeout)

    def search(
        self,
        pipeline: str,
        query: str | QueryVector,
        k: int = 5,
        *,
        where: str | None = None,
        params: Mapping[str, Any] | None = None,
        min_similarity: float | None = None,
        after: str | None = None,
        columns: Sequence[str] | None = None,
        timeout: timedelta | None = None,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Hits:
        """Return the nearest rows, nearest first. Rows that are deleted or excluded by `where` are never returned.

        pipeline: the pipeline's name.
        query: the text to search for, or the result of `embed_query`.
        k: the maximum number of rows, 1 to 1,000.
        where: an SQL condition over the columns of the source, besides the pipeline's own. It is executed as SQL:
            never put untrusted input into it, but into `params`.
        params: the values of `%(name)s` in `where`, by name. With it, a percent sign is written `%%`.
        min_similarity: return only rows that are at least this similar; see `Hit.similarity`.
        after: the `next` of the previous page, to continue behind its last row.
        columns: the columns of the source to return, instead of the text.
        timeout: how long embedding the query and finding the rows may take together. None:
            PGVECTOR_SYNC_PROVIDER_TIMEOUT and ten seconds. What a process does once (connecting, loading a local
            model) takes additional time in its first call.
        connection: search in the transaction of this connection instead of one of our own, as its role.

        Raises a subclass of ProviderError if the query can't be embedded, as `embed_query` does.
        """
        request = Request(
            k=k,
            where=where,
            params=params,
            min_similarity=min_similarity,
            after=after,
            columns=columns,
            timeout=timeout,
        )
        with self._searcher() as searcher:
            return searcher.search(pipeline, query, request, reading=self._lent(connection))

    def explain_search(
        self,
        pipeline: str,
        query: str | QueryVector,
        k: int = 5,
        *,
        where: str | None = None,
        params: Mapping[str, Any] | None = None,
        min_similarity: float | None = None,
        after: str | None = None,
    ) -> list[str]:
        """Carry out a search, and return the lines of its plan, as EXPLAIN (ANALYZE, BUFFERS) prints it.

        pipeline, query, k, where, params, min_similarity, after: as for `search`.
        """
        request = Request(k=k, where=where, params=params, min_similarity=min_similarity, after=after)
        with self._searcher() as searcher:
            return searcher.explain(pipeline, query, request)

    async def aembed_query(
        self,
        pipeline: str,
        text: str,
        *,
        timeout: timedelta | None = None,  # noqa: ASYNC109  as for embed_query
    ) -> QueryVector:
        """Embed a query without blocking the event loop, in one of a few threads.

        pipeline, text, timeout: as for `embed_query`.
        """
        return await self._in_thread(partial(self.embed_query, pipeline, text, timeout=timeout))

    async def asearch(
        self,
        pipeline: str,
        query: str | QueryVector,
        k: int = 5,
        *,
        where: str | None = None,
        params: Mapping[str, Any] | None = None,
        min_similarity: float | None = None,
        after: str | None = None,
        columns: Sequence[str] | None = None,
        timeout: timedelta | None = None,  # noqa: ASYNC109  as for search
    ) -> Hits:
        """Search without blocking the event loop, in one of a few threads.

        pipeline, query, k, where, params, min_similarity, after, columns, timeout: as for `search`.
        """
        return await self._in_thread(
            partial(
                self.search,
                pipeline,
                query,
                k,
                where=where,
                params=params,
                min_similarity=min_similarity,
                after=after,
                columns=columns,
                timeout=timeout,
            )
        )

    def _lent(self, connection: psycopg.Connection[Any] | None) -> Reading | None:
        if connection is None:
            return None
        return partial(reading_on, connection, lock_timeout=self._settings.lock_timeout)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._threads(), context.run, call)
