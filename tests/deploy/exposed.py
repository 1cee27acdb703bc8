"""Turns what `/metrics` shows before and during a situation into series for the rules."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.parser import text_string_to_metric_families

TARGET = {"job": "pgvector-sync", "instance": "serve-1:8187", "database": "shop"}
GROWS = 20
"""Minutes over which a counter grows from its value before to that during the situation."""


def samples(exposition: bytes) -> dict[str, tuple[float, bool]]:
    """Each series, its value, and whether it is a counter."""
    found = {}
    for family in text_string_to_metric_families(exposition.decode()):
        for sample in family.samples:
            labels = sample.labels | TARGET
            name = sample.name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"
            found[name] = (sample.value, family.type in {"counter", "histogram"})
    return found


def series(before: bytes, during: bytes, *, minutes: int) -> dict[str, Sequence[float | None]]:
    """The series of both scrapes: five minutes as before, and then as during the situation."""
    first, then = samples(before), samples(during)
    made: dict[str, Sequence[float | None]] = {
        "up{" + ",".join(f'{key}="{value}"' for key, value in TARGET.items()) + "}": [1] * (minutes + 1)
    }
    for name in {*first, *then}:
        old, counts = first.get(name, (None, False))
        new, counts = then.get(name, (None, counts))
        if counts and new is not None:
            start = old or 0
            ramp = [start + (new - start) * minute / GROWS for minute in range(GROWS)]
            made[name] = [start] * 5 + ramp + [new] * minutes
        else:
            made[name] = [old] * 5 + [new] * minutes
    return made
