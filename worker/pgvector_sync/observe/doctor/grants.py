"""Checks of privileges: this role's in our schema and on sources and targets, and the trigger owners'."""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.database import Connection
from pgvector_sync.observe.doctor.check import quoted
from pgvector_sync.observe.finding import Finding, error, ok, warning
from pgvector_sync.runtime import Runtime
from pgvector_sync.settings import EMBEDDED_CLUSTER
from pgvector_sync.store import grants
from pgvector_sync.store.grants import WRITTEN_BY_TRIGGERS, Access, Role

SCHEMA = "pgvector_sync"


def role(runtime: Runtime) -> Iterator[Finding]:
    with runtime.database.transaction(read_only=True) as connection:
        current = _role(connection)
    name = current.role
    if current.superuser and current.embedded:
        yield ok(f"{name}, the embedded server's only role; elsewhere, use a role that isn't a superuser")
    elif current.superuser:
        yield warning(
            f"{name} is a superuser: a pipeline's expressions run with all privileges on the server",
            "create roles with only the privileges they need: psql -f sql/roles.sql, see docs/operations.md",
        )
    elif current.attributes or current.memberships:
        yield _powerful(current)
    elif current.bypasses:
        yield ok(f"{name}, which bypasses row-level security (BYPASSRLS)")
    else:
        yield ok(f"{name}")


def _powerful(current: Role) -> Finding:
    grantee, fixes = quoted(current.role), []
    if current.attributes:
        fixes.append(f"ALTER ROLE {grantee} {' '.join('NO' + name for name in current.attributes)};")
    if current.memberships:
        fixes.append(f"REVOKE {', '.join(current.memberships)} FROM {grantee};")
    names = ", ".join((*current.attributes, *current.memberships))
    return warning(f"{current.role} has rights that no worker needs: {names}", " ".join(fixes))


def _role(connection: Connection) -> Role:
    return grants.current_role(connection, embedded_cluster=EMBEDDED_CLUSTER)


def own(runtime: Runtime) -> Iterator[Finding]:
    """Check privileges in the schema pgvector_sync: this role's, and those of the trigger functions' owners."""
    with runtime.database.transaction(read_only=True) as connection:
        schema = grants.own_schema(connection)
        reader = schema is not None and schema.usable and grants.only_reads(connection)
        searcher = schema is not None and schema.usable and grants.only_searches(connection)
        lacking = [] if reader or searcher else grants.lacking(connection)
        owners = grants.closed_to_triggers(connection)
    if schema is None:
        return  # reported by the check `schema`
    grantee = quoted(schema.role)
    if not schema.usable:
        yield error(
            f"role {schema.role} lacks USAGE on schema {SCHEMA}", f"GRANT USAGE ON SCHEMA {SCHEMA} TO {grantee};"
        )
    for missing in lacking:
        privileges = ", ".join(missing.privileges)
        tables = ", ".join(quoted(SCHEMA, table) for table in missing.tables)
        yield error(
            f"role {schema.role} lacks {privileges} on {', '.join(missing.tables)}",
            f"GRANT {privileges} ON {tables} TO {grantee};",
        )
    for owner in owners:
        yield error(
            f"the triggers run as {owner}, which can't write to {', '.join(WRITTEN_BY_TRIGGERS)}: writes to the "
            "sources fail",
            f"GRANT USAGE ON SCHEMA {SCHEMA} TO {quoted(owner)}; GRANT INSERT ON "
            f"{', '.join(quoted(SCHEMA, table) for table in WRITTEN_BY_TRIGGERS)} TO {quoted(owner)};",
        )
    if searcher:
        yield error(
            f"{schema.role} can only search with schema {SCHEMA}, like an application: it can't check more",
            "run doctor as the role of the workers, or as a monitor",
        )
    elif reader:
        yield ok(
            f"{schema.role} can only read the tables in schema {SCHEMA}, like a monitor",
            "to check the workers' privileges on sources and targets, run doctor as their role",
        )
    elif schema.usable and not lacking and not owners:
        yield ok(f"{schema.role} has all privileges it needs in schema {SCHEMA}")


def excess(runtime: Runtime) -> Iterator[Finding]:
    """Check for privileges beyond a worker's needs, and for triggers that run as a superuser."""
    with runtime.database.transaction(read_only=True) as connection:
        beyond = grants.excess(connection)
        current = _role(connection)
        superusers = [] if current.embedded else grants.trigger_superusers(connection)
        writable = [] if current.superuser else grants.writable_sources(connection)
    for grant in beyond:
        yield warning(
            f"{grant.role} has more privileges than a worker needs on {grant.schema}.{grant.table}: "
            f"{', '.join(grant.privileges)}",
            grant.revoke,
        )
    for owner in superusers:
        yield warning(
            f"the trigger functions, which every write to a source calls, run as the superuser {owner}",
            "change the owner of the schema pgvector_sync, its functions and the targets: see docs/operations.md",
        )
    for source in writable:
        what = "owns" if source.owned else "may change the rows of"
        yield warning(
            f"{current.role} {what} {source.schema}.{source.table}; a worker only reads it",
            "run workers as a role that may only read the sources: psql -f sql/roles.sql, see docs/operations.md",
        )
    if not beyond and not superusers and not writable:
        yield ok("no role has more privileges than it needs")


def on_source(access: Access) -> Iterator[Finding]:
    role_name, label = access.role, access.label
    if not access.usable:
        yield _closed(access)
    if access.unreadable and not access.filtered:
        yield error(
            f"role {role_name} can't read {', '.join(access.unreadable)} of {label}",
            f"GRANT SELECT ON {quoted(access.schema, access.table)} TO {quoted(role_name)};",
        )
    if access.filtered:
        yield error(
            f"row-level security hides rows of {label} from role {role_name}: they would look deleted",
            f"ALTER ROLE {quoted(role_name)} BYPASSRLS; -- or connect as the table's owner",
        )


def on_target(access: Access) -> Iterator[Finding]:
    role_name, label = access.role, access.label
    if not access.usable:
        yield _closed(access)
    if access.lacking:
        privileges = ", ".join(access.lacking)
        yield error(
            f"role {role_name} lacks {privileges} on {label}",
            f"GRANT {privileges} ON {quoted(access.schema, access.table)} TO {quoted(role_name)};",
        )
    if access.filtered:
        yield error(
            f"row-level security hides vectors in {label} from role {role_name}",
            f"ALTER ROLE {quoted(role_name)} BYPASSRLS; -- or connect as the table's owner",
        )


def _closed(access: Access) -> Finding:
    return error(
        f"role {access.role} lacks USAGE on schema {access.schema}",
        f"GRANT USAGE ON SCHEMA {quoted(access.schema)} TO {quoted(access.role)};",
    )
