"""Sorting what the openai SDK raises into our error tree, by what has to happen next.

Nothing of the provider's prose survives: it may quote the input or the key. What is kept is the status and
the provider's short code, if that looks like one.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

import openai

from pgvector_sync.embedding.hosts import OPENAI_BASE_URL
from pgvector_sync.errors import (
    CallRejected,
    InputRejected,
    Misconfigured,
    ProviderError,
    RateLimited,
    TimedOut,
    Unavailable,
)

if TYPE_CHECKING:
    from pgvector_sync.model import Provider

_CODE = re.compile(r"(?=.{1,64}$)(?:[a-z]{1,30}\d{0,3}|\d{1,6})(?:[_.-](?:[a-z]{1,30}\d{0,3}|\d{1,6}))*", re.ASCII)
"""Words and short numbers. What mixes letters and digits otherwise may be a key."""
_PART_OF_A_KEY = 8
"""Characters that a code may not share with the key."""
_E = TypeVar("_E", bound=BaseException)
_QUOTA = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
_INPUT = {400, 413, 422}
_LONGEST_WAIT = timedelta(days=1)


def sort_failure(
    error: openai.OpenAIError, provider: Provider, setting: str = "base_url", *, key: str | None = None
) -> ProviderError:
    """Our error for the SDK's. Raise it `from None`: the SDK's own message holds the provider's prose.

    `setting` is what decided the provider's address: what to correct, where that is wrong. No part of `key`
    is shown.
    """
    if isinstance(error, openai.APIStatusError):
        return _sort_status(error, provider, setting, key)
    if ours := _cause(error, ProviderError):
        return ours
    if isinstance(error, openai.APITimeoutError):
        return TimedOut()
    if _cause(error, ssl.SSLCertVerificationError):
        return Misconfigured(
            "the provider's TLS certificate is not trusted",
            code="certificate",
            hint=f"check {setting}; for a private authority, point SSL_CERT_FILE to its certificate",
        )
    at = f" ({OPENAI_BASE_URL} decides its address)" if setting == OPENAI_BASE_URL else ""
    return Unavailable(f"the connection to the provider failed{at}", code="connection")


def retry_after(headers: Mapping[str, str], *, now: datetime) -> timedelta | None:
    """How long the provider asks us to wait: `retry-after-ms`, or `Retry-After` as seconds or HTTP date.

    Between zero and a day; None where it doesn't say, or nothing that can be read.
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


def _sort_status(error: openai.APIStatusError, provider: Provider, setting: str, key: str | None) -> ProviderError:
    status = error.status_code
    codes = [code for code in _codes(error.body) if not _shares(code, key or "")]
    code = codes[0] if codes else None
    answer = f"{status} {code}" if code else f"{status}"
    wait = retry_after(error.response.headers, now=datetime.now(UTC))
    if _QUOTA.intersection(codes):
        return CallRejected(
            f"the provider account's quota is used up ({answer})",
            status=status,
            code=code,
            hint="check plan and billing with the provider, then `pgvector-sync resume`",
        )
    if status == 429:
        return RateLimited(f"the provider limits our rate ({answer})", retry_after=wait, status=status, code=code)
    if status >= 500 or status in {408, 409, 425}:
        return Unavailable(f"the provider failed ({answer})", retry_after=wait, status=status, code=code)
    if status in _INPUT:
        return InputRejected(f"the provider refuses the input ({answer})", status=status, code=code)
    message, hint = _misconfigured(status, provider, setting)
    return CallRejected(f"{message} ({answer})", status=status, code=code, hint=hint)


def _misconfigured(status: int, provider: Provider, setting: str) -> tuple[str, str]:
    """What happened, and what to do next."""
    if 300 <= status < 400:
        return "the provider redirects, and redirects are not followed", f"set {setting} to the final address"
    if status == 401:
        key = provider.api_key_env or "api_key_env of the provider"
        return "the provider refuses the key", f"set {key} to a valid key, then `pgvector-sync resume`"
    if status == 403:
        return "the provider forbids the call", "check what the key may do, and the model's access"
    return (
        "the provider knows no such model or address",
        f"check the pipeline's model and {setting}",
    )


def _codes(body: object) -> list[str]:
    """The provider's short words for the failure: `error.code`, then `error.type`."""
    if not isinstance(body, Mapping):
        return []
    words = [str(body.get(name)).lower() for name in ("code", "type") if isinstance(body.get(name), str)]
    return [word for word in words if _CODE.fullmatch(word)]


def _shares(code: str, key: str) -> bool:
    """Whether a code shows a part of the key, in whatever case and with whatever between its letters."""
    code, key = (re.sub(r"[^a-z0-9]", "", word.lower()) for word in (code, key))
    length = min(_PART_OF_A_KEY, len(key))
    return length > 0 and any(key[i : i + length] in code for i in range(len(key) - length + 1))


def _cause(error: BaseException, kind: type[_E]) -> _E | None:
    """The first error of a kind that led to this one."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, kind):
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
