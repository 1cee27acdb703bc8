"""A proposal as a commented `pgvector-sync.toml`."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pgvector_sync.declare.initial.draft import Draft, label_of
from pgvector_sync.model.counted import counted
from pgvector_sync.telemetry.printable import printable

INDEXED_VECTOR, INDEXED_HALFVEC = 2_000, 4_000
"""The maximum dimensions of an HNSW index."""


def file_of(draft: Draft) -> str:
    """Return the text of the file."""
    return "\n".join(_lines(draft)) + "\n"


def cost_of(draft: Draft) -> str:
    """Return the estimated cost in words."""
    rows = f"about {counted(draft.table.estimated_rows, 'row')}"
    if draft.tokens is None:
        return f"{rows}; their size isn't known until the table is analyzed (ANALYZE)"
    if draft.usd is None:
        money = "price unknown (set it under [prices])"
    elif draft.usd == 0:
        money = "free"
    else:
        money = f"about ${draft.usd:,.2f}" if draft.usd >= 0.01 else "less than $0.01"
    return f"{rows}, about {draft.tokens:,} tokens: {money}"


def _lines(draft: Draft) -> Iterator[str]:
    place = (draft.table.schema, draft.table.table)
    yield f"# Proposed by `pgvector-sync init` for {_comment(label_of(place))}: {cost_of(draft)}."
    yield "# Check it, then run `pgvector-sync apply --dry-run`, which changes nothing. See docs/configuration.md."
    yield ""
    if draft.model.declared:
        yield f"[providers.{draft.model.provider.name}]"
        yield f"base_url = {_string(draft.model.provider.base_url or '')}"
        yield ""
    yield f"[pipelines.{draft.name}]"
    yield f"source = {_string(label_of(place))}"
    if draft.is_primary:
        yield f"# key = {_strings(draft.key)}  # found automatically"
    else:
        yield f"key = {_strings(draft.key)}"
    yield f"text = {_strings(draft.text)}  # joined by blank lines, in this order"
    for name, reason in draft.left_out:
        yield f"#   left out: {_comment(name)} ({_comment(reason)})"
    if draft.where:
        yield f"# where = {_string(draft.where)}  # other rows would then have no vectors"
    yield from _model(draft)
    target = _string(label_of((draft.table.schema, draft.target)))
    if draft.renamed:
        yield f"target = {target}  # {_comment(draft.renamed)}"
    else:
        yield f"# target = {target}  # the default"


def _model(draft: Draft) -> Iterator[str]:
    choice = draft.model
    yield f"provider = {_string(choice.provider.name)}  # {choice.why}"
    yield f"model = {_string(choice.model)}"
    yield f"dimensions = {choice.dimensions}"
    if INDEXED_VECTOR < choice.dimensions <= INDEXED_HALFVEC:
        yield f'vector_type = "halfvec"  # an index of `vector` takes at most {INDEXED_VECTOR:,} dimensions'
    if draft.family is None:
        return
    if draft.family.lines:
        yield f"# {draft.family.family}: documents and queries in different forms ({draft.family.source})"
        yield from draft.family.lines
    else:
        yield f'# {draft.family.family}: consider the provider "{draft.family.dialect}" ({draft.family.source})'


def _comment(text: str) -> str:
    return printable(text)


def _string(text: str) -> str:
    """A JSON string is also a TOML string, except for DEL."""
    if '"' in text and "'" not in text and text.isprintable():
        return f"'{text}'"
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _strings(texts: tuple[str, ...]) -> str:
    return f"[{', '.join(map(_string, texts))}]"
