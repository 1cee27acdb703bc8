"""Breaks of capture, drain and sweep, of apply and backfill."""

from __future__ import annotations

from proof.breaks.batch import NO_FINGERPRINT
from proof.edits import Edit
from proof.mutant import Mutant

IGNORED_CONFLICT = Edit("outbox.drain", "        run_id = NULL\n", "        run_id = NULL WHERE false\n")
EVENT = "INSERT INTO pgvector_sync.outbox (source_id, key) VALUES ({source_id}, {key});"
FORMER_KEY_EVENT = "INSERT INTO pgvector_sync.outbox (source_id, key) VALUES ({source_id}, {former_key})"
LOST_COMMIT = 'connection.execute("COMMIT"); connection.execute("BEGIN")'
WAITS_FOR_LOCKED = Edit("outbox.drain", "WHERE locked.ours IS NULL", "WHERE false")
AS_OPERATIONS = (
    Edit(
        "capture.create_function",
        EVENT,
        "INSERT INTO pgvector_sync.outbox (source_id, key, at) "
        "VALUES ({source_id}, {key}, CASE TG_OP WHEN 'DELETE' THEN '-infinity' ELSE clock_timestamp() END);",
    ),
    Edit(
        "capture.append_former_key",
        FORMER_KEY_EVENT,
        "INSERT INTO pgvector_sync.outbox (source_id, key, at) VALUES ({source_id}, {former_key}, '-infinity')",
    ),
    Edit("outbox.drain", "AS burst FROM event\n", "AS burst FROM event WHERE at > '-infinity'\n"),
    Edit(
        "outbox.drain",
        "), moved AS (",
        "), gone AS (DELETE FROM public.docs_embedding t USING event e "
        "WHERE e.at = '-infinity' AND t.id = (e.key ->> 0)::bigint), moved AS (",
    ),
)

MUTANTS = (
    # -- the drain
    Mutant(
        "a drain that ignores conflicts (DO NOTHING)",
        (
            Edit("outbox.drain", "ON CONFLICT (pipeline_id, key) DO UPDATE SET", "ON CONFLICT DO NOTHING /*"),
            Edit("outbox.drain", "    RETURNING 1\n", "    */ RETURNING 1\n"),
        ),
        "a dead letter gets another text",
        "dead letter",
    ),
    Mutant(
        "a drain that waits for locked rows",
        (WAITS_FOR_LOCKED,),
        "drained while a frozen worker holds a row",
        "scenario",
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
        "a drain that does not raise the generation",
        (Edit("outbox.drain", "w.generation + 1", "w.generation"),),
        "refused but changed and drained during the call",
        "dead letter",
    ),
    Mutant(
        "a drain that does not raise the generation, no fingerprint recheck",
        (Edit("outbox.drain", "w.generation + 1", "w.generation"), *NO_FINGERPRINT),
        "changed and drained during the call",
        "G1",
    ),
    Mutant(
        "events read as operations",
        AS_OPERATIONS,
        "deleted and drained between look and write",
        covered_by="the drain leaves events of rows that a write has locked",
        together_with="events read as operations, of locked rows as well",
    ),
    Mutant(
        "events read as operations, of locked rows as well",
        (*AS_OPERATIONS, WAITS_FOR_LOCKED),
        "deleted and drained between look and write",
        "G1",
    ),
    Mutant(
        "id > last: a drain that never looks back",
        (Edit("capture.drain:Drain.start", "return 0 if stale else self._hint", "return self._hint"),),
        "an event that becomes visible late",
        "G11",
    ),
    Mutant(
        "a search for due rows that never starts from the beginning",
        (Edit("store.due_hints:DueHints.all", " if not until.passed", ""),),
        "a row that is due since before the last search",
        "G11",
    ),
    Mutant(
        "events of a pipeline in cool-down are dropped",
        (Edit("outbox.drain", "= e.source_id AND p.state <> 'removing'", "= e.source_id AND p.state = 'active'"),),
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
        "a trigger that ignores key changes",
        (Edit("capture.append_former_key", "{key_changed}", "false"),),
        "a changed key",
        "G1",
    ),
    Mutant(
        "no event of a delete",
        (Edit("capture.create_function", EVENT, f"IF TG_OP <> 'DELETE' THEN {EVENT} END IF;"),),
        "deleted and drained between look and write",
        "G1",
    ),
    Mutant(
        "no delete in the trigger",
        (Edit("capture.create_remove_function", "{delete};", "NULL;"),),
        "a delete removes its vector",
        "scenario",
    ),
    Mutant(
        "a key change removes vectors as a delete does",
        (
            Edit(
                "capture.create_remove_trigger",
                "CREATE OR REPLACE TRIGGER",
                "CREATE OR REPLACE TRIGGER moved AFTER UPDATE ON {source} REFERENCING OLD TABLE AS pgvector_sync_deleted "
                "FOR EACH STATEMENT EXECUTE FUNCTION {function}(); CREATE OR REPLACE TRIGGER",
            ),
        ),
        "keys that move up by one",
        "scenario",
    ),
    Mutant(
        "a delete trigger that acts under REPEATABLE READ",
        (
            Edit(
                "capture.create_remove_function",
                "current_setting('transaction_isolation') <> 'read committed'",
                "false",
            ),
            # the witness is a trigger on the target, and a DELETE from such a target can't fail the application
            Edit("capture.trust", "SELECT NOT c.relhastriggers", "SELECT true"),
        ),
        "a delete under repeatable read",
        "scenario",
    ),
    Mutant(
        "WHEN with IS DISTINCT FROM",
        (
            Edit(
                "store.capture:_image_differs",
                "pg_catalog.record_image_ne(ROW({}), ROW({}))",
                "ROW({}) IS DISTINCT FROM ROW({})",
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
                "INSERT INTO pgvector_sync.sweep (source_id) VALUES ({source_id})",
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
    # -- sweep and backfill
    Mutant(
        "a sweep that doesn't look for the row",
        (Edit("target.remove_orphans", " AND NOT EXISTS (SELECT FROM {source} WHERE {match_source})", ""),),
        "a row inserted again before the sweep reaches it",
        "G1",
    ),
    Mutant(
        "a sweep's event is deleted before the walk is done",
        (Edit("capture.drain:Drain._sweep", "if done:", "if done or True:"),),
        "a sweep that is blocked",
        "G1",
    ),
    Mutant(
        "the backfill starts before the triggers are there",
        (
            Edit(
                "declare.apply:_apply",
                "    if plan.missing_triggers:",
                f"    {LOST_COMMIT}\n    if plan.missing_triggers:",
            ),
        ),
        "a row inserted while triggers are installed",
        "G1",
    ),
    Mutant(
        "the watermark moves in a transaction of its own",
        (
            Edit(
                "runs.bulk:_enqueue",
                "    enqueued = ",
                f"    runs.advance(connection, moved, seen=0, enqueued=0)\n    {LOST_COMMIT}\n    enqueued = ",
            ),
        ),
        "killed in the middle of a page",
        "G1",
    ),
    Mutant(
        "a backfill that doesn't leave waiting rows alone",
        (Edit("runs.enqueue", "\nWHERE w.parked_at IS NOT NULL OR (excluded.force AND NOT w.force)", ""),),
        "a backfill reaches a row that is being embedded",
        "scenario",
    ),
)
