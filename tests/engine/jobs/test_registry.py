"""A job runs once per interval, however many processes check it, and a failing job stops no other."""

from __future__ import annotations

import threading
from datetime import timedelta

import psycopg
import pytest

from pgvector_sync.database import Database
from pgvector_sync.engine import jobs
from pgvector_sync.engine.jobs import Job, Jobs
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import Settings
from pgvector_sync.telemetry.events.dispatch import JobBusy, JobFailed
from support.events import collected
from support.synced import Synced

HOUR = timedelta(hours=1)
TICKS = "SELECT name FROM pgvector_sync.tick ORDER BY name"


class Counted:
    """A job that counts how often it has run."""

    def __init__(self, name: str = "counted", every: timedelta = HOUR) -> None:
        self.count = 0
        self.job = Job(name, every, self._run_once)

    def _run_once(self, _database: Database, _settings: Settings) -> None:
        self.count += 1


def failing(error: Exception) -> Job:
    def run_once(_database: Database, _settings: Settings) -> None:
        raise error

    return Job("failing", HOUR, run_once)


def started(runtime: Runtime, *of: Job) -> Jobs:
    """The runner of a process that has just started."""
    return Jobs(runtime.database, runtime.settings, of)


def test_a_job_runs_once_per_interval_however_many_processes_ask(synced: Synced) -> None:
    counted = Counted()
    for _ in range(3):
        run = started(synced.runtime, counted.job)
        run()
        run()
    assert counted.count == 1
    synced.run("UPDATE pgvector_sync.tick SET visible_at = now()")
    started(synced.runtime, counted.job)()
    assert counted.count == 2


def test_a_process_asks_the_database_only_now_and_then(synced: Synced, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted(every=timedelta(microseconds=1))
    run = started(synced.runtime, counted.job)
    run()
    del run._next_check["counted"]
    run()
    assert counted.count == 2, "its interval is over by then"
    slow = Counted("slow")
    run = started(synced.runtime, slow.job)
    run()
    synced.run("DELETE FROM pgvector_sync.tick")
    run()
    assert slow.count == 1


def test_processes_that_ask_at_the_same_time_run_it_once(synced: Synced) -> None:
    counted = Counted()
    together = threading.Barrier(4)

    def process() -> None:
        run = started(synced.runtime, counted.job)
        together.wait(10)
        run()

    threads = [threading.Thread(target=process) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert counted.count == 1


def test_a_job_that_fails_stops_no_other(synced: Synced) -> None:
    error, counted = ValueError("bob"), Counted()
    with collected() as events:
        started(synced.runtime, failing(error), counted.job)()
    assert events.of(JobFailed) == [JobFailed(job="failing", error=error)]
    assert counted.count == 1


def test_a_lock_in_the_way_is_no_failure(synced: Synced) -> None:
    with collected() as events:
        started(synced.runtime, failing(psycopg.errors.LockNotAvailable()))()
    assert events.of(JobFailed) == []
    assert events.of(JobBusy) == [JobBusy(job="failing")]


def test_an_outage_is_the_callers_to_wait_out(synced: Synced) -> None:
    with pytest.raises(psycopg.OperationalError):
        started(synced.runtime, failing(psycopg.OperationalError("the server is away")))()


def test_every_file_of_a_job_is_listed_and_every_name_is_its_own() -> None:
    names = [job.name for job in jobs.ALL]
    assert len(set(names)) == len(names)
    assert set(jobs.URGENT) <= set(jobs.ALL)
    assert sorted(names) == sorted(
        name for name, module in vars(jobs).items() if isinstance(getattr(module, "JOB", None), Job)
    )


def test_sync_runs_every_job(synced: Synced) -> None:
    synced.turns(1)
    assert [name for (name,) in synced.database.execute(TICKS)] == sorted(job.name for job in jobs.ALL)
