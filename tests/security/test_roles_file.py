"""`sql/roles.sql`, run by an administrator who isn't a superuser."""

from __future__ import annotations

import psycopg
import pytest

from pgvector_sync.store.migrations import migrate
from support.deployment import ADMINISTRATOR, KINDS, Deployment


def test_an_administrator_who_isnt_a_superuser_creates_the_roles_and_the_owner_grants(deployment: Deployment):
    first = deployment.run_file(ADMINISTRATOR)
    assert (first.returncode, first.stderr) == (0, "")
    for kind in KINDS:
        with deployment.connect(kind) as session:
            assert session.execute("SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolbypassrls OR rolreplication"
                                   " FROM pg_roles WHERE rolname = current_user").fetchall() == [(False,)]  # fmt: skip
    migrate(deployment.url("owner"))
    with deployment.connect("worker") as worker, pytest.raises(psycopg.errors.InsufficientPrivilege):
        worker.execute("SELECT FROM pgvector_sync.work")
    for _ in range(2):
        again = deployment.run_file("owner")
        assert (again.returncode, again.stderr) == (0, "")
    with deployment.connect("worker") as worker:
        worker.execute("SELECT FROM pgvector_sync.work")


def test_a_role_that_may_not_grant_is_told_which_one_may_and_grants_nothing(deployment: Deployment):
    deployment.run_file(ADMINISTRATOR)
    migrate(deployment.url("owner"))
    refused = deployment.run_file(ADMINISTRATOR)
    assert refused.returncode != 0
    assert f'nothing granted: the schema pgvector_sync belongs to "{deployment.names["owner"]}"' in refused.stderr
    assert "run this file again as that role" in refused.stderr


def test_the_monitor_sees_the_statements_of_other_roles_only_if_the_file_is_told_so(deployment: Deployment):
    deployment.run_file(ADMINISTRATOR)
    sees = "SELECT pg_has_role('pg_read_all_stats', 'USAGE')"
    with deployment.connect("monitor") as monitor:
        assert monitor.execute(sees).fetchall() == [(False,)]
    told = deployment.run_file(ADMINISTRATOR, "-v", "statistics=on")
    assert (told.returncode, told.stderr) == (0, "")
    with deployment.connect("monitor") as monitor:
        assert monitor.execute(sees).fetchall() == [(True,)]


def test_a_role_that_may_not_grant_statistics_is_told_what_an_administrator_has_to_run(deployment: Deployment):
    deployment.run_file(ADMINISTRATOR)
    migrate(deployment.url("owner"))
    asked = deployment.run_file("owner", "-v", "statistics=on")
    assert asked.returncode == 0
    advice = asked.stderr.partition("Run this as an administrator: ")[2].strip()
    assert advice == f'GRANT pg_read_all_stats TO "{deployment.names["monitor"]}";'
    deployment.database.execute(advice)
    assert deployment.run_file("owner", "-v", "statistics=on").stderr == ""
