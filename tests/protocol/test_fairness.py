"""A load of the application, a fill or another pipeline's backlog must not hold up a single change."""

from steps import Steps
from synced import Synced


def lanes(docs: Synced) -> dict[str, int]:
    return dict(docs.database.execute("SELECT lane, count(*) FROM pgvector_sync.work GROUP BY lane"))


def test_a_load_in_one_transaction_waits_in_the_bulk_lane_and_single_changes_dont(docs: Steps) -> None:
    docs.synced.run("INSERT INTO docs SELECT n, 'load ' || n FROM generate_series(10001, 12000) n")
    for key in range(1, 4):
        docs.synced.run(f"INSERT INTO docs VALUES (2000{key}, 'single {key}')")
    docs.drain()
    assert lanes(docs.synced) == {"bulk": 2000, "live": 3}


def test_a_single_change_of_a_loaded_row_promotes_it_and_a_load_never_demotes(docs: Steps) -> None:
    docs.synced.run("INSERT INTO docs SELECT n, 'load ' || n FROM generate_series(10001, 11000) n")
    docs.drain()
    docs.synced.run("UPDATE docs SET body = 'live now' WHERE id = 10001")
    docs.drain()
    assert lanes(docs.synced) == {"bulk": 999, "live": 1}
    docs.synced.run("UPDATE docs SET body = body || ' again' WHERE id >= 10001")
    docs.drain()
    assert lanes(docs.synced) == {"bulk": 999, "live": 1}


def test_many_small_transactions_are_no_load(docs: Steps) -> None:
    with docs.synced.database.connect() as connection:
        for key in range(10001, 10701):
            connection.execute("INSERT INTO docs VALUES (%s, 'one of many')", (key,))
    docs.drain()
    assert lanes(docs.synced) == {"live": 700}
