"""A text that is longer than what a local model reads is embedded, but never silently."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from pgvector_sync.telemetry.events.batch import BatchWritten
from support.events import collected
from support.examined import look, the
from support.onnx_export import write_export
from support.synced import DOCS, Synced


def test_texts_that_a_model_cuts_are_counted_and_shown(
    synced: Synced, tmp_path: Path, typed: Callable[..., tuple[int, str, str]]
) -> None:
    write_export(tmp_path, longest=3)
    synced.run(DOCS)
    synced.declare(provider="local", model=f"onnx:{tmp_path}", dimensions=3)
    synced.apply()
    synced.run("INSERT INTO docs VALUES (1, 'red green blue'), (2, 'red red red red'), (3, 'blue blue red red')")
    with collected() as events:
        synced.settle()
    assert sum(event.truncated for event in events.of(BatchWritten)) == 2
    [pipeline] = json.loads(typed("status", "--json")[1])["pipelines"]
    assert pipeline["truncated_inputs"] == 2
    assert "docs: 2 texts were cut, being longer than what the model reads (last 7 days)" in typed("status")[1]
    finding = the("truncated", look(synced.database.url))
    assert (finding.level, finding.pipeline) == ("warning", "docs")
    assert finding.seen.startswith("2 texts were cut")

    synced.run("UPDATE pgvector_sync.usage SET day = day - 7")
    assert "cut" not in typed("status")[1]
    assert not [check for check in look(synced.database.url) if check.name == "truncated"]
