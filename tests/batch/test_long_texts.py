"""A batch is bounded by the bytes of its texts as well as by its rows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pgvector_sync.store import rows
from support.endpoint import ENVIRONMENT
from support.steps import Steps

MEGABYTE = 10**6
LONG = "INSERT INTO docs SELECT i, repeat('words and more ', {words}) || i FROM generate_series(1, {count}) AS i"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BATCH_BYTES", 5_000)


@pytest.mark.usefixtures("narrow")
def test_of_long_texts_a_batch_takes_fewer_rows_and_gives_the_others_back_unharmed(docs: Steps) -> None:
    docs.synced.run(LONG.format(words=100, count=10))  # 1,500 bytes each
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.claimed, outcome.stored, outcome.released) == (10, 4, 6)
    left = (
        "SELECT count(*), max(attempts), bool_and(visible_at <= now()) FROM pgvector_sync.work WHERE lease IS NULL"
    )
    assert docs.synced.database.execute(left) == [(6, 0, True)]
    docs.synced.sync()
    assert docs.synced.paid() == 10


@pytest.mark.usefixtures("narrow")
def test_rows_that_are_fresh_need_no_text_and_no_other_batch(docs: Steps) -> None:
    docs.synced.run(LONG.format(words=100, count=10))
    docs.synced.sync()
    docs.synced.run("UPDATE docs SET body = 'x' || body", "UPDATE docs SET body = substr(body, 2)")
    outcome = docs.process()
    assert outcome is not None
    assert (outcome.claimed, outcome.unchanged, outcome.released) == (10, 10, 0)


def test_one_text_that_is_longer_than_all_of_them_may_be_is_embedded(
    docs: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "BATCH_BYTES", 1)
    docs.insert(_1="one", _2="two")
    docs.synced.sync()
    assert docs.synced.endpoint.calls.requests == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "count", "stored"),
    [(60_000, 600, 0), (2_000, 2_000, 2_000)],
    ids=["600 of 900 kB, which the provider refuses", "2,000 of 30 kB"],
)
def test_a_process_stays_under_300_megabytes_with_long_texts(
    docs: Steps, tmp_path: Path, words: int, count: int, stored: int
) -> None:
    docs.synced.run(LONG.format(words=words, count=count))
    # VmHWM and not ru_maxrss, which begins with what the forking process had
    script = (
        "import re; from pathlib import Path; from pgvector_sync.cli.app import main\n"
        "try: main(['sync', '--once'])\n"
        "except SystemExit as end: print('ended', end.code)\n"
        "print('peak', int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) * 1024)"
    )
    env = os.environ | {"DATABASE_URL": docs.synced.database.url} | ENVIRONMENT
    ended = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=110,
    )
    peak = int(ended.stdout.rpartition("peak ")[2])
    print(f"{peak / MEGABYTE:.0f} MB")
    assert peak < 300 * MEGABYTE
    assert (len(docs.synced.vectors()), len(docs.synced.dead())) == (stored, count - stored)
