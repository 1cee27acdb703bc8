"""The result of a test: what it found, and the settings to write into the file."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pgvector_sync.embedding.dialects import dialect_of
from pgvector_sync.embedding.families.proposal import Proposal
from pgvector_sync.observe.level import Level
from pgvector_sync.observe.provider_test.advice import Setting, settings
from pgvector_sync.observe.provider_test.findings import Finding, findings
from pgvector_sync.observe.provider_test.seen import Seen
from pgvector_sync.settings import Settings


@dataclass(frozen=True, slots=True)
class Report:
    """What a test found, which may have ended early."""

    provider: str
    model: str
    dimensions: int
    works: bool
    """Whether the provider works with the settings that it has now."""
    stopped_by: str | None
    """Why the test ended before all of its calls; None if it didn't."""
    advice: str | None
    """What to do about a provider that doesn't work or a test that ended early."""
    calls: int
    texts: int
    findings: tuple[Finding, ...]
    settings: tuple[Setting, ...]
    """What should differ from the provider's settings."""
    pipeline: str | None
    """The pipeline whose settings were used."""
    proposal: Proposal | None
    """What the pipeline's section lacks for its model."""

    @property
    def sections(self) -> str | None:
        """Return the sections with what should change, in TOML; None if nothing should."""
        width = max((len(setting.line) for setting in self.settings), default=0)
        lines = [f"{setting.line:<{width}}  # {setting.why}" for setting in self.settings]
        sections = [[f"[providers.{self.provider}]", *lines]] if lines else []
        if self.proposal is not None and self.proposal.lines:
            sections.append([f"[pipelines.{self.pipeline}]  # {self.proposal.source}", *self.proposal.lines])
        return "\n\n".join("\n".join(section) for section in sections) or None


def report_of(seen: Seen, environment: Settings, *, interrupted: bool = False) -> Report:
    """Judge the replies so far."""
    follows = settings(seen)
    setting_of = {setting.capability: setting.line for setting in follows}
    found = [
        replace(finding, setting=setting_of.get(finding.capability, finding.setting)) for finding in findings(seen)
    ]
    stopped_by, advice = _end(seen, environment)
    return Report(
        provider=seen.subject.provider.name,
        model=seen.subject.spec.model,
        dimensions=seen.subject.spec.dimensions,
        works=seen.works and all(finding.level is not Level.ERROR for finding in found),
        stopped_by="interrupted" if interrupted else stopped_by,
        advice=None if interrupted else advice,
        calls=seen.calls,
        texts=seen.texts,
        findings=tuple(found),
        settings=tuple(follows),
        pipeline=seen.subject.pipeline,
        proposal=seen.subject.proposal,
    )


def _end(seen: Seen, environment: Settings) -> tuple[str | None, str | None]:
    """Return why the test ended before its last trial, and what to do."""
    reply = seen.ended_by or (None if seen.reachable else seen.replies.get("configured"))
    if reply is None or reply.failure is None:
        return None, None
    failure, provider = reply.failure, seen.subject.provider
    if failure.retry_after is not None:
        return str(failure), f"run the test again in {math.ceil(failure.retry_after.total_seconds())} s"
    if failure.disposition.whole_model:
        return str(failure), "run the test again later"
    setting = dialect_of(provider).setting_of_place(provider, environment)
    return str(failure), failure.hint or failure.advice.format(setting=setting)
