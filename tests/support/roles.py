"""The roles of `sql/roles.sql`. All tests run under them, which shows that their privileges suffice."""

from __future__ import annotations

from pathlib import Path

from support.programs import folder, run
from support.servers import Database

OWNER, WORKER, APPLICATION, MONITOR = "sync_owner", "sync_worker", "shop", "grafana"
FILE = Path(__file__).parents[2] / "sql" / "roles.sql"

GRANTS_OF_SOURCES = f"""
ALTER DEFAULT PRIVILEGES GRANT SELECT, TRIGGER ON TABLES TO {OWNER};
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {WORKER};
ALTER DEFAULT PRIVILEGES GRANT USAGE, CREATE ON SCHEMAS TO {OWNER};
ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO {WORKER};
GRANT CREATE ON SCHEMA public TO {OWNER};
"""
"""The grants that owners of sources and schemas make, here as defaults for those that the superuser creates in a test."""


def set_up_roles(database: Database) -> None:
    """Runs the file with psql, as an administrator does."""
    names = {"owner": OWNER, "worker": WORKER, "application": APPLICATION, "monitor": MONITOR}
    variables = [word for name, role in names.items() for word in ("--set", f"{name}={role}")]
    psql = folder(database.server.version) / "psql"
    run(psql, "--no-psqlrc", "--quiet", *variables, "--file", FILE, database.url)
