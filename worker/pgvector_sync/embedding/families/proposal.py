"""What the file lacks: the prefix or parameter that a model's family expects, as lines to add."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pgvector_sync.embedding.dialects import DIALECTS, dialect_of
from pgvector_sync.embedding.families.family import INPUT_PARAMETERS, Family, Recommended
from pgvector_sync.embedding.families.table import family_of
from pgvector_sync.model import Options, Provider, Spec
from pgvector_sync.model.inputs import Input


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the section of a pipeline lacks. Nothing is changed unless a person writes it into the file."""

    family: str
    lines: tuple[str, ...]
    """Lines for the pipeline's section."""
    dialect: str | None
    """The dialect for the provider's section with which no lines are needed; None if there is none."""
    source: str
    """The page with the recommendation."""

    @property
    def embeds_again(self) -> bool:
        """Whether following it makes the vectors of documents stale."""
        return not self.lines or any(line.startswith("document.") for line in self.lines)


def proposal_of(options: Options, provider: Provider) -> Proposal | None:
    """Return what the options lack; None if they lack nothing, or if the model isn't known."""
    dialect = dialect_of(provider)
    lines: list[str] = []
    lacking: list[Family] = []
    for section, spec, given in (
        ("document", Spec.of_documents(options), options.document),
        ("query", Spec.of_queries(options), options.query),
    ):
        family = family_of(spec.model, provider.base_url)
        if family is None or _is_decided(given) or dialect.adapts(spec):
            continue
        wanted = family.document if section == "document" else family.query
        lines += _lines(section, wanted)
        if wanted or _native(family, provider):
            lacking.append(family)
    if not lacking:
        return None
    return Proposal(lacking[0].name, tuple(lines), _native(lacking[0], provider), lacking[0].source)


def _native(family: Family, provider: Provider) -> str | None:
    """Return the family's dialect if this program has it and the provider doesn't use it yet."""
    return family.dialect if family.dialect in DIALECTS and family.dialect != provider.dialect else None


def _is_decided(given: Input) -> bool:
    """Whether the file says how these texts are given to the model, if only by an empty prefix."""
    return given.prefix is not None or any(name.lower() in INPUT_PARAMETERS for name in given.body)


def _lines(section: str, wanted: Recommended) -> list[str]:
    lines = [] if wanted.prefix is None else [f"{section}.prefix = {_toml(wanted.prefix)}"]
    return lines + [f"{section}.body.{name} = {_toml(value)}" for name, value in wanted.body.items()]


def _toml(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is also a TOML string
