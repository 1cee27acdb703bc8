"""The sessions of an interleaving: each is a thread that runs production code and stops before every step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest

from pgvector_sync.batch import slice as slice_module
from pgvector_sync.database import LOCK_CONFLICT
from pgvector_sync.failpoint import Failpoint
from pgvector_sync.model import Lane
from pgvector_sync.store import rows
from pgvector_sync.store.work import Holding
from proof.arena import Arena, Violation

END = "end"
LOCK_CHECK_SECONDS = 0.004
"""How often a step that hasn't ended is checked for waiting for a lock."""
STEP_TIMEOUT_SECONDS = 10.0


class Actor(threading.Thread):
    """One session. Its script calls `before(step)`, which returns when the play calls `proceed`."""

    def __init__(
        self,
        name: str,
        steps: Sequence[str],
        script: Callable[[Actor], None],
        blocked: Callable[[], bool] | None = None,
    ) -> None:
        """`blocked` returns whether the session waits for a lock; without it, every step is expected to end by itself."""
        super().__init__(name=name, daemon=True)
        self.steps, self.script, self.blocked = steps, script, blocked
        self.at, self.waiting, self.inside = END, False, False
        self._error: BaseException | None = None
        self._closing = False
        self._go, self._arrived = threading.Semaphore(0), threading.Semaphore(0)
        self.start()

    def is_beyond(self, step: str) -> bool:
        """Whether it has taken or skipped this step."""
        return self.ended or self.steps.index(self.at) > self.steps.index(step)

    @property
    def ended(self) -> bool:
        return self.at == END and not self.waiting

    def proceed(self) -> None:
        """Takes one step: runs until the next one, or until it waits for a lock."""
        self._go.release()
        self.observe()

    def observe(self) -> None:
        """Waits until the step has ended, or is known to wait for a lock."""
        for _ in range(int(STEP_TIMEOUT_SECONDS / LOCK_CHECK_SECONDS)):
            if self._arrived.acquire(timeout=LOCK_CHECK_SECONDS):
                self.waiting = False
                break
            if self.blocked is not None and self.blocked():
                self.waiting = True
                break
        else:
            raise TimeoutError(f"{self.name} hangs before {self.at}")
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        self._closing = True
        self._go.release()
        self.join()

    def before(self, step: str) -> None:
        """Called by the script before a step. A step that the session doesn't list is part of the previous one."""
        if step not in self.steps:
            return
        self.at = step
        self._arrived.release()
        self._go.acquire()

    def run(self) -> None:
        while True:
            self._go.acquire()
            if self._closing:
                return
            try:
                self.script(self)
            except BaseException as error:  # noqa: BLE001  # raised again in the play's thread
                self._error = error
            self.at = END
            self._arrived.release()


def worker(steps: Arena, *, late: bool = False) -> Callable[[Actor], None]:
    """The script of one batch; `stops_in_writes` makes its write stop inside the transaction. With `late`, all leases are lost
    before its claim.
    """

    def script(actor: Actor) -> None:
        # a worker that gives up on a lock keeps its lease, which then expires like that of a dead worker
        with suppress(*LOCK_CONFLICT):
            actor.before("claim")
            if late:
                steps.expire_leases()
            batch = steps.try_claim(Lane.BULK)
            if batch is not None:
                actor.before("embed")
                prepared = steps.embed(batch)
                actor.before("lock")
                steps.write(batch, prepared)

    return script


def application(connection: psycopg.Connection[Any], statements: list[str]) -> Callable[[Actor], None]:
    """The script of the application: each statement in its own transaction, which stays open until the next step."""

    def script(actor: Actor) -> None:
        for number, statement in enumerate(statements, start=1):
            actor.before(statement)
            try:
                connection.execute(statement)
                actor.before(f"commit {number}")
                connection.commit()
            except psycopg.Error as error:
                connection.rollback()
                raise Violation("G5", f"the application's transaction fails: {error}") from error

    return script


@contextmanager
def stops_in_writes() -> Iterator[None]:
    """Makes a worker's write stop between lock and look (in either order), before the write, and before the commit."""
    reach, lock, look = slice_module.reach, Holding.lock, rows.look

    def stopping(step: Callable[..., Any]) -> Callable[..., Any]:
        def stopped(*args: Any, **kwargs: Any) -> Any:
            actor = threading.current_thread()
            if isinstance(actor, Actor):
                if actor.inside:
                    actor.before("look")
                actor.inside = True
            return step(*args, **kwargs)

        return stopped

    def reached(point: Failpoint) -> None:
        actor = threading.current_thread()
        if isinstance(actor, Actor):
            if point is Failpoint.WRITE_HELD:
                actor.inside = False
            elif point is Failpoint.WRITE_LOOKED:
                actor.before("write")
            elif point is Failpoint.WRITE_ACKED:
                actor.before("commit")
        reach(point)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slice_module, "reach", reached)
        patch.setattr(Holding, "lock", stopping(lock))
        patch.setattr(rows, "look", stopping(look))
        yield
