"""Connections that an attacker on the network could read or answer: verified if requested, otherwise named by `doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from trustme import CA

from pgvector_sync.redis_client import exposed
from support.examined import look, the
from support.processes import Processes
from support.servers import Database, Valkey
from support.tls_front import TlsFront, server_context


@pytest.fixture(scope="module")
def authority() -> CA:
    return CA()


@pytest.fixture
def trusted(authority: CA, tmp_path: Path) -> Path:
    """The authority's certificate."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


def url_of(database: Database, port: int, **parameters: object) -> str:
    parts = conninfo_to_dict(database.url) | {"host": "localhost", "hostaddr": "127.0.0.1", "port": port}
    return make_conninfo("", **parts | parameters)


def postgres_behind(database: Database, tls: object, **options: object) -> TlsFront:
    return TlsFront(database.server.port, tls, postgres=True, **options)  # type: ignore[arg-type]


def test_a_database_is_reached_with_verify_full(database: Database, authority: CA, trusted: Path):
    with postgres_behind(database, server_context(authority, "localhost")) as front:
        found = the("database", look(url_of(database, front.port, sslmode="verify-full", sslrootcert=trusted)))
        assert found.level == "ok"


@pytest.mark.parametrize("impostor", ["another authority", "another name", "no TLS"])
def test_with_verify_full_an_impostor_gets_neither_password_nor_text(
    database: Database, authority: CA, trusted: Path, impostor: str
):
    context = {
        "another authority": server_context(CA(), "localhost"),
        "another name": server_context(authority, "elsewhere.example"),
        "no TLS": None,
    }[impostor]
    with postgres_behind(database, context) as front:
        url = url_of(database, front.port, sslmode="verify-full", sslrootcert=trusted)
        found = the("database", look(url))
        assert found.level == "error"
        assert str(conninfo_to_dict(url)["password"]) not in found.seen
        assert set(front.first) == {b"\x00\x00\x00\x08\x04\xd2\x16\x2f"}, "asked for TLS, and said nothing else"


@pytest.fixture
def address() -> str:
    """An address of this machine that isn't loopback."""
    found = [
        one.address
        for interface in psutil.net_if_addrs().values()
        for one in interface
        if one.family.name == "AF_INET" and not one.address.startswith("127.")
    ]
    if not found:
        pytest.skip("this machine has loopback only")
    return found[0]


def test_an_unencrypted_connection_to_a_database_on_another_machine_is_named(
    database: Database, address: str, authority: CA, trusted: Path
):
    with postgres_behind(database, None, address=address) as front:
        plain = the("database", look(url_of(database, front.port, host=address, hostaddr=address)))
    assert plain.level == "warning"
    assert "sslmode=verify-full" in (plain.advice or "")
    with postgres_behind(database, server_context(authority, address), address=address) as front:
        url = url_of(database, front.port, host=address, hostaddr=address)
        unchecked = the("database", look(url))
        assert unchecked.level == "warning"
        assert "certificate" in unchecked.seen
        verified = make_conninfo(url, sslmode="verify-full", sslrootcert=str(trusted))
        assert the("database", look(verified)).level == "ok"


@pytest.fixture
def redis_front(valkey: Valkey, redis_url: str, authority: CA) -> Iterator[TlsFront]:
    with TlsFront(valkey.port, server_context(authority, "localhost", "127.0.0.1"), postgres=False) as front:
        yield front


def rediss(redis_url: str, port: int, authority: Path) -> str:
    return f"rediss://:{urlsplit(redis_url).password}@localhost:{port}/0?ssl_ca_certs={authority}"


def test_redis_is_reached_over_rediss_and_its_certificate_is_verified(
    database: Database, redis_url: str, redis_front: TlsFront, trusted: Path, tmp_path: Path
):
    url = rediss(redis_url, redis_front.port, trusted)
    assert the("redis", look(database.url, REDIS_URL=url)).level == "ok"
    CA().cert_pem.write_to_path(tmp_path / "other.pem")
    assert the("redis", look(database.url, REDIS_URL=rediss(redis_url, redis_front.port, tmp_path / "other.pem"))).level == "error"  # fmt: skip


@pytest.mark.slow
def test_a_worker_works_over_rediss(
    database: Database, redis_url: str, redis_front: TlsFront, trusted: Path, processes: Processes
):
    processes.env |= {"DATABASE_URL": database.url, "REDIS_URL": rediss(redis_url, redis_front.port, trusted)}
    processes.command("worker", "--pool", "threads", "--concurrency", "1").wait_for(r"worker_ready")


def test_an_unencrypted_connection_to_redis_on_another_machine_is_named(
    database: Database, valkey: Valkey, redis_url: str, address: str
):
    with TlsFront(valkey.port, None, postgres=False, address=address) as front:
        url = f"redis://:{urlsplit(redis_url).password}@{address}:{front.port}/0"
        found = the("redis", look(database.url, REDIS_URL=url))
    assert found.level == "warning"
    assert "rediss://" in (found.advice or "")


def test_an_unverified_connection_to_redis_on_another_machine_is_named(
    database: Database, valkey: Valkey, redis_url: str, address: str
):
    with TlsFront(
        valkey.port, server_context(CA(), "elsewhere.example"), postgres=False, address=address
    ) as front:
        url = f"rediss://:{urlsplit(redis_url).password}@{address}:{front.port}/0?ssl_cert_reqs=none"
        found = the("redis", look(database.url, REDIS_URL=url))
    assert found.level == "warning"
    assert "certificate" in found.seen
    assert "ssl_cert_reqs" in (found.advice or "")


@pytest.mark.parametrize(
    "parameters", ["ssl_cert_reqs=optional", "ssl_check_hostname=False", "ssl_cert_reqs=NONE"]
)
def test_parameters_that_turn_off_verification_are_recognized(parameters: str):
    assert exposed("rediss://valkey.example") is None
    assert "certificate" in str(exposed(f"rediss://valkey.example?{parameters}"))


def test_an_unencrypted_celery_broker_on_another_machine_is_named(
    database: Database, valkey: Valkey, redis_url: str, address: str
):
    with TlsFront(valkey.port, None, postgres=False, address=address) as front:
        url = f"redis://:{urlsplit(redis_url).password}@{address}:{front.port}/0"
        found = the("broker", look(database.url, REDIS_URL=redis_url, CELERY_BROKER_URL=url))
    assert found.level == "warning"
    assert "CELERY_BROKER_URL" in (found.advice or "")


def test_the_error_of_an_unreachable_database_names_no_password(database: Database):
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url_of(database, 1))
    found = the("database", look(url_of(database, 1)))
    assert found.level == "error"
    assert str(conninfo_to_dict(database.url)["password"]) not in f"{found.seen} {found.advice}"
