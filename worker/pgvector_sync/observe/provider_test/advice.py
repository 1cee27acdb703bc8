"""From replies to the settings that the provider's section should have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from pgvector_sync.observe.provider_test.findings import batch_label, length_label
from pgvector_sync.observe.provider_test.reply import Outcome
from pgvector_sync.observe.provider_test.seen import Seen
from pgvector_sync.observe.provider_test.trials import lengths

WINDOWS = {600: 512, 2_300: 2_048}
"""The usual limit of a model that refuses a text of this many tokens."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the section."""

    key: str
    value: str | int
    why: str
    capability: str
    """The finding that shows it."""

    @property
    def line(self) -> str:
        """As it is written in TOML, of which JSON's strings and numbers are a part."""
        return f"{self.key} = {json.dumps(self.value)}"


def settings(seen: Seen) -> list[Setting]:
    """Return the settings that should differ from those the provider has."""
    return [*_form(seen), *_max_inputs(seen), *_max_input_tokens(seen)]


def _form(seen: Seen) -> Iterator[Setting]:
    """Yield the parameters with which the provider answers, if it doesn't answer as it is."""
    if seen.works or not seen.ready:
        return
    found, now = seen.settled[0], seen.subject.effective
    if now.encoding is not None and found.encoding is not None and found.encoding != now.encoding:
        yield Setting("encoding", found.encoding, f"{now.encoding} isn't accepted", f"encoding {now.encoding}")
    name, other = now.dimensions_parameter, found.dimensions_parameter
    ignored = name in seen.replies and seen.replies[name].size is not None and other == "none"
    if name is not None and other is not None and name != other and not ignored:
        why = "no size was requested" if name == "none" else f"{name} isn't honoured"
        yield Setting("dimensions_parameter", other, why, other if name == "none" else name)


def _max_inputs(seen: Seen) -> Iterator[Setting]:
    refused = [size for size in seen.batches if seen.refused(f"batch {size}")]
    if not seen.ready or not refused or not seen.largest < min(refused) <= seen.subject.limits.max_inputs:
        return
    slow = seen.replies[f"batch {min(refused)}"].outcome is Outcome.UNANSWERED
    what = "weren't answered in time" if slow else "weren't accepted"
    yield Setting("max_inputs", seen.largest, f"{min(refused):,} {what}", batch_label(min(refused)))


def _max_input_tokens(seen: Seen) -> Iterator[Setting]:
    stated = seen.subject.limits.max_input_tokens
    for length in lengths(seen.subject):
        trial, window = f"long {length}", WINDOWS.get(length)
        refused = trial in seen.replies and seen.replies[trial].outcome is Outcome.REFUSED
        if window is not None and refused and (stated is None or window < stated):
            yield Setting("max_input_tokens", window, "longer texts aren't accepted", length_label(length))
