"""Whether a prefix leaves room for a text within the tokens that an input may have."""

from __future__ import annotations

from collections.abc import Iterator

from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.embedding.families.table import family_of
from pgvector_sync.embedding.tokens import byte_bound, count_tokens
from pgvector_sync.model import Options, Provider, Spec


def prefixes_without_room(options: Options, provider: Provider) -> Iterator[tuple[str, str, bool]]:
    """Yield (place, what is wrong, whether no text fits) for each prefix that takes half of an input or more."""
    for section, spec in (("document", Spec.of_documents(options)), ("query", Spec.of_queries(options))):
        limit = _max_input_tokens(spec, provider)
        # no token is shorter than a byte, so a tokenizer is only loaded for a prefix that may be too long
        if not spec.prefix or limit is None or 2 * byte_bound(spec.prefix) < limit:
            continue
        tokens = count_tokens(spec.prefix, spec.model)
        if 2 * tokens.about >= limit:
            about = "" if tokens.about == tokens.at_most else "about "
            yield (
                f"{section}.prefix",
                f"it takes {about}{tokens.about:,} of the {limit:,} tokens that an input of {spec.model} may have",
                tokens.about >= limit,
            )


def _max_input_tokens(spec: Spec, provider: Provider) -> int | None:
    family = family_of(spec.model, provider.base_url)
    limits = (dialect_of(provider).limits(provider).max_input_tokens, family.window if family else None)
    return min((limit for limit in limits if limit is not None), default=None)
