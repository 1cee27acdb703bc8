"""Certificates that don't fit, of servers and of clients: a message that says what to do, and never a stack trace."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from redis.exceptions import RedisError
from trustme import CA

from pgvector_sync.redis_client import open_client
from pgvector_sync.runtime.bootstrap import open_database
from pgvector_sync.settings import Settings
from support.cluster import Cluster
from support.endpoint import ENVIRONMENT
from support.examined import look, the
from support.pgbouncer import installed, start_pgbouncer
from support.processes import Processes
from support.roles import WORKER
from support.servers import Database, Valkey
from support.tls_front import YESTERDAY, TlsFront, client_files, server_context
from support.waiting import eventually

OURS, OTHERS = CA(), CA()
Context = Callable[[], ssl.SSLContext | None]
Files = Callable[[Path], dict[str, Path]]


def no_files(_: Path) -> dict[str, Path]:
    return {}


def certificate(authority: CA, **options: object) -> Files:
    def write(folder: Path) -> dict[str, Path]:
        certificate, key = client_files(authority, "client", folder, **options)  # type: ignore[arg-type]
        return {"certificate": certificate, "key": key}

    return write


def mismatched(folder: Path) -> dict[str, Path]:
    certificate, _ = client_files(OURS, "client", folder)
    _, key = client_files(OURS, "another", folder)
    return {"certificate": certificate, "key": key}


CASES: dict[str, tuple[Context, Files, str, str]] = {
    "a server of another authority": (
        lambda: server_context(OTHERS, "localhost"), no_files,
        "the server's certificate is of an authority that isn't trusted here", "{authority}=/path/to/ca.pem",
    ),
    "a server of another name": (
        lambda: server_context(OURS, "elsewhere.example"), no_files,
        "the server's certificate is for another name", "use a name in {variable} that the certificate contains",
    ),
    "an expired server": (
        lambda: server_context(OURS, "localhost", not_after=YESTERDAY), no_files,
        "the server's certificate has expired", "renew it on the server",
    ),
    "no client certificate": (
        lambda: server_context(OURS, "localhost", clients=OURS), no_files,
        "the server requires a client certificate", "{certificate}=…&{key}=…",
    ),
    "a client of another authority": (
        lambda: server_context(OURS, "localhost", clients=OURS), certificate(OTHERS),
        "the server doesn't trust the authority of this client's certificate", "{certificate}=…&{key}=…",
    ),
    "an expired client": (
        lambda: server_context(OURS, "localhost", clients=OURS), certificate(OURS, not_after=YESTERDAY),
        "the server says that this client's certificate has expired", "renew the file that {certificate}",
    ),
    "the key of another client": (
        lambda: server_context(OURS, "localhost", clients=OURS), mismatched,
        "the client's key doesn't belong to its certificate", "correct {certificate} and {key}",
    ),
}  # fmt: skip
"""What is wrong → the server, the client's files, what is said, and what is advised."""
IN_POSTGRES = {"variable": "DATABASE_URL", "authority": "sslrootcert", "certificate": "sslcert", "key": "sslkey"}
IN_REDIS = {
    "variable": "REDIS_URL", "authority": "ssl_ca_certs", "certificate": "ssl_certfile", "key": "ssl_keyfile",
}  # fmt: skip


@pytest.fixture
def trusted(tmp_path: Path) -> Path:
    """The certificate of our authority."""
    OURS.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def over_tls(database: Database, port: int, trusted: Path, files: dict[str, Path]) -> str:
    """The database's URL through the front."""
    named = {IN_POSTGRES[name]: str(path) for name, path in files.items()}
    parts = conninfo_to_dict(database.url) | {"host": "localhost", "hostaddr": "127.0.0.1", "port": port}
    return make_conninfo("", **parts | {"sslmode": "verify-full", "sslrootcert": trusted} | named)


def rediss(redis_url: str, port: int, trusted: Path, files: dict[str, Path]) -> str:
    named = {IN_REDIS[name]: str(path) for name, path in (files | {"authority": trusted}).items()}
    return f"rediss://:{urlsplit(redis_url).password}@localhost:{port}/0?{urlencode(named, safe='/')}"


@pytest.mark.quick_variants(3)
@pytest.mark.parametrize("case", CASES)
def test_doctor_says_which_certificate_of_the_database_is_wrong_and_what_to_do(
    database: Database, trusted: Path, tmp_path: Path, case: str
):
    context, write, seen, advice = CASES[case]
    with TlsFront(database.server.port, context(), postgres=True) as front:
        found = the("database", look(over_tls(database, front.port, trusted, write(tmp_path))))
    assert found.level == "error"
    assert seen in found.seen
    assert advice.format(**IN_POSTGRES) in (found.advice or "")
    assert str(conninfo_to_dict(database.url)["password"]) not in found.seen


@pytest.mark.quick_variants(3)
@pytest.mark.parametrize("case", CASES)
def test_doctor_says_which_certificate_of_redis_is_wrong_and_what_to_do(
    database: Database, valkey: Valkey, redis_url: str, trusted: Path, tmp_path: Path, case: str
):
    context, write, seen, advice = CASES[case]
    with TlsFront(valkey.port, context(), postgres=False) as front:
        url = rediss(redis_url, front.port, trusted, write(tmp_path))
        found = the("redis", look(database.url, REDIS_URL=url))
    assert found.level == "error"
    assert seen in found.seen
    assert advice.format(**IN_REDIS) in (found.advice or "")


def test_a_client_certificate_is_accepted_by_both(
    database: Database, valkey: Valkey, redis_url: str, trusted: Path, tmp_path: Path
):
    files = certificate(OURS)(tmp_path)
    context = server_context(OURS, "localhost", clients=OURS)
    with (
        TlsFront(database.server.port, context, postgres=True) as postgres,
        TlsFront(valkey.port, context, postgres=False) as redis,
    ):
        checks = look(
            over_tls(database, postgres.port, trusted, files),
            REDIS_URL=rediss(redis_url, redis.port, trusted, files),
        )
    assert {the(name, checks).level for name in ("database", "redis", "broker")} == {"ok"}


@pytest.mark.parametrize("name", ["authority", "certificate", "key"])
def test_a_file_that_doesnt_exist_is_named_by_its_parameter(
    database: Database, valkey: Valkey, redis_url: str, trusted: Path, tmp_path: Path, name: str
):
    files = certificate(OURS)(tmp_path) | {name: tmp_path / "missing"}
    context = server_context(OURS, "localhost", clients=OURS)
    with (
        TlsFront(database.server.port, context, postgres=True) as postgres,
        TlsFront(valkey.port, context, postgres=False) as redis,
    ):
        url = over_tls(database, postgres.port, files.get("authority", trusted), files)
        checks = look(url, REDIS_URL=rediss(redis_url, redis.port, files.pop("authority", trusted), files))
    for check, terms in (("database", IN_POSTGRES), ("redis", IN_REDIS)):
        found = the(check, checks)
        assert found.level == "error"
        assert terms[name] in f"{found.seen} {found.advice}"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_worker_doesnt_start_with_a_wrong_certificate_and_says_why(
    database: Database, valkey: Valkey, redis_url: str, trusted: Path, tmp_path: Path, processes: Processes, case: str
):  # fmt: skip
    context, write, seen, advice = CASES[case]
    files = write(tmp_path)
    shown = seen
    if case in {"a server of another authority", "an expired server"}:
        shown = "it has expired, or its authority isn't trusted"  # libpq says no more; doctor does
    with (
        TlsFront(database.server.port, context(), postgres=True) as postgres,
        TlsFront(valkey.port, context(), postgres=False) as redis,
    ):
        to_postgres = processes.command(
            "worker", DATABASE_URL=over_tls(database, postgres.port, trusted, files), REDIS_URL=redis_url
        )
        to_redis = processes.command(
            "worker", DATABASE_URL=database.url, REDIS_URL=rediss(redis_url, redis.port, trusted, files)
        )
        assert (to_postgres.wait(), to_redis.wait()) == (1, 2)
    assert shown in to_postgres.printed
    assert seen in to_redis.printed
    assert advice.format(**IN_REDIS) in to_redis.printed
    for process in (to_postgres, to_redis):
        assert "Traceback" not in process.printed
        assert "→" in process.printed


@pytest.mark.slow
@installed
def test_a_worker_works_with_client_certificates_for_redis_and_through_pgbouncer_in_place_of_a_password(
    database: Database,
    valkey: Valkey,
    redis_url: str,
    trusted: Path,
    processes: Processes,
    tmp_path_factory: pytest.TempPathFactory,
):
    folder = tmp_path_factory.mktemp("pgbouncer")
    OURS.cert_pem.write_to_path(folder / "ca.pem")
    issued = OURS.issue_cert("localhost")
    issued.private_key_pem.write_to_path(folder / "server.key")
    issued.cert_chain_pems[0].write_to_path(folder / "server.pem")
    database.execute(f"ALTER ROLE {WORKER} PASSWORD 'of the pooler'")
    pooler = start_pgbouncer(
        processes, database, {WORKER: "of the pooler"}, folder, auth_type="cert", client_tls_sslmode="verify-full",
        client_tls_ca_file=folder / "ca.pem", client_tls_key_file=folder / "server.key",
        client_tls_cert_file=folder / "server.pem",
    )  # fmt: skip
    certificate, key = client_files(OURS, WORKER, tmp_path_factory.mktemp("client"))
    verified = {"host": "localhost", "sslmode": "verify-full", "sslrootcert": trusted, "password": None}
    url = pooler.url(WORKER, **verified, sslcert=certificate, sslkey=key)
    with TlsFront(valkey.port, server_context(OURS, "localhost", clients=OURS), postgres=False) as redis:
        to_redis = rediss(redis_url, redis.port, trusted, {"certificate": certificate, "key": key})
        found = look(url, REDIS_URL=to_redis)
        assert {the(name, found).level for name in ("database", "redis", "broker")} == {"ok"}
        worker = processes.command("worker", DATABASE_URL=url, REDIS_URL=to_redis, **ENVIRONMENT)
        for seen in ("Connected to", "relay_elected", "worker_ready"):
            worker.wait_for(seen)
        assert worker.terminate() == 0
    refused = the("database", look(pooler.url(WORKER, **verified)))
    assert refused.level == "error"
    assert "client certificate" in refused.seen


@pytest.mark.slow
def test_a_running_worker_waits_for_a_servers_certificate_to_be_renewed_and_says_so(
    cluster: Cluster, trusted: Path
):
    """The certificates of the database and of Redis expire while it runs."""
    valid, expired = (server_context(OURS, "localhost", not_after=until) for until in (None, YESTERDAY))
    database, valkey = cluster.synced.database, cluster.valkey
    with (
        TlsFront(database.server.port, valid, postgres=True) as postgres,
        TlsFront(valkey.port, valid, postgres=False) as redis,
    ):
        url = make_conninfo(over_tls(database, postgres.port, trusted, {}), options=f"-c role={WORKER}")
        worker = cluster.worker(DATABASE_URL=url, REDIS_URL=rediss(valkey.url, redis.port, trusted, {}))
        for front in (postgres, redis):
            front.tls = expired
            front.hang_up()
        worker.wait_for("certificate has expired", 60)  # in Celery's words
        worker.wait_for("SSL error: certificate verify failed", 60)  # in libpq's
        cluster.insert(3)
        for front in (postgres, redis):
            front.tls = valid
        cluster.settles(60)
        assert "Traceback" not in worker.printed


def test_a_client_certificate_that_was_replaced_is_used_for_the_next_connection(
    database: Database, valkey: Valkey, redis_url: str, trusted: Path, tmp_path: Path
):
    """Both servers change the authority of their clients, and the files are replaced under a running process."""
    before, after = (server_context(OURS, "localhost", clients=clients) for clients in (OURS, OTHERS))
    with (
        TlsFront(database.server.port, before, postgres=True) as postgres,
        TlsFront(valkey.port, before, postgres=False) as redis,
    ):
        files = certificate(OURS)(tmp_path)
        settings = Settings(DATABASE_URL=over_tls(database, postgres.port, trusted, files), _env_file=None)
        client = open_client(rediss(redis_url, redis.port, trusted, files), timeout=timedelta(seconds=5))
        with open_database(settings) as pool, client:

            def both_answer() -> bool:
                with suppress(psycopg.OperationalError, RedisError), pool.connection() as connection:
                    connection.execute("SELECT 1")
                    return bool(client.ping())
                return False

            assert both_answer()
            for front in (postgres, redis):
                front.tls = after
                front.hang_up()
            certificate(OTHERS)(tmp_path)
            eventually(both_answer, 20)
