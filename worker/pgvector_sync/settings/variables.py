"""The names of environment variables: which are settings, and which can't be a provider's key."""

from __future__ import annotations

PREFIX = "PGVECTOR_SYNC_"
_UNPREFIXED = {"DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "OPENAI_BASE_URL"}
_NEVER_KEYS = {*_UNPREFIXED, "REDISCLI_AUTH", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
_NEVER_KEYS_BEGIN = (PREFIX, "PG", "CELERY_")


def variable(setting: str) -> str:
    """The environment variable of a setting."""
    return setting.upper() if setting.upper() in _UNPREFIXED else f"{PREFIX}{setting.upper()}"


def is_never_a_key(name: str) -> bool:
    """Whether a variable can't hold the key of an embedding provider: our connections and settings, libpq's
    variables, and cloud credentials.
    """
    return name.upper() in _NEVER_KEYS or name.upper().startswith(_NEVER_KEYS_BEGIN)
