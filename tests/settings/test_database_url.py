"""DATABASE_URL in all spellings that are in use."""

from __future__ import annotations

import pytest

from pgvector_sync.errors import ConfigError
from pgvector_sync.settings import Settings
from pgvector_sync.settings.database_url import libpq_url

REST = "user:pa%40ss@db.example:5433/app?sslmode=require"


@pytest.mark.parametrize(
    "scheme",
    [
        "postgresql", "postgres", "postgresql+psycopg2", "postgresql+psycopg", "postgresql+asyncpg", "postgres+asyncpg",
        "POSTGRESQL+Psycopg2", "postgis", "pgsql", "psql", "timescale", "timescalegis",
    ],
)  # fmt: skip
def test_the_spellings_of_sqlalchemy_and_django_are_accepted(scheme: str) -> None:
    assert libpq_url(f"{scheme}://{REST}") == f"postgresql://{REST}"


@pytest.mark.parametrize("given", ["host=db.example dbname=app", "postgresql:///app?host=/run", "", "dbname=app"])
def test_what_libpq_accepts_is_unchanged(given: str) -> None:
    assert libpq_url(given) == given


@pytest.mark.parametrize(
    ("given", "words", "hint"),
    [
        ("mysql://u:secret@h/app", "expected postgresql://, got mysql://", "postgresql://user"),
        ("sqlite:///app.db", "got sqlite://", "postgresql://user"),
        (
            "postgresql+asyncpg://u:secret@h/app?ssl=require",
            "expected parameters of libpq, got ssl",
            "sslmode=require",
        ),
        ("postgresql://u:secret@h/app?schema=public", "got schema", "remove schema"),
        ("host=h passwort=secret", "got passwort", "remove passwort"),
        ("secret secret", "isn't a valid connection string", "postgresql://user"),
        ("postgresql://u:secret%81@h/app", "isn't a valid connection string", "%25"),
        ("postgresql://u:secret@x@h/app", "can't be parsed", "%40"),
        ("postgresql://u:sec/secret@h/app", "can't be parsed", "%2F"),
        ("postgresql://u:secret%zz@h/app", "isn't a valid connection string", "%25"),
    ],
)
def test_any_other_url_is_refused_without_showing_the_password(given: str, words: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(_env_file=None, DATABASE_URL=given).database()
    assert str(caught.value).startswith("DATABASE_URL: ")
    assert words in str(caught.value)
    assert hint in (caught.value.hint or "")
    assert "secret" not in str(caught.value) + (caught.value.hint or "")
