"""Redis as kombu's transport, with every error waited out and no message believed.

kombu tells errors of the connection, after which a worker connects anew, from errors of a channel, which end it:
whatever Redis answers (that it is a replica by now, out of memory, loading, moved) is one of the latter. Nothing
that it says is a reason to end: here all of it is an error of the connection, also what no Redis would say.

Nor is anything that lies in a queue: kombu and Celery get to see only messages that `messages` has written anew.
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
from pgvector_sync.redis_client import NOT_UNDERSTOOD
from pgvector_sync.telemetry import emit
from pgvector_sync.telemetry.event import Words
from pgvector_sync.telemetry.events.dispatch import MessagesDropped, QueueKeyDeleted


class _Client:
    """Takes messages out of a queue only as `messages` has read them: others are None, as after a time-out."""

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        reply = super().parse_response(connection, command_name, **options)  # type: ignore[misc]
        if command_name != "BRPOP":
            return reply
        match reply:
            case [bytes(queue), bytes(raw)]:
                return _checked(queue, raw)
        return None


class _PlainClient(_Client, Redis):
    """Without a prefix."""


class _PrefixedClient(_Client, kombu_redis.PrefixedStrictRedis):  # type: ignore[misc]
    """With one."""


def _checked(queue: bytes, raw: bytes) -> tuple[bytes, bytes] | None:
    try:
        call = messages.read(raw)
    except MessageRefused as refused:
        _refusals.say(str(refused))
        return None
    return queue, messages.write(call, queue.decode())


class _Refusals:
    """Said at once, and then every ten seconds at most: a flood of messages is no flood of lines."""

    EVERY = timedelta(seconds=10)

    def __init__(self) -> None:
        self._count = 0
        self._next_at = 0.0

    def say(self, reason: str) -> None:
        self._count += 1
        if time.monotonic() >= self._next_at:
            emit(MessagesDropped(reason=Words(reason), messages=self._count))
            self._count, self._next_at = 0, time.monotonic() + self.EVERY.total_seconds()


_refusals = _Refusals()


class _Channel:
    # A doorbell that is lost is rung again by the relay. Where Redis goes away while a task runs, kombu would put
    # its message back, and acknowledge it later, by the connection that is gone, and either error ends the worker:
    # it is neither put back nor kept until it is acknowledged (`ack_emulation`).
    do_restore = False

    def _has_queue(self, _queue: str, **_: Any) -> bool:
        """A list without messages isn't there, and kombu asks for it without `global_keyprefix`."""
        return True

    def _get_client(self) -> Any:
        super()._get_client()  # type: ignore[misc]  # which refuses a redis-py that is too old
        prefix = self.global_keyprefix  # type: ignore[attr-defined]
        return partial(_PrefixedClient, global_keyprefix=prefix) if prefix else _PlainClient

    def _size(self, queue: str) -> int:
        """Messages in a queue. A key of another type in its place isn't ours, and would keep it shut for ever."""
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
    """Of a single server."""


class SentinelChannel(_Channel, kombu_redis.SentinelChannel):  # type: ignore[misc]
    """Of a server that the sentinels name."""


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """Redis, whose every error is waited out."""

    Channel = Channel
    connection_errors = (*kombu_redis.Transport.connection_errors, RedisError, *NOT_UNDERSTOOD)

    def establish_connection(self) -> Any:
        """Raises RedisError where the server answers but takes no writes: kombu then tries again, with pauses."""
        connection = super().establish_connection()
        try:
            channel = self._avail_channels[-1]
            with channel.conn_or_acquire() as client:
                client.delete("pgvector-sync:writable")  # what BRPOP may do, this may
        except (RedisError, *NOT_UNDERSTOOD):
            self.close_connection(connection)
            raise
        return connection


class SentinelTransport(Transport):
    """The same, through sentinels."""

    default_port = 26379
    Channel = SentinelChannel

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        client.alt = client.transport_options["sentinels"]
