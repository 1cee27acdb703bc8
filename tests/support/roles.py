"""The roles of `sql/roles.sql`, with which every test works: what they may not do, no test needs."""

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
"""What the owners of sources and schemas grant; of those that the superuser makes in a test, in advance."""


def set_up_roles(database: Database) -> None:
    """Runs the file as an administrator does, by psql."""
    names = {"owner": OWNER, "worker": WORKER, "application": APPLICATION, "monitor": MONITOR}
    variables = [word for name, role in names.items() for word in ("--set", f"{name}={role}")]
    psql = folder(database.server.version) / "psql"
    run(psql, "--no-psqlrc", "--quiet", *variables, "--file", FILE, database.url)
