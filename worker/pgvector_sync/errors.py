"""Every error that pgvector-sync raises, in one tree.

    SyncError
    ├── ConfigError            the file or the environment is wrong (exit 2)
    ├── Refused                what was asked for can't or must not be done (exit 1)
    │   └── MigrationRefused   the database's schema and this program don't fit
    ├── MessageRefused         a message in a queue isn't one of ours; it is dropped
    ├── LeaseLost              another worker holds the rows by now; nothing was written
    ├── DatabaseRefuses        source, target or an expression fail for every row (waits for a person)
    └── ProviderError
        ├── RateLimited        wait, then go on                        (retryable)
        ├── Unavailable        5xx, timeout, connection                (retryable)
        ├── BrokenContract     the answer makes no sense               (retryable, a few times)
        ├── Misconfigured      key, model, quota, parameter            (waits for a person)
        └── InputRejected      this input, and no other                (permanent)

An error carries data, says what to do next in `hint`, and never holds source text or a secret (G13).
"""

from __future__ import annotations

from datetime import timedelta


class SyncError(Exception):
    """Base of all our errors: `str(error)` says what happened, `hint` what to do next."""

    exit_code = 1
    retryable = False

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

    retryable = True


class DatabaseRefuses(SyncError):
    """Not one row's fault: the text or `where` fails on every row, or the target refuses whatever is written.

    The pipeline becomes `misconfigured` with this as its reason, and no row is parked.
    """

    def __init__(self, message: str, *, sqlstate: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.sqlstate = sqlstate


class ProviderError(SyncError):
    """What an embedding provider answered, sorted by what has to happen next.

    `status` is the HTTP status where there was one, `code` the provider's own short word for it
    (`insufficient_quota`, say). The provider's prose is left out: it may quote the input.
    """

    name = "provider_error"

    def __init__(
        self, message: str, *, status: int | None = None, code: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code


class RateLimited(ProviderError):
    """429: all workers wait for `retry_after` (None where the provider didn't say)."""

    name = "rate_limited"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        retry_after: timedelta | None = None,
        status: int | None = 429,
        code: str | None = None,
    ) -> None:
        super().__init__(message, status=status, code=code)
        self.retry_after = retry_after


class Unavailable(ProviderError):
    """5xx, a timeout, a connection that failed: retried in the call, then the pipeline cools down."""

    name = "unavailable"
    retryable = True

    def __init__(
        self,
        message: str,
        *,
        retry_after: timedelta | None = None,
        status: int | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, status=status, code=code)
        self.retry_after = retry_after


class BrokenContract(ProviderError):
    """A wrong count, order or dimension, NaN, infinity, a zero vector, something that isn't JSON."""

    name = "broken_contract"
    retryable = True


class Misconfigured(ProviderError):
    """401, 403, an unknown model, a used-up quota, a refused parameter, a host that isn't allowed."""

    name = "misconfigured"


class InputRejected(ProviderError):
    """400, 413, 422: the provider refuses the input. Whose fault it is, a probe text tells."""

    name = "input_rejected"
