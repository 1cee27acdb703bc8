"""From replies to findings: what the endpoint can do, and how far that differs from what its settings say."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from pgvector_sync.model.counted import counted
from pgvector_sync.observe.level import Level
from pgvector_sync.observe.provider_test.reply import Outcome, Reply, likeness
from pgvector_sync.observe.provider_test.seen import NOISE, PARAMETERS, Seen
from pgvector_sync.observe.provider_test.trials import lengths

SAME_TEXT = 0.999
"""The least cosine of two vectors of one text. Endpoints that compute with 16 bits reach 0.9999."""
UNIT = 1e-3
"""How far the length of a normalized vector may be from 1."""
MEASURABLE = timedelta(milliseconds=50)
"""A shorter call says nothing about parallelism: the network and this machine take as long."""
SERIAL, PARALLEL = 1.6, 1.4
"""How many times as long as one call two calls at once take if they are answered one by one, or together."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    capability: str
    level: Level
    result: str
    setting: str | None = None
    """The setting that follows from it, as it is written in the file."""


def batch_label(size: int) -> str:
    return f"batch of {size:,}"


def length_label(length: int) -> str:
    return f"text of {length:,} tokens"


def findings(seen: Seen) -> list[Finding]:
    """Return what is known, in the order of the trials. What wasn't tried is left out."""
    return [finding for judge in _JUDGES for finding in judge(seen)]


def _configured(seen: Seen) -> Iterator[Finding]:
    reply = seen.replies.get("configured")
    if reply is None:
        return
    if reply.answered:
        yield Finding("settings as they are", Level.OK, f"accepted, {reply.size:,} dimensions")
    else:
        yield Finding("settings as they are", Level.ERROR, reply.words)


def _encodings(seen: Seen) -> Iterator[Finding]:
    if seen.subject.effective.encoding is not None:
        for encoding, name in {"base64": "base64", "float": "float", "none": "plain"}.items():
            if (reply := seen.replies.get(name)) is not None:
                result = "accepted" if reply.size is not None else reply.words
                yield Finding(f"encoding {encoding}", Level.OK, result)


def _sizes(seen: Seen) -> Iterator[Finding]:
    wanted = seen.subject.spec.dimensions
    if seen.native is not None and "plain" in seen.replies:
        yield Finding("size of vectors", Level.OK, f"{seen.native:,} dimensions if no size is requested")
    for parameter in PARAMETERS:
        if (reply := seen.replies.get(parameter)) is None:
            continue
        if reply.answered:
            yield Finding(parameter, Level.OK, f"{seen.asked:,} requested and returned")
        elif reply.size is not None:
            yield Finding(parameter, Level.OK, f"ignored: {seen.asked:,} requested, {reply.size:,} returned")
        else:
            yield Finding(parameter, Level.OK, f"{reply.words}, {seen.asked:,} requested")
    returned = seen.settled[1].dimensions
    if returned != wanted:
        result = f"{wanted:,} isn't available, only {returned:,}"
        yield Finding("dimensions of the pipeline", Level.ERROR, result, f"dimensions = {returned}")


def _batches(seen: Seen) -> Iterator[Finding]:
    stated = seen.subject.limits.max_inputs
    for size in seen.batches:
        reply, name = seen.replies[f"batch {size}"], batch_label(size)
        if reply.answered:
            level, order = _order(seen, reply)
            yield Finding(name, level, f"accepted, {order}, {_time(reply.took)}")
        elif reply.outcome is Outcome.INVALID:
            yield Finding(name, Level.ERROR if size <= stated else Level.OK, reply.words)
        else:
            yield Finding(name, Level.WARNING if size <= stated else Level.OK, reply.words)


def _order(seen: Seen, reply: Reply) -> tuple[Level, str]:
    """Compare the vectors of the two known texts of a batch with those that they have alone."""
    batch, first, second = reply.vectors, seen.replies["first"].vectors, seen.replies["second"].vectors
    if batch is None or first is None or second is None:
        return Level.WARNING, "order unknown"
    places = (len(batch) - 1) // 2, len(batch) - 1
    own = min(likeness(batch[place], alone[0]) for place, alone in zip(places, (first, second), strict=True))
    other = max(likeness(batch[place], alone[0]) for place, alone in zip(places, (second, first), strict=True))
    if own >= min(SAME_TEXT, 1 - 3 * seen.noise):
        return Level.OK, "in order"
    if own > other:
        return Level.WARNING, f"in order, but the vectors differ from those of single texts (cosine {own:.3f})"
    return Level.ERROR, "but in another order: vectors would be stored for the wrong rows"


def _two_at_once(seen: Seen) -> Iterator[Finding]:
    if seen.pair is None:
        return
    both, alone = seen.replies[f"two of {seen.pair}"], seen.replies[f"batch {seen.pair}"]
    if not both.answered:
        yield Finding("two calls at once", Level.WARNING, both.words)
        return
    ratio = both.took / alone.took
    times = f"{_time(both.took)}, one alone {_time(alone.took)}"
    if alone.took < MEASURABLE:
        result, level = "too fast to tell", Level.OK
    elif ratio >= SERIAL:
        result, level = "answered one after the other", Level.WARNING
    else:
        result, level = "answered together" if ratio <= PARALLEL else "can't be told", Level.OK
    yield Finding("two calls at once", level, f"{result}: {times}")


def _long_texts(seen: Seen) -> Iterator[Finding]:
    tried = [length for length in lengths(seen.subject) if f"long {length}" in seen.replies]
    stated = seen.subject.limits.max_input_tokens
    for shorter, length in zip([None, *tried], tried, strict=False):
        reply, name = seen.replies[f"long {length}"], length_label(length)
        if not reply.answered:
            level = Level.WARNING if stated is None or length <= stated else Level.OK
            yield Finding(name, level, reply.words)
        elif shorter is None:
            yield Finding(name, Level.OK, "accepted")
        elif seen.same(f"long {shorter}", f"long {length}"):
            yield Finding(
                name, Level.WARNING, f"cut off silently: what follows {shorter:,} tokens changes nothing"
            )
        else:
            yield Finding(name, Level.OK, f"accepted, and read beyond {shorter:,} tokens")


def _blank(seen: Seen) -> Iterator[Finding]:
    """Rows without a text are never sent, so neither answer needs a setting."""
    for name, label in (("empty", "empty text"), ("nothing", "no text at all")):
        if (reply := seen.replies.get(name)) is not None:
            yield Finding(label, Level.OK, "answered" if reply.answered else reply.words)


def _purposes(seen: Seen) -> Iterator[Finding]:
    query, document = seen.replies.get("query"), seen.replies.get("first")
    if query is None or document is None:
        return
    if seen.subject.proposal is not None:
        yield Finding("query and document", Level.WARNING, "the same form, but the model expects different ones")
    elif query is document:
        yield Finding("query and document", Level.OK, "the same request")
    elif query.vectors is None or document.vectors is None:
        yield Finding("query and document", Level.WARNING, f"query {query.words}")
    else:
        cosine = likeness(query.vectors[0], document.vectors[0])
        same = seen.same("query", "first")
        words = "the same vector" if same else f"different vectors (cosine {cosine:.3f})"
        differ = seen.subject.query_spec != seen.subject.spec
        yield Finding("query and document", Level.WARNING if same and differ else Level.OK, words)


def _vectors(seen: Seen) -> Iterator[Finding]:
    answers = [seen.replies[name] for name in ("first", "second") if name in seen.replies and seen.answered(name)]
    norms = [float(np.linalg.norm(row)) for reply in answers if reply.vectors is not None for row in reply.vectors]
    if norms:
        unit = max(abs(norm - 1) for norm in norms) <= UNIT
        lengths_seen = f"no, lengths {min(norms):.3g} and {max(norms):.3g}: use the metric cosine"
        yield Finding("normalized", Level.OK, "yes" if unit else lengths_seen)
    if seen.answered("first") and seen.answered("again"):
        differ = seen.noise
        level = Level.OK if differ <= 1 - SAME_TEXT else Level.WARNING
        same = "yes" if differ <= NOISE else f"no: cosine {1 - differ:.5f} if a text is sent twice"
        yield Finding("same text, same vector", level, same)


def _usage(seen: Seen) -> Iterator[Finding]:
    answers = [reply for reply in seen.replies.values() if reply.answered]
    if answers:
        counted = any(reply.tokens is not None for reply in answers)
        yield Finding("usage", Level.OK, "reported" if counted else "not reported: tokens are estimated")


def _latency(seen: Seen) -> Iterator[Finding]:
    short = {id(reply): reply for reply in (seen.replies.get(name) for name in _SHORT) if reply and reply.answered}
    if short:
        median = timedelta(seconds=statistics.median(reply.took.total_seconds() for reply in short.values()))
        calls = counted(len(short), "call")
        yield Finding("time for a short text", Level.OK, f"{_time(median)}, median of {calls}")


def _time(took: timedelta) -> str:
    seconds = took.total_seconds()
    if seconds < 0.001:
        return "under 1 ms"
    return f"{seconds * 1000:,.0f} ms" if seconds < 1 else f"{seconds:,.1f} s"


_SHORT = ("configured", "plain", "base64", "float", *PARAMETERS, "first", "second", "again", "query")
_JUDGES: tuple[Callable[[Seen], Iterator[Finding]], ...] = (
    _configured,
    _encodings,
    _sizes,
    _batches,
    _two_at_once,
    _long_texts,
    _blank,
    _purposes,
    _vectors,
    _usage,
    _latency,
)
