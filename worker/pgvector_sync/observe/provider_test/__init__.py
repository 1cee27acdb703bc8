"""What can an endpoint do? `provider test` finds out by calls, and says which settings follow.

`trials` lists the calls, `calls` makes them, `findings` and `advice` judge the replies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.embedding.families.proposal import Proposal
from pgvector_sync.embedding.tokens import count_tokens
from pgvector_sync.model import Provider, Spec
from pgvector_sync.model.deadline import Deadline
from pgvector_sync.observe.provider_test.calls import Caller, effective
from pgvector_sync.observe.provider_test.reply import Reply
from pgvector_sync.observe.provider_test.seen import Seen, Subject
from pgvector_sync.observe.provider_test.trials import Call, Trial, plan
from pgvector_sync.settings import Settings


@dataclass(frozen=True, slots=True)
class Cost:
    """What a test costs at most."""

    calls: int
    texts: int
    tokens: int
    usd: float | None
    """None if the price isn't known."""


def subject_of(
    provider: Provider,
    spec: Spec,
    query_spec: Spec,
    *,
    pipeline: str | None = None,
    proposal: Proposal | None = None,
) -> Subject:
    """Return what is tested. Calls nothing."""
    dialect = dialect_of(provider)
    return Subject(
        provider=provider,
        effective=effective(provider, spec),
        spec=spec,
        query_spec=query_spec,
        limits=dialect.limits(provider),
        remote=dialect.remote,
        pipeline=pipeline,
        proposal=proposal,
    )


def prepare(subject: Subject, settings: Settings, environ: Mapping[str, str]) -> None:
    """Check host and key, or load the model. Raises Misconfigured."""
    connection = dialect_of(subject.provider).connect(subject.provider, settings, environ)
    try:
        connection.prepare(subject.spec)
    finally:
        connection.close()


def cost_of(subject: Subject, price: Decimal | None) -> Cost:
    """Return what the test costs at most. `price` is in US dollars per million tokens."""
    trials, spec = plan(subject), subject.spec
    tokens = sum(
        trial.copies * count_tokens((spec.prefix or "") + text, spec.model).about
        for trial in trials
        for text in trial.texts
    )
    return Cost(
        calls=sum(trial.copies for trial in trials),
        texts=sum(trial.copies * len(trial.texts) for trial in trials),
        tokens=tokens,
        usd=None if price is None else float(tokens * price / 1_000_000),
    )


def run(
    seen: Seen,
    settings: Settings,
    environ: Mapping[str, str],
    *,
    deadline: Deadline,
    began: Callable[[Trial], None],
) -> None:
    """Make the calls, and add their replies to `seen`, until one shows that no other makes sense.

    began: called before each trial.
    """
    with Caller(seen, settings, environ, deadline) as caller:
        go_through(seen, caller.make, began)


def go_through(
    seen: Seen, make: Callable[[Trial, Call], Reply], began: Callable[[Trial], None] = lambda _: None
) -> None:
    """Make each trial that is needed, and add its reply to `seen`, until one ends the test."""
    for trial in plan(seen.subject):
        if seen.ended_by is None and trial.needed(seen):
            began(trial)
            seen.replies[trial.name] = make(trial, trial.call(seen))
