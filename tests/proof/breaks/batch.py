"""Breaks of claim, attempts and write."""

from __future__ import annotations

from proof.edits import Edit
from proof.mutant import Mutant

LOCK = "store.work:Holding.lock"
SLICE = "batch.slice:write_slice"
DECIDE = "batch.decide:decide"
FENCE = " AND lease = %(lease)s"
ALIVE = "  AND EXISTS (SELECT FROM pgvector_sync.lease l WHERE l.id = %(lease)s AND l.lost_at IS NULL)"

NO_GENERATION = Edit(LOCK, " if claimed[key] == generation", "")
NO_COMPARISON = Edit(DECIDE, " and now.fingerprint == row.fingerprint", "")
NO_FINGERPRINT = (NO_COMPARISON,)
LOOK = "_look(runtime, batch, list(locked), connection)"
LOOK_BEFORE_LOCK = (
    Edit(
        SLICE,
        "        locked = _lock",
        "        early = rows.look(connection, batch.shape, [row.key for row in part], "
        "text_limit=runtime.settings.text_limit_bytes)\n        locked = _lock",
    ),
    Edit(SLICE, LOOK, "{key: early[key] for key in locked}"),
)
NO_LEASE_AT_LOCK = Edit("work.lock_claimed", FENCE, "")
NO_LOCK = Edit("work.lock_claimed", "\nFOR UPDATE SKIP LOCKED", "")
LOST_AT_LOCK = Edit("work.lock_claimed", ALIVE, "")
LOST_AT_RELEASE = Edit("work.release_superseded", ALIVE, "")
NO_LEASE_AT_ACK = Edit("work.ack", FENCE, "")

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
        "changed and changed back during the call",
        covered_by="the fingerprint, read again under the lock",
        together_with="no fingerprint recheck, no generation check",
    ),
    Mutant(
        "a vector is stored under the fingerprint of the look",
        (
            NO_COMPARISON,
            Edit(
                DECIDE,
                "(row.passage, row.vector)",
                "(Passage(row.key, 0, row.passage.text, now.fingerprint), row.vector)",
            ),
        ),
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
        "the work rows are looked at, but not locked, and all of the lease are acknowledged",
        (NO_LOCK, Edit("work.ack", "ctid = ANY (%(places)s::tid[]) AND ", "")),
        "changed and drained between look and write",
        "G1",
    ),
    Mutant(
        "the work rows are looked at, but not locked",
        (NO_LOCK,),
        "changed and drained between look and write",
        covered_by="the place of a row, which an event changes",
        together_with="the work rows are looked at, but not locked, and all of the lease are acknowledged",
    ),
    Mutant(
        "no lease fence at lock and ack",
        (NO_LEASE_AT_LOCK, LOST_AT_LOCK, NO_LEASE_AT_ACK),
        "a late worker writes",
        "scenario",
    ),
    Mutant(
        "no lease fence at lock and ack, no fingerprint recheck",
        (NO_LEASE_AT_LOCK, LOST_AT_LOCK, NO_LEASE_AT_ACK, *NO_FINGERPRINT),
        "a late worker whose row has left work and come back",
        "G1",
    ),
    Mutant(
        "no lease fence at the lock",
        (NO_LEASE_AT_LOCK,),
        "a late worker writes",
        covered_by="the lease itself, which is lost before another worker has its rows",
        together_with="no lease fence at lock and ack",
    ),
    Mutant(
        "an ack without the lease",
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
        (Edit("work.release_superseded", FENCE, ""), LOST_AT_RELEASE),
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
        (Edit(SLICE, "rows.remove(connection, batch.shape, decision.removed)", "set()"),),
        "blank after it had a vector",
        "G1",
    ),
    Mutant(
        "no trim of further chunks",
        (Edit(SLICE, "rows.trim(connection, batch.shape, with_chunks)", "pass"),),
        "changed during the call",
        covered_by="there is one chunk per row so far",
    ),
    Mutant(
        "writes under REPEATABLE READ",
        (Edit("database:_prepare", "READ_COMMITTED", "REPEATABLE_READ"),),
        "changed and drained before the lock",
        covered_by="40001 at the lock, where a drain has changed the row since the snapshot",
    ),
    # -- claim and attempts
    Mutant(
        "a claim takes what is leased",
        (Edit("work.claim", "AND lease IS NULL", ""),),
        "two workers want the same row",
        "scenario",
    ),
    Mutant(
        "a claim takes rows of leases that are only suspected",
        (
            Edit("work.held", "count(l.lost_at)", "count(l.suspected_at)"),
            Edit("work.claim_expired", "AND lost_at IS NOT NULL", "AND suspected_at IS NOT NULL"),
        ),
        "a living worker renews a suspected lease",
        "scenario",
    ),
    Mutant(
        "a lease is lost as soon as it runs out",
        (
            Edit(
                "leases.expire",
                "CASE WHEN suspected_at <= statement_timestamp() - %(grace)s THEN statement_timestamp() END",
                "statement_timestamp()",
            ),
        ),
        "a living worker renews a suspected lease",
        "scenario",
    ),
    Mutant(
        "a lost lease is renewed",
        (Edit("leases.renew", " AND lost_at IS NULL", ""),),
        "a worker renews a lease that is lost",
        "scenario",
    ),
    Mutant(
        "a lost lease may write",
        (LOST_AT_LOCK,),
        "a worker whose lease is lost writes before its rows are taken",
        "scenario",
    ),
    Mutant(
        "a lost lease gives its attempt back after it has paid",
        (LOST_AT_RELEASE,),
        "a worker whose lease is lost writes before its rows are taken",
        "scenario",
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
        "attempts are not recorded before the call",
        (Edit("batch.read:_count_attempts", "if again:", "if False:"),),
        "a row that killed its worker under another text",
        "scenario",
    ),
    Mutant(
        "parked whatever its generation",
        (Edit("work.park", " AND w.generation = p.generation", ""),),
        "refused but changed and drained during the call",
        "dead letter",
    ),
)
