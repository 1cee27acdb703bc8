"""Maps a provider's refusal to a class of our error tree.

The provider's message is dropped, since it may quote the input or the key. Only the status and the short code are
kept, the code only if it looks like one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from pgvector_sync.errors import CallRejected, InputRejected, ProviderError, RateLimited, Unavailable
from pgvector_sync.model import Provider

_CODE = re.compile(r"(?=.{1,64}$)(?:[a-z]{1,30}\d{0,3}|\d{1,6})(?:[_.-](?:[a-z]{1,30}\d{0,3}|\d{1,6}))*", re.ASCII)
"""Words and short numbers. Any other mix of letters and digits may be a key."""
_SHARED_CHARACTERS = 8
"""A code with this many consecutive characters of the key is dropped."""
_INPUT = {400, 413, 422}
_LONGEST_WAIT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer with a status of 300 or more."""

    status: int
    body: object = field(repr=False)
    """The parsed JSON, None if it isn't JSON. Only what `codes` returns may be shown."""
    retry_after: timedelta | None
    provider: Provider
    setting: str
    """The setting that decides the provider's address: what to correct if the address is wrong."""
    secrets: tuple[str, ...] = field(repr=False)
    """What was sent as a secret: the key, and headers from the environment."""

    def codes(self, words: Iterable[object]) -> list[str]:
        """Return those of the given words of the body that look like a short code and show no part of a secret."""
        texts = [word.lower() for word in words if isinstance(word, str)]
        return [text for text in texts if _CODE.fullmatch(text) and not self._shows_secret(text)]

    def _shows_secret(self, code: str) -> bool:
        return any(_shares(code, secret) for secret in self.secrets)

    def answer(self, code: str | None) -> str:
        """Return status and code as messages show them."""
        return f"{self.status} {code}" if code else f"{self.status}"


def quota_used_up(refusal: Refusal, code: str | None) -> CallRejected:
    """Return the error for a used-up quota."""
    return CallRejected(
        f"the provider account's quota is used up ({refusal.answer(code)})",
        status=refusal.status,
        code=code,
        hint="check the plan and billing of your account, then: pgvector-sync resume",
    )


def by_status(refusal: Refusal, code: str | None = None) -> ProviderError:
    """Return the error for a refusal, by its status alone. `code` must come from `refusal.codes`."""
    status, answer, wait = refusal.status, refusal.answer(code), refusal.retry_after
    if status == 429:
        return RateLimited(f"rate limited by the provider ({answer})", retry_after=wait, status=status, code=code)
    if status >= 500 or status in {408, 409, 425}:
        return Unavailable(f"the provider failed ({answer})", retry_after=wait, status=status, code=code)
    if status in _INPUT:
        return InputRejected(f"the provider rejected the input ({answer})", status=status, code=code)
    message, hint = _misconfigured(refusal)
    return CallRejected(f"{message} ({answer})", status=status, code=code, hint=hint)


def retry_after(headers: Mapping[str, str], *, now: datetime) -> timedelta | None:
    """Return how long the provider asks us to wait: `retry-after-ms`, or `Retry-After` as seconds or an HTTP date.

    The result is between zero and a day, None if there is no such header or it can't be parsed.
    """
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            wait = timedelta(milliseconds=float(milliseconds))
        elif (value := headers.get("retry-after")) is None:
            return None
        elif re.fullmatch(r"[\d.]+", value.strip(), re.ASCII):
            wait = timedelta(seconds=float(value))
        else:
            at = parsedate_to_datetime(value)
            wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
    except (ValueError, OverflowError):
        return None
    return max(timedelta(0), min(wait, _LONGEST_WAIT))


def _misconfigured(refusal: Refusal) -> tuple[str, str]:
    """Return the message and the hint."""
    if 300 <= refusal.status < 400:
        return (
            "the provider answered with a redirect, which isn't followed",
            f"set {refusal.setting} to the final address",
        )
    if refusal.status == 401:
        key = refusal.provider.api_key_env or "api_key_env of the provider"
        return "the provider rejected the API key", f"set {key} to a valid key, then: pgvector-sync resume"
    if refusal.status == 403:
        return "the provider denied access", "check the permissions of the key and its access to the model"
    return (
        "the provider doesn't know the model or the address",
        f"check the pipeline's model and {refusal.setting}",
    )


def _shares(code: str, key: str) -> bool:
    """Whether a code shows a part of the key, ignoring case and everything except letters and digits."""
    code, key = (re.sub(r"[^a-z0-9]", "", word.lower()) for word in (code, key))
    length = min(_SHARED_CHARACTERS, len(key))
    return length > 0 and any(key[i : i + length] in code for i in range(len(key) - length + 1))
