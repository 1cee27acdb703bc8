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

from pgvector_sync.embedding import error_body
from pgvector_sync.embedding.network.proxies import HOW_TO_LOG_IN, NO_LOGIN
from pgvector_sync.embedding.secret_parts import shows_part_of
from pgvector_sync.errors import CallRejected, InputRejected, ProviderError, QuotaUsedUp, RateLimited, Unavailable
from pgvector_sync.model import Provider

_CODE = re.compile(r"(?=.{1,64}$)(?:[a-z]{1,30}\d{0,3}|\d{1,6})(?:[_.-](?:[a-z]{1,30}\d{0,3}|\d{1,6}))*", re.ASCII)
"""Words and short numbers. Any other mix of letters and digits may be a key."""
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_INPUT = {400, 413, 422}
_OUTAGE = {408, 409, 421, 423, 424, 425, 498, 499}
"""A conflict or a lock, a backend's failure or timeout, and a request that a proxy has given up."""
_RATE = {420, 429}

# What short codes say, in the words of many endpoints.
_SAYS_PAY = re.compile(
    r"insufficient_(user_)?(quota|balance|credit|fund)|exceeded_current_quota|budget_exceeded|free_tier_only"
    r"|balance_(not_enough|too_low)|billing|payment|arrear|overdue"
)
_SAYS_RATE = re.compile(r"rate_?limit|throttl|too_many_requests|resource_exhausted")
_SAYS_QUOTA = re.compile(r"quota")
_SAYS_KEY = re.compile(r"api_key|auth(entication|_error)|unauthenticated|unauthorized")
_SAYS_OUTAGE = re.compile(
    r"internal_?(server_?)?(error|exception|failure)|unavailable|overload|time_?out|timed_out"
)
_SAYS_SIZE = re.compile(r"too_(long|large|many)|above_max|max_tokens|context_length|length_exceed")
_SAYS_INPUT = re.compile(r"invalid|bad_?request|not_found|unsupported|unprocessable|too_(long|large|many)|exceed")
_MEANINGS = ((_SAYS_RATE, 429), (_SAYS_QUOTA, 402), (_SAYS_KEY, 401), (_SAYS_OUTAGE, 503))
_LONGEST_WAIT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer with a status of 300 or more, or one of success that describes a failure."""

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
        texts = [word for word in words if isinstance(word, str) and _CODE.fullmatch(word.lower())]
        codes = [_CAPITAL.sub("_", text).lower() for text in texts]
        return [code for code in codes if not self._shows_secret(code)]

    def _shows_secret(self, code: str) -> bool:
        return any(shows_part_of(code, secret) for secret in self.secrets)

    def answer(self, code: str | None) -> str:
        """Return status and code as messages show them."""
        return f"{self.status} {code}" if code else f"{self.status}"


def quota_used_up(refusal: Refusal, code: str | None) -> QuotaUsedUp:
    """Return the error for a used-up quota, or an account without credit."""
    return QuotaUsedUp(
        f"the provider account's quota is used up ({refusal.answer(code)})",
        status=refusal.status,
        code=code,
        hint="check the plan, balance and billing of your account, then resume the pipeline",
    )


def key_rejected(refusal: Refusal, code: str | None) -> CallRejected:
    """Return the error for a key that the provider doesn't accept."""
    provider = refusal.provider
    if provider.api_key_env is not None:
        hint = f"set {provider.api_key_env} to a valid key where the workers run, and restart them"
    elif provider.headers:
        hint = f"correct the headers of [providers.{provider.name}], or the variables that they name"
    else:
        section = f"[providers.{provider.name}]"
        hint = f"name the variable with the key as api_key_env in {section}, then: pgvector-sync apply"
    return CallRejected(
        f"the provider rejected the API key ({refusal.answer(code)})",
        status=refusal.status,
        code=code,
        hint=hint,
    )


def model_unknown(refusal: Refusal, code: str | None) -> CallRejected:
    """Return the error for a model that the provider doesn't have."""
    return CallRejected(
        f"the provider doesn't know the model ({refusal.answer(code)})",
        status=refusal.status,
        code=code,
        hint="correct the pipeline's model (or query.model) in pgvector-sync.toml, then: pgvector-sync apply",
    )


def denied(refusal: Refusal, code: str | None) -> CallRejected:
    """Return the error for a key that is valid, and not allowed to make this call."""
    return CallRejected(
        f"the provider denied access ({refusal.answer(code)})",
        status=refusal.status,
        code=code,
        hint="check the permissions of the key and its access to the model",
    )


def meaning(message: object, phrases: Mapping[str, str]) -> str | None:
    """Return the code of the first phrase that occurs in a provider's message, None if none does.

    For providers that answer with prose alone. The prose is compared and never shown.
    """
    text = message.lower() if isinstance(message, str) else ""
    return next((code for phrase, code in phrases.items() if phrase in text), None)


def by_body(refusal: Refusal) -> ProviderError:
    """Return the error for a refusal, by the short codes in its body, else by its status."""
    codes = refusal.codes(error_body.words(refusal.body))
    code = next(iter(codes), None)
    if _say(codes, _SAYS_PAY):
        return quota_used_up(refusal, code)
    means = refusal.status
    if refusal.status < 300:
        named = error_body.status(refusal.body)
        means = named or (400 if _say(codes, _SAYS_INPUT) else 503)
        code = code or (str(named) if named else None)
    if refusal.status < 300 or refusal.status in {400, 403}:  # statuses that stand for anything
        for what, status in _MEANINGS:
            if _say(codes, what):
                return by_status(refusal, code, means=status)
    return by_status(refusal, code, means=means)


def by_status(refusal: Refusal, code: str | None = None, *, means: int | None = None) -> ProviderError:
    """Return the error for a refusal, by its status alone. `code` must come from `refusal.codes`.

    `means` is the status that the answer should have had.
    """
    status, answer, wait = refusal.status, refusal.answer(code), refusal.retry_after
    means = means or status
    if means in _RATE or (means == 402 and wait is not None):  # credit that is reserved for other requests
        return RateLimited(f"rate limited by the provider ({answer})", retry_after=wait, status=status, code=code)
    if means == 402:
        return quota_used_up(refusal, code)
    if means >= 500 or means in _OUTAGE:
        return Unavailable(f"the provider failed ({answer})", retry_after=wait, status=status, code=code)
    if means in _INPUT:
        return InputRejected(f"the provider rejected the input ({answer})", status=status, code=code)
    if means == 401:
        return key_rejected(refusal, code)
    if means == 403:
        return denied(refusal, code)
    message, hint = _misconfigured(refusal)
    return CallRejected(f"{message} ({answer})", status=status, code=code, hint=hint)


def says_too_large(error: InputRejected) -> bool:
    """Whether a text or a request was rejected for its size, as far as the provider says."""
    return error.status == 413 or _SAYS_SIZE.search(error.code or "") is not None


def retry_after(headers: Mapping[str, str], *, now: datetime, body: object = None) -> timedelta | None:
    """Return how long the provider asks us to wait: `retry-after-ms`, or `Retry-After` as seconds or an HTTP date.

    Without these headers the parsed body may say it. The result is between zero and a day, None if nothing says it
    or it can't be parsed.
    """
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            wait: timedelta | None = timedelta(milliseconds=float(milliseconds))
        elif (value := headers.get("retry-after")) is None:
            wait = error_body.pause(body)
        elif re.fullmatch(r"[\d.]+", value.strip(), re.ASCII):
            wait = timedelta(seconds=float(value))
        else:
            at = parsedate_to_datetime(value)
            wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - now
    except (ValueError, OverflowError):
        return None
    return None if wait is None else max(timedelta(0), min(wait, _LONGEST_WAIT))


def _misconfigured(refusal: Refusal) -> tuple[str, str]:
    """Return the message and the hint."""
    if 300 <= refusal.status < 400:
        return (
            "the provider answered with a redirect, which isn't followed",
            f"set {refusal.setting} to the final address",
        )
    if refusal.status == 407:  # only for calls over http: for https, no tunnel is opened, see `proxies`
        return NO_LOGIN, HOW_TO_LOG_IN
    return "the provider rejected the call", f"check the pipeline's model and {refusal.setting}"


def _say(codes: Iterable[str], what: re.Pattern[str]) -> bool:
    return any(what.search(code) for code in codes)
