"""Every error that pgvector-sync raises, in one tree.

    SyncError
    ├── ConfigError              the file or the environment is wrong (exit 2)
    ├── Refused                  the request can't or must not be carried out (exit 1)
    │   ├── MigrationRefused     the database's schema doesn't match this program
    │   └── UnknownPipeline      no pipeline has this name
    ├── MessageRefused           a message in a queue isn't valid; it is dropped
    ├── TaskFailed               a Celery task met an unexpected error
    ├── LeaseLost                another worker holds the rows now; nothing was written
    ├── DatabaseRefuses          source, target or an expression fails for every row
    └── ProviderError
        ├── OutOfTime            the batch had no time left for the call
        ├── RateLimited          429
        │   ├── BudgetExhausted  our own budget has room again within moments
        │   └── BudgetOverdrawn  our own budget has no room for longer than that
        ├── Unavailable          5xx, 424, connection
        │   ├── TimedOut         no answer within the time limit of a call
        │   └── Unreachable      no connection within the time limit
        ├── BrokenContract       the answer isn't valid
        ├── Misconfigured        this environment or the configuration prevents the call
        │   └── CallRejected     the provider rejects the call: key, model, address
        │       └── QuotaUsedUp  402, or a code that says so
        └── InputRejected        the provider rejects this input

A class's `disposition` says what happens next; no other module decides by an error's class or code. An error
carries data, says what to do next in `hint`, and never contains source text or a secret (G13).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import ClassVar


class Next(StrEnum):
    """What a pipeline does after an error in one of its batches. The values are the words of docs/failures.md."""

    CARRY_ON = "carries on"
    """The rows are released, and the pipeline's state stays the same."""
    COOL_DOWN = "cools down"
    """The pipeline waits, shows the reason, and resumes automatically."""
    STOP = "is misconfigured"
    """The pipeline waits until the configuration is corrected. Probes detect that."""


class RowFault(StrEnum):
    """Whether one row can cause an error of a class, and what that costs the row.

    A row is held responsible only if a harmless text succeeds right after the row has failed.
    """

    NEVER = "no"
    IN_A_PROBE = "only in a probe, whose harmless text has just succeeded: costs an attempt"
    COSTS_ATTEMPT = "yes: costs an attempt"
    PARKS = "yes: parked at once"
    PARKS_IF_REPEATED = "yes: parked at once if a second try fails as well"

    @property
    def rejects(self) -> bool:
        """Whether the text was rejected, rather than that something failed on it."""
        return self in (RowFault.PARKS, RowFault.PARKS_IF_REPEATED)


@dataclass(frozen=True, slots=True)
class Disposition:
    """What happens next when a batch meets an error of a class."""

    pipeline: Next
    row: RowFault = RowFault.NEVER
    whole_model: bool = False
    """All pipelines of the same provider and model wait as well."""
    quota: bool = False
    """A request that is larger than a quota may get this failure however long it waits."""


UNEXPECTED = Disposition(Next.COOL_DOWN)
"""The disposition of an error that no batch expects, such as a bug or a task's time limit."""


class SyncError(Exception):
    """Base of all our errors: `str(error)` says what happened, `hint` what to do next."""

    exit_code = 1
    disposition: ClassVar[Disposition] = UNEXPECTED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(SyncError):
    """The configuration is wrong. The message names the file or variable, the key in it, and what was expected."""

    exit_code = 2

    def __init__(
        self, message: str, *, where: str | None = None, key: str | None = None, hint: str | None = None
    ) -> None:
        place = ": ".join(part for part in (where, key) if part)
        super().__init__(f"{place}: {message}" if place else message, hint=hint)
        self.where = where
        self.key = key


class Refused(SyncError):
    """The request can't or must not be carried out; `hint` says how to fix that, often as an SQL statement."""


class MigrationRefused(Refused):
    """The database's schema is older or newer than the program, or an applied migration was edited."""


class UnknownPipeline(Refused):
    """No pipeline has this name: it is misspelt, isn't applied yet, or has been removed."""


class MessageRefused(SyncError):
    """A message names an unknown task, or has arguments that the task doesn't take. Its content isn't quoted."""


class TaskFailed(SyncError):
    """A Celery task met an unexpected error. Holds its class, SQLSTATE and place, but not its message."""


class LeaseLost(SyncError):
    """The rows now belong to another worker, spec or generation. Nothing was written."""

    disposition = Disposition(Next.CARRY_ON)


class DatabaseRefuses(SyncError):
    """`text` or `where` fails on every row, or the target refuses every write. No single row is at fault."""

    disposition = Disposition(Next.STOP)

    def __init__(self, message: str, *, sqlstate: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.sqlstate = sqlstate


class ProviderError(SyncError):
    """The base of errors in calls of an embedding provider, including calls that weren't sent.

    `status` is the HTTP status, if there was one, and `code` the provider's own error code, such as
    `insufficient_quota`. The provider's message is left out, because it may quote the input.
    """

    name = "provider_error"
    """The error class of a dead letter, if one row was the cause."""
    retried_within_call: ClassVar[bool] = False
    """Whether the request is retried within the same call."""
    unanswered: ClassVar[bool] = False
    """Whether a time limit ended the call."""
    expected: ClassVar[bool] = False
    """Whether it is part of normal operation: `doctor` then shows a warning rather than an error."""
    advice: ClassVar[str] = "check the provider's section in pgvector-sync.toml, then: pgvector-sync apply"
    """What `doctor` recommends if there is no `hint`; `{setting}` is the setting with the provider's address."""
    elsewhere = False
    """Whether it may be right in another environment, such as that of other workers."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        retry_after: timedelta | None = None,
        dimensions: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.retry_after = retry_after
        """How long to wait, as the provider or our own budget asks."""
        self.dimensions = dimensions
        """The size of the returned vectors, if it is the only thing that is wrong with them."""
        self.positions: tuple[int, ...] = ()
        """The positions, among the texts of the call, of those in the request that failed."""
        self.octets = 0
        """The bytes of these texts."""
        self.request_id: str | None = None
        """The provider's id of the request, if its answer had one."""

    @property
    def answer(self) -> str:
        """The provider's answer as messages show it: its status and its code."""
        return " ".join(str(part) for part in (self.status, self.code) if part is not None)

    def of_one_input(self) -> ProviderError:
        """Returns the error to record once it is known that a single input causes this one."""
        return self


_UNREACHABLE = (
    "check {setting}, and whether this machine can reach it; while it is down, rows wait, and resume automatically"
)


class OutOfTime(ProviderError):
    """The batch had no time left for the call. Says nothing about the provider."""

    disposition = Disposition(Next.CARRY_ON)
    unanswered = True
    advice = _UNREACHABLE


class RateLimited(ProviderError):
    """429: all workers wait for `retry_after` (None if the provider didn't say)."""

    name = "rate_limited"
    disposition = Disposition(Next.COOL_DOWN, RowFault.IN_A_PROBE, whole_model=True, quota=True)
    expected = True
    advice = "rows wait, and resume automatically; if this recurs, lower the provider's requests_per_minute"


class BudgetExhausted(RateLimited):
    """Our own budget has room again soon, but too late for this batch. No request was sent."""

    disposition = Disposition(Next.CARRY_ON)


class BudgetOverdrawn(RateLimited):
    """Our own budget has no room for a longer time, for example after a 429. No request was sent."""

    disposition = Disposition(Next.COOL_DOWN, whole_model=True)


class Unavailable(ProviderError):
    """5xx, 424 or a failed connection: retried within the call, then the pipeline cools down."""

    name = "unavailable"
    disposition = Disposition(Next.COOL_DOWN, RowFault.COSTS_ATTEMPT)
    retried_within_call = True
    advice = _UNREACHABLE


class TimedOut(Unavailable):
    """No answer within the time limit of a call. Not retried: it has used up much of the batch's time."""

    retried_within_call = False
    unanswered = True

    def __init__(self) -> None:
        super().__init__("the provider did not answer in time")


class Unreachable(Unavailable):
    """The provider accepted no connection within the time limit. Not retried: it would take as long again."""

    disposition = Disposition(Next.COOL_DOWN)
    retried_within_call = False


class BrokenContract(ProviderError):
    """The answer has a wrong count, order or dimension, NaN, infinity or a zero vector, or isn't JSON."""

    name = "broken_contract"
    disposition = Disposition(Next.STOP, RowFault.COSTS_ATTEMPT)
    advice = _UNREACHABLE


class Misconfigured(ProviderError):
    """The environment or the configuration prevents the call: a missing key, a forbidden host, a certificate."""

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
        """The option in the file that is wrong, such as `base_url`."""
        self.elsewhere = elsewhere


class CallRejected(Misconfigured):
    """The provider rejects the call: 401, 403, an unknown model, a wrong address or parameter.

    If only one text gets this answer, a firewall or gateway has rejected that text. It is tried twice, since a
    server that is being replaced may answer 404 or 401 once.
    """

    disposition = Disposition(Next.STOP, RowFault.PARKS_IF_REPEATED)

    def of_one_input(self) -> ProviderError:
        """Returns a rejection of the input, whatever the status."""
        return InputRejected(
            f"the provider rejected the input ({self.answer})", status=self.status, code=self.code
        )


class QuotaUsedUp(CallRejected):
    """The account's quota or balance is used up. A person has to act, and no row is at fault.

    With little left, a short text may pass where a longer one doesn't.
    """

    name = "quota_used_up"
    disposition = Disposition(Next.STOP, RowFault.IN_A_PROBE)
    advice = "check the plan, balance and billing of your account, then resume the pipeline"

    def of_one_input(self) -> ProviderError:
        """Returns this error: the text is accepted once there is enough quota for it."""
        return self


class InputRejected(ProviderError):
    """400, 413, 422: the provider rejects the input. A harmless text then tells if the row is at fault."""

    name = "input_rejected"
    disposition = Disposition(Next.STOP, RowFault.PARKS)
    advice = "check the pipeline's model and dimensions in pgvector-sync.toml, then: pgvector-sync apply"
