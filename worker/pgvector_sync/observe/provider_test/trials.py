"""The calls of a test in their order: what each sends, and when it is needed. Nothing here calls anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from pgvector_sync.model import Provider, Purpose, Spec
from pgvector_sync.observe.provider_test.seen import ENCODINGS, Encoding, Parameter, Seen, Subject
from pgvector_sync.observe.provider_test.texts import FIRST, SECOND, long_text, sentences

LENGTHS = (600, 2_300)
"""Tokens; just more than the windows of 512 and 2,048 tokens that many open models have."""
BEYOND = 1.1
"""How much longer a text is than the limit that it exceeds. Some words are more than one token, none is less."""
LONGEST = 8_191
"""The largest limit that is exceeded. Beyond larger ones, texts would cost more than the answer is worth."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call, or several equal ones at once."""

    provider: Provider
    spec: Spec
    purpose: Purpose = Purpose.DOCUMENT


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing to find out by a call."""

    name: str
    texts: tuple[str, ...]
    needed: Callable[[Seen], bool]
    """Whether the replies so far leave the question open. Only asked if no reply has ended the test."""
    call: Callable[[Seen], Call]
    copies: int = 1
    """How many equal calls are made at once."""
    again: bool = False
    """Whether the call is made even if an equal one was answered already."""


def plan(subject: Subject) -> list[Trial]:
    """Return every call that the test may make, in order: the large ones last, as they may reach a rate limit."""
    return [*_forms(subject), *_singles(), *_others(subject), *_batches(subject), *_long(subject)]


def _forms(subject: Subject) -> Iterator[Trial]:
    """Which parameters the endpoint accepts."""
    one, form = (FIRST,), subject.effective
    yield Trial("configured", one, _always, lambda seen: Call(seen.subject.provider, seen.subject.spec))
    if form.encoding is not None or form.dimensions_parameter is not None:
        yield Trial("plain", one, _always, lambda seen: Call(seen.plain, seen.subject.spec))
    if form.encoding is not None:
        for encoding in ENCODINGS:
            yield Trial(encoding, one, _always, _with_encoding(encoding))
    if form.dimensions_parameter is not None:
        yield Trial("dimensions", one, _reachable, _with_parameter("dimensions"))
        yield Trial("output_dimension", one, _not_honoured, _with_parameter("output_dimension"))


def _singles() -> Iterator[Trial]:
    """Two texts alone, with the settled settings; the first of them twice."""
    yield Trial("first", (FIRST,), _reachable, _settled)
    yield Trial("second", (SECOND,), _answered("first"), _settled)
    yield Trial("again", (FIRST,), _ready, _settled, again=True)


def _batches(subject: Subject) -> Iterator[Trial]:
    """Batches of growing size; after a refusal, the limit that is assumed or common ones."""
    stated = subject.limits.max_inputs
    small = stated if 2 < stated < 33 else 32
    yield _batch(2, _ready)
    yield _batch(33, _answered("batch 2"))
    yield _batch(small, _refused("batch 33"))
    if small > 10:
        yield _batch(10, _refused(f"batch {small}"))
    yield _batch(257, _answered("batch 33"))
    middle = stated if 33 < stated < 257 else 100
    yield _batch(middle, _refused("batch 257"))
    if middle != stated:
        yield _batch(250, _answered(f"batch {middle}"))
    if middle > 64:
        yield _batch(64, _refused(f"batch {middle}"))
    if stated > 257:
        yield _batch(stated, _answered("batch 257"))
    if stated > 1_000:
        yield _batch(1_000, _refused(f"batch {stated}"))
    if subject.remote:
        for size in (33, small, 10):
            yield Trial(
                f"two of {size}", tuple(sentences(size, first=10_001)), _no_pair_yet(size), _settled, copies=2
            )


def _batch(size: int, needed: Callable[[Seen], bool]) -> Trial:
    """A batch in which the two known texts have a place, the second the last one."""
    texts = sentences(size, first=size * 10)
    texts[(size - 1) // 2] = FIRST
    texts[-1] = SECOND
    return Trial(f"batch {size}", tuple(texts), needed, _settled)


def _long(subject: Subject) -> Iterator[Trial]:
    """Each text begins with the one before it, so that equal vectors show what wasn't read."""
    before: list[str] = []
    for length in lengths(subject):
        yield Trial(f"long {length}", (long_text(length),), _read_to_the_end(*before[-2:]), _settled)
        before.append(f"long {length}")


def lengths(subject: Subject) -> list[int]:
    """Return the lengths of the long texts in tokens. The last two exceed the provider's limit, up to LONGEST."""
    limit = round(min(subject.limits.max_input_tokens or LONGEST, LONGEST) * BEYOND)
    return [*(length for length in LENGTHS if length < limit), limit, round(limit * BEYOND)]


def _others(subject: Subject) -> Iterator[Trial]:
    yield Trial("empty", ("",), _ready, _settled)
    if subject.remote:
        yield Trial("nothing", (), _ready, _settled)
    yield Trial("query", (FIRST,), _ready, _as_query)


def _settled(seen: Seen) -> Call:
    return Call(*seen.settled)


def _as_query(seen: Seen) -> Call:
    provider, spec = _settled(seen).provider, _settled(seen).spec
    return Call(provider, replace(seen.subject.query_spec, dimensions=spec.dimensions), Purpose.QUERY)


def _with_encoding(encoding: Encoding) -> Callable[[Seen], Call]:
    def call(seen: Seen) -> Call:
        return Call(replace(seen.plain, encoding=encoding), seen.subject.spec)

    return call


def _with_parameter(parameter: Parameter) -> Callable[[Seen], Call]:
    def call(seen: Seen) -> Call:
        spec = replace(seen.subject.spec, dimensions=seen.asked)
        return Call(replace(seen.base, dimensions_parameter=parameter), spec)

    return call


def _always(_: Seen) -> bool:
    return True


def _reachable(seen: Seen) -> bool:
    return seen.reachable


def _not_honoured(seen: Seen) -> bool:
    return seen.reachable and not seen.answered("dimensions")


def _ready(seen: Seen) -> bool:
    return seen.ready


def _answered(name: str) -> Callable[[Seen], bool]:
    return lambda seen: seen.answered(name)


def _no_pair_yet(size: int) -> Callable[[Seen], bool]:
    """Whether a batch of this size was answered, and no batch was sent twice at once."""
    return lambda seen: seen.answered(f"batch {size}") and seen.pair is None


def _read_to_the_end(*names: str) -> Callable[[Seen], bool]:
    """Whether the last of these texts was answered, and not cut off."""

    def needed(seen: Seen) -> bool:
        return seen.ready and all(map(seen.answered, names)) and not (len(names) == 2 and seen.same(*names))

    return needed


def _refused(name: str) -> Callable[[Seen], bool]:
    return lambda seen: seen.refused(name)
