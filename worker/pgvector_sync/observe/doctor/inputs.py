"""The check `inputs`: documents and queries are given to the model as its authors recommend."""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.embedding.families.proposal import proposal_of
from pgvector_sync.model import Pipeline
from pgvector_sync.observe.finding import Finding, ok, warning


def documents_and_queries(pipeline: Pipeline) -> Iterator[Finding]:
    options, provider = pipeline.options, pipeline.provider
    proposal = proposal_of(options, provider)
    if proposal is None:
        yield ok(f"documents: {options.document}; queries: {options.query}")
        return
    add = [f"add to [pipelines.{pipeline.name}]: {'; '.join(proposal.lines)}"] if proposal.lines else []
    if proposal.dialect:
        add.append(f'set dialect = "{proposal.dialect}" in [providers.{provider.name}]')
    cost = ", which embeds every row again" if proposal.embeds_again else ""
    yield warning(
        f"the model ({proposal.family}) expects documents and queries in different forms, and the file gives none",
        f"{', or '.join(add)}; then: pgvector-sync apply{cost}. "
        f'See {proposal.source}; prefix = "" in both sections says that nothing is missing',
    )
