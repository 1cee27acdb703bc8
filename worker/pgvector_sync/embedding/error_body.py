"""What the body of an error says, in the forms in which endpoints say it. Pure functions of parsed JSON.

All that they return was written by the endpoint. `refusal` decides which of it may be shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from itertools import chain

_INNER = ("error", "errors", "detail", "details", "innererror", "base_resp")
"""Where an error is described: an object, or a list with one or several of them."""
_CODES = ("reason", "code", "error_code", "error_type", "type", "status", "status_code", "__type")
_NAMES = ("param", "loc", "field")
_PROSE = ("message", "error", "detail", "msg", "status_msg", "title")
_FILLERS = {"", "0", "none", "null", "error", "true", "false"}
_DELAY = re.compile(r"(\d{1,6}(?:\.\d{1,9})?)s", re.ASCII)

_MINIMAX = {
    **dict.fromkeys((1002, 1039, 1041), 429),
    **dict.fromkeys((1004, 2049), 401),
    **dict.fromkeys((1008, 2056), 402),
    **dict.fromkeys((1026, 1042, 2013), 400),
}
"""MiniMax's codes as HTTP statuses (platform.minimax.io/docs/api-reference/errorcode); all others are its own
failures."""


def words(body: object) -> Iterator[str]:
    """Yield what may be a short code, the most important first, without those that only repeat an HTTP status."""
    for part in _parts(body):
        for name in _CODES:
            word = _text(part.get(name)).rpartition("#")[2]  # AWS puts a namespace before it
            if word.lower() not in _FILLERS and _http_status(word) is None:
                yield word


def status(body: object) -> int | None:
    """Return the HTTP status that the body names, which may differ from that of the answer."""
    for part in _parts(body):
        for name in _CODES:
            value = part.get(name)
            named = _MINIMAX.get(value) if name == "status_code" and type(value) is int else None
            if named or (named := _http_status(_text(value))):
                return named
    return None


def pause(body: object) -> timedelta | None:
    """Return how long the body asks to wait: `retryDelay`, in which Google gives seconds."""
    for part in _parts(body):
        if match := _DELAY.fullmatch(str(part.get("retryDelay"))):
            return timedelta(seconds=float(match[1]))
    return None


def parameter(body: object, names: Sequence[str]) -> str | None:
    """Return which of these parameters the body complains about, None if it names none of them.

    Many endpoints name it in their message only. The message isn't returned.
    """
    parts = list(_parts(body))
    texts = [str(part[name]) for keys in (_NAMES, _PROSE) for part in parts for name in keys if part.get(name)]
    patterns = [re.compile(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", re.IGNORECASE) for name in names]
    found = (name for text in texts for name, of in zip(names, patterns, strict=True) if of.search(text))
    return next(found, None)


def reports_failure(body: object) -> bool:
    """Whether an answer with a status of success describes a failure instead of the vectors."""
    if isinstance(body, list):
        body = body[0] if len(body) == 1 else None
    if not isinstance(body, Mapping):
        return False
    if body.get("error") or body.get("errors") or body.get("object") == "error":
        return True
    base = body.get("base_resp")
    if isinstance(base, Mapping) and base.get("status_code"):
        return True
    return not body.get("data") and any(body.get(name) for name in ("code", "error_code", "detail"))


def _parts(body: object) -> Iterator[Mapping[str, object]]:
    """Yield the objects that describe the error: the error itself, its details, and what is around it."""
    if isinstance(body, list):  # as Gemini's compatible endpoint does
        body = body[0] if len(body) == 1 else None
    if not isinstance(body, Mapping):
        return
    errors = list(_within(body))
    yield from errors
    yield from chain.from_iterable(map(_within, errors))
    yield body


def _within(part: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    for name in _INNER:
        inner = part.get(name)
        for item in inner[:10] if isinstance(inner, list) else [inner]:
            if isinstance(item, Mapping):
                yield item


def _text(value: object) -> str:
    """Return a string or a whole number as text, and an empty text for anything else."""
    return value if isinstance(value, str) else str(value) if type(value) is int else ""


def _http_status(word: str) -> int | None:
    with suppress(ValueError):
        if len(word) == 3 and 400 <= int(word) <= 599:
            return int(word)
    return None
