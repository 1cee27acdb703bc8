"""Reads and writes task messages. Only the task and its arguments are used of a message.

Any program that can write to the broker can write any message. So before Celery sees a message, it is parsed here,
with a limit on its size, and written anew: its time limits, callbacks, chords, retries and ids have no effect (see
decision 0035).
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from pgvector_sync.errors import MessageRefused
from pgvector_sync.model import Lane

EMBED_BATCH = "pgvector_sync.embed_batch"
RUN = "pgvector_sync.run"
REEMBED = "pgvector_sync.reembed"
TICK = "pgvector_sync.tick"
TASKS = (EMBED_BATCH, RUN, REEMBED, TICK)
"""Task names are fixed, so that messages in a queue stay valid when a module moves."""

LARGEST_BYTES = 16_384
"""The largest message accepted; ours have about a thousand bytes."""
LONGEST_NAME = 200
"""The longest name of a pipeline, in characters."""
LARGEST_SLOT = 1_000
"""The maximum of PGVECTOR_SYNC_IN_FLIGHT_BATCHES."""
_UTF8 = re.compile(r"utf-?8", re.IGNORECASE)

Arguments = tuple[str | int | None, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """One of our tasks with valid arguments."""

    task: str
    args: Arguments
    expires: datetime | None = None


def read(raw: bytes) -> Call:
    """Parse a message as stored in a Redis queue. Raises MessageRefused."""
    if len(raw) > LARGEST_BYTES:
        raise MessageRefused(f"expected at most {LARGEST_BYTES:,} bytes, got {len(raw):,}")
    match _json(raw):
        case {
            "body": str(body),
            "content-type": "application/json",
            "content-encoding": str(encoding),
            "headers": dict(headers),
            "properties": {"body_encoding": "base64"},
        } if _UTF8.fullmatch(encoding) and not headers.get("compression"):
            return call(headers, _json(_decoded(body)))
    raise MessageRefused("not a Celery message in JSON")


def call(headers: Mapping[str, Any], body: object) -> Call:
    """Parse the headers and the decoded body of a message from any broker. Raises MessageRefused."""
    task = headers.get("task")
    if not isinstance(task, str) or task not in _CHECKS:
        raise MessageRefused("not a pgvector-sync task")
    if headers.get("eta") is not None:
        raise MessageRefused("eta isn't supported")
    match body:
        case [list(args), dict(named), *_]:
            return Call(task, arguments(task, args, named), _expiry(headers.get("expires")))
    raise MessageRefused("the body isn't a list of arguments")


def arguments(task: str, args: list[Any] | tuple[Any, ...], named: Mapping[str, Any]) -> Arguments:
    """Return the arguments for a task. Raises MessageRefused if they aren't valid."""
    try:
        return _CHECKS[task](*args, **named)
    except (TypeError, ValueError):
        raise MessageRefused(f"invalid arguments for {task}") from None


def write(call: Call, queue: str) -> bytes:
    """Return the message as Celery and kombu would write it, with no content from another program."""
    task_id = str(uuid4())
    body = json.dumps(body_of(call)).encode()
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers_of(call, task_id),
        "properties": {
            "correlation_id": task_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        },
    }
    return json.dumps(message).encode()


def body_of(call: Call) -> list[Any]:
    """Return the body of a message in Celery's protocol 2."""
    return [list(call.args), {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]


def headers_of(call: Call, task_id: str) -> dict[str, Any]:
    """Return the headers of a message in Celery's protocol 2."""
    return {
        "lang": "py",
        "task": call.task,
        "id": task_id,
        "root_id": task_id,
        "parent_id": None,
        "group": None,
        "shadow": None,
        "eta": None,
        "expires": None if call.expires is None else call.expires.isoformat(),
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": repr(call.args),
        "kwargsrepr": "{}",
        "ignore_result": True,
    }


def _json(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise MessageRefused("not JSON") from None


def _decoded(body: str) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        raise MessageRefused("the body isn't base64") from None


def _expiry(expires: object) -> datetime | None:
    if expires is None:
        return None
    try:
        expiry = datetime.fromisoformat(expires)  # type: ignore[arg-type]  # TypeError where it isn't a string
        return expiry.astimezone(UTC) if expiry.tzinfo else expiry.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        raise MessageRefused("`expires` isn't a time") from None


def _embed_batch(pipeline: object, lane: object, slot: object = 0, share: object = None) -> Arguments:
    share = None if share is None else _integer(share, 1, LARGEST_SLOT)
    return _name(pipeline), Lane(str(lane)).value, _integer(slot, 0, LARGEST_SLOT), share


def _run(run_id: object) -> Arguments:
    return (_integer(run_id, 1, 2**63 - 1),)


def _reembed(pipeline: object) -> Arguments:
    return (_name(pipeline),)


def _tick() -> Arguments:
    return ()


_CHECKS: dict[str, Callable[..., Arguments]] = {
    EMBED_BATCH: _embed_batch,
    RUN: _run,
    REEMBED: _reembed,
    TICK: _tick,
}


def _name(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_NAME or "\0" in value:
        raise ValueError
    return value


def _integer(value: object, minimum: int, maximum: int) -> int:
    if type(value) is not int or not minimum <= value <= maximum:
        raise ValueError
    return value
