"""Every error that pgvector-sync raises, in one tree, each class with what happens next.

    SyncError
    ├── ConfigError              the file or the environment is wrong (exit 2)
    ├── Refused                  the request can't or must not be carried out (exit 1)
    │   └── MigrationRefused     the database's schema and this program don't fit
    ├── MessageRefused           a message in a queue isn't one of ours; it is dropped
    ├── TaskFailed               a Celery task met an unexpected error
    ├── LeaseLost                another worker holds the rows by now; nothing was written
    ├── DatabaseRefuses          source, target or an expression fail for every row
    └── ProviderError
        ├── OutOfTime            the batch had no time left for the call
        ├── RateLimited          429
        │   ├── BudgetExhausted  our own budget has room again within moments
        │   └── BudgetOverdrawn  our own budget has no room for longer than that
        ├── Unavailable          5xx, connection
        │   ├── TimedOut         no answer within the time limit of a call
        │   └── Unreachable      no connection within its time limit
        ├── BrokenContract       the answer makes no sense
        ├── Misconfigured        this environment or the configuration prevents the call
        │   └── CallRejected     the provider rejects the call: key, model, quota
        └── InputRejected        the provider rejects this input

What happens next is the class's `disposition`; no other module decides by an error's class or code. An error
carries data, says what to do next in `hint`, and never holds source text or a secret (G13).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar


class Next(StrEnum):
    """What a pipeline does after an error in one of its batches. The values are the words of docs/failures.md."""

    CARRY_ON = "carries on"
    """The error says nothing about it: its rows go back, and its state stays."""
    COOL_DOWN = "cools down"
    """It waits, says why, and resumes by itself."""
    STOP = "is misconfigured"
    """It waits for a person to correct something. Probes notice when that is done."""


class RowFault(StrEnum):
    """Whether one row can cause an error of a class, and what that costs the row.

    A row is held responsible only after a harmless text has succeeded right behind its failure.
    """

    NEVER = "no"
    IN_A_PROBE = "only in a probe, whose harmless text has just succeeded: costs an attempt"
    COSTS_ATTEMPT = "yes: costs an attempt"
    PARKS = "yes: parked at once"


@dataclass(frozen=True, slots=True)
class Disposition:
    """What happens next when a batch meets an error of a class."""

    pipeline: Next
    row: RowFault = RowFault.NEVER
    whole_model: bool = False
    """All pipelines of the same provider and model wait as well."""


UNEXPECTED = Disposition(Next.COOL_DOWN)
"""Of an error that no batch expects: a bug, a time limit."""


class SyncError(Exception):
    """Base of all our errors: `str(error)` says what happened, `hint` what to do next."""

    exit_code = 1
    disposition: ClassVar[Disposition] = UNEXPECTED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(SyncError):
    """The configuration is wrong; names the file (or variable), the key in it and what was expected."""

    exit_code = 2

    def __init__(
        self, message: str, *, where: str | None = None, key: str | None = None, hint: str | None = None
    ) -> None:
        place = ": ".join(part for part in (where, key) if part)
        super().__init__(f"{place}: {message}" if place else message, hint=hint)
        self.where = where
        self.key = key


class Refused(SyncError):
    """A user asked for something that can't or must not be done; `hint` holds the statement that mends it."""


class MigrationRefused(Refused):
    """The database's schema is newer than the program, or an applied migration was edited."""


class MessageRefused(SyncError):
    """A message names no task of ours, or has arguments that it doesn't take. Holds nothing that it says."""


class TaskFailed(SyncError):
    """A Celery task met an error that nothing expects: class, SQLSTATE and place, and nothing that it quotes."""


class LeaseLost(SyncError):
    """The rows belong to another worker, another spec or another generation by now. Nothing was written."""

    disposition = Disposition(Next.CARRY_ON)


class DatabaseRefuses(SyncError):
    """Not one row's fault: the text or `where` fails on every row, or the target refuses whatever is written."""

    disposition = Disposition(Next.STOP)

    def __init__(self, message: str, *, sqlstate: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.sqlstate = sqlstate


class ProviderError(SyncError):
    """What an embedding provider answered, or why it wasn't called, sorted by what has to happen next.

    `status` is the HTTP status where there was one, `code` the provider's own short word for it
    (`insufficient_quota`, say). The provider's prose is left out: it may quote the input.
    """

    name = "provider_error"
    """The class of a dead letter, where one row was the cause."""
    retried_within_call: ClassVar[bool] = False
    """Worth another try within the same call."""
    unanswered: ClassVar[bool] = False
    """A time limit ended the call."""
    expected: ClassVar[bool] = False
    """Part of normal operation: `doctor` shows a warning rather than an error."""
    advice: ClassVar[str] = "check the provider's section in pgvector-sync.toml, then: pgvector-sync apply"
    """What `doctor` recommends where there is no `hint`; `{setting}` is what decides the provider's address."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: timedelta | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.retry_after = retry_after
        """How long the provider, or our budget, asks to wait."""

    def of_one_input(self) -> ProviderError:
        """The same failure, once it is known that one input causes it."""
        return self


_UNREACHABLE = (
    "check {setting}, and whether this machine reaches it; if it is down, rows wait and go on by themselves"
)


class OutOfTime(ProviderError):
    """The batch had no time left for the call, or for the rest of it. Says nothing about the provider."""

    disposition = Disposition(Next.CARRY_ON)
    unanswered = True
    advice = _UNREACHABLE


class RateLimited(ProviderError):
    """429: all workers wait for `retry_after` (None where the provider didn't say)."""

    name = "rate_limited"
    disposition = Disposition(Next.COOL_DOWN, RowFault.IN_A_PROBE, whole_model=True)
    expected = True
    advice = "rows wait and go on by themselves; lower requests_per_minute of the provider if it recurs"


class BudgetExhausted(RateLimited):
    """Our own budget has room again within moments, but too late for this batch. No request was sent."""

    disposition = Disposition(Next.CARRY_ON)


class BudgetOverdrawn(RateLimited):
    """Our own budget has no room for longer than moments (a 429 blocks it, say). No request was sent."""

    disposition = Disposition(Next.COOL_DOWN, whole_model=True)


class Unavailable(ProviderError):
    """5xx, or a connection that failed: retried in the call, then the pipeline cools down."""

    name = "unavailable"
    disposition = Disposition(Next.COOL_DOWN, RowFault.COSTS_ATTEMPT)
    retried_within_call = True
    advice = _UNREACHABLE


class TimedOut(Unavailable):
    """No answer within the time limit of a call, which has cost a large part of the batch's time."""

    retried_within_call = False
    unanswered = True

    def __init__(self) -> None:
        super().__init__("the provider did not answer in time")


class Unreachable(Unavailable):
    """The provider accepted no connection within its time limit: another try would cost as much again."""

    disposition = Disposition(Next.COOL_DOWN)
    retried_within_call = False


class BrokenContract(ProviderError):
    """A wrong count, order or dimension, NaN, infinity, a zero vector, something that isn't JSON."""

    name = "broken_contract"
    disposition = Disposition(Next.STOP, RowFault.COSTS_ATTEMPT)
    advice = _UNREACHABLE


class Misconfigured(ProviderError):
    """The environment or the configuration prevents the call: no key, a host that isn't allowed, a certificate."""

    name = "misconfigured"
    disposition = Disposition(Next.STOP)

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        option: str | None = None,
        elsewhere: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, status=status, code=code, hint=hint)
        self.option = option
        """The option of the file that decides it: `base_url`, say."""
        self.elsewhere = elsewhere
        """It may be right in another environment: that of the workers."""


class CallRejected(Misconfigured):
    """The provider answers that the call is wrong: 401, 403, an unknown model, a used-up quota, a parameter.

    Of one text alone it is a firewall's or a gateway's answer to that text.
    """

    disposition = Disposition(Next.STOP, RowFault.PARKS)

    def of_one_input(self) -> ProviderError:
        """A rejection of the input, whatever its status."""
        answer = " ".join(str(part) for part in (self.status, self.code) if part is not None)
        return InputRejected(f"the provider refuses the input ({answer})", status=self.status, code=self.code)


class InputRejected(ProviderError):
    """400, 413, 422: the provider refuses the input. Whose fault it is, a probe text tells."""

    name = "input_rejected"
    disposition = Disposition(Next.STOP, RowFault.PARKS)
    advice = (
        "check the pipeline's model and dimensions, and the provider's send_dimensions and encoding, "
        "in pgvector-sync.toml, then: pgvector-sync apply"
    )
