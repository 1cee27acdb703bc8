"""What this role may do: in our schema, on a source, on a target; and what the triggers' owner may do."""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.database import Connection
from pgvector_sync.observe.doctor.check import Finding, error, ok, quoted, warning
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import EMBEDDED_CLUSTER
from pgvector_sync.store import grants
from pgvector_sync.store.grants import Access, Role

SCHEMA = "pgvector_sync"


def role(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        found = _role(connection)
    name = found.role
    if found.superuser and found.embedded:
        yield ok(f"{name}, the one role of the embedded server; elsewhere use one that is no superuser")
    elif found.superuser:
        yield warning(
            f"{name} is a superuser, so everything that a pipeline runs has all rights on the server",
            "make roles with only the rights they need: psql -f sql/roles.sql, see docs/operations.md",
        )
    elif found.bypasses:
        yield ok(f"{name}, which row-level security doesn't apply to (BYPASSRLS)")
    else:
        yield ok(f"{name}")


def _role(connection: Connection) -> Role:
    return grants.current_role(connection, embedded_cluster=EMBEDDED_CLUSTER)


def own(runtime: Runtime) -> Iterator[Finding]:
    """In the schema pgvector_sync, and for the owners of the trigger functions."""
    with runtime.database.transaction(read_only=True) as connection:
        there = grants.own_schema(connection)
        reader = there is not None and there.usable and grants.only_reads(connection)
        lacking = [] if reader else grants.lacking(connection)
        owners = grants.closed_to_triggers(connection)
    if there is None:
        return  # the check `schema` says so
    grantee = quoted(there.role)
    if not there.usable:
        yield error(
            f"role {there.role} may not use schema {SCHEMA}", f"GRANT USAGE ON SCHEMA {SCHEMA} TO {grantee};"
        )
    for missing in lacking:
        privileges = ", ".join(missing.privileges)
        tables = ", ".join(quoted(SCHEMA, table) for table in missing.tables)
        yield error(
            f"role {there.role} lacks {privileges} on {', '.join(missing.tables)}",
            f"GRANT {privileges} ON {tables} TO {grantee};",
        )
    for owner in owners:
        yield error(
            f"the triggers run as {owner}, which may not write to the outbox: writes to the sources fail",
            f"GRANT USAGE ON SCHEMA {SCHEMA} TO {quoted(owner)}; "
            f"GRANT INSERT ON {quoted(SCHEMA, 'outbox')} TO {quoted(owner)};",
        )
    if reader:
        yield ok(
            f"{there.role} reads all tables in schema {SCHEMA} and writes to none, as a monitor does",
            "what workers may do on sources and targets: run doctor as their role",
        )
    elif there.usable and not lacking and not owners:
        yield ok(f"{there.role} may do in schema {SCHEMA} what a worker does")


def too_much(runtime: Runtime) -> Iterator[Finding]:
    """What other roles may do beyond what they need, and triggers that run as a superuser."""
    with runtime.database.transaction(read_only=True) as connection:
        beyond = grants.excess(connection)
        superusers = [] if _role(connection).embedded else grants.trigger_superusers(connection)
    for grant in beyond:
        yield warning(
            f"{grant.role} has more rights than a worker needs on {grant.schema}.{grant.table}: "
            f"{', '.join(grant.privileges)}",
            grant.revoke,
        )
    for owner in superusers:
        yield warning(
            f"the trigger functions belong to {owner}, a superuser: every write to a source calls them",
            "give the schema pgvector_sync, its functions and the targets to another role: docs/operations.md",
        )
    if not beyond and not superusers:
        yield ok("no role has more rights than it needs")


def on_source(access: Access) -> Iterator[Finding]:
    who, label = access.role, access.label
    if not access.usable:
        yield _closed(access)
    if access.unreadable and not access.filtered:
        yield error(
            f"role {who} may not read {', '.join(access.unreadable)} of {label}",
            f"GRANT SELECT ON {quoted(access.schema, access.table)} TO {quoted(who)};",
        )
    if access.filtered:
        yield error(
            f"row-level security hides rows of {label} from role {who}, and hidden rows would look deleted",
            f"ALTER ROLE {quoted(who)} BYPASSRLS; -- or connect as the table's owner",
        )


def on_target(access: Access) -> Iterator[Finding]:
    who, label = access.role, access.label
    if not access.usable:
        yield _closed(access)
    if access.lacking:
        privileges = ", ".join(access.lacking)
        yield error(
            f"role {who} lacks {privileges} on {label}",
            f"GRANT {privileges} ON {quoted(access.schema, access.table)} TO {quoted(who)};",
        )
    if access.filtered:
        yield error(
            f"row-level security hides vectors in {label} from role {who}",
            f"ALTER ROLE {quoted(who)} BYPASSRLS; -- or connect as the table's owner",
        )


def _closed(access: Access) -> Finding:
    return error(
        f"role {access.role} may not use schema {access.schema}",
        f"GRANT USAGE ON SCHEMA {quoted(access.schema)} TO {quoted(access.role)};",
    )
