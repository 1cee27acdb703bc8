"""Redis as kombu's transport, which survives every error and trusts no message.

kombu distinguishes errors of the connection, after which a worker reconnects, from errors of a channel, which end
the worker. Error replies of Redis (it has become a replica, is out of memory, is loading, has moved) are of the
second kind. None of them is a reason to end, so here they are all errors of the connection, even replies that no
Redis sends.

No message in a queue can end a worker either: kombu and Celery only see messages that `messages` has written anew.
"""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial
from typing import Any

from kombu.transport import redis as kombu_redis
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from pgvector_sync.dispatch import messages
from pgvector_sync.errors import MessageRefused
from pgvector_sync.redis_client import MALFORMED_REPLY
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.dispatch import MessagesDropped, QueueKeyDeleted


class _Client:
    """Returns messages of a queue only as `messages` has parsed them; others become None, as after a timeout."""

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        reply = super().parse_response(connection, command_name, **options)  # type: ignore[misc]
        if command_name != "BRPOP":
            return reply
        match reply:
            case [bytes(queue), bytes(raw)]:
                return _checked(queue, raw)
        return None


class _PlainClient(_Client, Redis):
    """A client without a prefix."""


class _PrefixedClient(_Client, kombu_redis.PrefixedStrictRedis):  # type: ignore[misc]
    """A client with a prefix."""


def _checked(queue: bytes, raw: bytes) -> tuple[bytes, bytes] | None:
    try:
        call = messages.read(raw)
    except MessageRefused as refused:
        _refusals.report(str(refused))
        return None
    return queue, messages.write(call, queue.decode())


class _Refusals:
    """Logs refused messages: the first at once, then at most one line every ten seconds."""

    EVERY = timedelta(seconds=10)

    def __init__(self) -> None:
        self._count = 0
        self._next_at = 0.0

    def report(self, reason: str) -> None:
        self._count += 1
        if time.monotonic() >= self._next_at:
            emit(MessagesDropped(reason=Words(reason), messages=self._count))
            self._count, self._next_at = 0, time.monotonic() + self.EVERY.total_seconds()


_refusals = _Refusals()


class _Channel:
    # The relay rings a lost doorbell again. If Redis goes away while a task runs, kombu would restore its message,
    # and acknowledge it later, both with the lost connection, and either error ends the worker. So messages are
    # neither restored nor kept until they are acknowledged (`ack_emulation`).
    do_restore = False

    def _get_client(self) -> Any:
        super()._get_client()  # type: ignore[misc]  # raises if redis-py is too old
        prefix = self.global_keyprefix  # type: ignore[attr-defined]
        return partial(_PrefixedClient, global_keyprefix=prefix) if prefix else _PlainClient

    def _size(self, queue: str) -> int:
        """Return the length of a queue.

        A key of another type isn't ours and would block the queue, so it is deleted.
        """
        try:
            return int(super()._size(queue))  # type: ignore[misc]
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
        with self.conn_or_acquire() as client:  # type: ignore[attr-defined]
            client.delete(queue)
        emit(QueueKeyDeleted(queue=queue))
        return 0

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[misc]
        except ResponseError as error:
            if "WRONGTYPE" in str(error):
                for queue in self.active_queues:  # type: ignore[attr-defined]
                    self._size(queue)
            raise


class Channel(_Channel, kombu_redis.Channel):  # type: ignore[misc]  # kombu has no types
    """A channel to a single server."""


class SentinelChannel(_Channel, kombu_redis.SentinelChannel):  # type: ignore[misc]
    """A channel to the server that the sentinels name."""


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """A transport that reconnects after every error of Redis."""

    Channel = Channel
    connection_errors = (*kombu_redis.Transport.connection_errors, RedisError, *MALFORMED_REPLY)

    def establish_connection(self) -> Any:
        """Connect. Raises RedisError if the server accepts no writes, so that kombu tries again after a pause."""
        connection = super().establish_connection()
        try:
            channel = self._avail_channels[-1]
            with channel.conn_or_acquire() as client:
                client.delete("pgvector-sync:writable")  # needs the same privileges as BRPOP
        except (RedisError, *MALFORMED_REPLY):
            self.close_connection(connection)
            raise
        return connection


class SentinelTransport(Transport):
    """The same transport through sentinels."""

    default_port = 26379
    Channel = SentinelChannel

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        client.alt = client.transport_options["sentinels"]
