"""Describe what keeps a pipeline from its rows, with the command that repairs it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from psycopg import sql

from pgvector_sync.capture.faults import MISSING, Fault, FaultKind, faults
from pgvector_sync.capture.triggers import expected_capture
from pgvector_sync.model import State
from pgvector_sync.store.capture import Capture
from pgvector_sync.store.shape import same_keys
from pgvector_sync.store.target_table import Demand
from pgvector_sync.store.triggers import places_of
from pgvector_sync.store.trust import Stranger
from pgvector_sync.store.watch import Facts

APPLY = "pgvector-sync apply"
_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One difference between the installed schema and what a pipeline needs."""

    what: str
    command: str
    """The command or statement that repairs it, or a description of what to do."""
    stops: bool = True
    """Whether nothing can be read, embedded or stored until it is repaired. Otherwise only changes are missed."""

    def __str__(self) -> str:
        verb = "run " if self.command.startswith(("pgvector-sync", "ALTER", "CREATE")) else ""
        command = f"`{self.command}`" if verb else self.command
        return f"{self.what}: {verb}{command}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The schema watch's result for one pipeline."""

    facts: Facts
    source_problems: tuple[Problem, ...]
    target_problems: tuple[Problem, ...]
    trigger_problems: tuple[Problem, ...]
    capture: Capture | None
    """The triggers that should be installed, or None if they can't be."""
    faults: tuple[Fault, ...]

    @property
    def problem(self) -> Problem | None:
        """The problem to repair first."""
        every = (*self.source_problems, *self.target_problems, *self.trigger_problems)
        return next((problem for problem in every if problem.stops), next(iter(every), None))

    @property
    def reason(self) -> str | None:
        """The problem as `status` shows it."""
        return None if self.problem is None else str(self.problem)

    @property
    def stops(self) -> bool:
        """Whether nothing can be embedded until the problem is repaired."""
        return self.problem is not None and self.problem.stops

    @property
    def missed(self) -> bool:
        """Whether changes may have been missed, or captured without their key: all texts must be compared."""
        return self.facts.unread or any(fault.kind in MISSING for fault in self.faults)

    @property
    def repairable(self) -> bool:
        """Whether triggers can be installed without asking. A disabled trigger may be intended."""
        kinds = {fault.kind for fault in self.faults}
        installable = {FaultKind.ABSENT, FaultKind.REBOUND, FaultKind.UNSWEPT}
        sound = not any(problem.stops for problem in self.source_problems)
        return self.capture is not None and sound and bool(kinds & installable) and FaultKind.SILENT not in kinds


def judge(
    every: Sequence[Facts],
    server_version: int,
    refusing: Mapping[int, Sequence[Demand]] = MappingProxyType({}),
    strangers: Mapping[int, Sequence[Stranger]] = MappingProxyType({}),
) -> list[Verdict]:
    """Return a verdict per pipeline, except for those that are being removed.

    `every` must contain all pipelines of a source. By pipeline id, `refusing` holds what makes the target refuse
    every write, and `strangers` the roles whose code would run with our privileges.
    """
    verdicts = []
    for facts in every:
        if facts.state is State.REMOVING:
            continue
        capture = expected_capture(
            [other for other in every if other.source.id == facts.source.id], server_version
        )
        differences = tuple(faults(capture, facts.triggers)) if capture is not None else ()
        verdicts.append(
            Verdict(
                facts,
                source_problems=(
                    *_table_problems(facts),
                    *_key_problems(facts),
                    *_column_problems(facts),
                    *_stranger_problems(strangers.get(facts.id, ()), of_target=False),
                ),
                target_problems=(
                    *_target_problems(facts, refusing.get(facts.id, ())),
                    *_stranger_problems(strangers.get(facts.id, ()), of_target=True),
                ),
                trigger_problems=tuple(_trigger_problems(facts, capture, differences)),
                capture=capture,
                faults=differences,
            )
        )
    return verdicts


def _table_problems(facts: Facts) -> Iterator[Problem]:
    label = facts.source.label
    remove = f"`pgvector-sync remove {facts.name}`"
    if facts.table is None:
        elsewhere = places_of(facts.triggers)
        if elsewhere:
            yield Problem(
                f"there is no table {label}; its triggers are on {', '.join(elsewhere)} now",
                f"rename it back, or make it the source of another pipeline and {remove}",
            )
        else:
            yield Problem(f"there is no table {label}", f"restore it, or {remove}")
    elif facts.table.kind in _KINDS:
        yield Problem(f"{label} is now {_KINDS[facts.table.kind]}", f"restore the table, or {remove}")


def _stranger_problems(strangers: Sequence[Stranger], *, of_target: bool) -> Iterator[Problem]:
    for stranger in strangers:
        if stranger.of_target is of_target:
            yield Problem(stranger.words, stranger.advice)


def _key_problems(facts: Facts) -> Iterator[Problem]:
    if facts.table is None:
        return
    label, types = facts.source.label, facts.table.types
    gone = [column.name for column in facts.source.key if column.name not in types]
    if gone:
        yield Problem(f"{label} no longer has key column {', '.join(gone)}", APPLY)
        return
    for column in facts.source.key:
        now = types[column.name]
        if now != column.type:
            # longer texts fit into the target's columns or fail row by row, but wider numbers don't fit
            stops = same_keys(now) != same_keys(column.type) or column.type.startswith(("small", "int", "num"))
            yield Problem(
                f"key column {column.name} of {label} is now {now} instead of {column.type}", APPLY, stops
            )
    if not facts.table.keyed:
        key = ", ".join(column.name for column in facts.source.key)
        yield Problem(f"({key}) is no longer a unique NOT NULL key of {label}", "restore its primary key")


def _column_problems(facts: Facts) -> Iterator[Problem]:
    if facts.table is None:
        return
    key = {column.name for column in facts.source.key}
    gone = [name for name in facts.read_columns if name not in facts.table.types and name not in key]
    if not gone:
        return
    others = {name for trigger in facts.triggers for name in trigger.watched} - set(facts.read_columns)
    renamed = f" (its trigger now watches {', '.join(sorted(others))}: was it renamed?)" if others else ""
    yield Problem(
        f"{facts.source.label} no longer has column {', '.join(gone)}{renamed}",
        "correct `text` or `where` of the pipeline in pgvector-sync.toml, then run `pgvector-sync apply`",
    )


def _target_problems(facts: Facts, refusing: Sequence[Demand]) -> Iterator[Problem]:
    label, types = ".".join(facts.target), facts.target_types
    if not facts.vector_installed:
        yield Problem("the extension vector is not installed in this database", "CREATE EXTENSION vector;")
        return
    if types is None:
        yield Problem(f"there is no table {label}", APPLY)
        return
    if facts.target_stranger is not None:
        # writing to it would run its owner's triggers with the worker's privileges
        stranger, owner = facts.target_stranger
        table = sql.Identifier(*facts.target).as_string()
        yield Problem(
            f"{label} belongs to {stranger}, and the triggers of {facts.source.label} run as {owner}",
            f"ALTER TABLE {table} OWNER TO {sql.Identifier(owner).as_string()};",
        )
    vector = types.get("embedding", "nothing").rpartition(".")[2]
    if vector != facts.vector_type:
        yield Problem(
            f"{label} holds {vector}, but the pipeline needs {facts.vector_type}",
            f"change the column's type back, or run `pgvector-sync remove {facts.name}` and apply again",
        )
    gone = [column.name for column in facts.source.key if column.name not in types]
    if gone:
        yield Problem(f"{label} no longer has column {', '.join(gone)}", APPLY)
    for demand in () if gone else refusing:
        yield Problem(f"{label} refuses every write: {demand.words}", demand.advice)


def _trigger_problems(facts: Facts, capture: Capture | None, faults: Sequence[Fault]) -> Iterator[Problem]:
    """Group faults of the same kind, so that many partitions cause only one problem."""
    if capture is None:
        return
    label, effect = facts.source.label, "changes are not captured"
    absent = [fault.trigger for fault in faults if fault.kind is FaultKind.ABSENT]
    silent = [fault for fault in faults if fault.kind is FaultKind.SILENT]
    rebound = [fault for fault in faults if fault.kind is FaultKind.REBOUND]
    if absent:
        yield Problem(f"{label} lacks {', '.join(sorted(absent))}: {effect}", APPLY, stops=False)
    if silent:
        names = sorted({fault.trigger for fault in silent})
        places = sorted({(fault.schema, fault.table) for fault in silent})
        where = ".".join(places[0]) + (f" and {len(places) - 1} other tables" if len(places) > 1 else "")
        yield Problem(
            f"{', '.join(names)} on {where} {'are' if len(names) > 1 else 'is'} disabled: {effect}",
            enable(silent[0], replicated=capture.replicated) if len(silent) == 1 else APPLY,
            stops=False,
        )
    for fault in rebound:
        yield Problem(
            f"{fault} watches {', '.join(fault.watched) or 'nothing'} instead of {', '.join(capture.tracked)}, "
            f"because columns were renamed: {effect}",
            APPLY,
            stops=False,
        )


def enable(fault: Fault, *, replicated: bool) -> str:
    """Return the statement that enables a disabled trigger again."""
    how = "ENABLE ALWAYS TRIGGER" if replicated else "ENABLE TRIGGER"
    table, trigger = sql.Identifier(fault.schema, fault.table), sql.Identifier(fault.trigger)
    return f"ALTER TABLE {table.as_string()} {how} {trigger.as_string()};"
