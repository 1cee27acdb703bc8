"""Deliberate breaks of the protocol, each a few words changed in one statement or function, and what notices them.

A break that nothing notices is harmless only if another defence covers it: it is named, and the pair of both
breaks together is a mutant of its own, which must be noticed.
"""

from __future__ import annotations

from dataclasses import dataclass

from proof.edits import Edit

FRESH_PLACES = ("capture.", "operate.apply:", "sync.capture:", "store.database:")
"""Edits that must be there when the pipeline is applied or its connections are opened."""


@dataclass(frozen=True)
class Mutant:
    """A break; either `killer` and the check that fails in it, or `covered_by`."""

    name: str
    edits: tuple[Edit, ...]
    killer: str
    """The scenario that notices it first; of a harmless one, that which comes closest."""
    check: str = ""
    """G1, witness, exact, G11, dead letter; or `scenario`, whose own assertion it is. None of a harmless one."""
    covered_by: str = ""
    """Of a harmless break: the other defence."""
    together_with: str = ""
    """The mutant in which that one is gone as well."""

    @property
    def harmless(self) -> bool:
        return bool(self.covered_by)

    @property
    def fresh(self) -> bool:
        return any(edit.place.startswith(FRESH_PLACES) for edit in self.edits)


LOCK = "store.work:Holding.lock"
SLICE = "sync.batch.write:_slice"
DECIDE = "sync.batch.write:decide"
FENCE = " AND lease = %(lease)s"

NO_GENERATION = Edit(LOCK, " if claimed[key] == generation", "")
NO_FINGERPRINT = (
    Edit(DECIDE, "row.vector is not None and now.fingerprint == row.fingerprint", "row.vector is not None"),
    Edit(DECIDE, "(now.fingerprint, row.vector)", "(row.fingerprint, row.vector)"),
)
LOOK = "rows.look(connection, batch.shape, list(locked), text_limit=settings.text_limit_bytes)"
LOOK_BEFORE_LOCK = (
    Edit(
        SLICE,
        "            locked = batch",
        "            early = rows.look(connection, batch.shape, [row.key for row in part], "
        "text_limit=settings.text_limit_bytes)\n            locked = batch",
    ),
    Edit(SLICE, LOOK, "{key: early[key] for key in locked}"),
)
NO_LEASE_AT_LOCK = Edit("work.lock_claimed", FENCE, "")
NO_LEASE_AT_ACK = Edit("work.ack", FENCE, "")
IGNORED_CONFLICT = Edit("outbox.drain", "        parked_at = NULL\n", "        parked_at = NULL WHERE false\n")
OLD_KEY_EVENT = "INSERT INTO pgvector_sync.outbox (source_id, key) VALUES ({source_id}, {old_key})"
LOST_COMMIT = 'connection.execute("COMMIT"); connection.execute("BEGIN")'

MUTANTS = (
    # -- the write
    Mutant(
        "no fingerprint recheck, no generation check",
        (*NO_FINGERPRINT, NO_GENERATION),
        "changed and drained during the call",
        "G1",
    ),
    Mutant("no fingerprint recheck", NO_FINGERPRINT, "changed during the call", "scenario"),
    Mutant(
        "no generation check",
        (NO_GENERATION,),
        "changed there and back during the call",
        covered_by="the fingerprint, read again under the lock",
        together_with="no fingerprint recheck, no generation check",
    ),
    Mutant(
        "a vector is stored under the fingerprint of the look",
        (Edit(DECIDE, "row.vector is not None and now.fingerprint == row.fingerprint", "row.vector is not None"),),
        "changed during the call",
        "scenario",
    ),
    Mutant(
        "source read before the work lock, no generation check",
        (*LOOK_BEFORE_LOCK, NO_GENERATION),
        "changed and drained before the lock",
        "G1",
    ),
    Mutant(
        "source read before the work lock",
        LOOK_BEFORE_LOCK,
        "changed and drained before the lock",
        covered_by="the generation, which a drain between look and lock has raised",
        together_with="source read before the work lock, no generation check",
    ),
    Mutant(
        "no lease fence at lock and ack",
        (NO_LEASE_AT_LOCK, NO_LEASE_AT_ACK),
        "a late worker writes",
        "scenario",
    ),
    Mutant(
        "no lease fence at lock and ack, no fingerprint recheck",
        (NO_LEASE_AT_LOCK, NO_LEASE_AT_ACK, *NO_FINGERPRINT),
        "a late worker whose row has left work and come back",
        "G1",
    ),
    Mutant("no lease fence at the lock", (NO_LEASE_AT_LOCK,), "a late worker writes", "scenario"),
    Mutant(
        "ack by key, without the lease",
        (NO_LEASE_AT_ACK,),
        "a late worker writes",
        covered_by="the lease at the lock, in the same transaction",
        together_with="no lease fence at lock and ack",
    ),
    Mutant(
        "no lease fence at release",
        (Edit("work.release", FENCE, ""),),
        "a late worker gives up",
        "scenario",
    ),
    Mutant(
        "no lease fence at the release of what was superseded",
        (Edit("work.release_superseded", FENCE, ""),),
        "a late worker writes",
        "scenario",
    ),
    Mutant(
        "no spec_version check at the write",
        (Edit("pipelines.hold", " AND spec_version = %(spec_version)s", ""),),
        "applied during the call",
        "G1",
    ),
    Mutant(
        "no look at the pipeline's state at the write",
        (Edit("pipelines.hold", " AND state NOT IN ('paused', 'removing')", ""),),
        "a paused pipeline",
        "scenario",
    ),
    Mutant(
        "blank rows keep their vectors",
        (Edit(SLICE, "rows.remove(connection, batch.shape, decision.removed)", "pass"),),
        "blank after it had a vector",
        "G1",
    ),
    Mutant(
        "no trim of further chunks",
        (Edit("store.rows:write", 'connection.execute(shape.trim, {"keys": keys, "chunks": 1})', "pass"),),
        "changed during the call",
        covered_by="there is one chunk a row so far",
    ),
    Mutant(
        "writes under REPEATABLE READ",
        (Edit("store.database:Database._configure", "READ_COMMITTED", "REPEATABLE_READ"),),
        "changed and drained before the lock",
        covered_by="40001 at the lock, where a drain has changed the row since the snapshot",
    ),
    # -- claim and attempts
    Mutant(
        "a claim takes what is leased",
        (
            Edit("work.claim", "AND lease IS NULL", ""),
            Edit("work.claim", "AND visible_at <= statement_timestamp()", ""),
        ),
        "two workers want the same row",
        "scenario",
    ),
    Mutant(
        "a claim looks at visible_at alone",
        (Edit("work.claim", "AND lease IS NULL", ""),),
        "two workers want the same row",
        covered_by="visible_at, which is the lease's end while there is one, and claim_expired, which goes first",
        together_with="a claim takes what is leased",
    ),
    Mutant(
        "a claim waits for locked rows",
        (Edit("work.claim", " SKIP LOCKED", ""),),
        "two workers claim at the same time",
        "scenario",
    ),
    Mutant(
        "any event resets the attempts",
        (
            Edit(
                "outbox.drain",
                "CASE WHEN w.parked_at IS NOT NULL AND w.failed_fingerprint IS NOT NULL THEN 0 ELSE w.attempts END",
                "0",
            ),
        ),
        "a row that kills its worker and is changed each time",
        "scenario",
    ),
    Mutant(
        "attempts are not noted before the call",
        (Edit("sync.batch.read:_count_attempts", "if again:", "if False:"),),
        "a row that killed its worker under another text",
        "scenario",
    ),
    Mutant(
        "parked whatever its generation",
        (Edit("work.park", " AND w.generation = p.generation", ""),),
        "refused but changed and drained during the call",
        "dead letter",
    ),
    # -- the drain
    Mutant(
        "a drain that ignores conflicts (DO NOTHING)",
        (
            Edit("outbox.drain", "ON CONFLICT (pipeline_id, key) DO UPDATE SET", "ON CONFLICT DO NOTHING /*"),
            Edit("outbox.drain", "    RETURNING 1\n", "    */ RETURNING 1\n"),
        ),
        "changed and drained between look and write",
        "G1",
    ),
    Mutant(
        "a drain that locks conflicts and then ignores them",
        (IGNORED_CONFLICT,),
        "a dead letter gets another text",
        "dead letter",
    ),
    Mutant(
        "a drain that ignores conflicts, no fingerprint recheck",
        (IGNORED_CONFLICT, *NO_FINGERPRINT),
        "changed and drained during the call",
        "G1",
    ),
    Mutant(
        "a drain that raises no generation",
        (Edit("outbox.drain", "w.generation + 1", "w.generation"),),
        "refused but changed and drained during the call",
        "dead letter",
    ),
    Mutant(
        "a drain that raises no generation, no fingerprint recheck",
        (Edit("outbox.drain", "w.generation + 1", "w.generation"), *NO_FINGERPRINT),
        "changed and drained during the call",
        "G1",
    ),
    Mutant(
        "events read as operations",
        (
            Edit(
                "capture.create_function",
                OLD_KEY_EVENT,
                "INSERT INTO pgvector_sync.outbox (source_id, key, at) "
                "VALUES ({source_id}, {old_key}, '-infinity')",
            ),
            Edit("outbox.drain", "AS burst FROM event\n", "AS burst FROM event WHERE at > '-infinity'\n"),
            Edit(
                "outbox.drain",
                "), moved AS (",
                "), gone AS (DELETE FROM public.docs_embedding t USING event e "
                "WHERE e.at = '-infinity' AND t.id = (e.key ->> 0)::bigint), moved AS (",
            ),
        ),
        "deleted and drained between look and write",
        "G1",
    ),
    Mutant(
        "id > last: a drain that never looks back",
        (Edit("sync.drain:Drain._start", "return 0 if stale else self._hint", "return self._hint"),),
        "an event that becomes visible late",
        "G11",
    ),
    Mutant(
        "events of a pipeline in cool-down are dropped",
        (Edit("outbox.drain", "p.state <> 'removing'", "p.state = 'active'"),),
        "drained while the provider is down",
        "G1",
    ),
    Mutant(
        "two drains at once",
        (Edit("store.locks:try_lock_drain", "return bool(", "return True or bool("),),
        "two drains at once",
        covered_by="SKIP LOCKED on the events, and one statement that moves them",
    ),
    # -- capture
    Mutant(
        "a trigger without key changes",
        (Edit("capture.create_function", " OR TG_OP = 'UPDATE' AND {key_changed}", ""),),
        "a changed key",
        "G1",
    ),
    Mutant(
        "no event of a delete",
        (Edit("capture.create_function", OLD_KEY_EVENT, "NULL"),),
        "deleted and drained between look and write",
        "G1",
    ),
    Mutant(
        "no delete in the trigger",
        (Edit("capture.create_function", "{delete};", "NULL;"),),
        "a delete takes its vector along",
        "scenario",
    ),
    Mutant(
        "a delete trigger without NOT EXISTS",
        (
            Edit(
                "capture.delete_from_target",
                "\n                  AND NOT EXISTS "
                "(SELECT FROM {source} AS pgvector_sync_source WHERE {source_matches_old})",
                "",
            ),
        ),
        "keys that move up by one",
        "scenario",
    ),
    Mutant(
        "a delete trigger that acts under REPEATABLE READ",
        (Edit("capture.delete_vectors", "current_setting('transaction_isolation') = 'read committed'", "true"),),
        "a delete under repeatable read",
        "scenario",
    ),
    Mutant(
        "WHEN with IS DISTINCT FROM",
        (
            Edit(
                "sync.capture:Capture.changed",
                "ROW(old.{c})::record OPERATOR(pg_catalog.*<>) ROW(new.{c})::record",
                "old.{c} IS DISTINCT FROM new.{c}",
            ),
        ),
        "a number that is only written differently",
        "G1",
    ),
    Mutant(
        "no event of a TRUNCATE",
        (
            Edit(
                "capture.create_sweep_function",
                "INSERT INTO pgvector_sync.outbox (source_id, key) VALUES ({source_id}, NULL)",
                "NULL",
            ),
        ),
        "truncated",
        "G1",
    ),
    Mutant(
        "rows hidden by row-level security count as gone",
        (
            Edit(
                "session.begin",
                "set_config('row_security', 'off', true)",
                "set_config('row_security', 'on', true)",
            ),
        ),
        "rows that row level security hides",
        "scenario",
    ),
    # -- sweep and fill
    Mutant(
        "a sweep that doesn't look for the row",
        (Edit("target.remove_orphans", " AND NOT EXISTS (SELECT FROM {source} WHERE {match_source})", ""),),
        "a row inserted again before the sweep comes by",
        "G1",
    ),
    Mutant(
        "a sweep's event goes before the walk is done",
        (Edit("sync.drain:Drain._sweep", "if done:", "if done or True:"),),
        "a sweep that is held up",
        "G1",
    ),
    Mutant(
        "the fill starts before the triggers are there",
        (
            Edit(
                "operate.apply:_apply",
                "    if made.missing_triggers:",
                f"    {LOST_COMMIT}\n    if made.missing_triggers:",
            ),
        ),
        "a row inserted while triggers are installed",
        "G1",
    ),
    Mutant(
        "the watermark moves in a transaction of its own",
        (
            Edit(
                "sync.fill:_page",
                "    enqueued = ",
                "    runs.advance(connection, moved, walked=walked, seen=0, enqueued=0, "
                f"lease_for=runtime.settings.lease)\n    {LOST_COMMIT}\n    enqueued = ",
            ),
        ),
        "killed in the middle of a page",
        "G1",
    ),
    Mutant(
        "a fill that doesn't leave waiting rows alone",
        (Edit("runs.enqueue", "\nWHERE w.parked_at IS NOT NULL", ""),),
        "a fill comes by a row that is being embedded",
        "scenario",
    ),
)
